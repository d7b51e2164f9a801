"""The command `parpull`, and `python -m parpull`.

Answers `--version` before anything heavy is imported, and leaves the rest to
`parpull.cli`. It may import nothing else: what stands here is paid by every start.
"""

from __future__ import annotations

import os
import sys

from ._version import version_line

__all__ = ["main"]


def main() -> int:
    """Run the command line; return its exit code."""
    argv = sys.argv[1:]
    if argv and argv[0] in ("--version", "-V"):
        try:
            # Past Python's buffer, which would complain at exit about a reader that left.
            os.write(1, f"{version_line()}\n".encode())
        except OSError:
            return 6
        return 0
    try:
        from .cli import run

        return run(argv)
    except KeyboardInterrupt:  # before the handlers of cli.stop are in place
        return 130


if __name__ == "__main__":
    sys.exit(main())
