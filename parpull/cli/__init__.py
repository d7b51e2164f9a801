"""The command line: one verb, one file. Fourth floor.

A verb's module has `SUMMARY` (one line for the help), `USAGE`, perhaps an `EPILOG`,
`add(parser)` for its arguments, and `run(args)`, which returns the exit code. Only
the verb that was asked for is imported. `parser` reads the arguments, `outcome` says
how it ended, `stop` turns signals into an orderly end, `text` writes for human eyes.
Of the package a verb uses only what a program of anybody's could use.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from .parser import Parser

__all__ = ["VERBS", "parser_of", "run"]

VERBS = ("bench", "cat", "clean", "completion", "doctor", "exec", "get", "image", "probe")


def run(argv: Sequence[str]) -> int:
    """Do what the arguments say; return the exit code. Raises nothing but a
    KeyboardInterrupt that came before or after all work."""
    from .outcome import UsageError, complain, exit_code, guard_descriptors

    guard_descriptors()
    verb, rest = (argv[0], argv[1:]) if argv and argv[0] in VERBS else ("get", argv)
    try:
        args = parser_of(verb).read(rest)
        if args is None:  # answered already: -h
            return 0
        code: int = _module(verb).run(args)
        return code
    except KeyboardInterrupt:
        raise
    except Exception as error:
        # What a verb raises is the user's mistake, or one object's end; anything else is ours to explain.
        complain(error, trace="-v" in argv and not isinstance(error, UsageError))
        return exit_code(error)


def parser_of(verb: str) -> Parser:
    """The parser of one verb's arguments."""
    from .parser import Parser

    module = _module(verb)
    parser = Parser(verb, module.SUMMARY, usage=getattr(module, "USAGE", None), epilog=getattr(module, "EPILOG", None))
    module.add(parser)
    if verb == "get":
        parser.others = _Others()
    return parser


def _module(verb: str) -> Any:
    from importlib import import_module

    return import_module(f"{__name__}.{verb}")


class _Others:
    """(verb, summary) of all but `get`, imported when somebody asks."""

    def __iter__(self) -> Iterator[tuple[str, str]]:
        for verb in VERBS:
            if verb != "get":
                yield verb, _module(verb).SUMMARY
