"""A run that never was: the events of one object that meets all that can be drawn.

    python -m tests.traced FILE        writes its trace

Plain arithmetic, no clock and no chance: eight connections of 24 MB/s, to a server
that refuses more than seven at once; one crawls and is stolen from, then given up in
the tail; one stalls, one breaks off.
"""

from __future__ import annotations

import sys

from parpull.errors import ParpullError
from parpull.events import Adapted, Event, Finished, Redirected, Retrying, Started, Traced
from parpull.trace import Trace

__all__ = ["URL", "Clock", "play", "run"]

MIB = 1 << 20
URL = "https://files.example/weights.bin"
SIZE = 320 * MIB
PART = 8 * MIB
LATENCY = 0.03
SPEED = 24e6
CRAWL = 3e6
CRAWLING, BREAKING, STALLING, REFUSED = 3, 1, 5, 7


class Clock:
    """Seconds, as far as somebody has set it."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def run(url: str = URL, size: int = SIZE) -> list[tuple[float, Event]]:
    """(seconds since the beginning, event), in their order."""
    told: list[tuple[float, Event]] = []
    busy: dict[int, float] = {}

    def step(at: float, what: str, lane: int, start: int, stop: int) -> None:
        told.append((at, Traced(url, lane=lane, what=what, at=at, start=start, stop=stop, connections=0)))

    told.append((0.012, Redirected(url, status=302, location="https://edge.example/weights.bin")))
    told.append((0.045, Started(url, size=size, validator='"abc"', ranges=True, address="192.0.2.7", resumed=0)))
    told.append((0.046, Adapted(url, before=0, after=4, rate=0.0, why="start")))
    told.append((0.35, Adapted(url, before=4, after=8, rate=9.1e7, why="grow")))
    told.append((0.43, Adapted(url, before=8, after=7, rate=1.6e8, why="refused")))
    free = [(0.0, 0), *((0.046 + lane / 1000, lane) for lane in range(1, 4)), *((0.35 + n / 1000, n) for n in range(4, 8))]
    gaps: list[tuple[int, int]] = []  # what has to be asked for anew
    at_most = {0: 2 * MIB}
    offset = 0
    broken = stalled = stolen = False
    crawl: tuple[float, int, int] | None = None
    while free:
        free.sort()
        now, lane = free.pop(0)
        if gaps:
            start, stop = gaps.pop(0)
        elif offset < size:
            start, stop = offset, min(offset + at_most.pop(lane, PART), size)
            offset = stop
        elif crawl is not None and not stolen:
            began, start, stop = crawl
            reached = start + int((now - began) * CRAWL)
            start = (reached + (stop - reached) // 2) // MIB * MIB
            step(now, "stolen", CRAWLING, start, stop)
            crawl, stolen = (began, crawl[1], start), True
        elif crawl is not None:
            began, begin, stop = crawl
            start = begin + int((now - began) * CRAWL) // MIB * MIB
            step(now, "hedged", CRAWLING, start, stop)
            busy[CRAWLING] = now
            crawl = None
        else:
            continue
        step(now, "sent", lane, start, stop)
        first = now + LATENCY + lane / 1000
        if lane == REFUSED:
            step(first, "refused", lane, start, stop)
            gaps.append((start, stop))
            continue
        step(first, "first", lane, start, stop)
        if lane == CRAWLING and now > 0.3:
            crawl = (first, start, stop)
            continue
        speed = SPEED * (1 + (lane % 3) / 8) / (1.0 if now < 1.0 else 1.2)
        end, what, rest = first + (stop - start) / speed, "ended", start
        if lane == BREAKING and now > 0.5 and not broken:
            end, what, rest, broken = first + 0.12, "failed", start + 2 * MIB, True
            error = ParpullError("the connection broke off", url=url)
            told.append((end, Retrying(url, attempt=1, delay=0.1, error=error)))
        elif lane == STALLING and now > 0.6 and not stalled:
            end, what, rest, stalled = first + 0.5, "stalled", start + 3 * MIB, True
        step(end, what, lane, rest, stop)
        if what == "ended":
            free.append((end, lane))
        else:
            gaps.append((rest, stop))
            free.append((end + 0.1, lane))
    told.sort(key=lambda pair: pair[0])
    working: set[int] = set()
    for _, event in told:  # who is at work is known only now
        if isinstance(event, Traced):
            if event.what == "sent":
                working.add(event.lane)
            elif event.what not in ("first", "stolen"):
                working.discard(event.lane)
            event.__dict__["connections"] = len(working)
    over = told[-1][0] + 0.004
    end = Finished(
        url, size=size, landed=size, seconds=over, requests=sum(e.kind == "traced" and e.what == "sent" for _, e in told),
        connections=7, retries=1, cancelled=False, up_to_date=False, error=None,
    )  # fmt: skip
    return [*told, (over, end)]


def play(trace: Trace, clock: Clock, told: list[tuple[float, Event]], number: int | None = None) -> None:
    """Let a trace hear events at their times."""
    began = clock.now
    for at, event in told:
        clock.now = began + at
        trace.hear(event, number)


if __name__ == "__main__":
    ticking = Clock()
    with Trace(sys.argv[1], clock=ticking) as writing:
        play(writing, ticking, run())
