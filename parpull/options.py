"""How a transfer is done: one immutable set of options, checked when made.

Bytes and seconds throughout. The order of precedence is argument, environment
(PARPULL_*), configuration file, default; only `Options.from_env()` looks at the
environment and the file, and only the command line and other programs of ours call
it: a library does not. Ground floor.
"""

from __future__ import annotations

import os
from types import MappingProxyType

from .checks import CHECKS, FROM_TEXT, MAX_CONNECTIONS, checked, parse_size
from .config import default_path, read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, Literal, TypedDict, Unpack

    from .events import Event

    class OptionFields(TypedDict, total=False):
        """The keyword options of every verb; see Options for what they mean."""

        connections: int | Literal["auto"]
        host_connections: int | None
        part_size: int | None
        checksum: str | None
        overwrite: bool
        retries: int
        retry_for: float
        connect_timeout: float
        stall_timeout: float
        headers: Mapping[str, str] | Sequence[str]
        auth: tuple[str, str] | None
        netrc: bool | str | os.PathLike[str]
        cookies: str | os.PathLike[str] | None
        proxy: str | Mapping[str, str | None] | None
        noproxy: str | None
        ca_file: str | os.PathLike[str] | None
        cert: str | os.PathLike[str] | None
        key: str | os.PathLike[str] | None
        http_version: Literal["1.1", "2", "3"]
        max_memory: int | None
        durable: bool
        resume: bool
        verify: Literal["stated", "none"]
        size: int | None
        steal: bool
        hedge: bool
        limit_rate: int | None
        mirrors: str | Sequence[str]
        trace: bool
        curl: Mapping[int, int | str | Sequence[str]]
        on_event: Callable[[Event], None] | None


__all__ = ["MAX_CONNECTIONS", "Options", "parse_size"]

AUTO_CONNECTIONS = 32
AUTO_START = 8
NOTHING: Mapping[int, int | str | Sequence[str]] = MappingProxyType({})


class Options:
    """The options of a transfer, or the defaults of a Client.

    connections: how many at most, or "auto": as many as make the transfer faster, up to
        32; for a Client also the budget that all of its transfers share.
    host_connections: how many to one host at most, over all processes of this user;
        None: no such cap.
    part_size: bytes of one range; None: chosen from what is measured.
    checksum: "sha256=HEX" (also sha512, sha1, md5, blake2b …) of the whole target.
    overwrite: whether an existing file may be replaced.
    retries: failed attempts in a row, without progress, before giving up.
    retry_for: seconds without progress before giving up, also on a lost network.
    connect_timeout, stall_timeout: seconds for a connection; without any byte.
    headers: {"Name": "value"} or ["Name: value"]; sent only to the URL's own origin.
    auth: (user, password). netrc: look for them in ~/.netrc, or in the file of this
        path, by the URL's host. cookies: a Cookie header's value; or, as a pathlib.Path,
        a Netscape cookie file. All sent as headers are, to that origin only.
    proxy, noproxy: a proxy's URL, or {"http": URL, "https": URL} by the scheme of the
        address; and the hosts that do without it. Never read from the environment
        here; from_env() does.
    ca_file: PEM file of trusted authorities. cert, key: the client's own.
    http_version: "1.1" by default: parallel ranges in one HTTP/2 connection share
        one TCP window.
    max_memory: bytes that an object in memory may take at most.
    durable: fsync the file and its folder before it gets its name.
    resume: go on where an earlier transfer into the same file ended, and leave what the
        next one needs when this one fails or is cancelled.
    verify: "stated": check a digest that the server states, the cheapest; "none": only
        `checksum`. What a response says of itself is always checked.
    size: the object's size, if known: anything else is a SizeMismatch.
    steal: whether an idle connection takes over what a slow one has not claimed.
    hedge: whether bytes that a connection is far too slow with are asked for anew.
    limit_rate: bytes per second, 1024 at least, of all of a Client's transfers that have
        one together; the lowest holds.
    mirrors: other URLs of the same object. One is used if its size is right and its ETag
        or date is the same, or a digest of the whole object will be checked; it is dropped
        when it fails or is slow. No secret is sent to another origin.
    trace: whether on_event gets Traced events as well.
    curl: {option number: value} of libcurl options that are plain data.
    on_event: called with each Event, on the Client's notifier thread.
    """

    connections: int | Literal["auto"] = "auto"
    host_connections: int | None = None
    part_size: int | None = None
    checksum: str | None = None
    overwrite: bool = False
    retries: int = 10
    retry_for: float = 600.0
    connect_timeout: float = 15.0
    stall_timeout: float = 30.0
    headers: tuple[str, ...] = ()
    auth: tuple[str, str] | None = None
    netrc: bool | str = False
    cookies: str | os.PathLike[str] | None = None
    proxy: str | Mapping[str, str | None] | None = None
    noproxy: str | None = None
    ca_file: str | None = None
    cert: str | None = None
    key: str | None = None
    http_version: Literal["1.1", "2", "3"] = "1.1"
    max_memory: int | None = None
    durable: bool = False
    resume: bool = True
    verify: Literal["stated", "none"] = "stated"
    size: int | None = None
    steal: bool = True
    hedge: bool = True
    limit_rate: int | None = None
    mirrors: tuple[str, ...] = ()
    trace: bool = False
    curl: Mapping[int, int | str | Sequence[str]] = NOTHING
    on_event: Callable[[Event], None] | None = None

    def __init__(self, **fields: Unpack[OptionFields]) -> None:
        for name, value in fields.items():
            if name not in FIELDS:
                raise TypeError(f"unknown option {name!r}; there are: {', '.join(sorted(FIELDS))}")
            self.__dict__[name] = CHECKS[name](name, value)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"options do not change; use replace({name}=…)")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("options do not change; use replace()")

    def replace(self, **fields: Unpack[OptionFields]) -> Options:
        """A copy in which these fields are other ones."""
        copy = Options(**fields)
        copy.__dict__.update({k: v for k, v in self.__dict__.items() if k not in fields})
        return copy

    def __repr__(self) -> str:
        secret = {"auth", "cookies", "curl", "headers", "mirrors", "proxy"}  # curl: PROXYHEADER, KEYPASSWD
        shown = (f"{k}={'…' if k in secret and v else repr(v)}" for k, v in self.__dict__.items())
        return f"Options({', '.join(shown)})"

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, **fields: Unpack[OptionFields]) -> Options:
        """These options, else what PARPULL_* and the configuration file ask for; the
        usual proxy variables, and NETRC, where nobody says otherwise.

        The file is config.toml in the user's folder for configuration, or the one that
        PARPULL_CONFIG names; empty, it names none. With an `environ` of the caller's own
        only a named one is read."""
        ours = environ is None
        environ = os.environ if environ is None else environ
        path = environ.get("PARPULL_CONFIG")
        named = path is not None
        if ours and not named:
            path = default_path()
        known: dict[str, Any] = read(path, named=named) if path else {}
        for name, parse in FROM_TEXT.items():
            label = "PARPULL_" + name.upper()
            text = environ.get(label)
            if text:
                known[name] = checked(name, parse(label, text), label)
        # Lower case only for http_proxy: HTTP_PROXY can be set by a CGI client.
        proxies = {"http": environ.get("http_proxy"), "https": environ.get("https_proxy") or environ.get("HTTPS_PROXY")}
        any_ = environ.get("all_proxy") or environ.get("ALL_PROXY")
        usual = {scheme: proxy or any_ for scheme, proxy in proxies.items()}
        known.setdefault("proxy", checked("proxy", usual, "http_proxy, https_proxy or all_proxy"))
        known.setdefault("noproxy", checked("noproxy", environ.get("no_proxy") or environ.get("NO_PROXY"), "no_proxy"))
        known |= fields
        if known.get("netrc") is True and environ.get("NETRC"):
            known["netrc"] = checked("netrc", environ["NETRC"], "NETRC")
        return cls(**known)

    @property
    def limit(self) -> int:
        """How many connections at most."""
        return AUTO_CONNECTIONS if self.connections == "auto" else self.connections

    @property
    def start(self) -> int:
        """With how many to begin where the number is to be found; 0: it is given."""
        return AUTO_START if self.connections == "auto" else 0


FIELDS = frozenset(Options.__annotations__)
