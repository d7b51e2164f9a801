"""What every test gets: servers, a name of its own, and the leak gate."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time

import pytest
from hypothesis import settings

import parpull
from parpull import _job, _mapping, _reactor
from tests.servers.fixtures import name, origin, tls_origin

__all__ = ["name", "origin", "tls_origin"]

# In CI the same examples each time: a red run is a broken change, not a lucky find.
settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("expensive", max_examples=5000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "default"))

SETTLE = 2.0  # seconds that a closing thread may still take


def living() -> dict[str, int]:
    """Everything that a transfer must give back: the engine's own counts, and the
    process's descriptors and threads."""
    return {
        "reactors": _reactor.live_reactors(),
        "jobs": _job.live_jobs(),
        "mappings": _mapping.live_mappings(),
        "fds": len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0,
        "threads": threading.active_count(),
    }


def leaked(before: dict[str, int]) -> dict[str, int]:
    """What is alive that was not before; {} once everything has been given back."""
    deadline = time.monotonic() + SETTLE
    while True:
        more = {key: n - before[key] for key, n in living().items() if n > before[key]}
        if not more or time.monotonic() > deadline:
            return more
        gc.collect()
        time.sleep(0.02)


@pytest.fixture(autouse=True)
def leak_gate(request: pytest.FixtureRequest):
    """Fail a test that leaves anything behind. Session-wide servers are started
    first, so that their pipes are not taken for leaks."""
    for fixture in ("origin", "tls_origin"):
        if fixture in request.fixturenames:
            request.getfixturevalue(fixture)
    before = living()
    yield
    if request.node.get_closest_marker("leaks") is None:
        more = leaked(before)
        assert not more, f"left behind: {more}"


def pytest_configure() -> None:
    """A runner in the background ignores SIGINT, `nohup` SIGHUP, and children inherit
    it: they could not be tested for how they end."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_report_header() -> list[str]:
    return [f"parpull {parpull.__version__}, {_reactor.libcurl_version()}"]
