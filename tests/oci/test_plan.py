"""The plan: budgets are kept, shares are fair, and the bounds are bounds."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parpull.errors import BadOption
from parpull.oci import plan
from parpull.oci.plan import Layer, Machine, plan_of, shares

MB, MIB, GIB = 1e6, 1 << 20, 1 << 30
DOMINATED = [Layer(GIB), *[Layer(58 * MIB)] * 7]
WIRE = Machine(connection=60 * MB, network=1250 * MB, connections=16, cores=8, memory=2 * GIB)


def test_the_largest_goes_to_memory_and_the_others_to_disk():
    made = plan_of([Layer(MIB), Layer(GIB), Layer(MIB)], WIRE)
    assert [made.place(index) for index in range(3)] == ["disk", "memory", "disk"]
    assert made.memory == GIB
    assert made.steps[0].index == 1


@pytest.mark.parametrize(
    ("ram", "memory", "places"),
    [
        ("none", 10, "disk disk disk"),
        ("largest", 10, "disk memory disk"),
        ("largest", 4, "disk disk disk"),  # it does not fit, and no other takes its place
        ("all", 10, "memory memory memory"),
        ("all", 9, "disk memory memory"),
        ("all", 4, "memory disk memory"),
        ("all", 0, "disk disk disk"),
    ],
)
def test_places(ram, memory, places):
    made = plan_of([Layer(2), Layer(5), Layer(2 if memory == 4 else 3)], Machine(memory=memory), ram=ram)
    assert [made.place(index) for index in range(3)] == places.split()
    assert made.memory <= memory


def test_a_layer_that_is_partly_there_stays_on_disk():
    made = plan_of([Layer(GIB, landed=GIB // 2)], WIRE)
    assert made.place(0) == "disk"
    assert dict(made.bounds)[plan.NETWORK] == GIB / 2 / WIRE.network


def test_an_option_that_makes_no_sense():
    with pytest.raises(BadOption, match="largest, all or none"):
        plan_of([], WIRE, ram="some")
    with pytest.raises(ValueError, match="more than nothing"):
        Machine(network=0)
    with pytest.raises(ValueError, match="between"):
        Layer(1, landed=2)


def test_connections_go_where_the_bytes_are():
    made = plan_of(DOMINATED, WIRE)
    assert [step.connections for step in made.steps] == [11, 1, 1, 1, 1, 1, 0, 0]
    many = plan_of([Layer(GIB), *[Layer(4 * MIB)] * 127], WIRE)
    assert many.steps[0].connections == 11
    assert sum(step.connections for step in many.steps) == 16


def test_a_registry_without_ranges_gives_each_layer_one():
    made = plan_of(DOMINATED, Machine(connection=60 * MB, connections=16, ranges=False, cores=8))
    assert [step.connections for step in made.steps] == [1] * 8
    assert made.bound == plan.ONE_CONNECTION
    assert made.seconds == GIB / (60 * MB)


def test_in_order_the_lowest_layer_comes_first():
    made = plan_of([Layer(2 * MIB), Layer(GIB), Layer(GIB)], WIRE, in_order=True)
    assert [(step.index, step.connections) for step in made.steps] == [(0, 2), (1, 14), (2, 0)]
    assert dict(made.bounds)[plan.IN_ORDER] > dict(made.bounds)[plan.ONE_CORE]


@pytest.mark.parametrize(
    ("machine", "bound"),
    [
        ({"network": 100 * MB}, plan.NETWORK),
        ({"connection": 5 * MB}, plan.CONNECTIONS),
        ({"connection": 60 * MB, "connections": 1}, plan.CONNECTIONS),
        ({"disk": 300 * MB}, plan.DISK),
        ({}, plan.ONE_CORE),
        ({"cores": 1}, plan.CORES),
        ({"gzip": 1e12, "network": 2e9}, plan.ONE_CORE),  # the tar's digest is one core's, too
    ],
)
def test_what_bounds_a_pull(machine, bound):
    made = plan_of(DOMINATED, Machine(**{"cores": 8, "connections": 16, **machine}))
    assert made.bound == bound


def test_bytes_that_are_kept_or_not_unpacked():
    machine = Machine(disk=100 * MB, memory=2 * GIB)
    layers = [Layer(GIB, unpacked=3 * GIB), Layer(MIB, unpacked=MIB)]

    def disk(**options):
        return dict(plan_of(layers, machine, **options).bounds)[plan.DISK] * 100 * MB

    assert disk() == pytest.approx(3 * GIB + 2 * MIB)
    assert disk(keep=True) == pytest.approx(4 * GIB + 2 * MIB)
    assert disk(unpack=False) == pytest.approx(MIB)
    assert disk(unpack=False, keep=True) == pytest.approx(GIB + MIB)
    assert disk(ram="none") == pytest.approx(4 * GIB + 2 * MIB)


def test_nothing_is_a_plan():
    made = plan_of([], WIRE)
    assert (made.steps, made.seconds, made.memory) == ((), 0, 0)
    assert plan_of([Layer(0)], WIRE).steps[0].connections == 0


RATES = st.floats(1e3, 1e12) | st.just(math.inf)
LAYERS = st.lists(
    st.builds(
        lambda size, part, unpacked, how: Layer(size, unpacked, how, int(size * part)),
        st.integers(0, 1 << 40), st.floats(0, 1), st.none() | st.integers(0, 1 << 42),
        st.sampled_from(["none", "gzip", "zstd"]),
    ), max_size=40,
)  # fmt: skip
MACHINES = st.builds(
    Machine, network=RATES, connection=RATES, disk=RATES, connections=st.integers(1, 64),
    memory=st.integers(0, 1 << 42), cores=st.floats(0.1, 64), ranges=st.booleans(),
)  # fmt: skip


@given(LAYERS, MACHINES, st.sampled_from(["largest", "all", "none"]), st.booleans(), st.booleans(), st.booleans())
def test_budgets_are_kept(layers, machine, ram, keep, unpack, in_order):
    made = plan_of(layers, machine, ram=ram, keep=keep, unpack=unpack, in_order=in_order)
    assert sorted(step.index for step in made.steps) == list(range(len(layers)))
    assert made.memory <= machine.memory
    assert sum(step.connections for step in made.steps) <= machine.connections
    assert all(step.connections <= machine.most(layers[step.index]) for step in made.steps)
    assert made.seconds == max(seconds for _, seconds in made.bounds) >= 0
    assert not any(math.isnan(seconds) for _, seconds in made.bounds)


@given(LAYERS.filter(any), MACHINES)
def test_no_connection_idles(layers, machine):
    granted = shares([layer.left for layer in layers], machine, layers)
    useful = sum(machine.most(layer) for layer in layers if layer.left)
    assert sum(granted) == min(machine.connections, useful)


@given(LAYERS, MACHINES, st.floats(1, 100))
def test_more_of_anything_is_never_slower(layers, machine, factor):
    before = plan_of(layers, machine).seconds
    for name in ("network", "connection", "disk", "cores"):
        more = {key: getattr(machine, key) for key in Machine.__slots__} | {name: getattr(machine, name) * factor}
        assert plan_of(layers, Machine(**more)).seconds <= before * (1 + 1e-9)
