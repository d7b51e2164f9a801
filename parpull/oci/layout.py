"""An OCI image layout as destination: a folder of blobs by their digests, and an index of names.

Several pulls may write to one layout at once, and each may be killed at any moment: at each of
them the layout is valid. A blob gets its name when it is proven and on the disk, the index is
replaced by one rename after all that it names, and whoever changes it holds a lock. What is not
proven yet lies in .parpull/ within the layout:

    .parpull/index.lock             who changes index.json
    .parpull/blobs/ALG-HEX          a blob that is fetched, its journal beside it: the next pull
                                    goes on with it
    .parpull/blobs/ALG-HEX.lock     who fetches it
    .parpull/own-XXXX/              of one pull, locked as long as it lives: blobs that another
                                    pull is fetching too. Nobody waits for anybody, so two pulls
                                    can't wait for each other; the price is to fetch those twice.

There is no other lock: blobs of the same name are the same bytes, whoever is last.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import tempfile
from contextlib import contextmanager

from ..errors import SinkError
from ..files import sink_error
from ..journal import SUFFIX
from .destination import (
    PART,
    Destination,
    Image,
    Located,
    file_holds,
    located,
    mark_proven,
    sync_folder,
    write,
)
from .media import INDEX
from .quarantine import remove_tree
from .translate import in_oci_format

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Never

    from .digest import Digest
    from .manifest import Descriptor

__all__ = ["Layout"]

VERSION = b'{"imageLayoutVersion":"1.0.0"}'
LIMIT = 16 << 20  # bytes of an index that is read; one entry has a few hundred
REF = "org.opencontainers.image.ref.name"
FULL = "io.containerd.image.name"  # the whole name, as containerd, nerdctl and Docker keep it


class Layout(Destination):
    """path: the layout's folder, made if it is absent or empty. name: what the image is called in
    it; by default its tag. An image that had the name before keeps its blobs and loses the name.
    as_served: a manifest in Docker's format too, which keeps its digest; see translate.py."""

    keep = True

    def __init__(self, path: str | os.PathLike[str], name: str | None = None, *, as_served: bool = False) -> None:
        self._as_served = as_served
        self.path = os.path.realpath(os.fsdecode(path))
        self._name = name
        self._image: Image | None = None
        self._hidden = os.path.join(self.path, ".parpull")
        self._fetched = os.path.join(self._hidden, "blobs")
        self._own = ""
        self._alive = -1  # the lock of our own folder
        self._locks: dict[str, int] = {}  # by the path of the blob that is ours to fetch
        self._places: dict[Digest, Located] = {}

    def begin(self, image: Image) -> None:
        """Raises SinkError, of a folder that is something else too."""
        self._image = image if self._as_served else in_oci_format(image)
        try:
            self._make()
            os.makedirs(self._fetched, exist_ok=True)
            with self._index_locked():  # or somebody sweeps it before it is locked
                self._sweep()
                self._own = tempfile.mkdtemp(prefix="own-", dir=self._hidden)
                self._alive = _lock_folder(self._own)
        except OSError as error:
            if isinstance(error, SinkError):
                raise
            raise sink_error(error.errno or errno.EIO, self.path) from error

    def _make(self) -> None:
        marker = os.path.join(self.path, "oci-layout")
        if not os.path.isdir(os.path.dirname(self.path)):
            raise SinkError(
                f"cannot write {self.path}: there is no folder {os.path.dirname(self.path)}",
                path=self.path, errno=errno.ENOENT, hint="make it first",
            )  # fmt: skip
        os.makedirs(self.path, exist_ok=True)
        there = set(os.listdir(self.path))
        begun = {".parpull", "blobs", "index.json"} if ".parpull" in there else set()  # by one that was killed
        if "oci-layout" not in there and there - begun:
            self._refuse("is no OCI layout, and not empty")
        os.makedirs(self._hidden, exist_ok=True)  # first: it says that the rest is ours
        os.makedirs(os.path.join(self.path, "blobs", "sha256"), exist_ok=True)
        with self._index_locked():  # two pulls may make it at once
            if not os.path.exists(marker):
                self._replace(os.path.join(self.path, "index.json"), _text(_empty()))
                self._replace(marker, VERSION)  # last: with it, it is a layout
            self._index()  # raises now, not after hours

    def _refuse(self, why: str) -> Never:
        raise SinkError(f"{self.path} {why}", path=self.path, errno=errno.EEXIST, hint="name another folder")

    def _sweep(self) -> None:
        """What killed pulls have left of their own."""
        for entry in os.scandir(self._hidden):
            if not entry.name.startswith("own-") or not entry.is_dir(follow_symlinks=False):
                continue
            try:
                fd = _lock_folder(entry.path)
            except OSError:  # it is alive, or another has swept it
                continue
            remove_tree(entry.path)
            os.close(fd)

    def locate(self, blob: Descriptor) -> Located:
        """In its final place if it is there and holds, else where it is, or will be, fetched to."""
        if blob.digest not in self._places:
            self._places[blob.digest] = self._locate(blob)
        return self._places[blob.digest]

    def _locate(self, blob: Descriptor) -> Located:
        final = self._final(blob.digest)
        if file_holds(final, blob.digest, blob.size):
            return Located(final, blob.size, complete=True)
        name = f"{blob.digest.algorithm}-{blob.digest.hex}"
        path = os.path.join(self._fetched, name)
        if self._claims(path):
            # Asked again: who had the lock until now may just have put it into its place.
            if file_holds(final, blob.digest, blob.size):
                self._let_go(path)
                return Located(final, blob.size, complete=True)
            return located(path, blob)
        return Located(os.path.join(self._own, name), 0, complete=False)

    def _claims(self, path: str) -> bool:
        """Whether it is ours to fetch; until the blob is committed, or we end. Somebody may
        remove the lock's file meanwhile: then it is not the one that others look at."""
        lock = path + ".lock"
        while True:
            fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(fd), os.stat(lock, follow_symlinks=False)):
                    self._locks[path] = fd
                    return True
            except FileNotFoundError:
                pass
            except BlockingIOError:
                os.close(fd)
                return False
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)

    def _let_go(self, path: str) -> None:
        fd = self._locks.pop(path, -1)
        if fd >= 0:
            os.unlink(path + ".lock")
            os.close(fd)

    def _final(self, digest: Digest) -> str:
        return os.path.join(self.path, "blobs", digest.algorithm, digest.hex)

    def commit(self, index: int, data: memoryview | None = None) -> None:
        """Give the blob its name."""
        assert self._image is not None
        layer = self._image.manifest.layers[index]
        found = self.locate(layer)
        final = self._final(layer.digest)
        if found.path == final:
            return
        try:
            if data is not None and not found.complete:
                self._store(layer.digest, data)
            else:
                self._move(found.path, layer.digest)
            self._let_go(found.path)
        except OSError as error:
            raise sink_error(error.errno or errno.EIO, self.path) from error
        self._places[layer.digest] = Located(final, layer.size, complete=True)

    def _move(self, path: str, digest: Digest) -> None:
        with open(path, "rb") as file:
            mark_proven(file.fileno(), digest)
            os.fsync(file.fileno())
        final = self._final(digest)
        os.makedirs(os.path.dirname(final), exist_ok=True)
        os.rename(path, final)

    def _store(self, digest: Digest, data: memoryview | bytes) -> None:
        """Bytes that are in memory; written beside the others first."""
        made = os.path.join(self._own, f"{digest.algorithm}-{digest.hex}.made")
        fd = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        try:
            write(fd, data)
        finally:
            os.close(fd)
        self._move(made, digest)

    def finish(self) -> str:
        """Config, manifest, and then the name."""
        assert self._image is not None
        image = self._image
        try:
            for descriptor, body in (
                (image.manifest.config, image.config_body),
                (image.descriptor, image.manifest_body),
            ):
                if not file_holds(self._final(descriptor.digest), descriptor.digest, descriptor.size):
                    self._store(descriptor.digest, body)
            blobs = os.path.join(self.path, "blobs")
            for folder in {os.path.dirname(self._final(one)) for one in self._named()} | {blobs}:
                sync_folder(folder)
            with self._index_locked():
                index = self._index()
                index["manifests"] = [*self._others(index["manifests"]), self._entry()]
                self._replace(os.path.join(self.path, "index.json"), _text(index))
        except OSError as error:
            if isinstance(error, SinkError):
                raise
            raise sink_error(error.errno or errno.EIO, self.path) from error
        self.abort()
        return self.path

    def _named(self) -> list[Digest]:
        assert self._image is not None
        manifest = self._image.manifest
        return [self._image.descriptor.digest, manifest.config.digest, *(layer.digest for layer in manifest.layers)]

    @property
    def _tag(self) -> str | None:
        assert self._image is not None
        return self._name or self._image.reference.tag

    def _others(self, entries: list[Any]) -> list[Any]:
        """The entries that stay: of other names, and as they were, whatever they are."""
        assert self._image is not None
        digest = str(self._image.descriptor.digest)
        kept = []
        for entry in entries:
            annotations = entry.get("annotations") if isinstance(entry, dict) else None
            name = annotations.get(REF) if isinstance(annotations, dict) else None
            same = isinstance(entry, dict) and entry.get("digest") == digest
            if (name is not None and name == self._tag) or (name is None and same):
                continue
            kept.append(entry)
        return kept

    def _entry(self) -> dict[str, Any]:
        assert self._image is not None
        found, reference, config = self._image.descriptor, self._image.reference, self._image.config
        entry: dict[str, Any] = {
            "mediaType": found.media_type, "digest": str(found.digest), "size": found.size,
        }  # fmt: skip
        if config is not None:
            platform = {"architecture": config.platform.architecture, "os": config.platform.os}
            more = {"variant": config.platform.variant, "os.version": config.platform.version}
            entry["platform"] = platform | {key: value for key, value in more.items() if value}
        if found.artifact_type:
            entry["artifactType"] = found.artifact_type
        if self._tag is not None:
            entry["annotations"] = {REF: self._tag}
            if reference.tag is not None:
                entry["annotations"][FULL] = f"{reference.name}:{reference.tag}"
        return entry

    @contextmanager
    def _index_locked(self) -> Iterator[None]:
        """Waits; nobody holds it for long. Its file stays: it is in nobody's way."""
        path = os.path.join(self._hidden, "index.lock")
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def _index(self) -> dict[str, Any]:
        """As it is, whoever made it: what we don't know of it stays."""
        try:
            with open(os.path.join(self.path, "index.json"), "rb") as file:
                body = file.read(LIMIT + 1)
        except FileNotFoundError:
            return _empty()
        try:
            index = json.loads(body) if len(body) <= LIMIT else None
        except (ValueError, RecursionError):
            index = None
        if isinstance(index, dict) and index.get("manifests") is None:  # as Go writes an empty list
            index["manifests"] = []
        if not isinstance(index, dict) or not isinstance(index["manifests"], list):
            self._refuse("has an index.json that is none")
        return index

    def _replace(self, path: str, body: bytes) -> None:
        """Under the index's lock, so that the name of what is written is nobody else's."""
        made = os.path.join(self._hidden, os.path.basename(path) + ".new")
        with open(made, "wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        os.rename(made, path)
        sync_folder(self.path)

    def abort(self, *, keep: bool = False) -> None:
        """Blobs that got their names keep them: they are proven. Of the others all goes, or with
        keep what lies where the next pull looks for it."""
        for path in list(self._locks):
            if not keep:
                for left in (path, path + PART, path + SUFFIX):
                    try:
                        os.unlink(left)
                    except OSError:
                        pass
            self._let_go(path)
        if self._alive >= 0:
            remove_tree(self._own)
            os.close(self._alive)
            self._alive = -1
        self._places.clear()


def _empty() -> dict[str, Any]:
    return {"schemaVersion": 2, "mediaType": INDEX, "manifests": []}


def _text(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")


def _lock_folder(path: str) -> int:
    """A descriptor that holds the folder's lock. OSError if another has it."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(fd)
        raise
    return fd
