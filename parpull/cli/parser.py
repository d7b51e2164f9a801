"""The arguments: what may be written, and what to say to what may not.

argparse reads them; the messages are ours. Fingers that know curl, wget or aria2
are met half-way: what means the same is accepted, what means something else is
refused with a hint, and nothing is quietly taken for what it is not. Touches
neither files nor network; whether a value makes sense is for Options to say.
"""

from __future__ import annotations

import argparse

from .._version import __version__
from ..options import parse_size
from .outcome import UsageError, say, write_out

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Literal, NoReturn

__all__ = ["Arguments", "parse"]

VERBS = ("get",)
MORE = "parpull -h lists the options"
USAGE = "usage: parpull [options] URL..."
EPILOG = """\
examples:
  parpull https://host/model.safetensors              a file of that name, here
  parpull -x 32 -o data.tar https://host/d?id=7       another name, 32 connections
  parpull https://host/data.tar.gz -o - | tar xz      through a pipe
  parpull -d models URL1 URL2 URL3                    several share the connections

exit codes: 0 ok, 1 transfer failed, 2 usage, 3 not found, 4 access denied,
5 checksum mismatch or object changed, 6 cannot write, 130 SIGINT, 143 SIGTERM
"""

NO_RESUME = "it would have to start anew: run it without, with --overwrite where a file is in the way"
# What other tools' options are called here; looked up when argparse does not know one.
ELSEWHERE = {
    "-f": "leave it out: a status that is no success ends with an exit code of its own",
    "-S": "leave it out: errors are shown also with -q",
    "-A": "write -H 'User-Agent: …'",
    "-e": "write -H 'Referer: …'",
    "-b": "write -H 'Cookie: …'",
    "-C": f"resuming is not there yet; {NO_RESUME}",
    "-P": "write -d DIR",
    "-j": "write -x N",
    "-n": "write -x N; the size of a part is --part-size",
    "-U": "write --proxy http://user:password@host:port",
    "-E": "write --cert FILE --key FILE",
    "--continue-at": f"resuming is not there yet; {NO_RESUME}",
    "--continue": f"resuming is not there yet; {NO_RESUME}",
    "--directory-prefix": "write -d DIR",
    "--output-dir": "write -d DIR",
    "--dir": "write -d DIR",
    "--out": "write -o FILE",
    "--output-document": "write -o FILE",
    "--split": "write -x N",
    "--max-connection-per-server": "write -x N",
    "--silent": "write -q",
    "--user-agent": "write -H 'User-Agent: …'",
    "--referer": "write -H 'Referer: …'",
    "--cookie": "write -H 'Cookie: …'",
    "--all-proxy": "write --proxy URL",
    "--proxy-user": "write --proxy http://user:password@host:port",
    "--ca-certificate": "write --cacert FILE",
    "--certificate": "write --cert FILE",
    "--private-key": "write --key FILE",
    "--no-check-certificate": "certificates are always checked; --cacert FILE trusts a private authority",
    "--tries": "write --retry N",
    "--max-tries": "write --retry N",
    "--force": "write --overwrite",
    "--sha256": "write --checksum sha256=HEX",
}


class Arguments(argparse.Namespace):
    """What was asked for; None where nothing was said."""

    urls: list[str]
    output: str | None
    directory: str | None
    overwrite: bool
    checksum: str | None
    connections: int | Literal["auto"] | None
    part_size: int | None
    retries: int | None
    headers: list[str] | None
    auth: tuple[str, str] | None
    proxy: str | None
    noproxy: str | None
    ca_file: str | None
    cert: str | None
    key: str | None
    quiet: bool
    verbose: bool
    json: bool


def parse(argv: Sequence[str]) -> Arguments | None:
    """Read the arguments; None when they were a question that is answered now.
    UsageError when they make no sense."""
    if not argv:
        say(USAGE)
        raise UsageError("no URL given", MORE)
    rest = list(argv[1:] if argv[0] in VERBS else argv)
    parser = _parser()
    args = Arguments()
    # Intermixed: URLs may stand on both sides of an option.
    _, unknown = parser.parse_known_intermixed_args(rest, args)
    if getattr(args, "answered", False):
        return None
    if unknown:
        raise _unknown(unknown[0], parser)
    if not args.urls:
        say(USAGE)
        raise UsageError("no URL given", MORE)
    if len(args.urls) > 1:
        if args.output is not None:
            raise UsageError("-o names one file, but there are several URLs", "-d DIR takes them all")
        if args.checksum is not None:
            raise UsageError("--checksum is of one object, but there are several URLs", "run it once for each of them")
    if args.output is not None and args.output.endswith("/"):
        raise UsageError(f"-o {args.output} names a folder", f"write -d {args.output}")
    if args.output == "":
        raise UsageError("-o names no file", "-o FILE, or -o - for standard output")
    if args.quiet and args.verbose:
        raise UsageError("-q and -v contradict each other")
    return args


def _unknown(option: str, parser: argparse.ArgumentParser) -> UsageError:
    """The error for an option that there is not, with the best hint there is."""
    name = option.partition("=")[0]
    hint = ELSEWHERE.get(name) or (None if name.startswith("--") else ELSEWHERE.get(name[:2]))
    if hint is None:
        import difflib

        options = parser._option_string_actions.items()
        known = [text for text, action in options if text.startswith("--") and not isinstance(action, _Refuse)]
        near = difflib.get_close_matches(name, known, n=1) if name.startswith("--") else []
        hint = f"did you mean {near[0]} ?" if near else MORE
    return UsageError(f"there is no option {name}", hint)


class _Parser(argparse.ArgumentParser):
    """argparse with our way to fail and to print."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, MORE)

    def format_usage(self) -> str:
        return USAGE + "\n"


class _Formatter(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=32)


class _Help(argparse.Action):
    """Print the help past Python's buffers, so that `parpull -h | head` is clean."""

    def __call__(self, parser: argparse.ArgumentParser, args: Any, value: Any, option: str | None = None) -> None:
        if not getattr(args, "answered", False):
            write_out(parser.format_help().encode())
        args.answered = True


class _Version(argparse.Action):
    """`parpull … --version`; alone it is answered before this file is read."""

    def __call__(self, parser: argparse.ArgumentParser, args: Any, value: Any, option: str | None = None) -> None:
        if not getattr(args, "answered", False):
            write_out(f"parpull {__version__}\n".encode())
        args.answered = True


class _Refuse(argparse.Action):
    """An option that other tools have and that we do not obey."""

    def __init__(self, *args: Any, hint: str, what: str, **more: Any) -> None:
        more |= {"nargs": 0, "help": argparse.SUPPRESS}
        super().__init__(*args, **more)
        self.hint = hint
        self.what = what

    def __call__(self, parser: argparse.ArgumentParser, args: Any, value: Any, option: str | None = None) -> None:
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


def _size(text: str) -> int:
    try:
        return parse_size(text)
    except (ValueError, OverflowError):
        raise UsageError(f"--part-size {text} is no size", "bytes, or with a unit: 8MiB, 8M") from None


def _retries(text: str) -> int:
    if not text.isdecimal():
        raise UsageError(f"--retry {text} is no number", "how many failures in a row, without progress, are too many")
    return int(text)


def _userinfo(text: str) -> tuple[str, str]:
    user, colon, password = text.partition(":")
    if not colon:
        raise UsageError("-u names no password", "-u USER:PASSWORD; an empty one is -u USER:")
    return user, password


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="parpull",
        usage="parpull [options] URL...",
        description="Fetch objects over HTTP, each through many connections at once, and prove them right.",
        epilog=EPILOG,
        formatter_class=_Formatter,
        add_help=False,
        allow_abbrev=False,  # an abbreviation that works today would bind us tomorrow
    )
    what = parser.add_argument_group("what")
    what.add_argument("urls", nargs="*", metavar="URL", help="http:// or https:// address")

    where = parser.add_argument_group("where to")
    where.add_argument("-o", "--output", metavar="FILE", help="write here; - is standard output")
    where.add_argument("-d", "--directory", metavar="DIR", help="folder to write into (default: the current one)")
    where.add_argument("-O", "--remote-name", action="store_true", help="name files as their URLs do (the default)")
    where.add_argument("--overwrite", action="store_true", help="replace a file that exists")
    where.add_argument("--checksum", metavar="ALGO=HEX", help="what the bytes must give, e.g. sha256=…")

    how = parser.add_argument_group("how")
    for names, text in (
        (("-x", "--connections"), "connections, shared by all objects (default: auto)"),
        (("-s",), None),
    ):
        how.add_argument(
            *names,
            action=_Connections,
            metavar="N",
            dest="connections",
            help=text or argparse.SUPPRESS,
        )
    how.add_argument(
        "--part-size", type=_size, metavar="SIZE", help="bytes of one range, e.g. 8MiB (default: measured)"
    )
    how.add_argument(
        "--retry", type=_retries, dest="retries", metavar="N", help="failures in a row before giving up (default: 10)"
    )
    how.add_argument("-L", "--location", action="store_true", help="follow redirects (always on)")

    send = parser.add_argument_group("what to send")
    send.add_argument(
        "-H",
        "--header",
        action="append",
        dest="headers",
        metavar="'K: V'",
        help="a header, to the URL's own server only",
    )
    send.add_argument("-u", "--user", type=_userinfo, dest="auth", metavar="USER:PASS", help="log in with")

    net = parser.add_argument_group("network")
    net.add_argument("--proxy", metavar="URL", help="go through this proxy")
    net.add_argument("--noproxy", metavar="HOSTS", help="hosts that do without it, with commas")
    net.add_argument("--cacert", dest="ca_file", metavar="FILE", help="trust these authorities (PEM)")
    net.add_argument("--cert", metavar="FILE", help="the client's certificate (PEM)")
    net.add_argument("--key", metavar="FILE", help="and its key")

    tell = parser.add_argument_group("what to tell")
    tell.add_argument("-q", "--quiet", action="store_true", help="errors only")
    tell.add_argument("-v", "--verbose", action="store_true", help="also redirects, retries, addresses")
    tell.add_argument("--json", action="store_true", help="one event a line on stdout (with -o -: on stderr)")
    tell.add_argument("-V", "--version", action=_Version, nargs=0, help="the version")
    tell.add_argument("-h", "--help", action=_Help, nargs=0, help="this text")

    parser.add_argument(
        "-k",
        "--insecure",
        action=_Refuse,
        what="certificates are always checked",
        hint="--cacert FILE trusts a private authority",
    )
    parser.add_argument(
        "-c",
        "--continue",
        action=_Refuse,
        what="resuming is not there yet",
        hint=NO_RESUME + "; -c was curl's cookie jar? Write -H 'Cookie: …'",
    )
    return parser
