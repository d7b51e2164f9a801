"""Where an image ends up: what a pull asks of a folder, a layout, an archive or a containerd.

The life of a Destination, all of it on the pull's own thread but what says otherwise:

    begin(image)            may it be written? nothing is to be seen yet
    locate(blob)            of each layer: what of it is here, where it is fetched to or read from
    outlet(index)           of each layer that is unpacked, once its turn has come: where to
    commit(index, data)     of each layer, the lowest first, once both of its digests hold
    finish()                everything is proven: now it is to be seen
    abort(keep=…)           instead of finish(), once no transfer writes any more: nothing is to be
                            seen; a second call does nothing

A Destination is a context manager that aborts what was not finished. Its three flags are those
of the plan (plan.py), which it does not know. Errors are SinkErrors, and those of the image.
"""

from __future__ import annotations

import errno
import fcntl
import os
from abc import ABC, abstractmethod
from dataclasses import dataclass

from ..errors import InUse, SinkError
from ..files import lock_owner, sink_error
from ..journal import SUFFIX, Journal
from ..record import keep as keep_record
from ..record import read as read_record
from .quarantine import remove_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from .digest import Digest
    from .manifest import Config, Descriptor, Manifest
    from .reference import Reference

__all__ = [
    "Destination",
    "Image",
    "Located",
    "Outlet",
    "Staging",
    "file_holds",
    "located",
    "mark_proven",
    "sync_folder",
    "write",
]

PART = ".parpull-part"  # of what FileSink writes, the journal beside it
PIECE = 64 << 20  # bytes of one write


@dataclass(frozen=True, slots=True)
class Image:
    """What is pulled. manifest_body, config_body: as they were served, and proven. descriptor: of the
    manifest, as it was found. config: None of an artifact, which nobody can run."""

    reference: Reference
    descriptor: Descriptor
    manifest: Manifest
    manifest_body: bytes
    config_body: bytes
    config: Config | None = None


@dataclass(frozen=True, slots=True)
class Located:
    """A blob's place: `path`, and how many of its bytes are there. `complete`: all of them, and
    proven; then `path` is to be read, else it is for a FileSink, which goes on from what is there."""

    path: str
    landed: int
    complete: bool


@dataclass(frozen=True, slots=True)
class Outlet:
    """Where a layer is unpacked to: a folder for its files (empty, or in order that of the layers
    below), or a descriptor for its tar, which stays the destination's; never both."""

    folder: str | None = None
    tar: int | None = None


class Destination(ABC):
    """One place for one image. keep: layers end up there as they travelled, so that those in
    memory are written too. unpack: their files do; outlets may want the tar of one that has none.
    in_order: a layer may be unpacked only when those below are; otherwise all at once."""

    keep: bool = False
    unpack: bool = False
    in_order: bool = False

    @abstractmethod
    def begin(self, image: Image) -> None:
        """Raises unless the image can be written there. Before any layer is fetched."""

    @abstractmethod
    def locate(self, blob: Descriptor) -> Located:
        """What is here of this blob. It may take as long as reading it. A blob in memory needs
        no path; whether it goes there is the plan's."""

    def outlet(self, index: int) -> Outlet:
        """Where the manifest's layer of that number is unpacked; an empty one: nowhere. Called from
        any thread, once a layer."""
        return Outlet()

    @abstractmethod
    def commit(self, index: int, data: memoryview | None = None) -> None:
        """The layer is proven, and what its outlet was given is complete. data: its bytes as they
        travelled, if they are in memory; else they are where locate() said. The same blob may be
        several layers of one image."""

    @abstractmethod
    def finish(self) -> str:
        """Make it visible, by one step; where it is, for the user."""

    @abstractmethod
    def abort(self, *, keep: bool = False) -> None:
        """Leave nothing behind but, with keep, blobs from which the next pull can go on."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()


class Staging:
    """A hidden folder on a destination's file system, .NAME.parpull beside it: what is not proven
    yet. Locked by who uses it, for as long as they do; what a killed pull has left of unpacked
    things is removed by the next, and its blobs are gone on with."""

    def __init__(self, target: str | os.PathLike[str]) -> None:
        self.target = os.path.abspath(os.fsdecode(target))
        parent, name = os.path.split(self.target)
        self.folder = os.path.join(parent, f".{name}.parpull")
        self.blobs = os.path.join(self.folder, "blobs")
        self.work = os.path.join(self.folder, "work")
        self._lock = -1
        self._places: dict[Digest, Located] = {}

    def open(self) -> None:
        """Make and lock it, and empty `work`. Raises InUse, SinkError."""
        parent = os.path.dirname(self.folder)
        if not os.path.isdir(parent):
            raise SinkError(
                f"cannot write {self.target}: there is no folder {parent}",
                path=self.target, errno=errno.ENOENT, hint="make it first",
            )  # fmt: skip
        try:
            self._lock = self._locked()
            remove_tree(self.work)
            os.mkdir(self.work, 0o700)
            os.makedirs(self.blobs, 0o700, exist_ok=True)
        except OSError as error:
            self.close(keep=True)
            if isinstance(error, SinkError):
                raise
            raise sink_error(error.errno or errno.EIO, self.target) from error

    def _locked(self) -> int:
        """Never through a link, nor a folder of somebody else's. Who held the lock may have removed
        the folder meanwhile: then it is another, and we begin again."""
        while True:
            try:
                os.mkdir(self.folder, 0o700)
            except FileExistsError:
                pass
            try:
                fd = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
            except FileNotFoundError:
                continue
            try:
                if os.fstat(fd).st_uid != os.geteuid():
                    raise sink_error(errno.EACCES, self.folder)
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(fd), os.stat(self.folder, follow_symlinks=False)):
                    return fd
            except FileNotFoundError:
                pass
            except BlockingIOError:
                owner = lock_owner(os.fstat(fd))
                os.close(fd)
                raise InUse(
                    f"another pull writes {self.target}" + (f" ({owner})" if owner else ""),
                    path=self.target, errno=errno.EBUSY, owner=owner, hint="wait for it, or choose another name",
                ) from None  # fmt: skip
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)

    def locate(self, blob: Descriptor) -> Located:
        """The blob's place here, and what an earlier pull has left of it: looked for once."""
        if blob.digest not in self._places:
            path = os.path.join(self.blobs, f"{blob.digest.algorithm}-{blob.digest.hex}")
            self._places[blob.digest] = located(path, blob)
        return self._places[blob.digest]

    def close(self, *, keep: bool = False) -> None:
        """Remove all of it; with keep, all but the blobs, if there are any."""
        if self._lock < 0:
            return
        remove_tree(self.work)
        if not keep or not os.path.isdir(self.blobs) or not os.listdir(self.blobs):
            remove_tree(self.folder)
        os.close(self._lock)
        self._lock = -1


def located(path: str, blob: Descriptor) -> Located:
    """What is of the blob at a path of its own that nobody else writes now. A file that is not
    the blob is removed: it has the name only because it was complete once, not proven."""
    if os.path.lexists(path):
        if file_holds(path, blob.digest, blob.size):
            return Located(path, blob.size, complete=True)
        os.unlink(path)
    return Located(path, _claimed(path, blob.size), complete=False)


def _claimed(path: str, size: int) -> int:
    """Bytes that an earlier transfer says it has left. The next one looks whether it is true,
    and whether it was from the same address."""
    journal = Journal.read(path + SUFFIX)
    if journal is None or not os.path.exists(path + PART):
        return 0
    try:
        return min(sum(journal.claims()) * journal.block, size)
    finally:
        journal.close()


def file_holds(path: str, digest: Digest, size: int) -> bool:
    """Whether the file is this blob: by its record (record.py), if it has one that still holds,
    else by reading it: a name and a size say nothing after a power cut."""
    import hashlib

    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    with open(fd, "rb", buffering=0) as file:
        if os.fstat(fd).st_size != size:
            return False
        found = read_record(path)
        if found is not None and found.digests.get(digest.algorithm) == digest.hex:
            return True
        try:
            return hashlib.file_digest(file, digest.algorithm).hexdigest() == digest.hex
        except OSError:
            return False


def mark_proven(fd: int, digest: Digest) -> None:
    """Note in the open, finished file that it is this blob, so that the next pull needn't read it."""
    keep_record(fd, f"oci:{digest}", validator=None, digests={digest.algorithm: digest.hex})


def write(fd: int, data: memoryview | bytes) -> None:
    """All of it, from where the descriptor is."""
    with memoryview(data) as view, view.cast("B") as rest:
        done = 0
        while done < len(rest):
            with rest[done : done + PIECE] as piece:
                done += os.write(fd, piece)


def sync_folder(path: str) -> None:
    """Have the folder's names on the disk."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
