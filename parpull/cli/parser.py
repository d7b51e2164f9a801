"""The arguments: what may be written, and what to say to what may not.

argparse reads them; the messages are ours. Each verb adds its own arguments to a
`Parser`, and those that it shares with others by `add_network` and `add_telling`.
Fingers that know curl, wget or aria2 are met half-way: what means the same is
accepted, what means something else is refused with a hint, and nothing is quietly
taken for what it is not. Whether a value makes sense is for Options to say.
"""

from __future__ import annotations

import argparse
import os
import re

from .._version import version_line
from ..options import Options, parse_size
from .outcome import UsageError, write_out

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path
    from typing import Any, Literal, NoReturn

__all__ = ["Arguments", "Parser", "Refuse", "add_network", "add_telling", "options_of", "seconds", "size_of"]

WIDTH = 80
CODES = """\
exit codes: 0 ok, 1 transfer failed, 2 usage, 3 not found, 4 access denied,
5 checksum mismatch or object changed, 6 cannot write, 130 SIGINT, 143 SIGTERM
"""
# What argparse has read and Options takes, by one name.
FIELDS = (
    "connections", "part_size", "limit_rate", "checksum", "overwrite", "retries", "headers", "auth", "netrc",
    "cookies", "proxy", "noproxy", "ca_file", "cert", "key",
)  # fmt: skip

# What other tools' options are called here; looked up when argparse does not know one.
# A hint that names an option which the verb does not have is not given.
ELSEWHERE = {
    "-f": "leave it out: a status that is no success ends with an exit code of its own",
    "-S": "leave it out: errors are shown also with -q",
    "-A": "write -H 'User-Agent: …'",
    "-e": "write -H 'Referer: …'",
    "-b": "write --cookie FILE, or --cookie 'NAME=VALUE'",
    "-C": "leave it out: it goes on by itself where an earlier run of parpull ended",
    "-P": "write -d DIR",
    "-j": "write -x N",
    "-n": "write -x N; curl's -n is --netrc",
    "-m": "write --max-time S",
    "-U": "write --proxy http://user:password@host:port",
    "-E": "write --cert FILE --key FILE",
    "-I": "parpull probe URL tells what the server offers",
    "--head": "parpull probe URL tells what the server offers",
    "--spider": "parpull probe URL tells what the server offers",
    "--continue-at": "leave it out: it goes on by itself where an earlier run of parpull ended",
    "--directory-prefix": "write -d DIR",
    "--output-dir": "write -d DIR",
    "--create-dirs": "leave it out: -d DIR makes the folder",
    "--dir": "write -d DIR",
    "--out": "write -o FILE",
    "--output-document": "write -o FILE",
    "--no-clobber": "leave it out: only --overwrite replaces a file",
    "--split": "write -x N",
    "--max-connection-per-server": "write -x N",
    "--silent": "write -q",
    "--user-agent": "write -H 'User-Agent: …'",
    "--referer": "write -H 'Referer: …'",
    "--load-cookies": "write --cookie FILE",
    "--netrc-file": "the variable NETRC names the file; --netrc reads it",
    "--all-proxy": "write --proxy URL",
    "--proxy-user": "write --proxy http://user:password@host:port",
    "--ca-certificate": "write --cacert FILE",
    "--certificate": "write --cert FILE",
    "--private-key": "write --key FILE",
    "--no-check-certificate": "certificates are always checked; --cacert FILE trusts a private authority",
    "--check-certificate": "certificates are always checked; --cacert FILE trusts a private authority",
    "--tries": "write --retry N",
    "--max-tries": "write --retry N",
    "--connect-timeout": "the variable PARPULL_CONNECT_TIMEOUT holds the seconds",
    "--timeout": "write --max-time S for the whole run; PARPULL_STALL_TIMEOUT is for silence",
    "--rate-limit": "write --limit-rate RATE",
    "--limit": "write --limit-rate RATE",
    "--force": "write --overwrite",
    "--sha256": "write --checksum sha256=HEX",
}


class Arguments(argparse.Namespace):
    """What was asked for; None where nothing was said. A verb's own are beside these."""

    command: list[str] | None
    connections: int | Literal["auto"] | None
    part_size: int | None
    retries: int | None
    headers: list[str] | None
    auth: tuple[str, str] | None
    netrc: bool | None
    cookie: str | None
    proxy: str | None
    noproxy: str | None
    ca_file: str | None
    cert: str | None
    key: str | None
    quiet: bool
    verbose: bool
    json: bool


class _Answered(Exception):
    """The arguments were a question, and it is answered."""


class _Missing(UsageError):
    """Something has to stand there."""


class Parser(argparse.ArgumentParser):
    """argparse with our way to fail and to print. `takes_command`: what stands behind
    `--` is not read, but kept as `command`."""

    takes_command = False

    def __init__(self, verb: str, summary: str, *, usage: str | None = None, epilog: str | None = None) -> None:
        prog = "parpull" if verb == "get" else f"parpull {verb}"
        super().__init__(
            prog=prog,
            usage=usage or f"{prog} [options]",
            description=f"{summary[:1].upper()}{summary[1:]}.",
            epilog=epilog,
            formatter_class=_Formatter,
            add_help=False,
            allow_abbrev=False,  # an abbreviation that works today would bind us tomorrow
            exit_on_error=False,
        )
        self.verb = verb
        self.others: Iterable[tuple[str, str]] = ()  # (verb, summary), for the help

    def read(self, argv: Sequence[str]) -> Arguments | None:
        """Read the arguments; None when they were a question that is answered now.
        UsageError when they make no sense."""
        args = Arguments()
        args.command = None
        argv = list(argv)
        if self.takes_command and "--" in argv:
            at = argv.index("--")
            argv, args.command = argv[:at], argv[at + 1 :]
        try:
            # Intermixed: what is no option may stand on both sides of one.
            _, unknown = self.parse_known_intermixed_args(argv, args)
        except _Answered:
            return None
        except (argparse.ArgumentError, _Missing) as error:
            misused = error if isinstance(error, _Missing) else self._misused(error, argv)
            # What is missing may be behind an option that we don't know.
            unknown = [text for text in argv if text[:1] == "-" != text and not self._known(text)]
            if not unknown or not isinstance(misused, _Missing):
                raise misused from None
        if unknown:
            raise self._unknown(unknown[0])
        return args

    @property
    def more(self) -> str:
        """The hint where there is no better one."""
        return f"{self.prog} -h lists the options"

    @property
    def flags(self) -> list[str]:
        """All options that may be written, without those that are there to be refused."""
        return [text for text, action in self._option_string_actions.items() if not isinstance(action, Refuse)]

    def error(self, message: str) -> NoReturn:
        """argparse's way to say that something is missing, as a UsageError."""
        raise self._failed(message)

    def _failed(self, message: str) -> UsageError:
        missing = message.removeprefix("the following arguments are required: ")
        return UsageError(message, self.more) if missing == message else _Missing(f"no {missing} given", self.more)

    def format_usage(self) -> str:
        """One line."""
        return f"usage: {self.usage}\n"

    def format_help(self) -> str:
        """The help, with the other verbs behind the options."""
        text = super().format_help()
        others = "".join(f"  {verb:12}{summary}\n" for verb, summary in self.others)
        if not others:
            return text
        epilog = self.epilog or ""
        body = text.removesuffix(epilog if epilog.endswith("\n") else epilog + "\n")
        return f"{body}other commands (parpull COMMAND -h tells more):\n{others}\n{epilog}"

    def _known(self, text: str) -> bool:
        name = text.partition("=")[0] if text.startswith("--") else text[:2]
        return name in self._option_string_actions or name == "--"

    def _misused(self, error: argparse.ArgumentError, argv: Sequence[str]) -> UsageError:
        """An option with too little, or too much, behind it."""
        name, message = error.argument_name, error.message
        if name is None:
            return self._failed(message)  # as Python 3.12 and later have it
        action = next((a for a in self._actions if "/".join(a.option_strings) == name), None)
        if action is not None and message.startswith("expected"):
            return UsageError(f"{name} needs a value: {action.metavar}", self.more)
        if action is not None and message.startswith("ignored explicit"):
            behind = f"-{message.partition(chr(39))[2][:1]}"
            long = any(text.partition("=")[0] in action.option_strings for text in argv if text.startswith("--"))
            if not long and behind[1:].isalpha() and not self._known(behind):  # -qz
                return self._unknown(behind)
            return UsageError(f"{name} takes no value", "write -o FILE, or -o -" if name[:2] == "-O" else self.more)
        return UsageError(f"{name}: {message}", self.more)

    def _unknown(self, option: str) -> UsageError:
        """The error for an option that there is not, with the best hint there is."""
        if not option.startswith("-"):
            return UsageError(f"{_unsecret(option)} is one argument too many", self.more)
        name, flags = option.partition("=")[0], self.flags
        hint = ELSEWHERE.get(name) or (None if name.startswith("--") else ELSEWHERE.get(name[:2]))
        if hint and not set(re.findall(r"(?<!\w)--?[A-Za-z][\w-]*", hint)) <= {*flags, "-n"}:
            hint = None
        if hint is None:
            import difflib

            long = [text for text in flags if text.startswith("--")]
            near = difflib.get_close_matches(name, long, n=1) if name.startswith("--") else []
            hint = f"did you mean {near[0]} ?" if near else self.more
        return UsageError(f"there is no option {name if name.startswith('--') else name[:2]}", hint)


class _Formatter(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        import shutil

        super().__init__(prog, max_help_position=28, width=min(shutil.get_terminal_size().columns, WIDTH))

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings or action.nargs == 0:
            return super()._format_action_invocation(action)
        # The value once, behind the last name, as Python 3.13 and later have it.
        return f"{', '.join(action.option_strings)} {action.metavar}"


class _Help(argparse.Action):
    """Print the help past Python's buffers, so that `parpull -h | head` is clean."""

    def __call__(self, parser: argparse.ArgumentParser, args: Any, value: Any, option: str | None = None) -> None:
        write_out(parser.format_help().encode())
        raise _Answered


class _Version(argparse.Action):
    """`parpull … --version`; alone it is answered before this file is read."""

    def __call__(self, parser: argparse.ArgumentParser, args: Any, value: Any, option: str | None = None) -> None:
        write_out(f"{version_line()}\n".encode())
        raise _Answered


class Refuse(argparse.Action):
    """An option that other tools have and that we do not obey."""

    def __init__(self, *args: Any, hint: str, what: str, **more: Any) -> None:
        super().__init__(*args, **({"nargs": 0} | more | {"help": argparse.SUPPRESS}))
        self.hint = hint
        self.what = what

    def __call__(self, parser: argparse.ArgumentParser, args: Any, value: Any, option: str | None = None) -> None:
        """Say so."""
        raise UsageError(f"{option}: {self.what}", self.hint)


class _Connections(argparse.Action):
    """A number or "auto". -x is curl's proxy and -s its silence, so what they get
    may be meant for those."""

    def __call__(self, parser: argparse.ArgumentParser, args: Any, value: Any, option: str | None = None) -> None:
        text = value.strip()
        if text != "auto" and not text.lstrip("+-").isdecimal():
            hint = f"{option} is how many connections: a number, or auto"
            if option == "-s":
                hint += "; -q is quiet"
            elif ":" in text or "." in text:
                hint += "; --proxy URL names a proxy"
            raise UsageError(f"{option} {_unsecret(text)} is no number of connections", hint)
        args.connections = "auto" if text == "auto" else int(text)


def _unsecret(text: str) -> str:
    """An argument fit to be shown: a proxy's address may hold a password."""
    from ..errors import redact

    return redact(text) if "://" in text else text.rpartition("@")[2]


def size_of(flag: str) -> Callable[[str], int]:
    """The `type=` of a flag whose value is a size."""

    def size(text: str) -> int:
        try:
            return parse_size(text)
        except (ValueError, OverflowError):
            raise UsageError(f"{flag} {text} is no size", "bytes, or with a unit: 8MiB, 8M") from None

    return size


def _retries(text: str) -> int:
    if not text.isdecimal():
        raise UsageError(
            f"--retry {text} is no number", "give a whole number: so many failures in a row, without progress"
        )
    return int(text)


def seconds(text: str) -> float:
    """The value of --max-time."""
    try:
        value = float(text)
    except ValueError:
        value = 0
    if not 0 < value < float("inf"):
        raise UsageError(f"--max-time {text} is no time", "seconds, more than 0: 90, 0.5")
    return value


def _userinfo(text: str) -> tuple[str, str]:
    user, colon, password = text.partition(":")
    if not colon:
        raise UsageError("-u names no password", "-u USER:PASSWORD; an empty one is -u USER:")
    return user, password


def options_of(args: Arguments) -> Options:
    """Arguments over environment over configuration over defaults. BadOption for
    what can't be."""
    given: dict[str, Any] = {name: value for name in FIELDS if (value := getattr(args, name, None)) is not None}
    cookie = getattr(args, "cookie", None)
    if cookie is not None:
        given["cookies"] = _cookies(cookie)
    return Options.from_env(**given)


def _cookies(text: str) -> str | Path:
    """As curl has it: what holds a "=" is a header, unless there is such a file."""
    from pathlib import Path

    return text if "=" in text and not os.path.isfile(text) else Path(text)


def add_network(parser: Parser) -> None:
    """The options of every verb that fetches; options_of() reads them."""
    how = parser.add_argument_group("how")
    for names, text in (
        (("-x", "--connections"), "connections, shared by all objects (default: auto)"),
        (("-s",), argparse.SUPPRESS),
    ):
        how.add_argument(*names, action=_Connections, metavar="N", dest="connections", help=text)
    how.add_argument(
        "--part-size",
        type=size_of("--part-size"),
        metavar="SIZE",
        help="bytes of one range, e.g. 8MiB (default: measured)",
    )
    how.add_argument(
        "--limit-rate",
        type=size_of("--limit-rate"),
        metavar="RATE",
        help="bytes per second of all objects together, e.g. 10M",
    )
    how.add_argument(
        "--retry", type=_retries, dest="retries", metavar="N", help="failures in a row before giving up (default: 10)"
    )
    how.add_argument("-L", "--location", action="store_true", help="follow redirects (always on)")

    send = parser.add_argument_group("what to send")
    send.add_argument(
        "-H", "--header", action="append", dest="headers", metavar="'K: V'",
        help="a header, to the URL's own server only",
    )  # fmt: skip
    send.add_argument("-u", "--user", type=_userinfo, dest="auth", metavar="USER:PASS", help="log in with")
    send.add_argument("--netrc", action="store_true", default=None, help="log in as ~/.netrc says (or $NETRC)")
    send.add_argument("--cookie", metavar="FILE", help="a Netscape file of cookies, or 'NAME=VALUE; …'")

    net = parser.add_argument_group("network")
    net.add_argument("--proxy", metavar="URL", help="go through this proxy")
    net.add_argument("--noproxy", metavar="HOSTS", help="hosts that do without it, with commas")
    net.add_argument("--cacert", dest="ca_file", metavar="FILE", help="trust these authorities (PEM)")
    net.add_argument("--cert", metavar="FILE", help="the client's certificate (PEM)")
    net.add_argument("--key", metavar="FILE", help="and its key")
    parser.add_argument(
        "-k", "--insecure", action=Refuse, what="certificates are always checked",
        hint="--cacert FILE trusts a private authority",
    )  # fmt: skip


def add_telling(
    parser: Parser, *, quiet: bool = True, verbose: bool = True, json: str | None = None, trace: bool = False
) -> None:
    """-q, -v, --json (with this help text), --trace as far as the verb has them; -V, -h."""
    tell = parser.add_argument_group("what to tell")
    if quiet:
        tell.add_argument("-q", "--quiet", action="store_true", help="errors only")
    if verbose:
        tell.add_argument("-v", "--verbose", action="store_true", help="also redirects, retries, addresses")
    if json is not None:
        tell.add_argument("--json", action="store_true", help=json)
    if trace:
        tell.add_argument("--trace", metavar="FILE", help="write what each connection does, for Perfetto")
    tell.add_argument("-V", "--version", action=_Version, nargs=0, help="the version")
    tell.add_argument("-h", "--help", action=_Help, nargs=0, help="this text")
