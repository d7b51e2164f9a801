"""The verb `completion`: the script that completes parpull's arguments in a shell.

shtab makes it from the parsers of all verbs, so that it never lags behind them.
"""

from __future__ import annotations

from . import VERBS, parser_of
from .outcome import UsageError, write_out
from .parser import Parser, add_telling

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .parser import Arguments

__all__ = ["EPILOG", "SUMMARY", "USAGE", "add", "everything", "run"]

SUMMARY = "print what completes the arguments in bash, zsh or tcsh"
USAGE = "parpull completion [options] bash|zsh|tcsh"
EPILOG = """\
bash   parpull completion bash >
         ~/.local/share/bash-completion/completions/parpull
zsh    parpull completion zsh > DIR/_parpull, where DIR is one of $fpath
tcsh   parpull completion tcsh > FILE, and `source FILE` in ~/.tcshrc
"""
SHELLS = ("bash", "zsh", "tcsh")


def add(parser: Parser) -> None:
    """The arguments of completion."""
    parser.add_argument_group("what").add_argument("shell", metavar="SHELL", help="bash, zsh or tcsh")
    add_telling(parser, quiet=False, verbose=False)


def run(args: Arguments) -> int:
    """Print the script; return the exit code."""
    if args.shell not in SHELLS:
        raise UsageError(f"there is no completion for {args.shell}", f"there is one for {', '.join(SHELLS)}")
    import shtab

    write_out(shtab.complete(everything(), args.shell).encode() + b"\n")
    return 0


def everything() -> Parser:
    """One parser that has all verbs below it: for completion and the manual page, not
    to read arguments with."""
    from . import get

    def below(*, prog: str, **more: Any) -> Parser:
        return _completed(parser_of(prog.rpartition(" ")[2]))

    whole = Parser("get", get.SUMMARY, usage=get.USAGE, epilog=get.EPILOG)
    # A function does for a class: argparse only calls it.
    verbs = whole.add_subparsers(title="commands", metavar="COMMAND", parser_class=below)  # type: ignore[call-overload]
    for verb in VERBS:
        # Not `prog=`: argparse then would not say which one it is.
        verbs.add_parser(verb, help=parser_of(verb).description)
    get.add(whole)
    return _completed(whole)


def _completed(parser: Parser) -> Parser:
    """Tell shtab where files and folders, and which words, are to be offered."""
    import shtab

    for action in parser._actions:
        kind = {"FILE": shtab.FILE, "DIR": shtab.DIRECTORY}.get(str(action.metavar))
        if kind is not None:
            action.complete = kind  # type: ignore[attr-defined]
        if action.dest == "shell":
            action.choices = SHELLS
    return parser
