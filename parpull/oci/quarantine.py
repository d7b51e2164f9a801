"""Where a layer's bytes become files before they are proven: a private folder beside the
place where they are to be, and a confined process that writes there and nowhere else.

    with Quarantine(beside) as quarantine:
        with quarantine.unpack(style="plain") as unpacking:
            unpacking.write(data)          # as often as there are bytes; any one thread
            done = unpacking.result()
        ...                                # both digests hold
        quarantine.release(path)           # a rename; without it all of it is removed

The folder is its owner's alone (0700): a setuid program in it can't be run by others
before it is proven. Layers over each other are unpacked into one plain quarantine, in
order; overlays each into their own, as many at once as there are cores. Knows nothing of
registries and digests.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass

from ..errors import BadOption, NoSpace, SinkError, TargetExists
from .errors import ImageError, UnsafeLayer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Literal, Self, TypedDict, Unpack

    from _typeshed import ReadableBuffer

    Style = Literal["overlay", "plain"]
    Owners = Literal["keep", "ignore", "record"]
    Devices = Literal["make", "skip", "refuse"]

    class How(TypedDict, total=False):
        """The options of unpack()."""

        style: Style
        owners: Owners | None
        devices: Devices | None
        limits: Limits | None


__all__ = ["Limits", "Quarantine", "Unpacked", "Unpacking", "limits_for", "remove_tree", "shown", "unpack"]

PIPE = 1 << 20  # bytes under way to the process, where the system allows
ENTRIES = 1_000_000
RATIO = 200  # bytes of a tar per byte that travels; real layers have 2 to 20
FLOOR = 1 << 30  # bytes that any layer may unpack to


@dataclass(frozen=True, slots=True)
class Limits:
    """The most a layer may be: members (headers count too), and bytes of its tar."""

    entries: int = ENTRIES
    bytes: int = 1 << 40

    def __post_init__(self) -> None:
        if not (0 < self.entries < 1 << 62 and 0 < self.bytes < 1 << 62):
            raise BadOption("a layer's limits are more than nothing", name="limits", value=self)


def limits_for(size: int) -> Limits:
    """Limits of a layer that travels as `size` bytes: 200 times that, and 1 GiB in any case."""
    return Limits(bytes=max(FLOOR, size * RATIO))


@dataclass(frozen=True, slots=True)
class Unpacked:
    """What a layer was. entries: members with their headers. files: what was made of them.
    bytes: of content. read: of the tar. implied: folders that no member describes (their owner
    and mode are the layer's below, if it has them). skipped: devices and attributes that
    couldn't be made here; warnings: the first of them, (why, name). confined: the steps that
    the process took before it read: root, landlock, calls, capabilities."""

    entries: int
    files: int
    bytes: int
    read: int
    implied: tuple[str, ...]
    skipped: int
    warnings: tuple[tuple[str, str], ...]
    confined: tuple[str, ...]


def shown(name: str) -> str:
    """A member's name, fit for a terminal: control characters and broken bytes escaped, and
    of a long one the start."""
    text = "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in name[:300])
    return text + "…" if len(name) > 300 else text


class Quarantine:
    """A private folder in `beside` (which exists, on the file system that it is to stay on).
    Leaving the context removes it, unless it was released."""

    def __init__(self, beside: str | os.PathLike[str]) -> None:
        try:
            self._box = tempfile.mkdtemp(prefix=".parpull-", dir=beside)
            os.mkdir(self.tree, 0o755)
        except OSError as error:
            raise _sink(error.errno, os.fspath(beside)) from error

    @property
    def tree(self) -> str:
        """The folder that becomes the layer, or the layers over each other."""
        return os.path.join(self._box, "tree")

    def unpack(self, source: int | None = None, **how: Unpack[How]) -> Unpacking:
        """Start unpacking a layer into the tree; see unpack()."""
        return unpack(self.tree, source, **how)

    def release(self, path: str | os.PathLike[str]) -> None:
        """Give the tree its name, which no file has: TargetExists otherwise (an empty folder is no
        file). What it was unpacked from has to be proven before."""
        try:
            os.rename(self.tree, path)
        except OSError as error:
            if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                raise TargetExists(f"{os.fspath(path)} exists", path=os.fspath(path), errno=error.errno) from error
            raise _sink(error.errno, os.fspath(path)) from error
        self.remove()

    def remove(self) -> None:
        """Remove the folder and all in it, also folders that forbid it. Not while something unpacks."""
        remove_tree(self._box)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.remove()


def unpack(
    folder: str,
    source: int | None = None,
    *,
    style: Style = "plain",
    owners: Owners | None = None,
    devices: Devices | None = None,
    limits: Limits | None = None,
) -> Unpacking:
    """Start unpacking a layer into a folder that is nobody else's. source: a descriptor to read its
    tar from (not closed); None: `write` brings it. owners, devices: by default kept and made as
    root, else ignored (the files are ours) and skipped; "record" notes owners in
    user.rootlesscontainers."""
    root = os.geteuid() == 0
    owners = owners or ("keep" if root else "ignore")
    devices = devices or ("make" if root else "skip")
    for name, value, known in (
        ("style", style, ("overlay", "plain")),
        ("owners", owners, ("keep", "ignore", "record")),
        ("devices", devices, ("make", "skip", "refuse")),
    ):
        if value not in known:
            raise BadOption(f"{name} is {', '.join(known[:-1])} or {known[-1]}", name=name, value=value)
    limits = limits or Limits()
    options = {
        "overlay": style == "overlay", "private": not root, "owners": owners, "devices": devices,
        "entries": limits.entries, "size": limits.bytes,
    }  # fmt: skip
    return Unpacking(folder, json.dumps(options), source)


class Unpacking:
    """One layer on its way into the tree. `write`, then `result`; leaving the context stops what
    has not ended. Of one thread, but for `stop`."""

    def __init__(self, tree: str, options: str, source: int | None) -> None:
        root = os.open(tree, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._tree = tree
        self._input = -1
        reading, given = -1, source
        try:
            if source is None:
                reading, self._input = os.pipe2(os.O_CLOEXEC)
                given = reading
                try:
                    fcntl.fcntl(self._input, fcntl.F_SETPIPE_SZ, PIPE)
                except OSError:  # the user's pipes have had their share: it works, slower
                    pass
            # Not -I: the package may be found by PYTHONPATH. The working folder is not searched.
            self._process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-P", "-m", "parpull.oci.untar", str(root), options],
                stdin=given, stdout=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=(root,), cwd="/",
                start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            self._end_input()
            raise SinkError(f"no process to unpack in: {error.strerror}", path=tree, errno=error.errno) from error
        finally:
            os.close(root)
            if reading >= 0:
                os.close(reading)

    def write(self, data: ReadableBuffer) -> None:
        """The next bytes of the tar; waits until all of them are on their way. When the process has
        ended already, raises what `result` raises."""
        left = memoryview(data).cast("B")
        try:
            while left:
                left = left[os.write(self._input, left) :]
        except BrokenPipeError:
            self.result()
            raise

    def result(self) -> Unpacked:
        """Wait for the end; nothing more can be written. UnsafeLayer (reason, name), NoSpace,
        SinkError, or ImageError when the process died."""
        self._end_input()
        out, err = self._process.communicate()
        try:
            said = json.loads(out)
        except ValueError:
            words = err.decode(errors="replace").strip().splitlines()[-1:]
            raise ImageError(
                f"the process that unpacks has died ({self._process.returncode}){': ' if words else ''}"
                f"{shown(''.join(words))}"
            ) from None
        if "unsafe" in said:
            name = None if said["name"] is None else shown(said["name"])
            where = f"{name}: " if name else ""
            raise UnsafeLayer(f"the layer is not unpacked: {where}{said['unsafe']}", reason=said["unsafe"], name=name)
        if "errno" in said:
            raise _sink(said["errno"], shown(os.path.join(self._tree, said["name"] or "")))
        said["implied"] = tuple(said["implied"])
        said["warnings"] = tuple((why, shown(name)) for why, name in said["warnings"])
        said["confined"] = tuple(said["confined"])
        return Unpacked(**said)

    def stop(self) -> None:
        """End the process, from any thread: who waits in write() or result() is told."""
        self._process.kill()

    def close(self) -> None:
        """Stop, if it has not ended, and return when nothing can write any more."""
        self._end_input()
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()

    def _end_input(self) -> None:
        fd, self._input = self._input, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def _sink(number: int | None, path: str) -> SinkError:
    number = number or errno.EIO
    kind = NoSpace if number in (errno.ENOSPC, errno.EDQUOT) else SinkError
    return kind(f"{path}: {os.strerror(number)}", path=path, errno=number)


def remove_tree(box: str) -> None:
    """Remove a folder of ours, if it is there, with a tree of any depth in it and folders that nobody
    may write in: one within another is moved up before it is emptied, so no path is ever longer than
    two names, and nothing is followed."""
    try:
        root = os.open(box, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):  # the latter is a link's, too
        return
    try:
        moved = 0
        while names := os.listdir(root):
            for name in names:
                moved = _empty(root, name, moved)
    finally:
        os.close(root)
    os.rmdir(box)


def _empty(root: int, name: str, moved: int) -> int:
    """Remove one of the box, its folders moved beside it; how many were ever moved."""
    try:
        os.unlink(name, dir_fd=root)
        return moved
    except (IsADirectoryError, PermissionError):
        pass
    os.chmod(name, 0o700, dir_fd=root)
    folder = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=root)
    try:
        with os.scandir(folder) as inside:
            for child in list(inside):
                if child.is_dir(follow_symlinks=False):
                    os.chmod(child.name, 0o700, dir_fd=folder)  # to be moved, it has to be written to
                    moved += 1
                    os.rename(child.name, f"{moved}.", src_dir_fd=folder, dst_dir_fd=root)
                else:
                    os.unlink(child.name, dir_fd=folder)
    finally:
        os.close(folder)
    os.rmdir(name, dir_fd=root)
    return moved
