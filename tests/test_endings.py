"""How transfers end: defects that a second reader found, each as it was reproduced."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading

import pytest

import parpull
from parpull import errors
from tests.servers.content import content, first_difference
from tests.servers.proxy import Proxy
from tests.servers.raw import Raw, partial

BLOCK = 1 << 20
CHUNKED = "Transfer-Encoding: chunked"


def chunks(data):
    return b"%x\r\n" % len(data) + data + b"\r\n0\r\n\r\n"


def right(blob, start=0):
    with memoryview(blob) as view:
        return first_difference(view, start) is None


def serve(send, span, total, *more):
    start, stop = span[0], min(span[1], total)
    send(partial(start, stop, total, f"Content-Length: {stop - start}", *more))
    for at in range(start, stop, 1 << 16):
        send(content(at, min(1 << 16, stop - at)))


@pytest.mark.parametrize("framing", ["chunked", "close"])
def test_a_partial_answer_without_a_body_is_no_empty_object(framing):
    def answer(send, number, span):
        send(partial(*span, 9 * BLOCK, CHUNKED if framing == "chunked" else "Connection: close"))
        if framing == "chunked":
            send(b"0\r\n\r\n")
        return framing == "chunked"

    with Raw(answer) as server, pytest.raises(errors.RetriesExhausted):
        parpull.fetch(server.url, retries=1)


def test_a_length_beside_chunks_is_not_believed():
    def stale(send, number, span):
        send(b"HTTP/1.1 200 OK\r\nContent-Length: 1048576\r\nTransfer-Encoding: chunked\r\n\r\n")
        send(chunks(content(0, 3 * BLOCK)))
        return True

    with Raw(stale) as server, parpull.fetch(server.url) as blob:
        assert blob.size == 3 * BLOCK
        assert right(blob)

    def whole(send, number, span):
        start, stop = span
        send(partial(start, stop, 8 * BLOCK, f"Content-Length: {stop - start}", CHUNKED))
        send(chunks(content(0, 8 * BLOCK)))
        return True

    with Raw(whole) as server, pytest.raises(errors.RetriesExhausted):
        parpull.fetch(server.url, part_size=BLOCK, retries=1)


def test_many_small_cuts_are_progress():
    """Each answer breaks after 40 kB: as long as something comes, it goes on."""
    total = 30 * 40_000

    def answer(send, number, span):
        start, stop = span
        send(partial(start, min(stop, total), total, f"Content-Length: {min(stop, total) - start}"))
        send(content(start, min(40_000, min(stop, total) - start)))
        return False

    with Raw(answer) as server, parpull.submit(server.url, retries=3) as download, download.result(60) as blob:
        assert right(blob)


def test_patience_ends_before_a_long_retry_after():
    def answer(send, number, span):
        if span[0] == 0:
            serve(send, span, 16 * BLOCK)
        else:
            send(b"HTTP/1.1 429 Slow\r\nRetry-After: 3600\r\nContent-Length: 0\r\n\r\n")
        return True

    with Raw(answer) as server, parpull.submit(server.url, connections=1, retry_for=2.0) as download:
        with pytest.raises(errors.RetriesExhausted):
            download.result(20)


def test_waiting_in_the_queue_is_no_lack_of_progress():
    """The second waits behind the first longer than retry_for; then one 503."""
    seen = set()

    def answer(send, number, span):
        if not seen:
            seen.add("first")
            send(partial(0, 1000, 1000, "Content-Length: 1000"))
            send(content(0, 500))
            threading.Event().wait(1.5)
            send(content(500, 500))
            return True
        if "second" not in seen:
            seen.add("second")
            send(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")
            return True
        serve(send, span, 1000)
        return True

    with Raw(answer) as server, parpull.Client(connections=1, retry_for=1.0, stall_timeout=10.0) as client:
        downloads = [client.submit(server.url) for _ in range(2)]
        assert all(right(d.result(20)) for d in downloads)


def test_one_crawling_connection_does_not_hold_the_end():
    """The 99 % stall: whoever gets the last parts crawls at 30 kB/s."""
    total = 24 * BLOCK

    def answer(send, number, span):
        if number != 3:
            serve(send, span, total)
            return True
        start, stop = span
        send(partial(start, stop, total, f"Content-Length: {stop - start}"))
        for at in range(start, stop, 3000):
            send(content(at, min(3000, stop - at)))
            threading.Event().wait(0.1)
        return True

    with Raw(answer) as server, parpull.submit(server.url, connections=4) as download, download.result(30) as blob:
        assert right(blob)


def test_unproven_bodies_are_not_stolen_from():
    """Chunked 206s count only as a whole: a theft would throw them away."""
    total = 16 * BLOCK

    def answer(send, number, span):
        start, stop = span[0], min(span[1], total)
        send(partial(start, stop, total, CHUNKED))
        for at in range(start, stop, 1 << 16):
            piece = content(at, min(1 << 16, stop - at))
            send(b"%x\r\n" % len(piece) + piece + b"\r\n")
            if number == 2:
                threading.Event().wait(0.01)
        send(b"0\r\n\r\n")
        return True

    with Raw(answer) as server, parpull.submit(server.url, connections=4, part_size=4 * BLOCK) as download:
        with download.result(30) as blob:
            assert right(blob)
        assert download.progress().wasted == 0
        assert server.requests == 4


def test_a_stop_beyond_a_stream_of_unknown_length(origin, name):
    url = origin.url(name, size=1000, ranges="no", length="chunked")
    with parpull.fetch(url, stop=5000) as blob:
        assert blob.size == 1000
    with parpull.fetch(url, start=10, stop=500) as blob:
        assert blob.size == 490
        assert right(blob, 10)


def test_a_sink_that_cannot_clean_up_still_ends(origin, name, tmp_path, monkeypatch):
    from parpull.files import FileSink

    def discard(self):
        raise PermissionError("read-only by now")

    monkeypatch.setattr(FileSink, "discard", discard)
    with parpull.submit(origin.url(name, size=100, scenario="not-found"), tmp_path / "x") as download:
        with pytest.raises(errors.NotFound):
            download.result(10)


def test_closing_the_client_from_its_own_events(origin, name):
    for checksum in (None, "md5=" + "0" * 32):
        client = parpull.Client()

        def close(event, client=client):
            if event.kind == "finished":
                client.close()

        download = client.submit(origin.url(name, size=100), on_event=close, checksum=checksum)
        if checksum:
            with pytest.raises(errors.ChecksumMismatch):
                download.result(10)
        else:
            download.result(10).close()
        client.close()


def test_two_cancels_of_an_awaiting_task(origin, name):
    async def main():
        target = bytearray(64 * BLOCK)
        download = parpull.submit(origin.url(name, size=64 * BLOCK, pace=1_000_000), target)

        async def wait():
            return await download

        task = asyncio.ensure_future(wait())
        await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert download.done()
        target.append(0)

    asyncio.run(main())


def test_commands_to_jobs_that_are_gone(origin, name):
    """Cancelled twice, closed at once, over and over: none may reach a freed job."""
    url = origin.url(name, size=3 * BLOCK)
    for _ in range(60):
        client = parpull.Client(connections=2)
        downloads = [client.submit(url) for _ in range(4)]
        closer = threading.Thread(target=client.close)
        closer.start()
        for download in downloads:
            download.cancel()
            download.cancel()
        client.close()
        closer.join()
        assert all(d.done() for d in downloads)


def test_a_submit_that_is_interrupted_leaves_nothing_to_wait_for(origin, name, monkeypatch):
    from parpull import engine

    class Interrupted(engine.Reactor):
        def add(self, handle):
            raise KeyboardInterrupt

    monkeypatch.setattr(engine, "Reactor", Interrupted)
    client = parpull.Client()
    with pytest.raises(KeyboardInterrupt):
        client.submit(origin.url(name, size=10))
    closer = threading.Thread(target=client.close, daemon=True)
    closer.start()
    closer.join(10)
    assert not closer.is_alive()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_does_not_unmap_what_is_not_its_own(origin, name):
    code = """
import gc, mmap, os, sys, parpull
download = parpull.submit(sys.argv[1])
while not download.progress().landed:
    pass
pid = os.fork()
if pid == 0:
    mine = [mmap.mmap(-1, 8 << 20) for _ in range(16)]
    del download
    gc.collect()
    for memory in mine:
        memory[::4096] = b"x" * len(memory[::4096])
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
download.cancel()
print("both")
"""
    url = origin.url(name, size=64 * BLOCK, pace=20_000_000)
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code, url], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("both\n", "")


def test_one_refusal_after_other_failures_is_the_first_of_its_kind():
    """Two 503s and then nobody there: three tries in a row that find nobody end it, not
    the third failure of whatever kind."""
    well, seen = threading.Event(), []

    def answer(send, number, span):
        if not well.is_set():
            send(b"HTTP/1.1 503 Later\r\nContent-Length: 0\r\n\r\n")
            return False
        send(partial(0, 10, 10, "Content-Length: 10") + content(0, 10))
        return True

    with Raw(answer) as server, Proxy(int(server.url.split(":")[2].split("/")[0])) as proxy:

        def told(event):
            if event.kind == "retrying":
                seen.append(type(event.error).__name__)
                if seen.count("BadStatus") == 2 and "ConnectFailed" not in seen:
                    proxy.outage()
                elif seen[-1] == "ConnectFailed":
                    well.set()
                    proxy.restore()

        with parpull.fetch(proxy.url(server.url), on_event=told) as blob:
            assert bytes(blob) == content(0, 10)
    assert seen.count("BadStatus") >= 2
    assert "ConnectFailed" in seen
