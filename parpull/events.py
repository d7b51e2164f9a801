"""What a transfer tells while it runs: the values that `on_event` receives.

Called on the Client's notifier thread: be quick, and never wait there for the
same Client's transfers. Ground floor.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .errors import ParpullError

__all__ = ["Adapted", "Event", "Finished", "Redirected", "Refreshed", "Retrying", "Started", "Traced", "Warned"]


class Event:
    """The root of events. `url` is the object's, redacted; `kind` names the event."""

    kind = "event"
    url: str

    def __init__(self, url: str, **data: Any) -> None:
        self.url = url
        self.__dict__.update(data)

    def as_dict(self) -> dict[str, Any]:
        """The event as JSON takes it; errors become their type and message."""
        out: dict[str, Any] = {"event": self.kind}
        for name, value in self.__dict__.items():
            out[name] = f"{type(value).__name__}: {value}" if isinstance(value, Exception) else value
        return out

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self.__dict__.items())})"


class Started(Event):
    """The first response is accepted. size: bytes of the target, None while unknown;
    validator: the ETag or date; ranges: whether the server gives ranges; address:
    the server's; resumed: bytes that an earlier transfer left."""

    kind = "started"
    size: int | None
    validator: str | None
    ranges: bool
    address: str | None
    resumed: int


class Redirected(Event):
    """A redirect is followed, to `location` (redacted)."""

    kind = "redirected"
    status: int
    location: str


class Refreshed(Event):
    """The resolved address no longer works: it is resolved anew, for the
    `generation`-th time."""

    kind = "refreshed"
    status: int
    generation: int


class Retrying(Event):
    """Attempt `attempt` failed with `error`; the next begins after `delay` seconds."""

    kind = "retrying"
    attempt: int
    delay: float
    error: ParpullError


class Warned(Event):
    """Something that a careful user would want to know."""

    kind = "warned"
    message: str


class Adapted(Event):
    """connections="auto" has settled on another number: `before`, `after`; `rate`: bytes
    per second of the transfer before the step; `why`: "start", "grow", "gain", "no gain",
    "fell", "probe", "refused"."""

    kind = "adapted"
    before: int
    after: int
    rate: float
    why: str


class Traced(Event):
    """One step of one connection, told only with trace=True. lane: the connection's
    number, -1 for the transfer as a whole; at: seconds since the transfer began; start,
    stop: bytes [start, stop) of the target that it is about. what: "sent" (a request for
    them), "first" (its first byte), "ended" (they are in place; the request is over),
    "stolen" (another lane has taken them over), "hedged" (they were too slow and are asked
    for anew), "stalled", "failed", "refused" (start is the first byte that is missing);
    connections: at work after it."""

    kind = "traced"
    lane: int
    what: str
    at: float
    start: int
    stop: int
    connections: int


class Finished(Event):
    """The end. size: bytes, None unless all is well; landed: bytes; connections: the
    most at once; up_to_date: nothing was fetched, because the file was there already;
    error: None when all is well, or when `cancelled`."""

    kind = "finished"
    size: int | None
    landed: int
    seconds: float
    requests: int
    connections: int
    retries: int
    cancelled: bool
    up_to_date: bool
    error: ParpullError | None
