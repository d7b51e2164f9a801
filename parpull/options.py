"""How a transfer is done: one immutable set of options, checked when made.

Bytes and seconds throughout. The order of precedence is argument, environment
(PARPULL_*), default; only `Options.from_env()` looks at the environment, and only
the command line and other programs of ours call it: a library does not.
Ground floor.
"""

from __future__ import annotations

import os

from .errors import BadOption

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, Literal, TypedDict, Unpack

    from .events import Event

    class OptionFields(TypedDict, total=False):
        """The keyword options of every verb; see Options for what they mean."""

        connections: int | Literal["auto"]
        part_size: int | None
        checksum: str | None
        overwrite: bool
        retries: int
        retry_for: float
        connect_timeout: float
        stall_timeout: float
        headers: Mapping[str, str] | Sequence[str]
        auth: tuple[str, str] | None
        cookies: str | None
        proxy: str | Mapping[str, str | None] | None
        noproxy: str | None
        ca_file: str | os.PathLike[str] | None
        cert: str | os.PathLike[str] | None
        key: str | os.PathLike[str] | None
        http_version: Literal["1.1", "2", "3"]
        max_memory: int | None
        durable: bool
        size: int | None
        steal: bool
        curl: Mapping[int, int | str | Sequence[str]]
        on_event: Callable[[Event], None] | None


__all__ = ["OptionFields", "Options", "parse_size"]

AUTO_CONNECTIONS = 16
MAX_CONNECTIONS = 256


class Options:
    """The options of a transfer, or the defaults of a Client.

    connections: how many at most, or "auto"; for a Client also the budget that all
        of its transfers share.
    part_size: bytes of one range; None: chosen from what is measured.
    checksum: "sha256=HEX" (also sha512, sha1, md5, blake2b …) of the whole target.
    overwrite: whether an existing file may be replaced.
    retries: failed attempts in a row, without progress, before giving up.
    retry_for: seconds without progress before giving up, also on a lost network.
    connect_timeout, stall_timeout: seconds for a connection; without any byte.
    headers: {"Name": "value"} or ["Name: value"]; sent only to the URL's own origin.
    auth: (user, password); cookies: a Cookie header's value. As headers.
    proxy, noproxy: a proxy's URL, or {"http": URL, "https": URL} by the scheme of the
        address; and the hosts that do without it. Never read from the environment
        here; from_env() does.
    ca_file: PEM file of trusted authorities. cert, key: the client's own.
    http_version: "1.1" by default: parallel ranges in one HTTP/2 connection share
        one TCP window.
    max_memory: bytes that an object in memory may take at most.
    durable: fsync the file and its folder before it gets its name.
    size: the object's size, if known: anything else is a SizeMismatch.
    steal: whether an idle connection takes over what a slow one has not claimed.
    curl: {option number: value} of libcurl options that are plain data.
    on_event: called with each Event, on the Client's notifier thread.
    """

    connections: int | Literal["auto"] = "auto"
    part_size: int | None = None
    checksum: str | None = None
    overwrite: bool = False
    retries: int = 10
    retry_for: float = 600.0
    connect_timeout: float = 15.0
    stall_timeout: float = 30.0
    headers: tuple[str, ...] = ()
    auth: tuple[str, str] | None = None
    cookies: str | None = None
    proxy: str | Mapping[str, str | None] | None = None
    noproxy: str | None = None
    ca_file: str | None = None
    cert: str | None = None
    key: str | None = None
    http_version: Literal["1.1", "2", "3"] = "1.1"
    max_memory: int | None = None
    durable: bool = False
    size: int | None = None
    steal: bool = True
    curl: Mapping[int, int | str | Sequence[str]] = {}
    on_event: Callable[[Event], None] | None = None

    def __init__(self, **fields: Unpack[OptionFields]) -> None:
        for name, value in fields.items():
            if name not in FIELDS:
                raise TypeError(f"unknown option {name!r}; there are: {', '.join(sorted(FIELDS))}")
            check = CHECKS.get(name)
            self.__dict__[name] = check(name, value) if check else value

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"options do not change; use replace({name}=…)")

    def replace(self, **fields: Unpack[OptionFields]) -> Options:
        """A copy in which these fields are other ones."""
        copy = Options(**fields)
        copy.__dict__.update({k: v for k, v in self.__dict__.items() if k not in fields})
        return copy

    def __repr__(self) -> str:
        secret = {"auth", "cookies", "headers", "proxy"}
        shown = (f"{k}={'…' if k in secret and v else repr(v)}" for k, v in self.__dict__.items())
        return f"Options({', '.join(shown)})"

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Options:
        """The options that PARPULL_* and the usual proxy variables ask for."""
        environ = os.environ if environ is None else environ
        fields: dict[str, Any] = {}
        for name, parse in FROM_TEXT.items():
            text = environ.get("PARPULL_" + name.upper())
            if text:
                fields[name] = parse("PARPULL_" + name.upper(), text)
        # Lower case only for http_proxy: HTTP_PROXY can be set by a CGI client.
        proxies = {"http": environ.get("http_proxy"), "https": environ.get("https_proxy") or environ.get("HTTPS_PROXY")}
        any_ = environ.get("all_proxy") or environ.get("ALL_PROXY")
        fields.setdefault("proxy", {scheme: proxy or any_ for scheme, proxy in proxies.items()})
        fields.setdefault("noproxy", environ.get("no_proxy") or environ.get("NO_PROXY"))
        return cls(**fields)

    @property
    def limit(self) -> int:
        """How many connections at most."""
        return AUTO_CONNECTIONS if self.connections == "auto" else self.connections


FIELDS = frozenset(Options.__annotations__)

UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


def parse_size(text: str) -> int:
    """Bytes of "64M" (10^6), "64MiB" (2^20) or "512". ValueError for anything else."""
    number = text.strip().lower().removesuffix("b")
    binary = number.endswith("i")
    number = number.removesuffix("i")
    unit = number[-1:] if number[-1:].isalpha() else ""
    digits = number.removesuffix(unit)
    if unit not in UNITS or (binary and not unit) or not digits.replace(".", "", 1).isdecimal() or not digits.isascii():
        raise ValueError(f"not a size: {text!r}")
    scale = 1024 ** ("kmgt".index(unit) + 1) if binary else UNITS[unit]
    return int(float(digits) * scale)


# --- checks: (name, value) -> value, or BadOption --------------------------------------


def _bad(name: str, value: object, hint: str) -> BadOption:
    return BadOption(f"{name}={value!r} is not possible", name=name, value=value, hint=hint)


def _connections(name: str, value: Any) -> Any:
    if value == "auto":
        return value
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_CONNECTIONS:
        raise _bad(name, value, f'give 1 to {MAX_CONNECTIONS}, or "auto"')
    return value


def _count(name: str, value: Any) -> Any:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise _bad(name, value, "give a whole number, 0 or more")
    return value


def _bytes_or_none(name: str, value: Any) -> Any:
    return None if value is None else _count(name, value)


def _part_size(name: str, value: Any) -> Any:
    if value is not None and (not isinstance(value, int) or value < 1):
        raise _bad(name, value, "give bytes, 1 or more, or None")
    return value


def _seconds(name: str, value: Any) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not value > 0:
        raise _bad(name, value, "give seconds, more than 0")
    return float(value)


def _headers(name: str, value: Any) -> tuple[str, ...]:
    lines = [f"{k}: {v}" for k, v in value.items()] if hasattr(value, "items") else list(value)
    for line in lines:
        key, colon, _ = line.partition(":")
        if not colon or not key.strip() or key != key.strip() or not line.isprintable():
            # The value may be a secret: the name of the header has to do.
            raise _bad(name, f"{key.strip()[:40]}: …", "give 'Name: value', without line breaks")
        if key.lower() in ("range", "if-range", "if-match", "accept-encoding"):
            raise _bad(name, key, "parpull sets this header itself; use start= and stop= for a range")
    return tuple(lines)


def _plain_text(name: str, value: Any) -> Any:
    if value is not None and (not isinstance(value, str) or not value.isprintable()):
        raise _bad(name, "…", "give a text without line breaks")
    return value


def _proxy(name: str, value: Any) -> Any:
    proxies = value.values() if hasattr(value, "values") else [value]
    for proxy in proxies:
        _plain_text(name, proxy)
    return value


def _auth(name: str, value: Any) -> Any:
    if value is None:
        return None
    user, password = value
    if not f"{user}{password}".isprintable() or ":" in user:
        raise _bad(name, "…", "give (user, password) without line breaks; the user without a colon")
    return (user, password)


def _path(name: str, value: Any) -> Any:
    if value is None:
        return None
    path = os.fsdecode(value)
    if not os.path.isfile(path):
        raise _bad(name, path, "there is no such file")
    return path


def _http_version(name: str, value: Any) -> Any:
    if value not in ("1.1", "2", "3"):
        raise _bad(name, value, 'give "1.1", "2" or "3"')
    return value


CHECKS: Mapping[str, Callable[[str, Any], Any]] = {
    "connections": _connections,
    "part_size": _part_size,
    "retries": _count,
    "retry_for": _seconds,
    "connect_timeout": _seconds,
    "stall_timeout": _seconds,
    "headers": _headers,
    "auth": _auth,
    "cookies": _plain_text,
    "proxy": _proxy,
    "noproxy": _plain_text,
    "ca_file": _path,
    "cert": _path,
    "key": _path,
    "http_version": _http_version,
    "max_memory": _bytes_or_none,
    "size": _bytes_or_none,
}


def _from_size(name: str, text: str) -> int:
    try:
        return parse_size(text)
    except ValueError:
        raise _bad(name, text, "give a size such as 64M") from None


def _from_number(name: str, text: str) -> float:
    try:
        return int(text) if text.isdecimal() else float(text)
    except ValueError:
        raise _bad(name, text, "give a number") from None


def _from_connections(name: str, text: str) -> Any:
    return text if text == "auto" else _from_number(name, text)


def _from_text(name: str, text: str) -> str:
    return text


FROM_TEXT: Mapping[str, Callable[[str, str], Any]] = {
    "connections": _from_connections,
    "part_size": _from_size,
    "retries": _from_number,
    "retry_for": _from_number,
    "connect_timeout": _from_number,
    "stall_timeout": _from_number,
    "max_memory": _from_size,
    "ca_file": _from_text,
    "proxy": _from_text,
    "noproxy": _from_text,
}
