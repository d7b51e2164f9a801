"""Memory: how much there is, and the destinations that live in it.

First floor.
"""

from __future__ import annotations

import errno
import os
import stat

from ._landing import Landing, file_system
from ._mapping import Mapping
from .errors import BufferTooSmall, MemoryBudget, NoSpace, SinkError
from .sink import Sink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["BufferSink", "DescriptorSink", "MemorySink", "available_memory", "buffer_of"]

KEEP_FREE = 64 << 20  # for everything else in the process and the container
UNBOUNDED = 1 << 36  # what a target of unknown size may take where nobody says how much there is
IN_MEMORY = frozenset({0x01021994, 0x858458F6, 0x958458F6})  # tmpfs (a memfd too), ramfs, hugetlbfs
READ = 4 << 20


def available_memory(*, proc: str = "/proc", cgroup: str = "/sys/fs/cgroup") -> int | None:
    """Bytes that can be used: the least of MemAvailable and what the control
    groups (v1 or v2) above this process leave. None where the system won't say."""
    rooms = []
    try:
        with open(f"{proc}/meminfo", encoding="ascii") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    rooms.append(int(line.split()[1]) << 10)
        with open(f"{proc}/self/cgroup", encoding="utf-8") as file:
            entries = [line.rstrip("\n").split(":", 2) for line in file if line.count(":") >= 2]
    except (OSError, ValueError):
        return min(rooms, default=None)
    for _, controllers, path in entries:
        if controllers == "":
            rooms += _rooms(cgroup, path, "memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            rooms += _rooms(
                f"{cgroup}/memory", path, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
            )
    return min(rooms, default=None)


def _rooms(root: str, path: str, limit: str, usage: str, cache: str) -> list[int]:
    """What each group from `path` up to the root leaves. Page cache that is not in
    use counts as room: the kernel gives it up first. Inside a container the path
    may not exist under the mounted root, which then is the container's own group."""
    rooms = []
    parts = path.strip("/").split("/") if path.strip("/") else []
    for depth in range(len(parts), -1, -1):
        folder = "/".join([root, *parts[:depth]])
        try:
            most = _read(f"{folder}/{limit}").strip()
            if most == "max" or int(most) >= 1 << 60:
                continue
            used = int(_read(f"{folder}/{usage}"))
            for line in _read(f"{folder}/memory.stat").splitlines():
                if line.startswith(cache + " "):
                    used -= int(line.split()[1])
            rooms.append(max(int(most) - used, 0))
        except (OSError, ValueError):
            continue
    return rooms


def _read(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.read()


class MemorySink(Sink):
    """Private anonymous memory of parpull's own, for `into=None`."""

    def __init__(self, max_memory: int | None) -> None:
        self._max = max_memory
        self.mapping: Mapping | None = None

    def budget(self) -> int | None:
        """Bytes that an object may take."""
        return _budget(self._max)

    def open(self, size: int | None, *, followed: bool, **_: object) -> Landing:
        """Memory for `size` bytes, or address space for a target of unknown size.
        MemoryBudget if that is more than there is."""
        budget = self.budget()
        if size is not None and budget is not None and size > budget:
            raise too_much(size, budget)
        if size is None and budget == 0:
            raise too_much(1, 0)
        room = UNBOUNDED if budget is None else budget
        self.mapping = Mapping(room, reserve=True) if size is None else Mapping(size)
        landing = Landing(-1 if size is None else size)
        landing.into_memory(self.mapping)
        return landing

    def overflow(self, landed: int) -> MemoryBudget:
        """The error when a target of unknown size outgrows the memory."""
        return too_much(landed + 1, len(self.mapping or b""))

    def read(self, start: int, stop: int) -> memoryview:
        """Bytes in place."""
        if self.mapping is None:
            raise BufferError("this memory was given back")
        return memoryview(self.mapping)[start:stop]

    def commit(self, size: int, **_: object) -> Any:
        """All is in place: the memory, `size` bytes long."""
        assert self.mapping is not None
        self.mapping.settle(size)
        return self.mapping

    def discard(self) -> None:
        """Give the memory back; a view that a reader still holds keeps it alive."""
        mapping, self.mapping = self.mapping, None
        if mapping is not None:
            try:
                mapping.close()
            except BufferError:
                pass

    def abandon(self) -> None:
        """In a forked child, which has not inherited the memory."""
        if self.mapping is not None:
            self.mapping.abandon()


def _budget(max_memory: int | None) -> int | None:
    """Bytes that an object in memory may take; None where nobody says."""
    room = available_memory()
    if room is not None:
        room = max(room - KEEP_FREE, 0)
    return min((n for n in (room, max_memory) if n is not None), default=None)


def too_much(needed: int, available: int) -> MemoryBudget:
    """A MemoryBudget error that says what to do."""
    return MemoryBudget(
        f"the object needs {needed:,} bytes of memory, {available:,} are available",
        needed=needed,
        available=available,
        hint="give a path (into=path) to land it in a file",
    )


class BufferSink(Sink):
    """Memory of the caller's: a writable buffer, or `allocate(size) -> buffer`."""

    def __init__(self, buffer: Any = None, allocate: Callable[[int], Any] | None = None) -> None:
        self._given = buffer
        self._allocate = allocate
        self._view: memoryview | None = None

    def check(self) -> None:
        """BufferError or TypeError before any request, if it can't be written."""
        if self._allocate is None:
            self._view = buffer_of(self._given)

    def open(self, size: int | None, *, followed: bool, **_: object) -> Landing:
        """Land in the buffer. BufferTooSmall when the target is longer."""
        if self._allocate is not None:
            if size is None:
                raise SinkError(
                    "the server does not say how long the object is, so nothing can be allocated",
                    hint="give a large enough buffer, or no destination at all",
                )
            self._given = self._allocate(size)
            self._view = buffer_of(self._given)
        assert self._view is not None
        room = self._view.nbytes
        if size is not None and size > room:
            raise BufferTooSmall(f"the buffer holds {room:,} bytes, the object has {size:,}", needed=size, given=room)
        landing = Landing(-1 if size is None else size)
        landing.into_memory(self._view)
        return landing

    def overflow(self, landed: int) -> BufferTooSmall:
        """The error when a target of unknown size outgrows the buffer."""
        given = 0 if self._view is None else self._view.nbytes
        return BufferTooSmall(f"the buffer holds {given:,} bytes, the object has more", needed=landed + 1, given=given)

    def read(self, start: int, stop: int) -> memoryview:
        """Bytes in place."""
        if self._view is None:
            raise BufferError("this memory was given back")
        return self._view[start:stop]

    def commit(self, size: int, **_: object) -> Any:
        """All is in place."""
        assert self._view is not None
        return self._view[:size]

    def discard(self) -> None:
        """The memory is the caller's."""
        self._view = None

    def abandon(self) -> None:
        """In a forked child: the memory is a copy of the caller's."""
        self._view = None


class DescriptorSink(Sink):
    """An open file of the caller's, by its descriptor: a memfd, or any regular file.
    What was in it is lost; its offset stays where it is, and it stays open.

    Where the file is memory (memfd, /dev/shm) the object has to fit, as with
    `into=None`; what lies on a disk is the disk's to bound. A target of unknown size
    is held to that by F_SEAL_GROW, if the memfd may be sealed: it then never grows
    again, also for the caller."""

    def __init__(self, fd: int, max_memory: int | None = None) -> None:
        self._fd = fd
        self._max = max_memory
        self._memory = False
        self._room: int | None = None
        self._begun = False
        self._scratch: bytearray | None = None

    def check(self) -> None:
        """SinkError before any request, if it can't take ranges."""
        try:
            about = os.fstat(self._fd)
        except OSError as error:
            raise self._refused(error) from None
        import fcntl

        flags = fcntl.fcntl(self._fd, fcntl.F_GETFL)
        if not stat.S_ISREG(about.st_mode):
            flaw = "is not a regular file"
        elif flags & os.O_ACCMODE != os.O_RDWR:
            flaw = "is not open for both reading and writing"
        elif flags & os.O_APPEND:
            flaw = "is open for appending, which ignores where a range belongs"
        else:
            return
        raise SinkError(
            f"descriptor {self._fd} {flaw}", path=None, errno=errno.EINVAL, hint="os.memfd_create(), or open(…, 'w+b')"
        )

    def open(self, size: int | None, *, followed: bool, **_: object) -> Landing:
        """Make it `size` bytes long. MemoryBudget if it is memory, and that is more
        than there is."""
        self._memory = file_system(self._fd) in IN_MEMORY
        budget = _budget(self._max) if self._memory else None
        if budget is not None and (size or 1) > budget:
            raise too_much(size or 1, budget)
        self._begun = True
        try:
            os.ftruncate(self._fd, 0)
            if size is not None:
                os.ftruncate(self._fd, size)
            elif self._memory:
                self._hold_to(UNBOUNDED if budget is None else budget)
        except OSError as error:
            raise self._refused(error) from error
        landing = Landing(-1 if size is None else size)
        landing.into_file(self._fd)
        return landing

    def _hold_to(self, room: int) -> None:
        """Let a memfd that may be sealed have no byte beyond `room`. Pages that nobody
        writes to cost nothing."""
        import fcntl

        try:
            sealed = fcntl.fcntl(self._fd, fcntl.F_GET_SEALS)
        except (OSError, AttributeError):  # a file in /dev/shm; no Linux
            return
        if sealed & fcntl.F_SEAL_SEAL:
            return
        os.ftruncate(self._fd, room)
        fcntl.fcntl(self._fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW)
        self._room = room

    def _refused(self, error: OSError) -> SinkError:
        code = error.errno or errno.EIO
        return SinkError(f"cannot write to descriptor {self._fd}: {os.strerror(code)}", path=None, errno=code)

    def overflow(self, landed: int) -> MemoryBudget | SinkError:
        """The error when a target of unknown size outgrows the memory, or the disk."""
        if self._memory:
            room = landed if self._room is None else self._room
            return too_much(room + 1, room)
        return NoSpace(f"no space left behind descriptor {self._fd}", path=None, errno=errno.ENOSPC)

    def read(self, start: int, stop: int) -> memoryview:
        """Bytes in place; the view is good until the next call."""
        if self._scratch is None:
            self._scratch = bytearray(READ)
        view = memoryview(self._scratch)[: min(stop - start, READ)]
        return view[: os.preadv(self._fd, [view], start)]

    def tap(self) -> int:
        """A descriptor of the caller's own, to read what is in place."""
        return os.dup(self._fd)

    def commit(self, size: int, **_: object) -> str:
        """All is in place: cut it to `size` bytes; return a path that leads there for
        as long as the descriptor is open."""
        try:
            os.ftruncate(self._fd, size)
        except OSError as error:
            raise self._refused(error) from error
        self._scratch = None
        path = f"/proc/self/fd/{self._fd}"
        return path if os.path.exists(path) else f"/dev/fd/{self._fd}"

    def discard(self) -> None:
        """Empty the file, if anything was begun; it is the caller's to close."""
        self._scratch = None
        if self._begun:
            try:
                os.ftruncate(self._fd, 0)
            except OSError:  # closed, or sealed, behind our back
                pass

    def abandon(self) -> None:
        """In a forked child: the parent goes on writing the file."""
        self._scratch = None
        self._begun = False


def buffer_of(target: Any) -> memoryview:
    """A writable view of bytes on the caller's memory, without a copy.

    Takes anything with the buffer protocol, `__array_interface__`, or a CPU torch
    tensor (of any dtype: bf16 and fp8 go through uint8). TypeError for anything
    else; BufferError when it is read-only or not C-contiguous."""
    if hasattr(target, "data_ptr") and hasattr(target, "untyped_storage"):
        return _tensor(target)
    try:
        view = memoryview(target)
    except TypeError:
        interface = getattr(target, "__array_interface__", None)
        if interface is None:
            raise TypeError(
                f"cannot land in a {type(target).__name__}: give a path, a writable buffer, an array or a tensor"
            ) from None
        return _interface(target, interface)
    except ValueError:  # numpy: a dtype that the buffer protocol can't name (datetime64, bf16)
        interface = getattr(target, "__array_interface__", None)
        if interface is None:
            raise
        return _interface(target, interface)
    if view.readonly:
        raise BufferError("the buffer is read-only")
    if not view.c_contiguous:
        raise BufferError("the buffer is not C-contiguous")
    if "O" in view.format:
        raise BufferError("the buffer holds Python objects, not bytes")
    return view if view.format == "B" and view.ndim == 1 else _flat(view)


def _flat(view: memoryview) -> memoryview:
    if view.nbytes == 0:
        return memoryview(bytearray())
    return view.cast("B")


def _interface(owner: Any, interface: dict[str, Any]) -> memoryview:
    typestr = str(interface["typestr"])
    if typestr[1:2] == "O" or any("O" in str(field[1]) for field in interface.get("descr") or ()):
        raise BufferError("the array holds Python objects, not bytes")
    if not isinstance(interface.get("data"), tuple):
        raise BufferError("the array does not tell its address")
    address, read_only = interface["data"]
    if read_only:
        raise BufferError("the array is read-only")
    if interface.get("strides") is not None:
        raise BufferError("the array is not C-contiguous")
    size = int(typestr[2:].partition("[")[0])  # "<M8[ns]"
    for length in interface["shape"]:
        size *= length
    return _at(address, size, owner)


def _tensor(tensor: Any) -> memoryview:
    if tensor.device.type != "cpu":
        raise BufferError(f"the tensor is on {tensor.device}: give a CPU tensor (pinned memory is fine)")
    if not tensor.is_contiguous():
        raise BufferError("the tensor is not contiguous")
    if tensor.requires_grad and not tensor.is_leaf:
        raise BufferError("the tensor is part of a graph: give it detached")
    return _at(tensor.data_ptr(), tensor.numel() * tensor.element_size(), tensor)


def _at(address: int, size: int, owner: Any) -> memoryview:
    """A view of raw memory that keeps its owner alive."""
    import ctypes

    if size == 0:
        return memoryview(bytearray())
    array = (ctypes.c_char * size).from_address(address)
    array._owner = owner  # type: ignore[attr-defined]
    return memoryview(array).cast("B")
