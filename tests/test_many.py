"""Many objects at once: one budget of connections, fair, and none waits for a slow one."""

from __future__ import annotations

import threading

import parpull
from tests.servers import content
from tests.servers.origin import Origin

MIB = 1 << 20
OBJECTS = 200
SIZE = 300_000


def test_two_hundred_objects_share_one_budget(tmp_path):
    with Origin() as origin:
        urls = [origin.url(f"o{i}", size=SIZE + i) for i in range(OBJECTS)]
        with parpull.Client(connections=12) as client:
            downloads = [client.submit(url, tmp_path / f"o{i}") for i, url in enumerate(urls)]
            for download in downloads:
                download.result(60)
        assert origin.most_open <= 12
        for i in range(OBJECTS):
            assert (tmp_path / f"o{i}").read_bytes() == content.content(0, SIZE + i)
        assert sum(len(origin.log(f"o{i}").asked) for i in range(OBJECTS)) == OBJECTS, "one request each"
        assert sum(origin.log(f"o{i}").sent for i in range(OBJECTS)) == sum(SIZE + i for i in range(OBJECTS))
    assert len(list(tmp_path.iterdir())) == OBJECTS


def test_a_slow_object_does_not_hold_the_rest():
    order: list[str] = []
    lock = threading.Lock()

    def ended(name):
        def note(_):
            with lock:
                order.append(name)

        return note

    with Origin() as origin:
        with parpull.Client(connections=8) as client:
            slow = client.submit(origin.url("slow", size=8 * MIB, pace=300_000))
            slow.add_done_callback(ended("slow"))
            rest = [client.submit(origin.url(f"o{i}", size=MIB)) for i in range(OBJECTS)]
            for i, download in enumerate(rest):
                download.add_done_callback(ended(f"o{i}"))
            for download in rest:
                download.result(60).close()
            assert not slow.done(), "slow as it is, everything else has come"
            assert slow.progress().received > 0, "and it did not starve"
        assert origin.most_open <= 8
    assert order[-1] == "slow"
    assert len(order) == OBJECTS + 1


def test_large_ones_progress_together():
    """Four of a size, paced: when the first has ended, no other is far behind."""
    with Origin() as origin, parpull.Client(connections=8) as client:
        urls = [origin.url(f"big{i}", size=24 * MIB, pace=4_000_000) for i in range(4)]
        downloads = [client.submit(url) for url in urls]
        gate = threading.Event()
        for download in downloads:
            download.add_done_callback(lambda _: gate.set())
        assert gate.wait(60)
        landed = [download.progress().received for download in downloads]
        assert min(landed) >= 8 * MIB, landed
        for download in downloads:
            download.result(60).close()
        assert origin.most_open <= 8


def test_one_failure_leaves_the_others_alone(tmp_path):
    with Origin() as origin, parpull.Client(connections=4) as client:
        downloads = {
            i: client.submit(origin.url(f"o{i}", size=SIZE, scenario="not-found" if i % 5 == 0 else None))
            for i in range(40)
        }
        for i, download in downloads.items():
            error = download.exception(60)
            assert isinstance(error, parpull.errors.NotFound) if i % 5 == 0 else error is None
            if error is None:
                download.result().close()
