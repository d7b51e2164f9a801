"""Requests to answers: what a correct server in a given manner says, as a value.

`right_answer(ask)` is the honest origin. A fault takes an `Ask` too and returns an `Answer`, most
often the right one with something replaced. Knows HTTP; must not know scenarios, sockets or
threads: delivery.py puts an Answer on the wire as it stands, however wrong.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Literal
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from tests.servers.digests import stated
from tests.servers.manner import as_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tests.servers.manner import Manner
    from tests.servers.state import Asked, Census, NameState, Record
    from tests.servers.wire import Request

Framing = Literal["known", "chunked", "close"]
Ending = Literal["keep", "close", "drop", "torn", "rst", "hang"]
_EPOCH = datetime(2024, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Stretch:
    """The bytes `[start, stop)` of an object of this version."""

    start: int
    stop: int
    version: int

    def __len__(self) -> int:
        return max(0, self.stop - self.start)


Piece = Stretch | bytes


@dataclass(frozen=True)
class Answer:
    """One response, or what is left of it."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: tuple[Piece, ...] = ()
    framing: Framing = "known"
    declared: int | None = None
    """What Content-Length says where it differs from the body's length."""
    ending: Ending = "keep"
    """What happens to the connection after the body: `keep` obeys the request, `close` says so in
    a header and closes, `drop` closes without a word, `torn` over TLS even without close_notify, `hang` is
    silent until the client goes."""
    protocol: str = "HTTP/1.1"
    informs: tuple[int, ...] = ()
    """1xx responses sent first."""
    last_chunk: bool = True
    drip: int | None = None
    """Bytes a second by sleeping between small sends, which TLS and small bodies feel too."""
    pace: int | None = None
    """Bytes a second by the kernel, in place of the manner's."""
    door: int | None = None
    """From here on the origin listens only while fewer connections than this are open."""
    mute: bool = False
    """Send nothing at all before the ending."""
    raw: bytes | None = None
    """Sent in place of the head."""
    endless: bytes = b""
    """Sent behind the head, again and again, until the client goes."""
    drip_head: bool = False
    """The head drips, too."""

    @property
    def length(self) -> int:
        """The body's length in bytes."""
        return sum(len(piece) for piece in self.body)

    def with_headers(self, given: Mapping[str, str]) -> Answer:
        """The same with these headers put in or replaced."""
        names = {name.lower() for name in given}
        kept = tuple((k, v) for k, v in self.headers if k.lower() not in names)
        return replace(self, headers=(*kept, *given.items()))

    def without_headers(self, names: Iterable[str]) -> Answer:
        """The same without these headers."""
        gone = {name.lower() for name in names}
        return replace(self, headers=tuple((k, v) for k, v in self.headers if k.lower() not in gone))

    def in_manner(self, manner: Manner, served: int) -> Answer:
        """The same at the manner's pace; closing when the connection has served its share."""
        pace = manner.pace if self.pace is None else self.pace
        last = manner.per_connection is not None and served >= manner.per_connection
        ending: Ending = "close" if last and self.ending == "keep" else self.ending
        return replace(self, pace=pace, ending=ending)

    def cut(self, after: int) -> Answer:
        """The same head, but only the body's first bytes."""
        kept: list[Piece] = []
        left = after
        for piece in self.body:
            if isinstance(piece, bytes):
                kept.append(piece[:left])
            else:
                kept.append(replace(piece, stop=min(piece.stop, piece.start + left)))
            left -= len(kept[-1])
        declared = self.length if self.declared is None else self.declared
        return replace(self, body=tuple(kept), declared=declared)


@dataclass(frozen=True)
class Ask:
    """One request with all that an answer may depend on."""

    request: Request
    size: int
    version: int
    manner: Manner
    state: NameState
    census: Census
    record: Record
    port: int
    span: tuple[int, int] | None = field(init=False)
    """The range asked for within the object, half-open; empty when it cannot be satisfied."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "span", _within(self.record.asked, self.size))

    @property
    def etag(self) -> str | None:
        """The validator that the object has in this manner."""
        opaque = f'"{self.version}-{self.size:x}"'
        return {"strong": opaque, "weak": f"W/{opaque}", "none": None}[self.manner.etag]


def parse_range(text: str | None) -> Asked | None:
    """The Range header, half-open; None when absent, malformed or of several ranges (then: 200)."""
    unit, _, span = (text or "").partition("=")
    first, dash, last = span.strip().partition("-")
    if unit.strip() != "bytes" or not dash or not (first + last).isdigit():
        return None
    if not first:
        return -int(last), None
    return int(first), int(last) + 1 if last else None


def _within(asked: Asked | None, size: int) -> tuple[int, int] | None:
    if asked is None:
        return None
    start, stop = asked
    if start < 0:
        return max(0, size + start), size
    return start, size if stop is None else min(stop, size)


def right_answer(ask: Ask) -> Answer:
    """What a correct server in this manner answers."""
    manner = ask.manner
    refusal = _refused(ask) or _redirected(ask)
    if refusal is not None:
        return refusal
    if ask.request.method not in {"GET", "HEAD"} or (ask.request.method == "HEAD" and not manner.head):
        return note(405)
    if _precondition_failed(ask):
        return note(412)
    span = ask.span if manner.ranges and _range_applies(ask) else None
    if ask.size == 0 and manner.empty == "200":
        span = None
    if span is None:
        return whole(ask)
    if span[0] >= span[1]:
        return replace(note(416), headers=(("Content-Range", f"bytes */{ask.size}"),))
    return part(ask, *span)


def note(status: int, text: str = "") -> Answer:
    """A short answer that is no object."""
    if status in {204, 304}:
        return Answer(status, (), ())
    return Answer(status, (("Content-Type", "text/plain"),), (text.encode() or b"%d\n" % status,))


def whole(ask: Ask) -> Answer:
    """A 200 with the whole object."""
    body = Stretch(0, ask.size, ask.version)
    return Answer(200, _about(ask), (body,), framing=ask.manner.length)


def part(ask: Ask, start: int, stop: int) -> Answer:
    """A 206 with these bytes."""
    headers = (*_about(ask), ("Content-Range", f"bytes {start}-{stop - 1}/{ask.size}"))
    body = Stretch(start, stop, ask.version)
    return Answer(206, headers, (body,), framing=ask.manner.range_length)


def _about(ask: Ask) -> tuple[tuple[str, str], ...]:
    manner = ask.manner
    told = {"Content-Type": "application/octet-stream"}
    if manner.ranges and manner.accept_ranges:
        told["Accept-Ranges"] = "bytes"
    if ask.etag is not None:
        told["ETag"] = ask.etag
    if manner.last_modified:
        told["Last-Modified"] = last_modified(ask.version)
    digests: tuple[tuple[str, str], ...] = ()
    if manner.digest != "none":
        size = ask.size if manner.digest == "right" else ask.size + 1
        digests = stated(manner.stated, size, ask.version)
    return (*told.items(), *digests)


def last_modified(version: int) -> str:
    """Each version is one day younger."""
    return format_datetime(_EPOCH + timedelta(days=version), usegmt=True)


def _refused(ask: Ask) -> Answer | None:
    manner, headers, query = ask.manner, ask.request.headers, ask.request.query
    given = headers.get("authorization", "")
    if manner.auth is not None:
        basic = "Basic " + base64.b64encode(manner.auth.encode()).decode()
        if given != basic:
            return note(401).with_headers({"WWW-Authenticate": 'Basic realm="tests"'})
    if manner.bearer is not None and given != f"Bearer {manner.bearer}":
        return note(401).with_headers({"WWW-Authenticate": 'Bearer realm="tests"'})
    if manner.cookie is not None and manner.cookie not in headers.get("cookie", "").split("; "):
        return note(403)
    if manner.signed:
        token, generation = query.get("sig", ""), query.get("gen", "")
        if not ask.state.admits(token, generation, manner.uses, manner.ttl):
            return note(manner.expired, "Request has expired\n")
    return None


def _redirected(ask: Ask) -> Answer | None:
    manner = ask.manner
    path, query = quote(ask.request.path), dict(ask.request.query)
    if manner.hops > 0:
        return redirect(f"{path}?{urlencode(query | {'hops': as_text(manner.hops - 1)})}")
    if manner.redirect == "none":
        return None
    for key in ("redirect", "to", "auth", "bearer", "cookie"):
        query.pop(key, None)
    # `redirect=none` rather than nothing: a scenario's own manner may ask for the redirect.
    target = manner.to or f"{path}?{urlencode(query | {'redirect': 'none'})}"
    if manner.redirect == "signed":
        token, generation = ask.state.sign()
        target = add_query(target, {"signed": "yes", "sig": token, "gen": str(generation)})
    return redirect(target)


def redirect(location: str) -> Answer:
    """A 302 to this place."""
    return note(302).with_headers({"Location": location})


def add_query(url: str, given: Mapping[str, str]) -> str:
    """The URL with these parameters added."""
    parts = urlsplit(url)
    query = urlencode(dict(parse_qsl(parts.query, keep_blank_values=True)) | dict(given))
    return urlunsplit(parts._replace(query=query))


def _precondition_failed(ask: Ask) -> bool:
    if_match = ask.request.headers.get("if-match")
    if if_match is None or ask.manner.if_match == "ignore":
        return False
    if ask.manner.if_match == "refuse":
        return True
    # Strong comparison: a weak validator never matches, on either side (RFC 9110, 13.1.1).
    ours = ask.etag if ask.manner.etag == "strong" else None
    tags = {tag.strip() for tag in if_match.split(",")}
    return "*" not in tags and ours not in tags


def _range_applies(ask: Ask) -> bool:
    if_range = ask.request.headers.get("if-range")
    if if_range is None:
        return True
    if ask.manner.if_range == "refuse":
        return False
    strong = ask.etag if ask.manner.etag == "strong" else None
    return if_range in {strong, last_modified(ask.version) if ask.manner.last_modified else None}
