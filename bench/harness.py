"""Carries scenarios out: fields, rounds, turns, and the check of what arrived.

In a field (one variant, one number of connections) rivals take turns within a round, every second
round backwards; the floor and parpull are neighbours. Each run comes after a warm-up of memory and
before a check of all its bytes, neither of them timed. Round 0 is not counted: it takes first-time
costs, finds what is broken, and has clients that fetch into memory hash what they have. A rival
that fails is out of its cell; the others go on.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bench import own
from bench.device import slow_disk
from bench.measure import GIB, ROOT, Failed, Setting, Usage, available_memory, cost, parse_report, warm_up
from bench.rivals import DISK, FLOOR, MEMORY, NULL, PARPULL, TMPFS, Job, Rival
from bench.rivals.checking import look
from bench.scenarios import NOTHING, SHORT, STDOUT, TINY, Scenario, Variant
from bench.stage import Expected, Stage, fast_hash, make, pieces
from bench.store import Cell

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.store import Store

MIB = 1 << 20
_ROUNDS = {TINY: 1, SHORT: 3}
STARTS = frozenset(rival.name for rival in own.STARTS)
_SLOWEST = 64 * MIB  # bytes a second: below that a rival hangs, where nothing is paced
_PATIENCE = 20.0  # seconds on top
ALWAYS = frozenset({FLOOR, "floor-tls", "floor-tmpfs", "floor-disk", PARPULL})
"""They play along, whatever was asked for: others are held against them."""


class _Unable(Failed):
    """It has nothing for this job: no failure of its own."""


@dataclass
class Plan:
    """What the command line asked for."""

    scale: str
    rounds: int
    only: list[str] = field(default_factory=list)
    connections: list[int] = field(default_factory=list)
    python: str = sys.executable
    openssl: str = ""
    disk: Path = own.BUILD
    memory: Path = Path("/dev/shm")
    limit: float | None = None
    rivals: list[Rival] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    """Of those that can run here; empty until `meet`."""


def meet(plan: Plan) -> dict[str, str]:
    """Ask those who are wanted for their version, which may fetch them; why the others are left out."""
    absent: dict[str, str] = {}
    for rival in plan.rivals:
        if plan.only and rival.name not in plan.only and rival.name not in ALWAYS | STARTS:
            continue
        try:
            plan.versions[rival.name] = rival.version()
        except Failed as reason:
            absent[rival.name] = str(reason)
    return absent


def measure(scenario: Scenario, plan: Plan, store: Store) -> None:
    """All fields of a scenario that are not finished yet."""
    if plan.scale not in scenario.sizes:
        return
    rounds = plan.rounds or scenario.rounds.get(plan.scale, _ROUNDS.get(plan.scale, 7))
    sizes = scenario.sizes[plan.scale]
    counts = tuple(plan.connections) or scenario.connections[plan.scale]
    if scenario.connections[plan.scale] == (None,):
        counts = (None,)
    with scratch(plan.memory) as place:
        objects: dict[float, Expected] | None = None
        for variant in scenario.variants:
            for among in [counts] if scenario.together else [(count,) for count in counts]:
                cells = _cells(scenario, variant, among, plan)
                if variant.missing:
                    for cell in cells:
                        store.fail(cell, f"skipped: {variant.missing}")
                    continue
                if all(store.finished(cell, rounds) for cell in cells):
                    continue
                if objects is None:
                    objects = _objects(place, scenario, sizes)
                _Field(scenario, variant, cells, plan, store, place, objects).play(rounds)


def _objects(scratch: Path, scenario: Scenario, sizes: tuple[float, ...]) -> dict[float, Expected]:
    # Two copies, for those who join parts, unless the object is one for which they look themselves.
    need = max(sizes) * GIB * (1.25 if scenario.destination == DISK or scenario.sparse else 2.25) + GIB // 2
    need += 0 if scenario.sparse else sum(sizes) * GIB
    if scenario.destination not in (STDOUT, NOTHING) and available_memory() < need:
        raise Failed(f"{scenario.name} needs {need / GIB:.1f} GiB of available memory")
    return {gib: make(scratch, scenario, gib, f"{scenario.name}-") for gib in sizes}


def _cells(scenario: Scenario, variant: Variant, counts: tuple[int | None, ...], plan: Plan) -> list[Cell]:
    """Those who can take part, the floor and parpull first."""
    named = scenario.only or tuple(plan.only)
    partners = (own.floor_of(scenario.destination, variant.tls), PARPULL)

    def fits(rival: Rival) -> bool:
        if scenario.destination not in rival.destinations or (variant.lag and rival.server != "http"):
            return False
        if rival.name in ALWAYS and rival.name not in partners:
            return False
        if scenario.objects > 1 and not rival.many:
            return False
        return not named or rival.name in named or rival.name in partners or rival.name in STARTS

    ready = [rival.name for rival in plan.rivals if rival.name in plan.versions and fits(rival)]
    ready.sort(key=lambda name: partners.index(name) if name in partners else len(partners))
    return [Cell(scenario.name, variant.name, name, count) for count in counts for name in ready]


class _Field:
    """One server, and those who take turns before it."""

    def __init__(
        self,
        scenario: Scenario,
        variant: Variant,
        cells: list[Cell],
        plan: Plan,
        store: Store,
        scratch: Path,
        objects: dict[float, Expected],
    ) -> None:
        self.scenario, self.variant, self.cells, self.plan, self.store = scenario, variant, cells, plan, store
        self.scratch, self.objects = scratch, objects
        self.rivals = {rival.name: rival for rival in plan.rivals}
        self.commands: dict[Cell, str] = {}

    def play(self, rounds: int) -> None:
        """Round 0, then those rounds that anyone lacks."""
        with contextlib.ExitStack() as exits:
            try:
                place = exits.enter_context(self._place())
            except Failed as reason:
                for cell in self.cells:
                    self.store.fail(cell, f"skipped: {reason}")
                return
            pin(0)
            stage = exits.enter_context(Stage(self.scratch, self.variant, self.cells[0].connections))
            pin(1)
            for number in range(rounds + 1):
                self._round(number, stage, place)

    def _round(self, number: int, stage: Stage, place: Path) -> None:
        """A round that all have had is not played again; else the partners play along, to be compared with."""
        lacking = [cell for cell in self.cells if not self._has(cell, number)]
        if not lacking:
            return
        turn = f"{time.time():.3f}-{number}"
        order = [
            c for c in self.cells if c in lacking or (c.rival in ALWAYS and not self.store.trouble(c) and number > 0)
        ]
        for cell in order if number % 2 else order[::-1]:
            by_size: dict[float, Usage] = {}
            try:
                for gib in sorted(self.objects)[: None if number else 1]:
                    by_size[gib] = self._once(cell, gib, stage, place, number == 0)
            except _Unable as reason:
                self.store.fail(cell, f"cannot: {reason}")
                continue
            except Failed as failed:
                self.store.fail(cell, f"failed in round {number}: {failed}")
                print(f"{_name(cell)}: {failed}", file=sys.stderr)
                continue
            if number:
                self.store.add(cell, turn, by_size, self.commands[cell])
            _progress(number, cell, by_size)

    def _has(self, cell: Cell, number: int) -> bool:
        trouble = self.store.trouble(cell)
        if trouble and not trouble.startswith("skipped"):
            return True
        done = len(self.store.runs(cell))
        if number == 0:
            return done > 0
        return done >= number

    def _once(self, cell: Cell, gib: float, stage: Stage, place: Path, first: bool) -> Usage:
        """One run, checked."""
        rival, expected = self.rivals[cell.rival], self.objects[gib]
        destination = self.scenario.destination
        if destination != NOTHING:
            expected = stage.expected(expected)
        urls = tuple(stage.url(name, expected.size // len(expected.names)) for name in expected.names)
        with tempfile.TemporaryDirectory(prefix="out-", dir=place) as out:
            job = Job(
                urls[0],
                expected.size // len(urls),
                cell.connections,
                Path(out),
                destination,
                stage.ca_file if self.variant.tls else None,
                urls if len(urls) > 1 else (),
            )
            try:
                command = rival.command(job)
            except Failed as reason:
                raise _Unable(str(reason)) from reason
            self.commands[cell] = own.readable(command, job)
            stage.before_run()
            if destination != NOTHING:
                warm_up(min(expected.size, available_memory() // 4))
            usage, output = cost(self._with_python(rival, command), self._setting(job, expected.size, stage, first))
            if destination == STDOUT and rival.name == "parpull-reader":
                return usage  # it reads the beginning only
            _check(job, output, expected, hashed=first)
        return usage

    def _setting(self, job: Job, size: int, stage: Stage, first: bool) -> Setting:
        own.build("launch")
        rate = _SLOWEST
        if self.variant.pace:
            # A tool may use one connection only, whatever it was told.
            rate = min(rate, stage.pace or rate)
        for limit in (self.variant.device, self.variant.sink):
            rate = min(rate, limit or rate)
        sink: tuple[str, ...] = ()
        if job.destination == STDOUT:
            own.build("sink")
            pace = ("-p", str(self.variant.sink)) if self.variant.sink else ()
            sink = (str(own.program("sink")), *pace, str(size))
        environment = {"BENCH_HASH": "1"} if first and job.destination == MEMORY else {}
        return Setting(
            server=stage.processes,
            limit=self.plan.limit or _PATIENCE + 1.5 * size / rate,
            environment=environment | self._path(),
            sink=sink,
            durable=job.out if job.destination == DISK else None,
            line=stage.received if self.scenario.line else None,
            launcher=str(own.program("launch")),
        )

    def _path(self) -> dict[str, str]:
        """With another Python, `bench` must be found and our own `parpull` must not."""
        if self.plan.python == sys.executable:
            return {}
        shim = own.BUILD / "path"
        shim.mkdir(parents=True, exist_ok=True)
        link = shim / "bench"
        if not link.is_symlink():
            link.symlink_to(ROOT / "bench")
        return {"PYTHONPATH": str(shim), "PYTHONSAFEPATH": "1"}

    def _with_python(self, rival: Rival, command: list[str]) -> list[str]:
        """parpull's rows are run by the Python that the command line named."""
        ours = "parpull" in rival.name
        return [self.plan.python if ours and word == sys.executable else word for word in command]

    @contextlib.contextmanager
    def _place(self) -> Iterator[Path]:
        if self.scenario.destination != DISK:
            yield self.scratch
        elif self.variant.device is not None:
            self.plan.disk.mkdir(parents=True, exist_ok=True)
            with slow_disk(self.plan.disk, max(e.size for e in self.objects.values()), self.variant.device) as place:
                yield place
        else:
            self.plan.disk.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix="parpull-bench-", dir=self.plan.disk) as place:
                yield Path(place)


def _check(job: Job, output: str, expected: Expected, *, hashed: bool) -> None:
    """Raise `Failed` unless all arrived, each byte we look at in its place."""
    size, sample, digest, wanted = expected.size, expected.sample, "", ""
    if job.destination in (TMPFS, DISK):
        paths = sorted(path for path in job.out.rglob("*") if path.is_file())
        size = sum(path.stat().st_size for path in paths)
        if size == expected.size and expected.fast:
            hasher = fast_hash()
            for piece in pieces(paths):
                hasher.update(piece)
            digest, wanted = hasher.hexdigest(), expected.fast
        elif size == expected.size:
            sample = look(paths, size)
    elif job.destination in (MEMORY, STDOUT):
        size, sample = parse_report(output)
        told = json.loads(output).get("sha256", "")
        if hashed and told:
            digest, wanted = told, expected.sha256
    elif job.destination == NULL:
        size = int(output)
    if size != expected.size:
        raise Failed(f"fetched {size} of {expected.size} bytes")
    if sample != expected.sample or digest != wanted:
        raise Failed("wrong bytes: all of them came, but not those that were served")


@contextlib.contextmanager
def scratch(memory: Path = Path("/dev/shm")) -> Iterator[Path]:
    """A folder in tmpfs; its objects and downloads leave memory when we do."""
    place = tempfile.mkdtemp(prefix="parpull-bench-", dir=memory)
    Path(place).chmod(0o755)  # a server's worker may run as somebody else
    try:
        yield Path(place)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def pin(core: int) -> None:
    """What is started from here on runs on this core, if there is another."""
    if (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(0, {core})


def _name(cell: Cell) -> str:
    return f"{cell.scenario} {cell.variant} {cell.rival} x{cell.connections or '-'}"


def _progress(number: int, cell: Cell, by_size: dict[float, Usage]) -> None:
    for gib, usage in by_size.items():
        cost = f"cpu {usage.cpu:6.3f}  wall {usage.wall:6.3f}"
        others = f"server {usage.server:5.2f}  foreign {usage.foreign:5.2f}"
        print(f"round {number}  {_name(cell):<44} {gib:g} GiB  {cost}  {others}", file=sys.stderr, flush=True)
