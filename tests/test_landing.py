"""Landing: bytes at their place in any order, the front, waits, files, mappings.

What would bring the process down is tried in a process of its own.
"""

from __future__ import annotations

import errno
import os
import random
import resource
import subprocess
import sys
import tempfile
import textwrap
import threading
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from parpull._landing import Landing, direct_align, file_system, reserve
from parpull._mapping import Exporter, Mapping, live_mappings

PAGE, MIB = 4096, 1 << 20
DISK, SHM = str(Path(__file__).resolve().parents[1]), "/dev/shm"


def alone(code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter."""
    head = "from parpull._landing import *; from parpull._mapping import *\n"
    return subprocess.run(
        [sys.executable, "-c", head + textwrap.dedent(code)], capture_output=True, text=True, check=False, timeout=60
    )


def content(size, seed=7):
    return random.Random(seed).randbytes(size)


@contextmanager
def file_landing(size, folder, *, direct=False, block=PAGE):
    """A landing in a new file, and that file's path."""
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        landing = Landing(size, block)
        other = -1
        if direct:
            try:
                other = os.open(file.name, os.O_RDWR | os.O_DIRECT)
            except OSError as error:
                pytest.skip(f"no O_DIRECT in {folder}: {error}")
        try:
            landing.into_file(file.fileno(), direct_fd=other, align=PAGE if direct else 0)
            yield landing, Path(file.name)
        finally:
            landing.release()
            if other >= 0:
                os.close(other)


GROUNDS = ["memory", "file", "direct", "shm"]


@contextmanager
def ground(kind, size, block=PAGE):
    """(landing, read): a landing of each kind, and how to see what came of it."""
    if kind == "memory":
        target = bytearray(size)
        landing = Landing(size, block)
        landing.into_memory(target)
        yield landing, lambda: bytes(target)
        landing.release()
        return
    folder = SHM if kind == "shm" else DISK
    if not os.path.isdir(folder):
        pytest.skip(f"no {folder}")
    with file_landing(size, folder, direct=kind == "direct", block=block) as (landing, path):
        yield landing, path.read_bytes


# --- order and front ---------------------------------------------------------------------


@st.composite
def pieces(draw):
    """(size, disjoint pieces that cover it, in some order)."""
    size = draw(st.integers(0, 5 * PAGE + 17))
    cuts = sorted({0, size, *draw(st.lists(st.integers(0, size), max_size=12))})
    return size, draw(st.permutations(list(pairwise(cuts))))


@pytest.mark.parametrize("kind", GROUNDS)
@settings(max_examples=60, deadline=None)
@given(pieces())
def test_any_order_of_pieces_makes_the_whole(kind, plan):
    size, order = plan
    data = content(size)
    with ground(kind, size) as (landing, read):
        done = [False] * size
        for start, stop in order:
            landing.land(start, data[start:stop])
            done[start:stop] = [True] * (stop - start)
            assert landing.landed == sum(done)
            prefix = done.index(False) if False in done else size
            blocks = size if prefix == size else prefix // PAGE * PAGE
            assert blocks <= landing.front <= prefix, "whole blocks in front, and nothing that is not there"
        assert read()[:size] == data
        assert (landing.landed, landing.front) == (size, size)


def test_a_landing_of_nothing_is_complete():
    landing = Landing(0)
    landing.into_memory(bytearray())
    assert (landing.size, landing.front, landing.landed) == (0, 0, 0)
    assert landing.wait(0) == 0


def test_a_stream_of_unknown_size_moves_its_front_byte_by_byte():
    target = bytearray(100)
    landing = Landing(-1)
    landing.into_memory(target)
    landing.land(0, b"abc")
    assert (landing.front, landing.landed, landing.size) == (3, 3, -1)
    landing.land(3, b"defg")
    assert (landing.front, landing.landed) == (7, 7)
    assert bytes(target[:8]) == b"abcdefg\0"
    landing.release()


def test_an_unproven_end_is_not_counted():
    target = bytearray(2 * PAGE)
    landing = Landing(2 * PAGE, PAGE)
    landing.into_memory(target)
    landing.land(0, b"x" * PAGE, deferred=True, finish=False)
    assert (landing.front, landing.landed) == (0, 0)
    landing.land(0, b"y" * PAGE, deferred=True)  # it ended as it should
    assert (landing.front, landing.landed) == (PAGE, PAGE)
    landing.release()


@pytest.mark.parametrize("kind", ["direct", "shm"])
def test_large_pieces_that_begin_inside_a_block(kind):
    size = 3 * MIB + 12345
    data = content(size)
    with ground(kind, size, MIB) as (landing, read):
        for start, stop in [(1_500_001, size), (511, 1_500_001), (0, 511)]:
            landing.land(start, data[start:stop])
        assert landing.front == size
        assert read() == data


def test_o_direct_that_turns_out_impossible_falls_back():
    """The promised alignment is too small for the disk: EINVAL, then the page cache."""
    size = 2 * PAGE
    data = content(size)
    with file_landing(size, DISK, direct=True) as (landing, path), open(path, "rb+") as file:
        fd = os.open(path, os.O_RDWR | os.O_DIRECT)
        try:
            landing.into_file(file.fileno(), direct_fd=fd, align=1)
            landing.land(1, data[1:])
            landing.land(0, data[:1])
            assert path.read_bytes() == data
        finally:
            os.close(fd)


# --- refusals ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "block"), [(-2, PAGE), (10, 0), (10, 4095), (10, 2048), (10, 12288), (10, -PAGE), (10, 1 << 40)]
)
def test_sizes_that_make_no_sense(size, block):
    with pytest.raises(ValueError, match="power of two"):
        Landing(size, block)


def test_a_buffer_that_is_too_small_is_never_overrun():
    target = bytearray(b"-" * 20)
    landing = Landing(100)
    landing.into_memory(memoryview(target)[:10])
    with pytest.raises(OSError, match="No space") as caught:
        landing.land(8, b"abc")
    assert caught.value.errno == errno.ENOSPC
    assert bytes(target) == b"-" * 20
    landing.release()


@pytest.mark.parametrize("wrong", [b"read-only", memoryview(bytearray(9))[::2], 5, None, "text"])
def test_memory_that_cannot_be_written(wrong):
    with pytest.raises((BufferError, TypeError)):
        Landing(1).into_memory(wrong)


def test_a_buffer_stays_exported_until_release():
    target = bytearray(10)
    landing = Landing(10)
    landing.into_memory(target)
    with pytest.raises(BufferError):
        target.append(1)
    landing.release()
    target.append(1)


@pytest.mark.parametrize(
    "code",
    [
        "pass",  # no ground at all
        "landing.into_memory(bytearray(10)); landing.release()",
        "landing.into_memory(bytearray(64)); start = -1 << 40",
        "landing.into_memory(bytearray(1 << 24)); start, data = 1 << 20, data * (15 << 20)",  # beyond its blocks
        "landing.into_file(-1); start = -5",
    ],
)
def test_land_is_an_error_not_a_crash(code):
    done = alone(f"""
        landing, start, data = Landing(10, 4096), 0, b"x"
        {code}
        try:
            landing.land(start, data)
        except (ValueError, OSError):
            raise SystemExit(7)
    """)
    assert done.returncode == 7, f"status {done.returncode}: {done.stderr[-300:]}"


@pytest.mark.parametrize(("path", "code"), [("/dev/full", errno.ENOSPC), ("/proc/self/fd", errno.EBADF)])
def test_a_disk_that_refuses(path, code):
    fd = os.open(path, os.O_WRONLY if path == "/dev/full" else os.O_RDONLY)
    try:
        landing = Landing(PAGE, PAGE)
        landing.into_file(fd)
        with pytest.raises(OSError, match=r"No space|Bad file") as caught:
            landing.land(0, b"x" * PAGE)
        assert caught.value.errno == code
        assert (landing.landed, landing.front) == (0, 0), "bytes that were not written do not count"
    finally:
        landing.release()
        os.close(fd)


def test_a_limit_on_file_sizes(tmp_path):
    done = alone(f"""
        import os, resource, signal
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))
        fd = os.open({str(tmp_path / "big")!r}, os.O_RDWR | os.O_CREAT)
        landing = Landing(8192, 4096)
        landing.into_file(fd)
        landing.land(0, b"x" * 4096)
        try:
            landing.land(4096, b"y" * 4096)
        except OSError as error:
            print(error.errno, landing.landed, landing.front)
    """)
    assert done.stdout.split() == [str(errno.EFBIG), "4096", "4096"], done.stderr


# --- waiting ---------------------------------------------------------------------------------


def test_a_wait_that_is_over_returns_the_front():
    landing = Landing(2 * PAGE, PAGE)
    landing.into_memory(bytearray(2 * PAGE))
    landing.land(0, b"x" * PAGE)
    assert landing.wait(1) == PAGE
    assert landing.wait(PAGE) == PAGE
    assert landing.wait(PAGE + 1, 0) == PAGE
    assert landing.wait(PAGE + 1, 0.01) == PAGE
    landing.close()
    assert landing.wait(2 * PAGE) == PAGE
    assert landing.closed
    landing.release()


@pytest.mark.parametrize("end", ["land", "close"])
def test_a_waiter_is_woken(end):
    landing = Landing(PAGE, PAGE)
    landing.into_memory(bytearray(PAGE))
    fronts = []
    waiters = [threading.Thread(target=lambda: fronts.append(landing.wait(PAGE))) for _ in range(4)]
    for waiter in waiters:
        waiter.start()
    if end == "land":
        landing.land(0, b"x" * PAGE)
    else:
        landing.close()
    for waiter in waiters:
        waiter.join(30)
        assert not waiter.is_alive()
    assert fronts == [PAGE if end == "land" else 0] * 4
    landing.release()


def test_a_front_that_moves_often_does_not_use_up_the_timeout():
    """Each wake-up costs what it took, not a whole step of the clock."""
    blocks = 400
    landing = Landing(blocks * PAGE, PAGE)
    landing.into_memory(bytearray(blocks * PAGE))
    started, pause = threading.Event(), threading.Event()

    def write():
        started.wait(30)
        for block in range(blocks):
            landing.land(block * PAGE, b"x" * PAGE)
            pause.wait(0.001)

    writer = threading.Thread(target=write)
    writer.start()
    started.set()
    front = landing.wait(blocks * PAGE, 20.0)
    writer.join()
    landing.release()
    assert front == blocks * PAGE


def test_ctrl_c_interrupts_a_wait():
    done = alone("""
        import os, signal, threading
        landing = Landing(10)
        landing.into_memory(bytearray(10))
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
        try:
            landing.wait(10)
        except KeyboardInterrupt:
            print("interrupted")
    """)
    assert done.stdout == "interrupted\n", done.stderr


# --- a ring ------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data(), blocks=st.integers(1, 3), size=st.none() | st.integers(0, 6 * PAGE + 9))
def test_a_ring_holds_what_it_may_not_forget(data, blocks, size):
    """Bytes land below the credit only, stay until credit > offset + length, and what
    lies beside the ring is never touched."""
    capacity = blocks * PAGE
    whole = content(6 * PAGE + 9 if size is None else size)
    memory = bytearray(b"-" * (capacity + 2 * PAGE))
    ring = memoryview(memory)[PAGE : PAGE + capacity]
    landing = Landing(-1 if size is None else size, PAGE)
    first = data.draw(st.integers(1, capacity), label="first credit")
    landing.into_ring(ring, first)
    assert landing.credit == first
    at, done = 0, 0  # the reader's, the writer's
    while at < len(whole):
        credit = data.draw(st.integers(1, at + capacity), label="credit")
        before = landing.credit
        assert not landing.allow(credit, done), "no reactor has waited"
        assert landing.credit == max(before, credit), "credit never shrinks"
        stop = min(done + data.draw(st.integers(1, PAGE), label="piece"), done - done % PAGE + PAGE, len(whole))
        if stop > landing.credit:
            with pytest.raises(OSError, match="No space"):
                landing.land(done, whole[done:stop])
            stop = min(landing.credit, stop)
        if stop > done:
            landing.land(done, whole[done:stop])
            done = stop
        assert landing.front == landing.landed == done
        kept = max(0, landing.credit - capacity)
        assert all(ring[o % capacity] == whole[o] for o in range(kept, done))
        if done == landing.credit or done == len(whole):
            at = done
        else:
            at += data.draw(st.integers(0, done - at), label="read")
    landing.release()
    ring.release()
    assert memory[:PAGE] == memory[-PAGE:] == b"-" * PAGE


def test_rings_that_make_no_sense():
    for length, credit in [(0, 1), (PAGE - 1, 1), (PAGE + 1, 1), (PAGE, 0), (PAGE, PAGE + 1), (PAGE, -1)]:
        with pytest.raises(ValueError, match=r"multiple of the block|does not fit"):
            Landing(10, PAGE).into_ring(bytearray(length), credit)


def test_what_is_landed_over_the_end_of_a_ring():
    memory = bytearray(3 * PAGE)
    landing = Landing(4 * PAGE, PAGE)
    with memoryview(memory)[PAGE : 2 * PAGE] as ring:
        landing.into_ring(ring, PAGE)
        landing.allow(2 * PAGE)
        try:
            landing.land(PAGE - 8, b"x" * 16)
        except ValueError:
            pass
        landing.release()
    assert not any(memory[2 * PAGE :]), "beyond the ring"


# --- mappings -------------------------------------------------------------------------------------


def test_a_mapping_is_a_writable_buffer_of_zeros():
    before = live_mappings()
    mapping = Mapping(10_000)
    view = memoryview(mapping)
    assert (len(mapping), view.nbytes, view.readonly, view.format) == (10_000, 10_000, False, "B")
    assert bytes(view) == bytes(10_000)
    view[9_999] = 5
    assert memoryview(mapping)[9_999] == 5
    assert live_mappings() == before + 1
    view.release()
    mapping.close()
    assert live_mappings() == before


def test_a_mapping_is_not_closed_under_a_view():
    mapping = Mapping(10)
    with memoryview(mapping), pytest.raises(BufferError, match="still in use"):
        mapping.close()
    mapping.close()
    mapping.close()
    assert len(mapping) == 0
    with pytest.raises(BufferError, match="closed"):
        memoryview(mapping)
    with pytest.raises(ValueError, match="settle"):
        mapping.settle(0)


def test_a_mapping_dies_with_its_last_view():
    before = live_mappings()
    view = memoryview(Mapping(10))
    assert live_mappings() == before + 1
    view[3] = 1
    view.release()
    assert live_mappings() == before


@pytest.mark.parametrize("size", [0, 1, PAGE, PAGE + 1, 3 * MIB])
def test_settle_keeps_the_first_bytes(size):
    mapping = Mapping(3 * MIB, reserve=True)
    with memoryview(mapping) as view:
        view[:size] = b"x" * size
    mapping.settle(size)
    with memoryview(mapping) as view:
        assert bytes(view) == b"x" * size
    for wrong in (size + 1, -1):
        with pytest.raises(ValueError, match="settle"):
            mapping.settle(wrong)
    mapping.close()


def test_a_view_that_is_longer_than_what_settled_does_not_crash():
    done = alone("""
        mapping = Mapping(1 << 20)
        view = memoryview(mapping)
        try:
            mapping.settle(10)
        except BufferError:
            raise SystemExit(0)
        view[-1]
    """)
    assert done.returncode == 0, f"status {done.returncode}"


def test_sizes_of_mappings():
    with pytest.raises(ValueError, match="negative"):
        Mapping(-1)
    with pytest.raises(MemoryError):
        Mapping(1 << 62)
    empty = Mapping(0)
    assert bytes(memoryview(empty)) == b""
    empty.settle(0)
    empty.close()


def smaps(mapping):
    """The VmFlags of each area of a mapping."""
    import ctypes

    with memoryview(mapping) as view:
        start = ctypes.addressof(ctypes.c_char.from_buffer(view))
        stop = start + view.nbytes
    out, wanted = [], False
    with open("/proc/self/smaps", encoding="ascii") as file:
        for line in file:
            head = line.split(maxsplit=1)[0]
            if not head.endswith(":"):
                low, _, high = head.partition("-")
                wanted = int(low, 16) < stop and int(high, 16) > start
            elif head == "VmFlags:" and wanted:
                out.append(line.split()[1:])
    return out


needs_smaps = pytest.mark.skipif(not os.path.exists("/proc/self/smaps"), reason="Linux tells through /proc/self/smaps")


@needs_smaps
@pytest.mark.parametrize(("size", "huge"), [(MIB, False), (4 * MIB - 1, False), (4 * MIB, True), (9 * MIB + 5, True)])
def test_huge_pages_are_asked_for_from_4_mib(size, huge):
    if not os.path.isdir("/sys/kernel/mm/transparent_hugepage"):
        pytest.skip("this kernel has no transparent huge pages")
    mapping = Mapping(size)
    assert any("hg" in flags for flags in smaps(mapping)) == huge
    mapping.close()


@needs_smaps
def test_forks_inherit_it_only_once_it_is_settled():
    mapping = Mapping(64 * PAGE)
    assert all("dc" in flags for flags in smaps(mapping))
    mapping.settle(32 * PAGE)
    assert not any("dc" in flags for flags in smaps(mapping))
    mapping.close()


@needs_smaps
def test_settle_gives_address_space_back():
    def mapped():
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[0]) * resource.getpagesize()

    mapping = Mapping(1 << 34, reserve=True)
    before = mapped()
    mapping.settle(10)
    assert before - mapped() > (1 << 34) - 64 * MIB
    mapping.close()


# --- exporters, and what the disk says ------------------------------------------------------------


def test_an_exporter_gives_anothers_buffer():
    exporter = Exporter()
    exporter.source = bytearray(b"abc")
    view = memoryview(exporter)
    view[0] = ord("x")
    assert bytes(exporter) == b"xbc"
    with pytest.raises(BufferError):
        exporter.source.append(1)
    view.release()
    exporter.source = b"read-only"
    assert memoryview(exporter).readonly


def test_an_exporter_attaches_when_it_is_first_asked():
    class Late(Exporter):
        times = 0

        def attach(self):
            self.times += 1
            return b"late"

    late = Late()
    assert late.source is None
    assert bytes(late) == bytes(late) == b"late"
    assert late.times == 1
    with pytest.raises(BufferError, match="closed"):
        memoryview(Exporter())


def test_what_cannot_be_exported():
    exporter = Exporter()
    exporter.source = 5
    with pytest.raises((TypeError, BufferError)):
        memoryview(exporter)


def test_facts_of_the_disk(tmp_path):
    with open(tmp_path / "file", "wb") as file:
        assert file_system(file.fileno()) != 0 or sys.platform != "linux"
        align = direct_align(file.fileno())
        assert align >= 0
        assert align & (align - 1) == 0
        if reserve(file.fileno(), 3 * PAGE):
            assert os.fstat(file.fileno()).st_blocks * 512 >= 3 * PAGE
    assert file_system(-1) == 0
    with pytest.raises(OSError, match="Bad file descriptor"):
        reserve(-1, 10)
