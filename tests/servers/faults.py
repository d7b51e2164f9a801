"""The faults: one small function each, from an `Ask` (and what the scenario says) to an `Answer`.

`FAULTS` maps the `does` of a scenario to its function; the keyword arguments of the function are
the keys that the scenario may give. Pure but for the counters in `ask.state`. When a fault strikes
is not decided here (scenarios.py).
"""

from __future__ import annotations

import zlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import MappingProxyType
from typing import TYPE_CHECKING

from tests.servers.answers import Answer, Ending, note, part, right_answer, whole
from tests.servers.content import content

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.servers.answers import Ask


def full(ask: Ask) -> Answer:
    """200 with the whole object, as if there were no Range."""
    return whole(ask)


def shift(ask: Ask, *, by: int, lied: bool = False) -> Answer:
    """206 with bytes from another offset; Content-Range honestly says so, or (lied) what was asked for."""
    start, stop = _span(ask)
    off = by if start < by else -by
    answer = part(ask, start + off, min(stop + off, ask.size))
    return replace(part(ask, start, stop), body=answer.body) if lied and stop + off <= ask.size else answer


def whole_in_206(ask: Ask) -> Answer:
    """206 with the whole object, and a Content-Range that says so."""
    return part(ask, 0, ask.size)


def headers(
    ask: Ask,
    *,
    put: Mapping[str, str] | None = None,
    add: Mapping[str, str] | None = None,
    drop: tuple[str, ...] = (),
) -> Answer:
    """The right body under other headers. {start}, {last}, {next} and {size} are filled in; `add` adds lines."""
    answer = right_answer(ask)
    start, stop = _span(ask)
    known = {"start": start, "last": stop - 1, "next": stop, "size": ask.size, "more": ask.size + 1}
    filled = {name: text.format(**known) for name, text in (put or {}).items()}
    answer = answer.without_headers(drop).with_headers(filled)
    more = tuple((name, text.format(**known)) for name, text in (add or {}).items())
    return replace(answer, headers=(*answer.headers, *more))


def short(ask: Ask, *, keep: int) -> Answer:
    """A legal 206 for the first bytes of what was asked."""
    start, stop = _span(ask)
    return part(ask, start, min(stop, start + keep))


def long(ask: Ask, *, extra: int, framed: bool = True) -> Answer:
    """206 for what was asked, with more (or, negative, fewer) bytes in the body than it states."""
    start, stop = _span(ask)
    answer = part(ask, start, stop)
    body = replace(part(ask, start, stop + extra), headers=answer.headers)
    return body if framed else replace(body, framing="close")


def corrupt(ask: Ask, *, at: int) -> Answer:
    """The right headers, and one wrong byte at this offset of the object."""
    answer = right_answer(ask)
    start, stop = _span(ask)
    if not start <= at < stop:
        return answer
    wrong = bytes([content(at, 1, ask.version)[0] ^ 0xFF])
    before, after = part(ask, start, at).body, part(ask, at + 1, stop).body
    return replace(answer, body=(*before, wrong, *after))


def gzip(ask: Ask, *, all_of_it: bool = False) -> Answer:
    """The asked slice (or all of it, with 200) under `Content-Encoding: gzip`, compressed."""
    answer = whole(ask) if all_of_it else right_answer(ask)
    start, stop = (0, ask.size) if all_of_it else _span(ask)
    packer = zlib.compressobj(1, wbits=31)
    packed = packer.compress(content(start, stop - start, ask.version)) + packer.flush()
    return replace(answer, body=(packed,)).with_headers({"Content-Encoding": "gzip"})


def multipart(ask: Ask) -> Answer:
    """206 as multipart/byteranges with one part, which only a request for several may get."""
    answer = part(ask, *_span(ask))
    says = dict(answer.headers)["Content-Range"]
    top = f"\r\n--SPLIT\r\nContent-Type: text/plain\r\nContent-Range: {says}\r\n\r\n".encode()
    answer = replace(answer, body=(top, *answer.body, b"\r\n--SPLIT--\r\n"))
    kind = {"Content-Type": "multipart/byteranges; boundary=SPLIT"}
    return answer.without_headers(["Content-Range"]).with_headers(kind)


def old_protocol(ask: Ask) -> Answer:
    """HTTP/1.0: 200 with the whole object, its end told by the close."""
    return replace(whole(ask), protocol="HTTP/1.0", framing="close")


def page(ask: Ask) -> Answer:
    """200 with a log-in page, as from a captive portal."""
    text = b"<html><body>Please log in to the guest network.</body></html>\n"
    return Answer(200, (("Content-Type", "text/html"), ("X-Asked", ask.request.path)), (text,))


def truncate(ask: Ask, *, after: int, ending: Ending = "drop", chunked: bool = False) -> Answer:
    """The right head, only the first bytes of the body, then the ending."""
    answer = replace(right_answer(ask).cut(after), ending=ending)
    return replace(answer, framing="chunked", last_chunk=False) if chunked else answer


def no_last_chunk(ask: Ask) -> Answer:
    """All of the body in chunks, then a close where the last chunk should be."""
    return replace(right_answer(ask), framing="chunked", last_chunk=False, ending="drop")


def mute(_: Ask, *, ending: Ending = "drop") -> Answer:
    """No byte of a response."""
    return Answer(0, mute=True, ending=ending)


def status(_: Ask, *, code: int, text: str = "", retry_after: str = "", ending: Ending = "keep") -> Answer:
    """Another status. `retry_after` is the header's text; "date+N" becomes a date N seconds on."""
    answer = replace(note(code, text), ending=ending)
    if retry_after.startswith("date+"):
        when = datetime.now(UTC) + timedelta(seconds=int(retry_after.removeprefix("date+")))
        retry_after = format_datetime(when, usegmt=True)
    return answer.with_headers({"Retry-After": retry_after}) if retry_after else answer


def drip(ask: Ask, *, rate: int, head: bool = False) -> Answer:
    """The right answer in small sends, so many bytes a second (slow-loris); also its head."""
    return replace(right_answer(ask), drip=rate, drip_head=head)


def pace(ask: Ask, *, rate: int) -> Answer:
    """The right answer at so many bytes a second, evenly, by the kernel."""
    return replace(right_answer(ask), pace=rate)


def content_length(ask: Ask, *, values: tuple[str, ...]) -> Answer:
    """The right answer with these Content-Length headers, one each; {length} is the right one."""
    answer = replace(right_answer(ask), framing="close")
    lines = tuple(("Content-Length", value.format(length=answer.length)) for value in values)
    return replace(answer, headers=answer.headers + lines)


def redirect(ask: Ask, *, to: str = "", code: int = 302) -> Answer:
    """A redirect to `to`; without a Location when empty. {target} is this URL, {port} ours, {other} the other one
    of localhost and 127.0.0.1."""
    answer = note(code)
    other = "127.0.0.1" if ask.request.headers.get("host", "").startswith("localhost") else "localhost"
    scheme = "https" if ask.record.tls else "http"
    location = to.format(port=ask.port, target=ask.request.target, other=other, scheme=scheme)
    return answer.with_headers({"Location": location}) if to else answer


def other_host(ask: Ask) -> Answer:
    """Sends those who come to 127.0.0.1 to localhost: another origin, on the same port."""
    if ask.request.headers.get("host", "").startswith("localhost"):
        return right_answer(ask)
    return redirect(ask, to="{scheme}://{other}:{port}{target}")


def downgrade(ask: Ask, *, left: int) -> Answer:
    """A chain of redirects (`hops` in the manner) that leads to http where so many hops are left."""
    return redirect(ask, to="http://127.0.0.1:{port}{target}") if ask.manner.hops == left else right_answer(ask)


def change(ask: Ask, *, by: int = 1, grow: int = 0, silent: bool = False) -> Answer:
    """The object is another version (and size). Silent: under the validators of the old one."""
    changed = replace(ask, version=ask.version + by, size=ask.size + grow)
    if not silent:
        return right_answer(changed)
    old = right_answer(ask)
    changed = replace(changed, manner=replace(ask.manner, if_match="ignore"))
    return replace(old, body=right_answer(changed).body) if old.status in {200, 206} else old


def edge_etag(ask: Ask, *, apart: int = 0) -> Answer:
    """The same bytes and Last-Modified under an ETag of this connection's own (edges of a CDN).

    `apart=N`: connections take turns over N edges; 0: each is an edge.
    """
    ordinal = ask.state.ordinal(ask.record.connection)
    etag = f'"edge-{ordinal % apart if apart else ordinal}"'
    if ask.request.headers.get("if-match", etag) != etag:
        return note(412)
    manner = replace(ask.manner, if_match="ignore")
    return right_answer(replace(ask, manner=manner)).with_headers({"ETag": etag})


def limit(ask: Ask, *, connections: int, answer: str) -> Answer:
    """Only so many connections are served; those beyond get a status, "rst" or "refuse"."""
    if answer == "refuse":
        return replace(right_answer(ask), door=connections)
    if ask.state.rank(ask.record.connection, ask.census.alive()) <= connections:
        return right_answer(ask)
    if answer == "rst":
        return Answer(0, mute=True, ending="rst")
    return replace(note(int(answer)), ending="close")


def big_headers(ask: Ask, *, size: int) -> Answer:
    """The right answer below so many bytes of further headers."""
    lines = {f"X-Filler-{number}": "x" * 1000 for number in range(size // 1000 + 1)}
    return right_answer(ask).with_headers(lines)


def inform(ask: Ask, *, codes: tuple[int, ...]) -> Answer:
    """1xx responses, then the right answer."""
    return replace(right_answer(ask), informs=tuple(codes))


def refuse_long(ask: Ask, *, above: int, code: int) -> Answer:
    """A status for ranges of more bytes than this."""
    start, stop = _span(ask)
    return note(code) if stop - start > above else right_answer(ask)


def refuse_open(ask: Ask, *, code: int) -> Answer:
    """A status for ranges without an end (`bytes=N-`)."""
    asked = ask.record.asked
    return note(code) if asked is not None and asked[1] is None else right_answer(ask)


def garbage(_: Ask, *, text: str) -> Answer:
    """No HTTP at all."""
    return Answer(0, raw=text.encode("latin-1"), ending="drop")


def endless(_: Ask, *, begins: str, then: str) -> Answer:
    """A head that begins so, and then goes on so for ever."""
    again = then.encode("latin-1")
    return Answer(206, raw=begins.encode("latin-1"), endless=again * (1 + 4000 // len(again)))


def _span(ask: Ask) -> tuple[int, int]:
    return (0, ask.size) if ask.span is None else ask.span


FAULTS: Mapping[str, Callable[..., Answer]] = MappingProxyType(
    {
        function.__name__.replace("_", "-"): function
        for function in (
            *(full, shift, whole_in_206, headers, short, long, corrupt, gzip, multipart),
            *(old_protocol, page, truncate, no_last_chunk, mute, status, drip, pace),
            *(content_length, redirect, other_host, downgrade, change, edge_etag, limit),
            *(big_headers, endless, inform, refuse_long, refuse_open, garbage),
        )
    }
)
