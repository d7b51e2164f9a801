"""Readers as files: whatever is done to one gives what io.BytesIO gives; then those
that read along a download: its ends, its file, its memory, its failures."""

from __future__ import annotations

import asyncio
import gc
import io
import itertools
import os
import signal
import threading

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import parpull
from parpull import errors
from tests.servers.content import content, first_difference, sha256
from tests.servers.raw import Raw, partial

MIB = 1 << 20
BLOCK = 16 << 10
SIZES = [0, 1, 99, BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK + 1, MIB - 1, MIB, MIB + 1, 3 * MIB + 7]
SERVERS = [{}, {"ranges": False}, {"ranges": False, "length": "chunked"}, {"etag": "none", "last_modified": False}]
NUMBERS = itertools.count()


class LikeBytesIO(RuleBasedStateMachine):
    """A reader beside an io.BytesIO of the same bytes."""

    origin = folder = None  # set by the test
    reader = download = None

    @initialize(
        kind=st.sampled_from(["window", "memory", "file"]),
        size=st.sampled_from(SIZES) | st.integers(0, 4 * MIB),
        server=st.sampled_from(SERVERS),
        buffering=st.sampled_from([0, 2, 1000, BLOCK, 300_000]),
        access=st.sampled_from(["auto", "sequential", "random"]),
        window=st.sampled_from([MIB, MIB + 1, 2 * MIB, 3 * MIB, 64 * MIB]),
        part_size=st.sampled_from([None, None, 10_000, 100_001]),
    )
    def begin(self, kind, size, server, buffering, access, window, part_size):
        name = f"like-{next(NUMBERS)}"
        url = self.origin.url(name, size=size, **server)
        self.told = "length" not in server
        options = {"connections": 4, "part_size": part_size}
        if kind == "window":
            self.reader = parpull.open(url, buffering, access=access, window=window, **options)
            self.seekable = server.get("ranges", True) or (size == 0 and self.told)
        else:
            self.download = parpull.submit(url, self.folder / name if kind == "file" else None, **options)
            self.reader = self.download.reader(buffering)
            self.seekable = True
        self.buffered = buffering > 0
        self.size = size
        self.model = io.BytesIO(content(0, size))

    def some_of(self, got, n):
        """What a call that may bring less has brought; the model goes on by as much."""
        at = self.model.tell()
        assert bytes(got) == self.model.read(len(got))
        assert len(got) <= max(n, 0)
        if n > 0 and at < self.size:
            assert len(got), "nothing, though this is not the end"

    @rule(n=st.none() | st.integers(-1, 70_000) | st.integers(0, 4 * MIB))
    def read(self, n):
        if not self.buffered and n is None:
            n = -1  # as all of io.RawIOBase
        if self.buffered or n == -1:
            assert self.reader.read(n) == self.model.read(n)
        else:
            self.some_of(self.reader.read(n), n)

    @precondition(lambda self: self.buffered)
    @rule(n=st.integers(0, 3 * MIB))
    def read1(self, n):
        self.some_of(self.reader.read1(n), n)

    @rule(n=st.integers(0, 200_000))
    def readinto(self, n):
        mine, other = bytearray(n), bytearray(n)
        got = self.reader.readinto(mine)
        if self.buffered:
            assert got == self.model.readinto(other)
            assert mine == other
        else:
            self.some_of(mine[:got], n)

    @rule(limit=st.integers(-1, 2000))
    def readline(self, limit):
        assert self.reader.readline(limit) == self.model.readline(limit)

    @rule(n=st.integers(1, 5))
    def iterate(self, n):
        mine = list(itertools.islice(self.reader, n))
        assert mine == [self.model.readline() for _ in mine]
        assert len(mine) == n or self.model.tell() >= self.size

    @rule(n=st.integers(1, 3 * MIB), share=st.floats(0, 1))
    def peek(self, n, share):
        at = self.model.tell()
        if self.buffered:
            assert self.model.read().startswith(self.reader.peek(n))
            self.model.seek(at)
            return
        with self.reader.peek(n) as view:
            self.some_of(view, n)
            take = int(len(view) * share)
        self.model.seek(at + take)
        self.reader.advance(take)

    @rule(n=st.integers(-4 * MIB, 4 * MIB), whence=st.sampled_from([os.SEEK_SET, os.SEEK_CUR, os.SEEK_END]))
    def seek(self, n, whence):
        assert self.reader.seekable() == self.seekable
        to = n + (0, self.model.tell(), self.size)[whence]
        try:
            got = self.reader.seek(n, whence)
        except io.UnsupportedOperation:
            assert not self.seekable or (whence == os.SEEK_END and not self.told)
        except ValueError as error:
            assert "negative" in str(error)
            assert to < 0
        else:
            assert self.seekable or to == self.model.tell()
            assert got == self.model.seek(to)

    @rule()
    def seek_nowhere_there_is(self):
        with pytest.raises(ValueError, match=r"whence|not seekable"):
            self.reader.seek(0, 7)

    @invariant()
    def where(self):
        if self.reader is not None:
            assert self.reader.tell() == self.model.tell()
            assert self.reader.size in ({self.size} if self.told else {self.size, None})
            assert not self.reader.closed
            assert self.reader.readable()
            assert not self.reader.writable()

    def teardown(self):
        if self.reader is not None:
            assert self.reader.read() == self.model.read()
            assert self.reader.read() == b""
            self.reader.close()
            self.reader.close()
            for use in (self.reader.read, self.reader.readline, self.reader.tell, lambda: self.reader.seek(0)):
                with pytest.raises(ValueError, match="closed"):
                    use()
        if self.download is not None:
            self.download.result().close()


def test_like_bytes_io(origin, tmp_path):
    machine = type("Machine", (LikeBytesIO,), {"origin": origin, "folder": tmp_path})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=60, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


@pytest.fixture(params=["window", "front"])
def opened(request, origin, name):
    """Opens an object, by both kinds; closes what was opened."""
    downloads, readers = [], []

    def opens(size, buffering=BLOCK, *, params=(), **options):
        url = origin.url(name, size=size, **dict(params))
        if request.param == "window":
            readers.append(parpull.open(url, buffering, **options))
        else:
            downloads.append(parpull.submit(url, **options))
            readers.append(downloads[-1].reader(buffering))
        return readers[-1]

    yield opens
    while readers:
        readers.pop().close()
    while downloads:
        download = downloads.pop()
        download.cancel()
        download.wait()


def test_readinto_all_kinds_of_buffers(opened):
    reader = opened(100_000, 0)
    assert reader.readinto(np.empty(0, "f8")) == 0
    assert reader.readinto(bytearray()) == 0
    with pytest.raises(TypeError):
        reader.readinto(bytes(5))
    array = np.zeros((10, 10), "f8")
    assert 0 < (got := reader.readinto(array)) <= 800
    assert array.tobytes()[:got] == content(0, got)
    for wrong in (1.5, "1", None):
        with pytest.raises(TypeError):
            reader.seek(wrong)


@pytest.mark.parametrize("buffering", [0, BLOCK])
def test_close_ends_a_read_that_waits(opened, buffering):
    """From another thread; the read raises, and nobody waits for the server."""
    reader = opened(8 * MIB, buffering, params={"pace": 50_000})
    seen = []

    def read():
        try:
            while reader.read(MIB):
                pass
        except ValueError as error:
            seen.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    while reader.progress().received < 10_000:
        threading.Event().wait(0.01)
    reader.close()
    thread.join(10)
    assert not thread.is_alive()
    assert "closed" in str(seen[0])
    assert reader.closed


def test_an_interrupt_ends_a_read_and_the_reader_goes_on(opened):
    reader = opened(8 * MIB, params={"pace": 1_000_000}, connections=1)
    reader.read(10)
    main = threading.main_thread().ident
    threading.Timer(0.3, signal.pthread_kill, (main, signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        reader.read()
    at = reader.tell()
    assert first_difference(reader.read(100_000), at) is None


def test_async_iteration(opened):
    async def main():
        at = 0
        async with opened(5 * MIB + 3) as reader:
            async for piece in reader:
                assert 0 < len(piece) <= MIB
                assert first_difference(piece, at) is None
                at += len(piece)
        assert reader.closed
        return at

    assert asyncio.run(main()) == 5 * MIB + 3


def test_a_cancelled_task_does_not_wait_for_the_server(opened):
    async def main():
        async def read():
            async with opened(8 * MIB, params={"pace": 50_000}) as reader:
                started.set_result(reader)
                async for _ in reader:
                    pass

        started = asyncio.get_running_loop().create_future()
        task = asyncio.ensure_future(read())
        reader = await started
        await asyncio.sleep(0.3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return reader

    assert asyncio.run(main()).closed


@pytest.mark.parametrize("buffering", [0, BLOCK])
def test_a_reader_that_is_forgotten_gives_everything_back(opened, origin, name, buffering):
    """The leak gate is the judge, beside a transfer that would go on for minutes."""
    url = origin.url(name, size=64 * MIB, pace=100_000)
    reader = parpull.open(url, buffering)
    assert first_difference(reader.read(1000)) is None
    del reader
    gc.collect()


def test_a_name_without_secrets(opened):
    reader = opened(10)
    assert reader.name.endswith("?…")
    assert reader.mode == "rb"
    assert "size=10" not in repr(reader)


# --- along a download -----------------------------------------------------------------


@pytest.mark.parametrize("place", ["memory", "buffer", "file"])
@pytest.mark.parametrize("connections", [1, 8])
def test_two_readers_of_one_download(place, connections, origin, name, tmp_path):
    size = 9 * MIB + 5
    into = {"memory": None, "buffer": bytearray(size), "file": tmp_path / "object"}[place]
    results = {}
    with parpull.submit(
        origin.url(name, size=size, pace=20_000_000), into, connections=connections, steal=False
    ) as download:

        def read(number, step):
            with download.reader() as reader:
                at = 0
                while piece := reader.read(step):
                    assert first_difference(piece, at) is None
                    at += len(piece)
                results[number] = at

        threads = [threading.Thread(target=read, args=pair) for pair in [(0, 10_007), (1, 2 * MIB)]]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == {0: size, 1: size}
        download.result().close()
    assert origin.log(name).sent == size


@pytest.mark.parametrize("early", [True, False])
def test_a_reader_outlives_its_download_and_the_name_of_its_file(early, origin, name, tmp_path):
    size = 3 * MIB
    with parpull.submit(origin.url(name, size=size), tmp_path / "object") as download:
        reader = download.reader()
        if early:
            reader.read(1)
        path = download.result().path
        if early:
            os.rename(path, tmp_path / "elsewhere")
    with reader:
        reader.seek(0)
        assert first_difference(reader.read()) is None
        assert reader.size == size


def test_the_blob_is_closed_before_its_reader(origin, name):
    download = parpull.submit(origin.url(name, size=MIB))
    with download.reader(0) as reader:
        download.result().close()
        with pytest.raises(ValueError, match="closed before its reader"):
            reader.read(10)


def test_a_reader_that_begins_when_all_is_done(origin, name):
    download = parpull.submit(origin.url(name, size=MIB, ranges=False, length="chunked"))
    with download.result() as blob, download.reader() as reader:
        assert reader.size == blob.size == MIB
        assert reader.seek(-10, os.SEEK_END) == MIB - 10
        assert first_difference(reader.read(), MIB - 10) is None


@pytest.mark.parametrize("place", ["memory", "file"])
def test_a_download_that_fails_in_the_middle(place, name, origin, tmp_path):
    """Right bytes, then what went wrong; never the end of the file."""
    url = origin.url(name, size=16 * MIB, scenario="object-changes", pace=20_000_000)
    into = None if place == "memory" else tmp_path / "object"
    with parpull.submit(url, into, connections=1, part_size=MIB) as download, download.reader() as reader:
        at = 0
        with pytest.raises(errors.ObjectChanged):
            while piece := reader.read(100_000):
                assert first_difference(piece, at) is None
                at += len(piece)
        with pytest.raises(errors.ObjectChanged):
            reader.seek(15 * MIB)
            reader.read(1)
    assert at < 16 * MIB


def test_a_size_that_was_never_told(origin, name):
    """A stream that breaks for good has no size, however much of it has come."""

    def answer(send, number, span):
        send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n" + content(0, 5) + b"\r\n")
        return False

    with Raw(answer) as server, parpull.submit(server.url, retries=0) as download, download.reader() as reader:
        with pytest.raises(errors.TransferError):
            reader.read()
        with pytest.raises(errors.TransferError):
            assert reader.size


@pytest.mark.parametrize("place", ["memory", "file"])
def test_a_wrong_checksum_is_told_at_the_end(place, origin, name, tmp_path):
    into = None if place == "memory" else tmp_path / "object"
    wrong = "sha256=" + sha256(MIB, version=1)
    with parpull.submit(origin.url(name, size=MIB), into, checksum=wrong) as download, download.reader(0) as reader:
        with pytest.raises(errors.ChecksumMismatch):
            while reader.read(1000):
                pass
        with pytest.raises(errors.ChecksumMismatch):
            reader.read(1000)


def test_the_end_of_a_checked_download_is_told_when_it_is_proven(origin, name):
    with parpull.submit(origin.url(name, size=MIB), checksum="sha256=" + sha256(MIB)) as download:
        with download.reader() as reader:
            assert first_difference(reader.read()) is None
        assert download.done()
        download.result().close()


def test_the_download_is_cancelled_under_its_reader(origin, name):
    from concurrent.futures import CancelledError

    with parpull.submit(origin.url(name, size=64 * MIB, pace=1_000_000)) as download, download.reader() as reader:
        reader.read(1)
        download.cancel()
        with pytest.raises(CancelledError):
            reader.read()


def test_peek_times_out(origin, name):
    def answer(send, number, span):
        send(partial(0, 10, 10, "Content-Length: 10"))
        send(content(0, 5))
        silence.wait(30)
        return False

    silence = threading.Event()
    with Raw(answer) as server, parpull.open(server.url, 0) as reader:
        while reader.tell() < 5:
            with reader.peek(10, 10) as view:
                n = len(view)
                assert bytes(view) == content(reader.tell(), n)
            reader.advance(n)
        assert reader.peek(10, 0) is None
        assert reader.peek(10, 0.3) is None
        silence.set()


@pytest.mark.parametrize("place", ["memory", "file"])
def test_a_fork_under_a_reader(place, origin, name, tmp_path):
    """The child is told, at once; the parent reads on."""
    into = None if place == "memory" else tmp_path / "object"
    with (
        parpull.submit(origin.url(name, size=16 * MIB, pace=10_000_000), into, connections=1) as download,
        download.reader(0) as reader,
    ):
        reader.read(10)
        child = os.fork()
        if not child:
            signal.alarm(10)
            status = 1
            try:
                reader.seek(16 * MIB - 5)
                reader.read(5)
            except errors.TransferError as error:
                status = 0 if "forked" in str(error) else 2
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        reader.seek(0)
        assert first_difference(reader.readall()) is None


def test_close_does_not_wait_for_the_first_answer(origin, name):
    with parpull.submit(origin.url(name, size=10, latency=3)) as download:
        reader = download.reader()
        seen = []

        def read():
            try:
                reader.read(5)
            except ValueError as error:
                seen.append(error)

        thread = threading.Thread(target=read)
        thread.start()
        threading.Event().wait(0.3)
        reader.close()
        waited = download.target is not None
        thread.join()
        assert not waited
        assert seen
