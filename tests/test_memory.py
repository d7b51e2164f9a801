"""Memory: how much there is (on fake /proc and cgroup trees), and which objects can be
landed in without a copy."""

from __future__ import annotations

import array
import ctypes
import gc
import mmap
import weakref
from multiprocessing import resource_tracker, shared_memory
from types import SimpleNamespace

import numpy as np
import pytest

from parpull.errors import BufferTooSmall, MemoryBudget, SinkError
from parpull.memory import KEEP_FREE, BufferSink, MemorySink, available_memory, buffer_of

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
V1, V2 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"), (
    "memory.max",
    "memory.current",
    "inactive_file",
)  # fmt: skip


class Machine:
    """A machine's /proc and /sys/fs/cgroup."""

    def __init__(self, root):
        self.proc, self.cgroup = root / "proc", root / "cgroup"
        (self.proc / "self").mkdir(parents=True)
        self.cgroup.mkdir()

    def meminfo(self, available):
        text = "MemTotal: 99 kB\n" + (f"MemAvailable:   {available >> 10} kB\n" if available is not None else "")
        (self.proc / "meminfo").write_text(text + "SwapFree: 5 kB\n")

    def member(self, *lines):
        (self.proc / "self" / "cgroup").write_text("".join(line + "\n" for line in lines))

    def group(self, path, limit, used, cache=0, names=V2):
        folder = self.cgroup / path.strip("/")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / names[0]).write_text(f"{limit}\n")
        (folder / names[1]).write_text(f"{used}\n")
        other = "active_file 7\n" if names is V2 else "inactive_file 1\nactive_file 7\n"
        (folder / "memory.stat").write_text(f"anon 5\n{other}{names[2]} {cache}\n")

    def available(self):
        return available_memory(proc=str(self.proc), cgroup=str(self.cgroup))


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def test_without_groups_it_is_what_the_kernel_says(machine):
    machine.meminfo(8 * GIB)
    machine.member("0::/")
    assert machine.available() == 8 * GIB


def test_a_machine_that_says_nothing(machine):
    assert machine.available() is None
    machine.meminfo(None)
    machine.member("0::/")
    assert machine.available() is None


def test_no_cgroup_file(machine):
    machine.meminfo(GIB)
    assert machine.available() == GIB


def test_the_least_of_nested_groups(machine):
    machine.meminfo(8 * GIB)
    machine.member("0::/a/b/c")
    machine.group("a", 4 * GIB, GIB)
    machine.group("a/b", 2 * GIB, GIB)
    machine.group("a/b/c", "max", GIB)
    assert machine.available() == GIB
    machine.group("a", 2 * GIB, 2 * GIB - MIB)
    assert machine.available() == MIB


def test_page_cache_that_nobody_uses_is_room(machine):
    machine.meminfo(8 * GIB)
    machine.member("0::/a")
    machine.group("a", GIB, GIB, cache=300 * MIB)
    assert machine.available() == 300 * MIB


def test_a_group_over_its_limit_leaves_nothing(machine):
    machine.meminfo(8 * GIB)
    machine.member("0::/a")
    machine.group("a", GIB, 2 * GIB)
    assert machine.available() == 0


def test_in_a_container_the_root_is_its_own_group(machine):
    machine.meminfo(8 * GIB)
    machine.member("0::/system.slice/docker-abc.scope")  # not there under the mounted root
    machine.group("", GIB, MIB)
    assert machine.available() == GIB - MIB


@pytest.mark.parametrize("line", ["5:memory:/x/y", "5:cpu,memory:/x/y"])
def test_version_1(machine, line):
    machine.meminfo(8 * GIB)
    machine.member("12:cpuset:/", line, "1:name=systemd:/x")
    machine.group("memory", 9223372036854771712, GIB, names=V1)  # no limit
    machine.group("memory/x", 2 * GIB, GIB, cache=MIB, names=V1)
    machine.group("memory/x/y", 3 * GIB, GIB, names=V1)
    assert machine.available() == GIB + MIB


def test_hybrid(machine):
    machine.meminfo(8 * GIB)
    machine.member("5:memory:/x", "0::/z")
    machine.group("memory/x", 2 * GIB, GIB, names=V1)
    machine.group("z", GIB, 5 * MIB)
    assert machine.available() == GIB - 5 * MIB


@pytest.mark.parametrize(
    "text", ["", "garbage\n", "0:\n", "\n", "0::/a:b\n", "0::/../..\n", "x:y:z:w\n", "0::/a (gone)\n"]
)
def test_a_cgroup_file_that_is_odd(machine, text):
    machine.meminfo(GIB)
    (machine.proc / "self" / "cgroup").write_text(text)
    assert machine.available() == GIB


def test_group_files_that_are_odd(machine):
    machine.meminfo(GIB)
    machine.member("0::/a/b")
    machine.group("a", "lots", 5)
    machine.group("a/b", MIB, "?")
    assert machine.available() == GIB
    machine.group("a/b", MIB, KIB)
    (machine.cgroup / "a/b/memory.stat").unlink()
    assert machine.available() in (GIB, MIB - KIB)


def test_a_meminfo_that_is_odd(machine):
    (machine.proc / "meminfo").write_text("MemAvailable: lots kB\n")
    machine.member("0::/")
    assert machine.available() is None


def test_this_machine():
    assert available_memory() is None or available_memory() > MIB


# --- buffer_of ---------------------------------------------------------------------------


def lands(target, size):
    """Whether bytes written to the view arrive in the target."""
    view = buffer_of(target)
    assert (view.nbytes, view.ndim, view.format, view.readonly) == (size, 1, "B", False)
    pattern = bytes(n % 251 + 1 for n in range(size))
    view[:] = pattern
    view.release()
    return pattern


FORMATS = ["c", "b", "B", "h", "H", "i", "I", "l", "L", "q", "Q", "f", "d", "?", "n", "N"]


@pytest.mark.parametrize("code", FORMATS)
def test_memoryviews_of_each_format(code):
    memory = bytearray(64)
    pattern = lands(memoryview(memory).cast(code), 64)
    assert bytes(memory) == pattern


@pytest.mark.parametrize("code", "bBhHiIlLqQfd")
def test_arrays(code):
    target = array.array(code, [0] * 16)
    assert lands(target, 16 * target.itemsize) == target.tobytes()


def test_bytearray_and_parts_of_it():
    memory = bytearray(10)
    assert lands(memory, 10) == memory
    lands(memoryview(memory)[2:5], 3)
    assert memory[:5] == bytes([1, 2, 1, 2, 3])


def test_many_dimensions():
    memory = bytearray(24)
    assert lands(memoryview(memory).cast("i", (2, 3)), 24) == memory


DTYPES = [
    "u1", "i2", "f2", "f4", "f8", "c8", "c16", "?", ">f4", ">i8", "S5", "U3", "M8[ns]", "m8[s]", "V3",
    [("a", "i4"), ("b", "f8")], np.dtype([("a", "u1"), ("b", ">u2")], align=True), ("f4", (2, 2)),
]  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_numpy_arrays_of_any_dtype(dtype):
    target = np.zeros(4, dtype)
    assert lands(target, target.nbytes) == target.tobytes()


def test_numpy_shapes():
    target = np.zeros((2, 3, 4), "f4")
    assert lands(target, 96) == target.tobytes()
    lands(target[1], 48)
    lands(np.zeros((), "f8"), 8)
    lands(np.asfortranarray(np.zeros((1, 5))), 40)  # both orders at once


@pytest.mark.parametrize(
    "target",
    [
        np.zeros((3, 4), order="F"),
        np.zeros((3, 4)).T,
        np.zeros(10)[::2],
        np.zeros((4, 4))[:, :2],
        np.zeros(4, "M8[ns]")[::2],
        np.frombuffer(b"abcd", "u1"),
        np.broadcast_to(np.zeros(3), (2, 3)),
        b"bytes",
        memoryview(b"bytes"),
        memoryview(bytearray(9))[::2],
        mmap.mmap(-1, 10, access=mmap.ACCESS_READ),
    ],
    ids=repr,
)
def test_what_is_read_only_or_scattered(target):
    with pytest.raises(BufferError):
        buffer_of(target)


def test_python_objects_are_no_bytes():
    for target in (np.array([object(), None]), np.zeros(2, [("a", "O")])):
        with pytest.raises((BufferError, TypeError)):
            buffer_of(target)


@pytest.mark.parametrize("target", [5, None, "text", "path", [1], {}, object(), int], ids=repr)
def test_what_is_no_buffer(target):
    with pytest.raises(TypeError, match="cannot land in a"):
        buffer_of(target)


def test_what_is_closed():
    view = memoryview(bytearray(5))
    view.release()
    mapped = mmap.mmap(-1, 10)
    mapped.close()
    for target in (view, mapped):
        with pytest.raises((ValueError, BufferError)):
            buffer_of(target)


class Point(ctypes.Structure):
    _fields_ = (("x", ctypes.c_int), ("y", ctypes.c_double))


@pytest.mark.parametrize(
    "target",
    [
        (ctypes.c_char * 12)(),
        (ctypes.c_ubyte * 12)(),
        (ctypes.c_int * 3)(),
        (ctypes.c_float * 3)(),
        (Point * 2)(),
        Point(),
    ],
)
def test_ctypes(target):
    assert lands(target, ctypes.sizeof(target)) == bytes(target)


@pytest.fixture(scope="module")
def tracker():
    """Shared memory starts a process that stays; it is not the test's."""
    resource_tracker.ensure_running()


@pytest.mark.usefixtures("tracker")
def test_shared_memory():
    shared = shared_memory.SharedMemory(create=True, size=4096)
    try:
        pattern = lands(shared.buf[:100], 100)
        assert bytes(shared.buf[:100]) == pattern
    finally:
        shared.close()
        shared.unlink()


def test_mmap():
    with mmap.mmap(-1, 4096) as target:
        assert lands(target, 4096) == target[:]


@pytest.mark.parametrize(
    "target",
    [bytearray(), np.zeros(0), np.zeros((0, 3)), np.zeros((3, 0), order="F"), array.array("d"), (ctypes.c_char * 0)()],
    ids=repr,
)
def test_nothing_at_all(target):
    assert buffer_of(target).nbytes == 0


class Array:
    """Anything that only has `__array_interface__`, as bf16 arrays do."""

    def __init__(self, memory, **more):
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory)) if memory else 0
        self.memory = memory
        self.__array_interface__ = {"shape": (2, 3), "typestr": "|V2", "data": (address, False), "version": 3, **more}


def test_the_array_interface():
    memory = bytearray(12)
    assert lands(Array(memory), 12) == memory
    assert lands(Array(memory, typestr="<f2", strides=None), 12) == memory
    assert lands(Array(memory, shape=()), 2) == memory[:2]
    assert buffer_of(Array(memory, shape=(0, 5))).nbytes == 0


def test_the_array_interface_keeps_its_owner():
    owner = Array(bytearray(12))
    alive = weakref.ref(owner)
    view = buffer_of(owner)
    del owner
    assert alive() is not None
    view[:] = bytes(12)
    view.release()
    del view
    gc.collect()
    assert alive() is None


def test_the_array_interface_of_the_wrong_kind():
    memory = bytearray(12)
    with pytest.raises(BufferError, match="read-only"):
        buffer_of(Array(memory, data=(1, True)))
    with pytest.raises(BufferError, match="contiguous"):
        buffer_of(Array(memory, strides=(2, 4)))
    with pytest.raises((BufferError, TypeError)):
        buffer_of(Array(memory, typestr="|O8"))


class Tensor:
    """What buffer_of asks of a torch tensor."""

    requires_grad = False
    is_leaf = True

    def __init__(self, memory, device="cpu", contiguous=True):
        self.memory, self.device, self.contiguous = memory, SimpleNamespace(type=device), contiguous

    def untyped_storage(self):
        raise AssertionError("not needed")

    def is_contiguous(self):
        return self.contiguous

    def numel(self):
        return len(self.memory) // 2

    def element_size(self):
        return 2

    def data_ptr(self):
        return ctypes.addressof(ctypes.c_char.from_buffer(self.memory)) if self.memory else 0


def test_tensors():
    memory = bytearray(12)
    assert lands(Tensor(memory), 12) == memory
    assert buffer_of(Tensor(bytearray())).nbytes == 0
    leaf = Tensor(memory)
    leaf.requires_grad = True
    assert buffer_of(leaf).nbytes == 12


def test_tensors_of_the_wrong_kind():
    graph = Tensor(bytearray(4))
    graph.requires_grad, graph.is_leaf = True, False
    for tensor, words in [
        (Tensor(bytearray(4), device="cuda"), "CPU tensor"),
        (Tensor(bytearray(4), contiguous=False), "not contiguous"),
        (graph, "detached"),
    ]:
        with pytest.raises(BufferError, match=words):
            buffer_of(tensor)


# --- sinks -----------------------------------------------------------------------------------


def test_memory_of_our_own():
    sink = MemorySink(None)
    sink.check()
    landing = sink.open(10, followed=False)
    landing.land(0, b"0123456789")
    assert bytes(sink.read(2, 5)) == b"234"
    landing.release()
    mapping = sink.commit(10)
    assert bytes(mapping) == b"0123456789"
    mapping.close()


def test_an_object_of_unknown_size_in_memory():
    sink = MemorySink(MIB)
    landing = sink.open(None, followed=False)
    assert (landing.size, len(sink.mapping)) == (-1, MIB)
    landing.land(0, b"abc")
    error = sink.overflow(MIB)
    assert isinstance(error, MemoryBudget)
    assert (error.needed, error.available) == (MIB + 1, MIB)
    landing.release()
    mapping = sink.commit(3)
    assert bytes(mapping) == b"abc"
    mapping.close()


def test_no_memory_is_no_memory():
    """max_memory=0, or a machine that is full, is no leave to take everything."""
    sink = MemorySink(0)
    try:
        landing = sink.open(None, followed=False)
    except MemoryBudget:
        return
    size = len(sink.mapping)
    landing.release()
    sink.discard()
    assert size == 0


def test_the_budget_is_kept():
    with pytest.raises(MemoryBudget) as caught:
        MemorySink(MIB).open(MIB + 1, followed=False)
    assert (caught.value.needed, caught.value.available) == (MIB + 1, MIB)
    assert "into=path" in caught.value.hint


def test_the_machine_keeps_some(monkeypatch):
    monkeypatch.setattr("parpull.memory.available_memory", lambda: KEEP_FREE + 5)
    assert MemorySink(None).budget() == 5
    assert MemorySink(3).budget() == 3
    monkeypatch.setattr("parpull.memory.available_memory", lambda: KEEP_FREE - 5)
    assert MemorySink(None).budget() == 0
    monkeypatch.setattr("parpull.memory.available_memory", lambda: None)
    assert MemorySink(None).budget() is None
    assert MemorySink(3).budget() == 3


def test_a_discarded_mapping_lives_as_long_as_a_reader_holds_it():
    sink = MemorySink(None)
    sink.open(10, followed=False).release()
    view = sink.read(0, 10)
    sink.discard()
    assert bytes(view) == bytes(10)
    view.release()


def test_a_buffer_of_the_callers():
    memory = bytearray(b"-" * 10)
    sink = BufferSink(memory)
    sink.check()
    with pytest.raises(BufferTooSmall) as caught:
        sink.open(11, followed=False)
    assert (caught.value.needed, caught.value.given) == (11, 10)
    landing = sink.open(4, followed=False)
    landing.land(0, b"abcd")
    assert bytes(sink.read(1, 3)) == b"bc"
    assert bytes(sink.commit(4)) == b"abcd"
    landing.release()
    assert memory == b"abcd------"


def test_a_buffer_that_is_allocated():
    sizes = []

    def allocate(size):
        sizes.append(size)
        return bytearray(size)

    sink = BufferSink(allocate=allocate)
    sink.check()
    assert sizes == []
    sink.open(7, followed=False).release()
    assert sizes == [7]
    with pytest.raises(SinkError, match="how long"):
        BufferSink(allocate=allocate).open(None, followed=False)
    with pytest.raises(BufferTooSmall):
        BufferSink(allocate=lambda size: bytearray(size - 1)).open(7, followed=False)
    with pytest.raises(TypeError):
        BufferSink(allocate=lambda size: size).open(7, followed=False)
