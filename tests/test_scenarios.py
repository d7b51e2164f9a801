"""Every hostile server of tests/scenarios, against the engine: it ends as its file
says, and never with wrong bytes."""

from __future__ import annotations

import pytest

import parpull
from parpull.errors import ParpullError, RetriesExhausted
from tests.servers import content
from tests.servers.origin import Origin
from tests.servers.scenarios import load_all

SIZE = 16 << 20
SCENARIOS = load_all()
# A fault that closes the listening socket needs an origin of its own.
OWN_ORIGIN = {"limit-refused"}
# What the engine does not do yet, and the part of the plan that brings it.
LATER = {"corrupt-byte-stated": "digests that the server states"}


def kinds(error: ParpullError) -> set[str]:
    """The names that an outcome may have: the error's, or its last failure's."""
    names = {type(error).__name__}
    if isinstance(error, RetriesExhausted):
        names.add(type(error.last).__name__)
    return names


@pytest.fixture
def server(origin, tls_origin, scenario):
    if scenario.name in OWN_ORIGIN:
        with Origin() as running:
            yield running
    else:
        yield tls_origin if scenario.tls else origin


@pytest.mark.parametrize("scenario", [s for s in SCENARIOS.values() if s.name not in LATER], ids=lambda s: s.name)
@pytest.mark.parametrize("place", ["memory", "file"])
def test_scenario(scenario, place, server, name, tmp_path):
    url = server.url(name, size=SIZE, scenario=scenario.name)
    options = {"connections": 4, "part_size": 1 << 20, "retries": 4, "stall_timeout": 2.0, "retry_for": 30.0}
    options |= dict(scenario.client)
    if options.get("checksum") == "sha256":
        options["checksum"] = "sha256=" + content.sha256(SIZE)
    if server.ca_file:
        options["ca_file"] = server.ca_file
    into = None if place == "memory" else tmp_path / "object"
    try:
        blob = parpull.fetch(url, into, **options)
    except ParpullError as error:
        assert scenario.outcome in kinds(error), f"{type(error).__name__}: {error}"
        assert not list(tmp_path.iterdir())
        return
    assert scenario.outcome == "recovers"
    version = 1 if "changes" in scenario.name else 0
    with memoryview(blob) as view:
        assert content.first_difference(view) is None or content.first_difference(view, version=version) is None
    blob.close()
