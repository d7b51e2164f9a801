"""Make docs/parpull.1 from the parsers of the command line.

    python docs/make_man.py           writes it
    python docs/make_man.py -         prints it

What several verbs share is told once, under OPTIONS, and then only what is a verb's
own. No date and no version: the page changes when what it says does.
"""

from __future__ import annotations

import sys
from pathlib import Path

from parpull.checks import FROM_TEXT
from parpull.cli import VERBS, parser_of
from parpull.cli.parser import Refuse
from parpull.config import KEYS

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from parpull.cli.parser import Parser

__all__ = ["PAGE", "page"]

PAGE = Path(__file__).with_name("parpull.1")
FILES = """\
~/.config/parpull/config.toml
options by the names below, such as connections = 32 or part_size = "16MiB"; PARPULL_CONFIG names another file, or none
~/.netrc
users and passwords by host, for \\-\\-netrc; NETRC names another file
"""

LISTS = """\
.PP
A list (\\-\\-input\\-file) has an address a line. Lines below it that begin with white space hold options of that
object: out=NAME, dir=DIR, checksum=ALGORITHM=HEX, header=NAME: VALUE. Lines that begin with # are comments.
Nothing in a list leads out of \\-\\-directory.
.PP
.nf
https://host/a.bin
  out=models/a.bin
  checksum=sha\\-256=9f86d0...
https://host/b.bin
.fi
"""


def page() -> str:
    """The manual page, as roff."""
    get = parser_of("get")
    lines = [".TH PARPULL 1", ".SH NAME", f"parpull \\- {escape(_summary(get))}", ".SH SYNOPSIS"]
    for verb in ("get", *(verb for verb in VERBS if verb != "get")):
        lines += [".br", f".B {escape(str(parser_of(verb).usage))}"]
    lines += [".SH DESCRIPTION", escape(str(get.description)), '"parpull get URL" is the same as "parpull URL".']
    lines.append(".SH OPTIONS")
    told = set()
    for title, actions in _groups(get):
        lines.append(f".SS {escape(title)}")
        for action in actions:
            lines += _entry(action)
            told.add(_key(action))
    lines.append(".SH COMMANDS")
    for verb in VERBS:
        if verb != "get":
            lines += _verb(parser_of(verb), told)
    examples, _, codes = str(get.epilog).partition("exit codes: ")
    lines += [".SH EXAMPLES", *_raw(examples.removeprefix("examples:\n"))]
    lines += [".SH LISTS", *LISTS.splitlines()[1:]]
    lines += [".SH EXIT STATUS", *_raw(codes)]
    lines += [".SH FILES"]
    for place, text in zip(FILES.splitlines()[::2], FILES.splitlines()[1::2], strict=True):
        lines += [".TP", f".I {place.replace('-', chr(92) + '-')}", text]
    lines += [".SH ENVIRONMENT", "An argument overrules a variable, and a variable the file of configuration."]
    lines += [".TP", ".B " + ", ".join(f"PARPULL_{name.upper()}" for name in FROM_TEXT)]
    lines.append("options of these names; the file of configuration takes them in lower case, without PARPULL_,")
    lines.append("and also " + ", ".join(key for key in KEYS if key not in FROM_TEXT))
    lines += [".TP", ".B http_proxy, https_proxy, all_proxy, no_proxy", "proxies, as curl reads them"]
    lines += [".TP", ".B NO_COLOR", "the bar without colours"]
    return "\n".join(line for line in lines if line) + "\n"


def escape(text: str) -> str:
    """Text as roff takes it literally."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("…", "...")
    return "\\&" + text if text[:1] in (".", "'") else text


def _summary(parser: Parser) -> str:
    text = str(parser.description).rstrip(".")
    return text[:1].lower() + text[1:]


def _key(action: argparse.Action) -> tuple[str, str]:
    return "/".join(action.option_strings) or action.dest, str(action.help)


def _groups(parser: Parser) -> Iterator[tuple[str, list[argparse.Action]]]:
    """(title, actions) of what may be seen."""
    for group in parser._action_groups:
        hidden = "==SUPPRESS=="
        actions = [a for a in group._group_actions if a.help != hidden and not isinstance(a, Refuse)]
        if actions:
            yield group.title or "", actions


def _entry(action: argparse.Action) -> list[str]:
    name = str(action.metavar or action.dest)
    if action.option_strings:
        value = "" if action.nargs == 0 else f" \\fI{escape(name)}\\fR"
        head = ", ".join(f"\\fB{escape(text)}\\fR" for text in action.option_strings) + value
    else:
        head = f"\\fI{escape(name)}\\fR"
    return [".TP", head, escape(str(action.help))]


def _verb(parser: Parser, told: set[tuple[str, str]]) -> list[str]:
    lines = [f".SS {escape(parser.prog)}", escape(str(parser.description)), ".PP", f".B {escape(str(parser.usage))}"]
    shared = False
    for _, actions in _groups(parser):
        for action in actions:
            if _key(action) in told:
                shared = shared or action.dest == "proxy"
            else:
                lines += _entry(action)
    if shared:
        lines += [".PP", 'It also takes the options of "how", "what to send" and "network" above.']
    if parser.epilog:
        lines += _raw(parser.epilog.partition("exit codes: 0 ok")[0].rstrip() + "\n")
    return lines


def _raw(text: str) -> list[str]:
    """Lines that stay lines."""
    kept = [escape(line) or ".sp" for line in text.rstrip().splitlines()]
    return [".PP", ".nf", *kept, ".fi"]


if __name__ == "__main__":
    if sys.argv[1:] == ["-"]:
        sys.stdout.write(page())
    else:
        PAGE.write_text(page(), encoding="utf-8")
