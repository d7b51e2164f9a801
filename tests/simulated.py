"""Servers that exist only as arithmetic, to judge the controller: no socket, no clock.

    python -m tests.simulated [SEEDS]

prints a table: on each server the goodput with connections="auto" as a share of the best
fixed number's, after the first 5 s and over the whole run, the connections at the end,
the most that there were, and the refused ones.

A connection says nothing during its handshake, then doubles its rate once per round trip
(TCP slow start) until it is full. It fetches parts, with a round trip of silence before
each; one that is over the wanted number ends with its current block of 1 MiB.
"""

from __future__ import annotations

import random
import sys
from dataclasses import dataclass, field, replace
from functools import cache

from parpull._controller import Climber

MIB = 1 << 20
STEP = 0.02  # seconds
FIRST = 15_000  # bytes in the first round trip: ten packets
FIXED = (*range(1, 13), 14, 16, 18, 20, 22, 24, 28, 32)  # the rivals; every limit of SERVERS is among them


@dataclass(frozen=True)
class Regime:
    """What holds for a while. rate: of one connection; limit: of all, in connections' worth."""

    rate: float = 50e6
    limit: float = 1e9
    collapse: float = 0.0  # beyond the limit the total falls as (limit / n) ** collapse
    cliff: float = 1.0  # … or to this share at once

    def total(self, n: int) -> float:
        if n <= self.limit:
            return n * self.rate
        return self.limit * self.rate * min((self.limit / n) ** self.collapse, self.cliff)


@dataclass(frozen=True)
class Server:
    """`regimes`: (until this second, what holds); `asked`: the shares of the best fixed number
    that are wanted after 5 s and over the whole."""

    name: str
    regimes: tuple[tuple[float, Regime], ...]
    per_ip: int = 1000  # connections it takes; others are refused at once
    noise: float = 0.0
    dip: float = 0.0  # the share that is lost for 1 s, at some time
    asked: tuple[float, float] = (0.9, 0.8)
    seconds: float = 20.0

    def regime(self, now: float) -> Regime:
        return next(regime for until, regime in self.regimes if now < until)


def steady(name: str, regime: Regime, **more: object) -> Server:
    return Server(name, ((1e9, regime),), **more)  # type: ignore[arg-type]


def changing(name: str, before: Regime, after: Regime, **more: object) -> Server:
    return Server(name, ((10.0, before), (1e9, after)), seconds=40.0, **more)  # type: ignore[arg-type]


def servers() -> list[Server]:
    calm = [steady(f"linear, {r} MB/s each", Regime(rate=r * 1e6)) for r in (10, 50, 200)]
    calm += [steady(f"saturating at {k}", Regime(limit=k)) for k in (2, 5, 12, 24)]
    hurt = (0.8, 0.0)
    calm += [steady(f"collapsing beyond {k}", Regime(limit=k, collapse=1.5), asked=hurt) for k in (3, 6, 12, 20)]
    calm += [steady(f"falling to 40 % beyond {k}", Regime(limit=k, cliff=0.4), asked=hurt) for k in (3, 6, 12, 20)]
    calm += [steady("3 per address", Regime(), per_ip=3)]
    noisy = [replace(server, name=f"{server.name}, noisy", noise=0.2) for server in calm]
    dipping = [replace(server, name=f"{server.name}, a dip", dip=0.7) for server in noisy]
    # What would go faster with more shows only when more are tried: the next probe is up to 10 s away.
    unseen = (0.55, 0.55)
    moved = [
        changing("saturating at 5, then 12", Regime(limit=5), Regime(limit=12), asked=(0.8, 0.8)),
        changing("saturating at 12, then 5", Regime(limit=12), Regime(limit=5)),
        changing("saturating at 2, then 24", Regime(limit=2), Regime(limit=24), asked=unseen),
        changing("saturating at 24, then 2", Regime(limit=24), Regime(limit=2)),
        changing("linear, 10 MB/s, then 50", Regime(rate=10e6), Regime(rate=50e6)),
        changing("linear, 50 MB/s, then 10", Regime(rate=50e6), Regime(rate=10e6)),
        changing("5 x 50 MB/s, then 10 x 25", Regime(limit=5), Regime(rate=25e6, limit=10), asked=(0.85, 0.8)),
        changing("10 x 25 MB/s, then 5 x 50", Regime(rate=25e6, limit=10), Regime(limit=5)),
        changing(
            "collapsing beyond 12, then 4", Regime(limit=12, collapse=1.5), Regime(limit=4, collapse=1.5), asked=hurt
        ),
        changing(
            "collapsing beyond 4, then 12", Regime(limit=4, collapse=1.5), Regime(limit=12, collapse=1.5), asked=unseen
        ),
    ]
    moved += [replace(server, name=f"{server.name}, noisy", noise=0.2) for server in moved]
    return calm + noisy + dipping + moved


@dataclass
class Connection:
    born: float
    ready: float
    accepted: bool
    silent_until: float = 0.0
    block: float = MIB
    part: float = 64 * MIB


@dataclass
class Run:
    received: float = 0.0
    early: float = 0.0  # of it, in the first 5 s
    refused: int = 0
    most: int = 0
    end: int = 0
    steps: list[tuple[float, int, str, float]] = field(default_factory=list)  # (second, target, why, rate)


def simulate(server: Server, seed: int, *, fixed: int = 0, start: int = 8, cap: int = 32) -> Run:
    """One transfer without an end, for `server.seconds`; `fixed`: that many connections."""
    chance = random.Random(seed)  # the same path for every number of connections
    handshake = chance.uniform(0.02, 0.2)
    trip = handshake / 2
    knots = [1 + chance.uniform(-server.noise, server.noise) for _ in range(int(server.seconds / 0.3) + 3)]
    dip = chance.uniform(1, server.seconds - 1)
    irregular = random.Random(seed + 1)
    climber = Climber(start, cap)
    target = fixed or start
    run = Run(steps=[(0.0, target, "start", 0.0)])
    there: list[Connection] = []
    next_tick = next_try = 0.0

    for step in range(int(server.seconds / STEP)):
        now = step * STEP
        for one in [one for one in there if not one.accepted and now >= one.ready]:
            there.remove(one)
            run.refused += 1
            next_try = now + 1.0 if fixed else now
            if not fixed:
                target = climber.refused(now, sum(other.accepted and now >= other.ready for other in there))
        while len(there) < target and now >= next_try:
            accepted = sum(one.accepted for one in there) < server.per_ip
            first = 64 * MIB * (1 + len(there) % 8) / 8  # they don't stay in step
            there.append(Connection(now, now + (handshake + trip if accepted else trip), accepted, part=first))
        run.most = max(run.most, len(there))

        regime = server.regime(now)
        at_work = [one for one in there if one.accepted and now >= one.ready and now >= one.silent_until]
        able = [min(regime.rate, FIRST / trip * 2 ** min((now - one.ready) / trip, 40)) for one in at_work]
        noise = knots[int(now / 0.3)] + (knots[int(now / 0.3) + 1] - knots[int(now / 0.3)]) * (now / 0.3 % 1)
        if dip <= now < dip + 1:
            noise *= 1 - server.dip
        ready = sum(one.accepted and now >= one.ready for one in there)
        share = noise * min(regime.total(max(ready, 1)) / max(sum(able), 1), 1) * STEP
        for one, rate in zip(at_work, able, strict=True):
            got = rate * share
            run.received += got
            one.block -= got
            one.part -= got
            if one.block <= 0:
                one.block += MIB * max(1, int(1 - one.block / MIB))
                if len(there) > target:
                    there.remove(one)
            if one.part <= 0:
                one.silent_until = now + trip
                one.part = 64 * MIB
        if now < 5:
            run.early = run.received

        if not fixed and now >= next_tick:
            next_tick = now + irregular.uniform(0.06, 0.15)
            settle = handshake + trip if any(now >= one.ready for one in there if one.accepted) else 0.0
            before = target
            target = climber.tick(now, int(run.received), sum(now >= one.ready for one in there), True, settle)
            if target != before:
                run.steps.append((now, target, climber.why, climber.rate))
    run.end = target
    return run


@cache
def best_fixed(server: Server, seed: int) -> tuple[float, float]:
    """(bytes after the first 5 s, bytes over the whole) of the best fixed number for each."""
    runs = [simulate(server, seed, fixed=n) for n in FIXED]
    return max(run.received - run.early for run in runs), max(run.received for run in runs)


def judge(server: Server, seed: int) -> tuple[float, float, Run]:
    """(share after 5 s, share over the whole, the run)."""
    late, whole = best_fixed(server, seed)
    run = simulate(server, seed)
    return (run.received - run.early) / late, run.received / whole, run


def span(values: list[int]) -> str:
    return str(values[0]) if min(values) == max(values) else f"{min(values)}–{max(values)}"


def main(seeds: int) -> None:
    print(f"| server (worst of {seeds} runs) | after 5 s | whole | at the end | most | refused |")
    print("|---|---:|---:|---:|---:|---:|")
    for server in servers():
        judged = [judge(server, seed) for seed in range(seeds)]
        late, whole = min(j[0] for j in judged), min(j[1] for j in judged)
        missed = "" if late >= server.asked[0] and whole >= server.asked[1] else " **missed**"
        ends, most, refused = (span([getattr(j[2], key) for j in judged]) for key in ("end", "most", "refused"))
        print(f"| {server.name}{missed} | {late:.0%} | {whole:.0%} | {ends} | {most} | {refused} |", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
