"""The founding argument: with one layer k times the average, the pull becomes faster by what
the connections give, until the next bottleneck. And a bound is never passed."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parpull.oci import plan
from parpull.oci.plan import Layer, Machine, plan_of
from tests.oci import simulate as sim
from tests.oci.simulate import GIB, MB, MIB, PARPULL, SHAPES, WIRE, one_large, simulate, speed_up


@pytest.mark.parametrize("k", [1, 2, 3.5, 6, 8])
@pytest.mark.parametrize("connections", [8, 16, 64])
def test_the_argument(k, connections):
    """One connection each waits for the largest: k·mean/rate. The plan: n·mean/(C·rate)."""
    machine = replace(WIRE, connections=connections)
    layers = one_large(8, 180 * MIB, k)
    assert speed_up(layers, machine) == pytest.approx(k * connections / 8, rel=1e-4)
    assert plan_of(layers, machine).bound == plan.CONNECTIONS


def test_until_the_next_bottleneck():
    layers = one_large(8, 180 * MIB, 6)
    faster = [speed_up(layers, machine) for machine in sim.ADDED.values()]
    assert faster == sorted(faster, reverse=True)
    network = replace(WIRE, network=625 * MB)
    assert speed_up(layers, network) == pytest.approx(6 / 8 * 625 / 60, rel=1e-4)
    assert plan_of(layers, network).bound == plan.NETWORK
    assert plan_of(layers, sim.ADDED["+ inflating"]).bound == plan.ONE_CORE
    assert plan_of(layers, sim.ADDED["+ disk"]).bound == plan.DISK
    # More connections are of no use then.
    more = replace(sim.ADDED["+ disk"], connections=64)
    assert plan_of(layers, more).seconds == plan_of(layers, sim.ADDED["+ disk"]).seconds


def test_unpacking_at_the_front_costs_the_slower_and_not_the_sum():
    machine = replace(sim.LARGE, disk=math.inf)
    layers = [Layer(GIB)]
    download = GIB / min(machine.network, machine.connections * machine.connection)
    inflate = max(machine.stages(layers[0]))
    assert simulate(layers, machine, PARPULL)[1] == pytest.approx(max(download, inflate))
    assert simulate(layers, machine, sim.RANGES)[1] == pytest.approx(download + inflate)


@pytest.mark.parametrize("shape", sorted(SHAPES))
@pytest.mark.parametrize("machine", [sim.SMALL, sim.LARGE])
def test_three_shapes(shape, machine):
    layers = SHAPES[shape]
    made = plan_of(layers, machine)
    ours, stock = (simulate(layers, machine, way)[1] for way in (PARPULL, sim.ONE_EACH))
    assert made.seconds * (1 - 1e-6) <= ours <= 1.3 * made.seconds
    assert ours < stock
    if shape != "even":
        assert ours <= 0.41 * stock


def test_memory_pays_where_the_disk_is_the_bottleneck():
    layers = SHAPES["dominated"]
    assert simulate(layers, sim.SMALL, PARPULL)[1] < 0.85 * simulate(layers, sim.SMALL, sim.ON_DISK)[1]
    without = replace(sim.SMALL, disk=math.inf)
    assert simulate(layers, without, PARPULL) == simulate(layers, without, sim.ON_DISK)


RATE = st.floats(10 * MB, 10_000 * MB)


@given(
    st.lists(st.integers(MIB, 4 * GIB).map(Layer), min_size=1, max_size=12),
    st.builds(
        Machine, network=RATE, connection=RATE, disk=RATE, connections=st.integers(1, 64), cores=st.integers(1, 32),
        memory=st.integers(0, 8 * GIB), ranges=st.booleans(),
    ),
    st.sampled_from([sim.ONE_EACH, sim.ALL_ONE_EACH, sim.RANGES, PARPULL]),
)  # fmt: skip
def test_nothing_passes_the_bound(layers, machine, way):
    came, done = simulate(layers, machine, way)
    made = plan_of(layers, machine, ram=way.ram)
    assert came <= done
    assert done >= made.seconds * (1 - 1e-6)


def test_the_table():
    text = sim.table()
    assert all(shape in text for shape in SHAPES)
    assert "nan" not in text
