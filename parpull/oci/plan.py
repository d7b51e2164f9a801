"""The plan of a pull: which layers to memory and which to disk, in which order, with how
many connections each, and how fast that can be. Pure: sizes and rates are given to it.

All layers share one budget of connections, each in proportion to what is left of it. So
they end together: the wire is full from the first second to the last, and a layer's front
is never slower than the core that inflates it, unless the wire is the bottleneck anyway.
A layer that is k times the average is then brought as fast as any other, where one
connection each would leave it alone with the last (k - 1) / k of the time. What remains is
the slowest of the wire, the disk, the cores, and the one core that inflates the largest.

The prediction is a lower bound: a pull can't be faster, and it says why.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..errors import BadOption

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal

    from .media import Compression

    Ram = Literal["largest", "all", "none"]
    Place = Literal["memory", "disk"]

__all__ = ["Layer", "Machine", "Plan", "Step", "in_turn", "plan_of", "shares"]

RATIO: dict[Compression, float] = {"none": 1.0, "gzip": 2.5, "zstd": 2.8}  # of a layer that does not say
BLOCK = 1 << 20  # bytes that a connection is worth opening for
ONE_CONNECTION, CONNECTIONS, NETWORK = "one connection", "the connections", "the network"
DISK, ONE_CORE, CORES, IN_ORDER = "the disk", "one core inflating", "the cores", "layers in order"


@dataclass(frozen=True, slots=True)
class Layer:
    """What is known of a layer before it is brought, in bytes. size: as it travels. unpacked: its
    tar, None if nobody said. landed: how much of it an earlier run has left here."""

    size: int
    unpacked: int | None = None
    compression: Compression = "gzip"
    landed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.landed <= self.size or (self.unpacked is not None and self.unpacked < 0):
            raise ValueError("a layer's bytes are between none and all")

    @property
    def left(self) -> int:
        """Bytes that have yet to travel."""
        return self.size - self.landed

    @property
    def tar(self) -> float:
        """Bytes of its tar, estimated where they are not known."""
        return self.size * RATIO[self.compression] if self.unpacked is None else float(self.unpacked)


@dataclass(frozen=True, slots=True)
class Machine:
    """What the plan has to work with; rates in bytes/s, infinite where they are no limit.

    network: of all connections. connection: of one. disk: written. connections: the budget.
    memory: bytes that layers may take. cores: those that are free. ranges: whether the registry
    gives any. gzip, zstd: inflated by one core, hashed: digested by one core, both bytes out; untar:
    files made from a tar by one core."""

    network: float = math.inf
    connection: float = math.inf
    disk: float = math.inf
    connections: int = 32
    memory: int = 0
    cores: float = 1
    ranges: bool = True
    gzip: float = 850e6
    zstd: float = 1250e6
    hashed: float = 1800e6
    untar: float = math.inf

    def __post_init__(self) -> None:
        rates = (self.network, self.connection, self.disk, self.gzip, self.zstd, self.hashed, self.untar)
        if not all(rate > 0 for rate in (*rates, self.cores, self.connections)) or self.memory < 0:
            raise ValueError("a machine's rates, cores and connections are more than nothing")

    def stages(self, layer: Layer) -> tuple[float, ...]:
        """Core seconds of a layer's stages, each of which is done by one core: the digest of
        what travels, inflating, the digest of the tar, making files."""
        inflate = {"gzip": self.gzip, "zstd": self.zstd, "none": math.inf}[layer.compression]
        return layer.size / self.hashed, layer.tar / inflate, layer.tar / self.hashed, layer.tar / self.untar

    def most(self, layer: Layer) -> int:
        """Connections that a layer can use."""
        return max(1, min(self.connections, math.ceil(layer.left / BLOCK))) if self.ranges else 1


@dataclass(frozen=True, slots=True)
class Step:
    """One layer's part in the plan. index: in the manifest. connections: at the start; 0 waits
    for those of a layer that has ended. Those of a step that ends go to the steps that follow."""

    index: int
    place: Place
    connections: int


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps in the order of their importance, and what bounds them: (what, seconds), the
    tightest first. `memory`: bytes of the layers that go there."""

    steps: tuple[Step, ...]
    bounds: tuple[tuple[str, float], ...]
    memory: int

    @property
    def seconds(self) -> float:
        """What the pull takes at least."""
        return self.bounds[0][1]

    @property
    def bound(self) -> str:
        """Why it takes that long."""
        return self.bounds[0][0]

    def place(self, index: int) -> Place:
        """Where the manifest's layer of that number goes."""
        return next(step.place for step in self.steps if step.index == index)


def plan_of(
    layers: Sequence[Layer],
    machine: Machine,
    *,
    ram: Ram = "largest",
    keep: bool = False,
    unpack: bool = True,
    in_order: bool = False,
) -> Plan:
    """The plan of a pull. ram: which layers may go to memory, of those that fit. keep: the
    layers as they travel end up on disk too, as in an OCI layout. unpack: their files do. in_order:
    each layer's files are written over those below, as in a plain folder; overlays unpack at once."""
    places = _places(layers, machine.memory, ram)
    order = _order(layers, machine, unpack=unpack, in_order=in_order)
    if in_order:
        granted = in_turn([layers[index] for index in order], machine)
    else:
        granted = shares([layers[index].left for index in order], machine, [layers[index] for index in order])
    steps = tuple(Step(index, places[index], count) for index, count in zip(order, granted, strict=True))
    written = [layer.left for layer, place in zip(layers, places, strict=True) if keep or place == "disk"]
    bounds = _bounds(layers, machine, sum(written), unpack=unpack, in_order=in_order)
    memory = sum(layer.size for layer, place in zip(layers, places, strict=True) if place == "memory")
    return Plan(steps, tuple(sorted(bounds.items(), key=lambda item: -item[1])), memory)


def shares(left: Sequence[float], machine: Machine, layers: Sequence[Layer]) -> list[int]:
    """Connections for each of the layers, of which `left` bytes are to come, in the order of
    their importance: in proportion, at least one as long as there are any."""
    free, bytes_left = machine.connections, sum(left)
    granted = []
    for bytes_, layer in zip(left, layers, strict=True):
        fair = round(free * bytes_ / bytes_left) if bytes_left > 0 else 0
        count = min(free, machine.most(layer), max(1, fair)) if bytes_ > 0 else 0
        granted.append(count)
        free, bytes_left = free - count, bytes_left - bytes_
    for number, layer in enumerate(layers):  # what rounding and small layers have left over
        more = min(free, machine.most(layer) - granted[number]) if left[number] > 0 else 0
        granted[number], free = granted[number] + more, free - more
    return granted


def in_turn(layers: Sequence[Layer], machine: Machine) -> list[int]:
    """As many as each can use, in turn: nobody waits for a layer that is far from its turn."""
    free, granted = machine.connections, []
    for layer in layers:
        granted.append(min(free, machine.most(layer)) if layer.left else 0)
        free -= granted[-1]
    return granted


def _places(layers: Sequence[Layer], memory: int, ram: Ram) -> list[Place]:
    """The largest first, as long as they fit: what has no room goes to disk, and nothing is killed."""
    if ram not in ("largest", "all", "none"):
        raise BadOption("ram is largest, all or none", name="ram", value=ram)
    places: list[Place] = ["disk"] * len(layers)
    by_size = sorted(range(len(layers)), key=lambda index: (-layers[index].size, index))
    for index in by_size[: {"largest": 1, "all": len(layers), "none": 0}[ram]]:
        # A layer that is partly on disk stays there: its bytes would have to be read back.
        if layers[index].size <= memory and not layers[index].landed:
            places[index], memory = "memory", memory - layers[index].size
    return places


def _order(layers: Sequence[Layer], machine: Machine, *, unpack: bool, in_order: bool) -> list[int]:
    """By what takes longest on the one core that does it; in the manifest's order where that binds."""
    numbers = range(len(layers))
    if in_order:
        return list(numbers)
    return sorted(
        numbers,
        key=lambda index: (-max(machine.stages(layers[index])) if unpack else 0, -layers[index].left, index),
    )


def _bounds(
    layers: Sequence[Layer], machine: Machine, written: int, *, unpack: bool, in_order: bool
) -> dict[str, float]:
    left = sum(layer.left for layer in layers)
    used = min(machine.connections, sum(machine.most(layer) for layer in layers)) if layers else 1
    stages = [machine.stages(layer) if unpack else machine.stages(layer)[:1] for layer in layers]
    slowest = [max(stage) for stage in stages]
    files = sum(layer.tar for layer in layers) if unpack else 0
    bounds = {
        NETWORK: left / machine.network,
        CONNECTIONS: left / (used * machine.connection),
        ONE_CONNECTION: max((one.left / (machine.most(one) * machine.connection) for one in layers), default=0.0),
        DISK: (written + files) / machine.disk,
        ONE_CORE: max(slowest, default=0.0),
        CORES: sum(map(sum, stages)) / machine.cores,
    }
    if in_order:
        # What travels can be digested ahead; what is written can't be inflated ahead without room.
        bounds[IN_ORDER] = sum(max(stage[1:], default=0.0) for stage in stages)
    return bounds
