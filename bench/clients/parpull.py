"""parpull as a user calls it: into its own memory, or into a file when OUT is given.

Usage: `python -m bench.clients.parpull URL CONNECTIONS [OUT]`
"""

import importlib
import sys
from typing import Any

from bench.clients import report


def main() -> None:
    url, connections, *out = sys.argv[1:]
    # By name, so that this module type-checks where the extension is not built.
    parpull: Any = importlib.import_module("parpull")
    blob = parpull.fetch(url, into=out[0] if out else None, connections=int(connections))
    if not out:
        print(report(memoryview(blob)))


if __name__ == "__main__":
    main()
