"""What tests of traces share, and a run that never was: the events of one object that
meets all that can be drawn.

    python -m tests.traced FILE        writes its trace

Plain arithmetic, no clock and no chance: eight connections of 24 MB/s, to a server
that refuses more than seven at once; one crawls and is stolen from, then given up in
the tail; one stalls, one breaks off.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict

from parpull.errors import ParpullError
from parpull.events import Adapted, Event, Finished, Redirected, Retrying, Started, Traced
from parpull.trace import Trace

__all__ = ["URL", "Clock", "check", "finished", "instants", "play", "record", "run", "spread", "traced"]

MIB = 1 << 20
PHASES = {"M": {"args"}, "B": set(), "E": set(), "X": {"dur"}, "i": {"s"}, "C": {"args"}}
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
    free = [
        (0.0, 0),
        *((0.046 + lane / 1000, lane) for lane in range(1, 4)),
        *((0.35 + n / 1000, n) for n in range(4, 8)),
    ]
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
    requests = sum(isinstance(event, Traced) and event.what == "sent" for _, event in told)
    over = told[-1][0] + 0.004
    end = Finished(
        url, size=size, landed=size, seconds=over, requests=requests,
        connections=7, retries=1, cancelled=False, up_to_date=False, error=None,
    )  # fmt: skip
    return [*told, (over, end)]


def play(trace: Trace, clock: Clock, told: list[tuple[float, Event]], number: int | None = None) -> None:
    """Let a trace hear events at their times."""
    began = clock.now
    for at, event in told:
        clock.now = began + at
        trace.hear(event, number)


def traced(what, lane=0, at=0.0, start=0, stop=MIB, connections=1, url=URL):
    return Traced(url, lane=lane, what=what, at=at, start=start, stop=stop, connections=connections)


def finished(url=URL, **more):
    data = {"size": MIB, "landed": MIB, "seconds": 1.0, "requests": 1, "connections": 1, "retries": 0}
    return Finished(url, **data | {"cancelled": False, "up_to_date": False, "error": None} | more)


def check(entries):
    """The form, as trace viewers read it; returns the slices, with those of B and E."""
    slices, begun = [], defaultdict(list)
    last = defaultdict(int)
    named = set()
    for e in entries:
        assert isinstance(e["name"], str)
        assert e["ph"] in PHASES
        assert PHASES[e["ph"]] <= e.keys()
        place = (e["pid"], e["tid"])
        assert all(isinstance(number, int) and number > 0 for number in place)
        if e["ph"] == "M":
            assert "ts" not in e
            named.add((place, e["name"]))
            continue
        assert isinstance(e["ts"], int)
        assert e["ts"] >= 0
        assert (place, "thread_name") in named
        if e["ph"] == "B":
            assert e["ts"] >= last[place], "begins and ends go back in time"
            begun[place].append(e)
        elif e["ph"] == "E":
            assert e["ts"] >= last[place]
            opened = begun[place].pop()
            assert opened["name"] == e["name"]
            slices.append(opened | e | {"ts": opened["ts"], "dur": e["ts"] - opened["ts"]})
        elif e["ph"] == "X":
            assert isinstance(e["dur"], int)
            assert e["dur"] >= 0
            assert begun[place], "a state is within its request"
            assert begun[place][-1]["ts"] <= e["ts"]
            slices.append(e)
        elif e["ph"] == "i":
            assert e["s"] in ("g", "p", "t")
        else:
            assert all(isinstance(value, int | float) for value in e["args"].values())
        if e["ph"] in "BE":
            last[place] = e["ts"]
    return slices, {place: stack for place, stack in begun.items() if stack}


def record(path, told, **more):
    """The entries of a trace of (seconds, event)."""
    clock = Clock()
    with Trace(path, clock=clock) as trace:
        play(trace, clock, told, **more)
    return json.loads(path.read_text())


def instants(entries):
    return [(e["name"], e["tid"] % 1000 - 1, e["args"]) for e in entries if e["ph"] == "i"]


def spread(entries, until):
    """Bytes under the curve."""
    points = sorted((e["ts"] / 1e6, e["args"]["MB/s"] * 1e6) for e in entries if e["name"] == "goodput")
    assert points[-1][1] == 0
    return sum(rate * (after - at) for (at, rate), (after, _) in zip(points, [*points[1:], (until, 0)], strict=True))


if __name__ == "__main__":
    ticking = Clock()
    with Trace(sys.argv[1], clock=ticking) as writing:
        play(writing, ticking, run())
