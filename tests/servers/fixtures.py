"""pytest fixtures over the servers, for a conftest.py to import.

`name` gives each test a name of its own, which is what keeps the counters of tests apart on a
shared origin. `real` turns a server that is not to be had into a skip with its reason, or into a
failure where PARPULL_REQUIRE=all says that nothing may be skipped.
"""

from __future__ import annotations

import os
import re
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import pytest

from tests.servers.fetch import Unavailable
from tests.servers.origin import Origin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.servers.real import RealServer

    Server = TypeVar("Server", bound=RealServer)


@pytest.fixture(scope="session")
def origin() -> Iterator[Origin]:
    """A plain origin for the whole session."""
    with Origin() as running:
        yield running


@pytest.fixture(scope="session")
def tls_origin() -> Iterator[Origin]:
    """An origin with TLS for the whole session."""
    with Origin(tls=True) as running:
        yield running


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A name that no other test uses."""
    return f"{re.sub('[^a-z0-9-]+', '-', request.node.name.lower())}-{uuid.uuid4().hex[:8]}"


@contextmanager
def real(start: Callable[[], Server]) -> Iterator[Server]:
    """`with real(lambda: Nginx(folder, tls=True)) as server:`."""
    try:
        server = start()
    except Unavailable as reason:
        if os.environ.get("PARPULL_REQUIRE") == "all":
            pytest.fail(str(reason))
        pytest.skip(str(reason))
    with server:
        yield server
