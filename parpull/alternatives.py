"""Alternatives: where else the bytes of an object can be had.

Mirrors that the caller names, once each was shown to hold the same object, and the other
addresses of the object's own host. Both are found while the transfer runs, which waits for
neither; the reactor (src/sources.pxi) shares the parts among them and drops what fails or
is slow. Second floor.
"""

from __future__ import annotations

import ipaddress
import socket
import threading

from ._reactor import option_number
from .errors import ParpullError, redact
from .settings import proxied
from .sources import origin_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ._job import JobHandle
    from .download import Download
    from .options import Options
    from .sources import Target

__all__ = ["Alternatives", "addresses_of", "same_object"]

WORTH_IT = 1 << 20  # bytes for which a mirror is asked
SPREAD_FROM = 16 << 20  # bytes that are worth asking several addresses
MOST_ADDRESSES = 8
OWN = ("CONNECT_TO", "UNIX_SOCKET_PATH", "ABSTRACT_UNIX_SOCKET")  # the user says where connections lead


def same_object(ours: Target, theirs: Target, *, proven: bool) -> str | None:
    """None if a mirror's object is ours, else why that can't be said. `proven`: a digest
    of the whole object will be checked, so that the size is enough here."""
    if ours.size is None or theirs.size != ours.size:
        return f"it has {'an unknown size' if theirs.size is None else f'{theirs.size:,} bytes'}"
    if not theirs.ranges:
        return "it gives no ranges"
    if proven:
        return None
    if ours.etag is not None and ours.etag == theirs.etag and not ours.etag.startswith("W/"):
        return None
    if ours.last_modified is not None and ours.last_modified == theirs.last_modified:
        return None
    return "nothing proves that it has the same object: give its checksum"


def addresses_of(host: str, port: int, options: Options, *, like: str) -> list[str]:
    """The addresses of a host, of the family of `like`, as the user's RESOLVE lines or the
    system's resolver say; may block as long as that does. OSError."""
    v6 = ":" in like
    for line in options.curl.get(option_number("RESOLVE"), ()) if options.curl else ():  # type: ignore[union-attr]
        name, _, rest = str(line).removeprefix("+").partition(":")
        number, _, found = rest.partition(":")
        if name.lower() == host and number == str(port):
            every = [address.strip("[]") for address in found.split(",")]
            return [address for address in every if (":" in address) == v6]
    family = socket.AF_INET6 if v6 else socket.AF_INET
    infos = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)
    return list(dict.fromkeys(str(info[4][0]) for info in infos))


def _nothing(*_: object) -> Any:
    """What a closed one does."""


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


class Alternatives:
    """Those of one Download. ask: begins a transfer of the first byte of a URL, for
    nothing but its target; poke: has the reactor look again; warn: tells the user; doubt:
    bytes may come that only the digest of the whole would prove."""

    def __init__(
        self,
        handle: JobHandle,
        options: Options,
        home: str,
        *,
        ask: Callable[[str, Options], Download],
        poke: Callable[[], None],
        warn: Callable[[str], None],
        doubt: Callable[[], None],
    ) -> None:
        self._handle = handle
        self._options = options
        self._home = home
        self._ask = ask
        self._poke = poke
        self._warn = warn
        self._doubt = doubt
        self._lock = threading.Lock()  # add_source wants one thread at a time
        self._asked: list[Download] = []
        self._names: list[str] = []  # of the sources, in the reactor's order
        self._closed = False

    def look(self, target: Target, size: int | None, *, proven: bool) -> None:
        """The target is known, and that `size` bytes of it are wanted: find what else has
        it. On whatever thread; does not wait."""
        if not target.ranges or size is None or size < WORTH_IT:
            return
        for url in self._options.mirrors:
            with self._lock:  # the end may come meanwhile, on another thread
                if self._closed:
                    return
                ask = self._ask
            try:
                download = ask(url, self._options_for(url))
            except (ParpullError, RuntimeError) as error:  # RuntimeError: the Client is closed
                self._warn(f"mirror {redact(url)} is not used: {error}")
                continue
            with self._lock:
                self._asked.append(download)
                late = self._closed
            if late:
                download.cancel()
            download.add_done_callback(lambda done, url=url: self._answered(url, target, done, proven))  # type: ignore[misc]
        if size >= SPREAD_FROM and self._wants_addresses(target):
            thread = threading.Thread(
                target=self._look_up, args=(target.url, target.address), name="parpull-addresses", daemon=True
            )
            try:
                thread.start()
            except RuntimeError:  # too many, or the interpreter ends: one address does
                pass

    def name(self, number: int) -> str:
        """How to call a source to the user."""
        with self._lock:  # who has added it may be about to give it its name
            return self._names[number - 1]

    def close(self) -> None:
        """The transfer is over."""
        with self._lock:
            self._closed = True
            asked, self._asked = self._asked, []
        # They lead back to the Download, which holds the caller's buffer.
        self._ask = self._poke = self._warn = self._doubt = _nothing
        for download in asked:
            download.cancel()

    # --- mirrors ------------------------------------------------------------------------

    def _options_for(self, url: str) -> Options:
        """What may be told to a mirror: the user's secrets are the home's alone."""
        quiet = self._options.replace(
            mirrors=(), on_event=None, checksum=None, size=None, trace=False, retries=1, max_memory=None
        )
        if origin_of(url) == origin_of(self._home):
            return quiet
        return quiet.replace(headers=(), auth=None, cookies=None, cert=None, key=None)

    def _answered(self, url: str, ours: Target, done: Download, proven: bool) -> None:
        """On the notifier's thread: a mirror has answered, or failed."""
        try:
            if done.cancelled():
                return
            theirs, error = done.target, done.exception()
            why = str(error) if error is not None or theirs is None else same_object(ours, theirs, proven=proven)
            if why is not None or theirs is None:
                self._warn(f"mirror {redact(url)} is not used: {why}")
                return
            if same_object(ours, theirs, proven=False) is not None:
                self._doubt()
            request = done.resolved
            private = request.private and origin_of(url) == origin_of(self._home)
            with self._lock:
                added = not self._closed and self._handle.add_source(
                    request.url,
                    request.headers,
                    private=private,
                    etag=theirs.etag,
                    last_modified=theirs.last_modified,
                )
                if added:
                    self._names.append(f"mirror {redact(url)}")
            self._poke()
        finally:
            if not done.cancelled() and done.exception() is None:
                done.result().close()

    # --- addresses ----------------------------------------------------------------------

    def _wants_addresses(self, target: Target) -> bool:
        _, host, _ = origin_of(target.url)
        return (
            target.address is not None
            and self._options.limit > 1
            and not proxied(self._options)
            and not any(option_number(name) in self._options.curl for name in OWN)
            and not _is_address(host)
        )

    def _look_up(self, url: str, address: str) -> None:
        """A thread of its own, for as long as the resolver takes."""
        _, host, port = origin_of(url)
        try:
            found = addresses_of(host, port, self._options, like=address)
        except (OSError, UnicodeError):
            return
        for other in [each for each in found if each != address][: MOST_ADDRESSES - 1]:
            place = f"::[{other}]:{port}" if ":" in other else f"::{other}:{port}"
            with self._lock:
                if self._closed or not self._handle.add_source(connect_to=place):
                    return
                self._names.append(f"address {other} of {host}")
        self._poke()
