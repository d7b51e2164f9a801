"""Pulls, simulated: the founding argument in numbers. `python -m tests.oci.simulate`

Layers are fluids. A connection brings at most its own rate, all of them at most the
network's; a layer is unpacked by one core at the pace of its slowest stage, along its front
or after it is whole; what is written shares the disk. Between two events (a layer has come,
a front is caught up with, a layer is unpacked) all rates are constant, so the end is
exact and nothing sleeps. Latency, slow start and the time a registry takes are left out: they
are the same for all three ways.

Each way to pull answers one question:

    one each    3 layers at once, one connection each, unpacked one after the other when whole
    ranges      as many connections by ranges, unpacked one after the other when whole
    no RAM      as parpull, with all layers on disk
    parpull     the plan: connections in proportion, the largest in memory, unpacked at the front
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from parpull.oci.plan import Layer, Machine, plan_of, shares

MB, MIB, GIB = 1e6, 1 << 20, 1 << 30
NEVER = math.inf
SLACK = 1e-9  # of a layer's size: what is less has come


@dataclass(frozen=True)
class Way:
    """How a pull goes. at_once: layers. ranges: whether a layer takes more than one connection.
    front: unpacked while it comes. side_by_side: as many layers at once as there are cores."""

    name: str
    at_once: int
    ranges: bool
    front: bool
    side_by_side: bool
    ram: str


ONE_EACH = Way("one each", 3, ranges=False, front=False, side_by_side=False, ram="none")
ALL_ONE_EACH = Way("all, one each", 10**6, ranges=False, front=True, side_by_side=True, ram="none")
RANGES = Way("ranges", 3, ranges=True, front=False, side_by_side=False, ram="none")
ON_DISK = Way("no RAM", 10**6, ranges=True, front=True, side_by_side=True, ram="none")
PARPULL = Way("parpull", 10**6, ranges=True, front=True, side_by_side=True, ram="largest")


class _Flow:
    """One layer under way, in its own bytes as they travel."""

    def __init__(self, layer: Layer, machine: Machine, *, in_memory: bool) -> None:
        self.layer, self.size, self.in_memory = layer, float(layer.left), in_memory
        stages = machine.stages(layer)
        self.full = self.size / max(*stages, 1e-9)  # bytes/s that unpacking takes at most
        self.cores = sum(stages) / max(*stages, 1e-9)  # cores that are busy then
        self.swell = layer.tar / self.size if self.size else 0.0  # bytes of files per byte
        self.come = self.unpacked = 0.0
        self.coming = self.unpacking = 0.0  # rates

    @property
    def has_come(self) -> bool:
        return self.size - self.come <= self.size * SLACK

    @property
    def done(self) -> bool:
        return self.size - self.unpacked <= self.size * SLACK

    @property
    def backlog(self) -> float:
        return self.come - self.unpacked if self.come - self.unpacked > self.size * SLACK else 0.0


def simulate(layers: list[Layer], machine: Machine, way: Way) -> tuple[float, float]:
    """(seconds until all bytes have come, until all is unpacked)."""
    plan = plan_of(layers, machine, ram=way.ram)
    places = [plan.place(index) == "memory" for index in range(len(layers))]
    every = [_Flow(layer, machine, in_memory=place) for layer, place in zip(layers, places, strict=True)]
    # The plan's order is parpull's; all others go through the manifest's.
    flows = [every[step.index] for step in plan.steps] if way.side_by_side else every
    now = came = 0.0
    while not all(flow.done for flow in flows):
        _bring(flows, machine, way)
        _unpack(flows, machine, way)
        _share_disk(flows, machine)
        step = min(map(_next_event, flows))
        assert 0 <= step < NEVER, "nothing moves, or time runs backwards"
        for flow in flows:
            flow.come = min(flow.size, flow.come + flow.coming * step)
            flow.unpacked = min(flow.come, flow.unpacked + flow.unpacking * step)
        now += step
        if any(flow.coming for flow in flows):
            came = now
    return came, now


def _bring(flows: list[_Flow], machine: Machine, way: Way) -> None:
    for flow in flows:
        flow.coming = 0.0
    under_way = [flow for flow in flows if not flow.has_come][: way.at_once]
    left, layers = [flow.size - flow.come for flow in under_way], [flow.layer for flow in under_way]
    one_each = machine if way.ranges else replace(machine, ranges=False)
    counts = shares(left, one_each, layers)
    rate = min(machine.connection, machine.network)
    narrow = min(1.0, machine.network / (sum(counts) * rate)) if counts else 1.0
    for flow, count in zip(under_way, counts, strict=True):
        flow.coming = count * rate * narrow


def _unpack(flows: list[_Flow], machine: Machine, way: Way) -> None:
    free = machine.cores
    for flow in flows:
        flow.unpacking = 0.0
    for flow in flows:
        if flow.done:
            continue
        if flow.has_come or way.front:
            pace = flow.full * min(1.0, free / flow.cores)
            flow.unpacking = pace if flow.backlog else min(pace, flow.coming)
            free = max(0.0, free - flow.cores * flow.unpacking / flow.full)
        if not way.side_by_side:
            return  # the others wait for their turn


def _share_disk(flows: list[_Flow], machine: Machine) -> None:
    wanted = sum(flow.unpacking * flow.swell + (0 if flow.in_memory else flow.coming) for flow in flows)
    narrow = min(1.0, machine.disk / wanted) if wanted else 1.0
    for flow in flows:
        flow.unpacking *= narrow
        # What goes to memory does not wait for the disk, unless it is the front that does.
        flow.coming *= 1.0 if flow.in_memory else narrow


def _next_event(flow: _Flow) -> float:
    events = [NEVER]
    if flow.coming:
        events.append((flow.size - flow.come) / flow.coming)
    if flow.unpacking and flow.has_come:
        events.append((flow.size - flow.unpacked) / flow.unpacking)
    if flow.backlog and flow.unpacking > flow.coming:
        events.append(flow.backlog / (flow.unpacking - flow.coming))
    return min(events)


def one_large(count: int, mean: float, times: float) -> list[Layer]:
    """`count` layers of `mean` bytes on average, one of which is `times` the average."""
    large = int(times * mean)
    return [Layer(large), *[Layer(int((count * mean - large) / (count - 1)))] * (count - 1)]


SHAPES = {
    "even": [Layer(180 * MIB)] * 8,
    "dominated": [*[Layer(58 * MIB)] * 4, Layer(GIB), *[Layer(58 * MIB)] * 3],
    "model": [*[Layer(40 * MIB)] * 8, Layer(2560 * MIB), Layer(80 * MIB), Layer(8 * GIB, int(8.8 * GIB))],
}
# A registry that gives 60 MB/s to a connection, as the measured one; untar is what a core does of big files.
SMALL = Machine(
    network=1250 * MB, connection=60 * MB, disk=400 * MB, connections=16, memory=2 * GIB, cores=2, untar=1000 * MB
)
LARGE = replace(SMALL, network=3125 * MB, disk=2000 * MB, connections=32, memory=12 * GIB, cores=16)
MACHINES = {"2 cores": SMALL, "16 cores": LARGE}


# The argument's machine: nothing but connections; then what bounds it next, one after the other.
WIRE = Machine(connection=60 * MB, connections=16, memory=2 * GIB, cores=64, gzip=1e15, zstd=1e15, hashed=1e15)
ADDED = {
    "the wire": WIRE,
    "+ network": replace(WIRE, network=625 * MB),
    "+ inflating": replace(WIRE, network=625 * MB, gzip=850e6, zstd=1250e6, hashed=1800e6),
    "+ disk": replace(WIRE, network=625 * MB, gzip=850e6, zstd=1250e6, hashed=1800e6, disk=1000 * MB),
}


def shapes_table() -> str:
    """Three shapes on two machines, by all ways."""
    ways = (ONE_EACH, RANGES, ON_DISK, PARPULL)
    lines = [
        f"{'machine':8} {'shape':10} {'layers':>6} {'GiB':>5} {'k':>4} "
        + " ".join(f"{way.name:>8}" for way in ways)
        + f" {'bound':>7} {'times':>6}  bound by"
    ]
    for name, machine in MACHINES.items():
        for shape, layers in SHAPES.items():
            size = sum(layer.size for layer in layers)
            k = max(layer.size for layer in layers) * len(layers) / size
            took = [simulate(layers, machine, way)[1] for way in ways]
            plan = plan_of(layers, machine)
            lines.append(
                f"{name:8} {shape:10} {len(layers):6} {size / GIB:5.2f} {k:4.1f} "
                + " ".join(f"{seconds:8.2f}" for seconds in took)
                + f" {plan.seconds:7.2f} {took[0] / took[-1]:6.2f}  {plan.bound}"
            )
    return "\n".join(lines)


def argument_table() -> str:
    """The speed-up by k, as one bottleneck after the other is added."""
    lines = [f"{'k':>4} {'k·C/n':>6} " + " ".join(f"{name:>11}" for name in ADDED) + "  at last bound by"]
    for k in (1, 2, 3, 4, 5, 6, 7, 8):
        layers = one_large(8, 1.4 * GIB / 8, k)
        times = [speed_up(layers, machine) for machine in ADDED.values()]
        bound = plan_of(layers, list(ADDED.values())[-1]).bound
        lines.append(f"{k:4} {k * 16 / 8:6.1f} " + " ".join(f"{one:11.2f}" for one in times) + f"  {bound}")
    return "\n".join(lines)


def speed_up(layers: list[Layer], machine: Machine) -> float:
    """parpull's against the best that one connection for each layer can do."""
    return simulate(layers, machine, ALL_ONE_EACH)[1] / simulate(layers, machine, PARPULL)[1]


def table() -> str:
    """Both tables, as text."""
    return "\n".join(
        [
            "Seconds until all is unpacked, simulated; bound: the plan's; times: parpull against one each",
            shapes_table(),
            "",
            "The argument: n = 8 layers, 1.4 GiB, C = 16 connections; the largest is k times the average.",
            "Times faster than one connection for each layer, all at once and unpacked at the front:",
            argument_table(),
        ]
    )


if __name__ == "__main__":
    print(table())
