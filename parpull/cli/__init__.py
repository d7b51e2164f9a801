"""The command line: one verb, one file. Fourth floor.

`parser` reads the arguments, `get` is the verb, `display` and `bar` show how it goes,
`outcome` says how it ended, `stop` turns signals into an orderly end, `text` writes
for human eyes. Of the package it uses only what a program of anybody's could use.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["run"]


def run(argv: Sequence[str]) -> int:
    """Do what the arguments say; return the exit code. Raises nothing but a
    KeyboardInterrupt that came before or after all work."""
    from .outcome import UsageError, complain, exit_code, guard_descriptors
    from .parser import parse

    guard_descriptors()
    try:
        args = parse(argv)
        if args is None:  # answered already: -h
            return 0
        from .get import get

        return get(args)
    except KeyboardInterrupt:
        raise
    except Exception as error:
        # parse() failing is the user's mistake; anything else here is ours to explain.
        complain(error, trace="-v" in argv and not isinstance(error, UsageError))
        return exit_code(error)
