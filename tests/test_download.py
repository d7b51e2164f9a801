"""Downloads as futures: waiting, cancelling, progress, and what is left of them."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading

import pytest

import parpull
from parpull import errors
from tests.servers import content

BLOCK = 1 << 20
SLOW = 2_000_000  # bytes a second and connection


@pytest.fixture
def slow(origin, name):
    """A URL of 64 MiB that takes a while."""
    return origin.url(name, size=64 * BLOCK, pace=SLOW)


def test_result_times_out_and_goes_on(slow):
    with parpull.submit(slow) as download:
        with pytest.raises(TimeoutError):
            download.result(0.05)
        assert not download.done()
    assert download.cancelled()


def test_cancel(slow, tmp_path):
    target = bytearray(64 * BLOCK)
    for into in (None, tmp_path / "object", target):
        download = parpull.submit(slow, into)
        while not download.progress().connections:
            threading.Event().wait(0.005)
        assert download.cancel()
        with pytest.raises(concurrent.futures.CancelledError):
            download.result(10)
        assert download.cancelled()
        assert not download.cancel()
    assert not list(tmp_path.iterdir())
    target.append(0)  # BufferError if anything still exported it


def test_nothing_writes_after_a_cancelled_result(slow):
    target = bytearray(64 * BLOCK)
    download = parpull.submit(slow, target, connections=16)
    while download.progress().landed < 2 * BLOCK:
        threading.Event().wait(0.005)
    download.cancel()
    with pytest.raises(concurrent.futures.CancelledError):
        download.result(10)
    target[:] = bytes(len(target))
    threading.Event().wait(0.2)
    assert not any(target)


def test_cancel_before_any_answer(origin, name):
    with parpull.submit(origin.url(name, size=10, latency=30)) as download:
        threading.Event().wait(0.1)
        download.cancel()
        with pytest.raises(concurrent.futures.CancelledError):
            download.result(5)


def test_asyncio_cancel_waits_until_nothing_writes(slow):
    async def main():
        download = parpull.submit(slow)

        async def wait():
            return await download

        task = asyncio.ensure_future(wait())
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert download.done()

    asyncio.run(main())


def test_progress_adds_up(origin, name):
    download = parpull.submit(origin.url(name, size=30 * BLOCK + 1, pace=20_000_000), connections=3)
    seen = []
    while not download.done():
        seen.append(download.progress())
        threading.Event().wait(0.01)
    last = download.progress()
    download.result().close()
    assert last.landed == last.front == last.size == 30 * BLOCK + 1
    assert last.requests == len(origin.log(name))
    assert max(p.connections for p in seen) <= 3
    assert all(a.landed <= b.landed and a.front <= b.front <= b.landed for a, b in zip(seen, seen[1:], strict=False))


def test_callbacks(origin, name):
    heard = threading.Event()
    download = parpull.submit(origin.url(name, size=10))
    download.add_done_callback(lambda d: heard.set())
    assert heard.wait(5)
    again = []
    download.add_done_callback(again.append)
    assert again == [download]
    download.result().close()


def test_a_callback_that_fails_harms_nobody(origin, name, monkeypatch):
    told = []
    monkeypatch.setattr(threading, "excepthook", told.append)
    download = parpull.submit(origin.url(name, size=10, latency=0.2))
    download.add_done_callback(lambda d: 1 / 0)
    with download.result(5) as blob, memoryview(blob) as view:
        assert bytes(view) == content.content(0, 10)
    download.add_done_callback(lambda d: 1 / 0)
    assert [args.exc_type for args in told] == [ZeroDivisionError] * 2
    assert download.result().size == 10


def test_exception_is_fresh_each_time(origin, name):
    download = parpull.submit(origin.url(name, size=10, scenario="not-found"))
    first, second = download.exception(), download.exception()
    assert isinstance(first, errors.NotFound)
    assert first is not second
    assert first.status == 404


def test_an_event_handler_that_fails_ends_the_transfer(origin, name):
    def broken(event):
        raise ZeroDivisionError(event.kind)

    with pytest.raises(ZeroDivisionError):
        parpull.fetch(origin.url(name, size=10), on_event=broken)


def test_same_path_twice_at_once(slow, tmp_path):
    with parpull.submit(slow, tmp_path / "object") as first:
        while first.progress().landed < BLOCK:
            threading.Event().wait(0.01)
        with pytest.raises(errors.InUse):
            parpull.fetch(slow, tmp_path / "object")
        assert not first.done()
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"object.parpull-part", "object.parpull"}, "the next one goes on from there"


def test_many_small_objects_at_once(origin, name):
    with parpull.Client(connections=8) as client:
        downloads = [client.submit(origin.url(f"{name}{i}", size=1000 + i)) for i in range(200)]
        for i, download in enumerate(downloads):
            with download.result(60) as blob, memoryview(blob) as view:
                assert bytes(view) == content.content(0, 1000 + i)


@pytest.mark.parametrize(
    ("scenario", "warnings"),
    [
        ("no-framing", ["a cut would look like the end"]),
        ("no-content-length", []),
        (None, []),
    ],
)
def test_what_can_be_doubted_is_told(scenario, warnings, origin, name):
    events = []
    url = origin.url(name, size=100_000, **({"scenario": scenario} if scenario else {}))
    with parpull.fetch(url, on_event=events.append) as blob:
        assert blob.size == 100_000
    told = [event.message for event in events if event.kind == "warned"]
    assert len(told) == len(warnings)
    assert all(part in message for part, message in zip(warnings, told, strict=True))
