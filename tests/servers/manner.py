"""How the origin behaves when nothing is wrong: the parameters that a URL may carry.

Every field of `Manner` is a query parameter (`?etag=weak&pace=50000000`) and a key that a scenario
may set under `[server.manner]`; the query wins. Pure: text in, a frozen value out.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from types import UnionType
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

from tests.servers.digests import Form  # noqa: TC001  (get_type_hints looks for it here)

if TYPE_CHECKING:
    from collections.abc import Mapping

IDENTITY = frozenset({"size", "version", "sig", "gen"})  # query keys that are no manner


@dataclass(frozen=True, kw_only=True)
class Manner:
    """The parameters, with what a well-behaved static server does as the default."""

    pace: int | None = None
    """Bytes a second and connection, by the kernel (SO_MAX_PACING_RATE)."""
    latency: float = 0.0
    """Seconds of silence before each response."""
    etag: Literal["strong", "weak", "none"] = "strong"
    last_modified: bool = True
    if_match: Literal["honour", "ignore", "refuse"] = "honour"
    """`refuse` answers 412 to any If-Match, as some gateways do."""
    if_range: Literal["honour", "refuse"] = "honour"
    """`refuse` answers 200 to any If-Range, as some CDNs do."""
    ranges: bool = True
    """no: every answer is a 200 with the whole object."""
    accept_ranges: bool = True
    """no: the header is left out; ranges work nevertheless."""
    length: Literal["known", "chunked", "close"] = "known"
    """How the body of a 200 is framed."""
    range_length: Literal["known", "chunked", "close"] = "known"
    """How the body of a 206 is framed."""
    head: bool = True
    """no: HEAD is answered 405."""
    empty: Literal["200", "416"] = "200"
    """How an object of size 0 answers a range: nginx's way or S3's."""
    per_connection: int | None = None
    """The connection closes after so many requests."""
    digest: Literal["none", "right", "wrong"] = "none"
    """Whether a digest of the whole object is stated, and whether it is the right one."""
    stated: Form = "repr-digest"
    """The header that states it."""
    auth: str | None = None
    """USER:PASS that Basic authentication must bring, else 401."""
    bearer: str | None = None
    """The token that `Authorization: Bearer` must bring, else 401."""
    cookie: str | None = None
    """NAME=VALUE that must be among the cookies, else 403."""
    redirect: Literal["none", "signed", "plain"] = "none"
    """302 to `to`, or to the same path here; `signed` adds sig=TOKEN&gen=N to the target."""
    to: str | None = None
    """Where the redirect leads: an absolute URL, or anything a Location may hold."""
    hops: int = 0
    """So many 302s (to this URL with one hop less) before the answer."""
    signed: bool = False
    """yes: only a URL with a signature that is still good is answered."""
    uses: int | None = None
    """A signature is good for so many requests."""
    ttl: float | None = None
    """A signature is good for so many seconds after its first use."""
    expired: int = 403
    """The status that a bad or used-up signature gets."""


def parse_manner(given: Mapping[str, str]) -> Manner:
    """Make a Manner from text; ValueError names what is unknown or malformed."""
    hints = get_type_hints(Manner)
    unknown = given.keys() - hints.keys()
    if unknown:
        raise ValueError(f"unknown parameters: {', '.join(sorted(unknown))}")
    parsed: dict[str, Any] = {name: _parse(name, text, hints[name]) for name, text in given.items()}
    return Manner(**parsed)


def as_text(value: object) -> str:
    """How a parameter's value is written in a URL."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def explain() -> str:
    """One line a parameter with its default, for --help."""
    return "\n".join(f"  {f.name:15} (default {as_text(f.default)})" for f in fields(Manner))


def _parse(name: str, text: str, hint: Any) -> object:
    if get_origin(hint) is Literal:
        if text not in get_args(hint):
            raise ValueError(f"{name}={text}: choose from {', '.join(get_args(hint))}")
        return text
    kind = get_args(hint)[0] if isinstance(hint, UnionType) else hint
    if kind is bool:
        if text not in {"yes", "no"}:
            raise ValueError(f"{name}={text}: choose from yes, no")
        return text == "yes"
    return kind(text)
