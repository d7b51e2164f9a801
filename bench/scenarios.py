"""What is measured: each scenario says where bytes come from, where they go, and what must hold.

Only data: harness.py carries it out, stage.py builds the servers, report.py looks at targets.
A scenario has variants (a server each); a variant and a number of connections is a *field*, in
which the rivals take turns within a round.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from bench.rivals import DISK, MEMORY, TMPFS

STDOUT, NOTHING = "stdout", "nothing"
SHORT, FULL, TINY = "short", "full", "tiny"
MIB = 1 << 20
GIB = 1 << 30
MANY = (1, 4, 8, 16, 64)
ANY, NO_THIEF, PYTHON = "*", "* that does not steal", "* in Python"


@dataclass(frozen=True)
class Variant:
    """A server, or what lies between it and the client."""

    name: str
    tls: bool = False
    pace: int | None = None
    """Bytes a second that one connection gets (SO_MAX_PACING_RATE on the listening socket)."""
    total: int | None = None
    """Bytes a second in all: each connection gets its share of it, if that is less than `pace`."""
    slow: float | None = None
    """The third connection gets this share of the pace, by a proxy."""
    lag: float = 0.0
    """Seconds before the server answers a request: the tests' origin instead of nginx."""
    device: int | None = None
    """Bytes a second that the disk writes."""
    sink: int | None = None
    """Bytes a second that the end of the pipe takes."""
    missing: str = ""
    """Why it cannot be measured at all."""

    def paced(self, connections: int | None) -> int | None:
        """What one connection gets, when there are so many."""
        if self.total is None or connections is None:
            return self.pace
        share = self.total // connections
        return share if self.pace is None else min(self.pace, share)


@dataclass(frozen=True)
class Target:
    """`ours` over `against` in the same rounds is at most `most`, median over rounds.

    `against` is a rival's name, or one of those that `among` of report.py knows; the worst of
    them counts. `pace`: what the server's pacing allows instead of a rival.
    """

    against: str
    metric: str
    most: float
    variant: str = "plain"
    connections: tuple[int | None, ...] = (8,)
    pace: bool = False
    best_of_counts: bool = False
    """Against the best number of connections that the best rival has."""


@dataclass(frozen=True)
class Scenario:
    """`sizes`: GiB by scale, two of them for a slope; a scale without sizes leaves it out."""

    name: str
    about: str
    destination: str
    sizes: dict[str, tuple[float, ...]]
    connections: dict[str, tuple[int | None, ...]]
    variants: tuple[Variant, ...] = (Variant("plain"),)
    metric: str = "cpu"
    targets: tuple[Target, ...] = ()
    objects: int = 1
    together: bool = False
    """All numbers of connections take turns in the same rounds."""
    line: bool = False
    """A time line is kept of each run."""
    sparse: bool = False
    """Holes with a mark every MiB, for objects that no memory holds."""
    only: tuple[str, ...] = ()
    """These rivals and no others."""
    rounds: dict[str, int] = field(default_factory=dict)

    def sized(self, gib: tuple[float, ...]) -> Scenario:
        """The same with other sizes, at every scale that it has."""
        return replace(self, sizes=dict.fromkeys(self.sizes, gib))


PLAIN, TLS = Variant("plain"), Variant("tls", tls=True)
FOUNDING = Variant("208 MiB/s each, 1.18 GiB/s in all", pace=208 * MIB, total=int(1.18 * GIB))
HALF_100M = 50_000_000
SLOW = 12_000_000


def _scales(tiny: float, short: float, *full: float) -> dict[str, tuple[float, ...]]:
    return {TINY: (tiny,), SHORT: (short,), FULL: full}


def _counts(short: tuple[int | None, ...], full: tuple[int | None, ...]) -> dict[str, tuple[int | None, ...]]:
    return {TINY: short[-1:], SHORT: short, FULL: full}


SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        "memory",
        "One object into the client's own memory. CPU is the slope where there are two sizes: what a GiB more costs.",
        MEMORY,
        # Below 1 GiB, warm-up included: a host that is told of free pages takes larger heaps back at once, and then
        # the first touch of memory costs three times all that is measured.
        {TINY: (0.0625,), SHORT: (0.125, 0.625), FULL: (0.125, 0.625)},
        _counts((8,), MANY),
        (PLAIN, TLS),
        targets=(
            Target("floor", "cpu", 1.10),
            Target("pycurl", "cpu", 1.0),
            Target("floor-tls", "cpu", 1.05, "tls"),
            Target(PYTHON, "cpu", 0.75, "tls"),
        ),
    ),
    Scenario(
        "tmpfs",
        "One object into a file in tmpfs.",
        TMPFS,
        _scales(0.0625, 0.75, 0.75),
        _counts((8,), MANY),
        (PLAIN, TLS),
        targets=(
            Target("floor-tmpfs", "cpu", 1.25),
            Target("aria2", "cpu", 0.70),
            Target("forked-curl", "cpu", 0.80),
        ),
    ),
    Scenario(
        "disk",
        "One object into a file on a disk; the clock stops when fdatasync of what was written has returned. "
        "*busy* is CPU of the whole machine without the server's: a disk's writeback belongs to no process.",
        DISK,
        _scales(0.0625, 0.75, 0.75),
        _counts((8,), MANY),
        (PLAIN, TLS),
        metric="wall",
        targets=(Target("aria2", "cpu", 0.50), Target(ANY, "wall", 1.0)),
    ),
    Scenario(
        "founding",
        "The founding case: each connection gets 208 MiB/s, all together 1.18 GiB/s. nginx's listening socket is "
        "paced, so each connection is, however many ranges it carries; the total is kept by giving each of N its N-th "
        "part where that is less (a tool that opens fewer than it was told gets less). Beside it the same uncapped.",
        TMPFS,
        _scales(0.0625, 0.75, 13),
        _counts((1, 8, 16), (1, 8, 16)),
        (FOUNDING, Variant("uncapped")),
        metric="wall",
        line=True,
        sparse=True,
        targets=(
            Target("what pacing allows", "wall", 1.05, FOUNDING.name, (1, 8, 16), pace=True),
            Target("forked-curl", "cpu", 0.5, FOUNDING.name, (1, 8, 16)),
        ),
        rounds={SHORT: 1},
    ),
    Scenario(
        "auto",
        "Each connection gets 50 MB/s: tools at their own default number of connections (-), and fixed numbers.",
        TMPFS,
        _scales(0.0625, 0.75, 2),
        {TINY: (None, 8), SHORT: (None, 16, 32), FULL: (None, 4, 8, 16, 32)},
        (Variant("50 MB/s each", pace=HALF_100M),),
        metric="wall",
        together=True,
        line=True,
        targets=(
            *(Target(name, "wall", 0.5, "50 MB/s each", (None,)) for name in ("aria2", "curl", "axel")),
            Target(ANY, "wall", 1 / 0.95, "50 MB/s each", (None,), best_of_counts=True),
        ),
        rounds={SHORT: 2},
    ),
    Scenario(
        "slow-connection",
        "16 connections of 12 MB/s each, by a proxy; in *slow* the third one to arrive gets a tenth.",
        TMPFS,
        _scales(0.0625, 0.25, 0.5),
        _counts((16,), (16,)),
        (Variant("clean", pace=SLOW, slow=1.0), Variant("slow", pace=SLOW, slow=0.1)),
        metric="wall",
        line=True,
        targets=(Target(ANY, "wall", 1.0, "slow", (16,)), Target(NO_THIEF, "wall", 0.6, "slow", (16,))),
        rounds={SHORT: 2},
    ),
    Scenario(
        "delay",
        "The server thinks for so long before each answer. Application delay only: no slow start, no window, no loss.",
        TMPFS,
        _scales(0.0625, 0.25, 1),
        _counts((8,), (8, 16)),
        (Variant("20 ms", lag=0.02), Variant("100 ms", lag=0.1)),
        metric="wall",
        rounds={SHORT: 2},
    ),
    Scenario(
        "many",
        "2,000 objects of 64 KiB into a folder in tmpfs, by those who can take a list.",
        TMPFS,
        dict.fromkeys((TINY, SHORT, FULL), (2000 * 64 / MIB,)),
        _counts((8,), (8, 16)),
        metric="wall",
        objects=2000,
        targets=(Target(ANY, "wall", 0.8),),
    ),
    Scenario(
        "stdout",
        "Through a pipe to a program that throws it away; its CPU is not counted. *first* is the time to the "
        "first byte.",
        STDOUT,
        _scales(0.0625, 1, 1),
        _counts((8,), (1, 8)),
        (PLAIN, TLS),
    ),
    Scenario(
        "first-byte",
        "From the start of the process until its first byte comes out of the pipe.",
        STDOUT,
        dict.fromkeys((TINY, SHORT, FULL), (0.03125,)),
        _counts((8,), (8,)),
        (PLAIN, TLS),
        metric="first",
    ),
    Scenario(
        "start-up",
        "To say a version, or to give help.",
        NOTHING,
        dict.fromkeys((TINY, SHORT, FULL), (0.0,)),
        _counts((None,), (None,)),
        metric="wall",
        rounds={SHORT: 7, FULL: 31},
    ),
    Scenario(
        "reactors",
        "One object into memory with one and two reactors.",
        MEMORY,
        _scales(0.0625, 1, 5),
        _counts((8,), (8, 16)),
        (Variant("2", missing="the engine has one reactor; there is no option for another"),),
    ),
    Scenario(
        "big",
        "An object larger than memory, through a pipe: what counts is that the resident set stays.",
        STDOUT,
        {FULL: (100,)},
        _counts((8,), (8,)),
        metric="rss",
        sparse=True,
        rounds={FULL: 1},
    ),
    Scenario(
        "slow-disk",
        "A disk that writes so much a second: a loop device under a throttle, with a file system of its own.",
        DISK,
        _scales(0.03125, 0.25, 2),
        _counts((8,), (8,)),
        tuple(Variant(f"{mb} MB/s", device=mb * 1_000_000) for mb in (100, 500, 1500)),
        metric="wall",
        rounds={SHORT: 1, FULL: 3},
    ),
    Scenario(
        "slow-reader",
        "A disk of so many MB/s, simulated: the end of the pipe takes no more. Says nothing of a page cache.",
        STDOUT,
        _scales(0.03125, 0.25, 2),
        _counts((8,), (8,)),
        tuple(Variant(f"{mb} MB/s", sink=mb * 1_000_000) for mb in (100, 500, 1500)),
        metric="wall",
        rounds={SHORT: 1, FULL: 3},
    ),
)


def named(names: str) -> list[Scenario]:
    """Those of these names, comma-separated; all without any."""
    if not names:
        return list(SCENARIOS)
    known = {scenario.name: scenario for scenario in SCENARIOS}
    wrong = set(names.split(",")) - set(known)
    if wrong:
        raise ValueError(f"no scenario {', '.join(sorted(wrong))}; there are {', '.join(known)}")
    return [known[name] for name in names.split(",")]
