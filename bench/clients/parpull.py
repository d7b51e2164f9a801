"""parpull as a user calls it: into its own memory, or into a file.

Usage: `python -m bench.clients.parpull URL SIZE [--connections N] [--out FILE] [--ca-file PEM]`
"""

import importlib
from typing import Any

from bench.clients import report, task


def main() -> None:
    job = task()
    # By name, so that this module type-checks where the extension is not built.
    parpull: Any = importlib.import_module("parpull")
    blob = parpull.fetch(job.url, into=job.out, connections=job.connections or "auto", ca_file=job.ca_file)
    if job.out is None:
        print(report(memoryview(blob)))


if __name__ == "__main__":
    main()
