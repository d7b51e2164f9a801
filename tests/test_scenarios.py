"""Every hostile server of tests/scenarios, against the engine: it ends as its file says, never with
wrong bytes, and asks for no more than it may.

Each scenario goes to memory, to a file and to a reader. A destination with 1 or with 8 connections, over
plain HTTP or TLS, makes twelve ways. Those scenarios whose way through the code depends on all three
(EVERYWHERE) are run in all twelve. The others are run three times: once to each destination, with
connections and transport in two sets that take turns, so that every pair of choices is seen by every
other scenario of the list. A scenario that is for TLS only, or not for it, stays on its side. A file may say
connections = N itself (`[client]`). Where an object changes in the middle, all of one version may come.
"""

from __future__ import annotations

import importlib.util
import itertools
import subprocess
import sys
from pathlib import Path

import pycurl
import pytest

import parpull
from parpull.errors import ParpullError, RetriesExhausted
from tests.servers import content
from tests.servers.fixtures import real
from tests.servers.origin import Origin
from tests.servers.real import Caddy
from tests.servers.scenarios import PLACES, load_all

ROOT = Path(__file__).resolve().parent.parent
SIZE = 16 << 20
PART = 1 << 20
SCENARIOS = load_all()
EVERYWHERE = {
    "range-ignored", "no-content-length", "no-framing", "truncated", "stalls-mid-body", "unframed-206",
    "object-changes", "stated-right-repr-digest", "corrupt-byte-stated",
}  # fmt: skip
TURNS = (
    (("memory", 8, False), ("file", 1, True), ("reader", 8, True)),
    (("memory", 1, True), ("file", 8, False), ("reader", 1, False)),
)
ALL = tuple(itertools.product(PLACES, (1, 8), (False, True)))


def ways():
    """(scenario, place, connections, tls) of every test."""
    for number, scenario in enumerate(SCENARIOS.values()):
        found = ALL if scenario.name in EVERYWHERE else TURNS[number % 2]
        seen = set()
        for place, connections, tls in found:
            if scenario.tls is not None:
                tls = bool(scenario.tls)
            connections = scenario.client.get("connections", connections)
            if (place, connections, tls) not in seen:
                seen.add((place, connections, tls))
                mark = f"{scenario.name}-{place}-{connections}-{'tls' if tls else 'plain'}"
                yield pytest.param(scenario, place, connections, tls, id=mark)


def kinds(error: ParpullError) -> set[str]:
    """The names that an outcome may have: the error's, or its last failure's."""
    names = {type(error).__name__}
    if isinstance(error, RetriesExhausted):
        names.add(type(error.last).__name__)
    return names


@pytest.fixture
def server(origin, tls_origin, scenario, tls):
    if scenario.alone:
        with Origin(tls=scenario.tls or False) as running:
            yield running
    else:
        yield tls_origin if tls else origin


def options_of(scenario, server, connections):
    """What a test gives the client."""
    again = 4 if "recovers" in (scenario.outcome, scenario.or_else) else 2
    options = {"part_size": PART, "retries": again, "stall_timeout": 2.0, "retry_for": 30.0, "connections": connections}
    options |= scenario.client
    if options.get("checksum") == "sha256":
        options["checksum"] = "sha256=" + content.sha256(SIZE)
    if server.ca_file:
        options["ca_file"] = server.ca_file
    if scenario.proxied:
        options["proxy"] = scenario.proxy(server)
    if scenario.addresses:
        options["curl"] = {pycurl.RESOLVE: scenario.resolve(server)}
    return options


def right(data, start, scenario):
    """Whether these are bytes of the object, in any version that it has."""
    versions = (0, 1) if scenario.server.does == "change" else (0,)
    return any(content.first_difference(data, start, version=version) is None for version in versions)


def read(url, scenario, options):
    """Read it all; the pieces are right unless only the end can tell."""
    at = 0
    with parpull.open(url, window=8 << 20, **options) as reader:
        while piece := reader.read(300_000):
            # A reader gives bytes before the digest has seen the last of them; it refuses the end.
            assert right(piece, at, scenario) or scenario.outcome == "ChecksumMismatch", f"wrong bytes at {at}"
            at += len(piece)
    assert at == SIZE


def fetch(url, path, scenario, options):
    with parpull.fetch(url, path, **options) as blob, memoryview(blob) as view:
        assert len(view) == SIZE
        assert right(view, 0, scenario)


@pytest.mark.slow
@pytest.mark.parametrize(("scenario", "place", "connections", "tls"), list(ways()))
def test_scenario(scenario, place, connections, tls, server, name, tmp_path):
    url = scenario.url(server, name, size=SIZE)
    options = options_of(scenario, server, connections)
    path = tmp_path / "object"
    expected = scenario.outcomes(place)
    try:
        if place == "reader":
            read(url, scenario, options)
        else:
            fetch(url, path if place == "file" else None, scenario, options)
    except ParpullError as error:
        assert expected & kinds(error), f"{type(error).__name__}: {error}"
        assert not path.exists()
        if expected & {"ChecksumMismatch", "ObjectChanged", "NotFound"}:
            assert not list(tmp_path.iterdir())
    else:
        assert "recovers" in expected
        assert [p.name for p in tmp_path.iterdir()] == (["object"] if place == "file" else [])
    log = server.log(name)
    # When an address has run out, each connection may find out for itself.
    # Parts of a reader are shorter: its window has room for two on each connection.
    most = (
        (64 if place == "reader" else 24) + 2 * log.faults + (connections + 1) * log.resolutions
        if scenario.requests is None
        else scenario.requests
    )
    assert len(log) <= most
    # A theft costs the one who is robbed a connection.
    most = (connections if connections == 1 else 2 * connections) + 2 * log.faults
    most = most if scenario.connections is None else scenario.connections
    assert log.connections <= most or scenario.server.manner.get("per_connection")


@pytest.mark.parametrize(
    "scenario", [s for s in SCENARIOS.values() if s.outcome == "ChecksumMismatch"], ids=lambda s: s.name
)
def test_what_nobody_states_is_said(scenario):
    """The list of wrong bytes that only the caller's own checksum can find is complete."""
    assert bool(scenario.blind) == ("checksum" in scenario.client)


@pytest.mark.parametrize("version", ["2", "1.1"])
@pytest.mark.parametrize("connections", [1, 8])
def test_http_2(version, connections, tmp_path):
    """A real server, by the version of HTTP that the caller chose, and by that of default."""
    (tmp_path / "object").write_bytes(content.content(0, SIZE))
    with real(lambda: Caddy(tmp_path, tls=True)) as server:
        options = {"http_version": version, "connections": connections, "ca_file": server.ca_file}
        with parpull.fetch(server.url("object"), **options) as blob, memoryview(blob) as view:
            assert content.first_difference(view) is None


@pytest.fixture
def hostile():
    """docs/make_hostile.py, which is no module of a package."""
    spec = importlib.util.spec_from_file_location("make_hostile", ROOT / "docs" / "make_hostile.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_fresh(hostile):
    assert hostile.PAGE.read_text(encoding="utf-8") == hostile.page(), "run python docs/make_hostile.py"
    named = [place for _, where in hostile.ELSEWHERE for place in where.split(", ")]
    assert [place for place in named if not (ROOT / place).exists()] == []
    assert all(hostile.section(scenario) for scenario in SCENARIOS.values())


def test_the_list():
    run = [sys.executable, "-m", "tests.servers.origin", "--list"]
    listed = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert [line.split()[0] for line in listed.splitlines()] == list(SCENARIOS)


def test_all_of_it_takes_part():
    """Each place, each number of connections and each transport, in every pair."""
    seen = {param.values[1:] for param in ways()}
    for axes in itertools.combinations(range(3), 2):
        choices = {tuple(way[axis] for axis in axes) for way in ALL}
        assert choices <= {tuple(way[axis] for axis in axes) for way in seen}
