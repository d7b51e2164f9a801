"""An archive for `docker load` as destination: one tar with manifest.json, config and layers.

What is written grows in a hidden folder beside the target, one layer after the other, and gets
its name when everything is proven. Layers are uncompressed, as `docker save` has them and every
loader takes them, unless they are wanted as they travelled: that is smaller and needs Docker to
know their compression (gzip always, zstd since 23).
"""

from __future__ import annotations

import errno
import json
import os
import tarfile
from dataclasses import replace

from ..errors import TargetExists
from ..files import sink_error
from .destination import Destination, Image, Located, Outlet, Staging, sync_folder, write
from .errors import BadManifest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .manifest import Descriptor
    from .reference import Reference

__all__ = ["Archive"]

BLOCK = tarfile.BLOCKSIZE
PIECE = 1 << 20
MODE = 0o444


class Archive(Destination):
    """path: the tar's; it must not exist. compressed: layers as they travelled."""

    def __init__(self, path: str | os.PathLike[str], *, compressed: bool = False) -> None:
        self.path = os.path.realpath(os.fsdecode(path))
        self.keep = compressed
        self.unpack = False  # no files: what an outlet is given is the tar
        self._staging = Staging(self.path)
        self._compressed = compressed
        self._image: Image | None = None
        self._tar = -1  # the archive so far
        self._outlets: dict[int, int] = {}
        self._members: list[str] = []  # of the layers, the lowest first

    def begin(self, image: Image) -> None:
        """Raises TargetExists, InUse, SinkError; BadManifest of what is no image."""
        if image.config is None or not image.manifest.is_image:
            raise BadManifest(
                f"{image.reference.short} is no image that could be loaded",
                hint="oci:DIR stores it as it is",
                reason="it is another artifact",
                digest=str(image.descriptor.digest),
            )
        if os.path.lexists(self.path):
            raise self._exists()
        self._staging.open()
        self._image = image
        self._tar = os.open(
            os.path.join(self._staging.work, "archive"), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666
        )

    def _exists(self) -> TargetExists:
        return TargetExists(f"{self.path} exists", path=self.path, errno=errno.EEXIST, hint="choose another name")

    def locate(self, blob: Descriptor) -> Located:
        """In the hidden folder."""
        return self._staging.locate(blob)

    def outlet(self, index: int) -> Outlet:
        """A file for the layer's tar; none if it is wanted as it travelled."""
        if self._compressed:
            return Outlet()
        self._outlets[index] = os.open(
            os.path.join(self._staging.work, f"layer-{index}"), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600
        )
        return Outlet(tar=self._outlets[index])

    def commit(self, index: int, data: memoryview | None = None) -> None:
        """Add it to the archive, and let go of what it was added from."""
        assert self._image is not None
        assert self._image.config is not None
        layer = self._image.manifest.layers[index]
        name = f"{(layer.digest if self._compressed else self._image.config.diff_ids[index]).hex}.tar"
        known = name in self._members
        self._members.append(name)
        try:
            if not self._compressed:
                fd = self._outlets.pop(index)
                try:
                    if not known:
                        self._add_file(name, fd)
                finally:
                    os.close(fd)
                os.unlink(os.path.join(self._staging.work, f"layer-{index}"))
            elif known:
                pass
            elif data is not None:
                self._add(name, data)
            else:
                with open(self._staging.locate(layer).path, "rb", buffering=0) as file:
                    self._add_file(name, file.fileno())
        except OSError as error:
            raise sink_error(error.errno or errno.EIO, self.path) from error

    def _head(self, name: str, size: int) -> None:
        about = tarfile.TarInfo(name)
        about.size, about.mode = size, MODE
        write(self._tar, about.tobuf(tarfile.PAX_FORMAT))  # PAX: a layer may have more than 8 GiB

    def _pad(self, size: int) -> None:
        write(self._tar, bytes(-size % BLOCK))

    def _add(self, name: str, data: memoryview | bytes) -> None:
        size = memoryview(data).nbytes
        self._head(name, size)
        write(self._tar, data)
        self._pad(size)

    def _add_file(self, name: str, fd: int) -> None:
        size = os.fstat(fd).st_size
        self._head(name, size)
        at = 0
        while at < size:
            piece = os.pread(fd, PIECE, at)
            if not piece:
                raise OSError(errno.EIO, "the layer was cut")
            write(self._tar, piece)
            at += len(piece)
        self._pad(size)

    def finish(self) -> str:
        """Raises TargetExists if somebody was faster."""
        assert self._image is not None
        config = f"{self._image.manifest.config.digest.hex}.json"
        entry = {"Config": config, "RepoTags": _tags(self._image.reference), "Layers": self._members}
        try:
            self._add(config, self._image.config_body)
            self._add("manifest.json", json.dumps([entry], separators=(",", ":")).encode())
            write(self._tar, bytes(2 * BLOCK))
            os.fsync(self._tar)
            made = os.path.join(self._staging.work, "archive")
            try:
                os.link(made, self.path)  # unlike rename, fails when somebody was faster
            except FileExistsError:
                raise self._exists() from None
            except OSError:  # a file system without hard links
                if os.path.lexists(self.path):
                    raise self._exists() from None
                os.rename(made, self.path)
            sync_folder(os.path.dirname(self.path))
        except OSError as error:
            if isinstance(error, TargetExists):
                raise
            raise sink_error(error.errno or errno.EIO, self.path) from error
        self.abort()
        return self.path

    def abort(self, *, keep: bool = False) -> None:
        """The archive so far goes in any case."""
        for fd in (self._tar, *self._outlets.values()):
            if fd >= 0:
                os.close(fd)
        self._tar = -1
        self._outlets.clear()
        self._staging.close(keep=keep)


def _tags(reference: Reference) -> list[str]:
    """What Docker calls it once it is loaded; nothing, if it was asked for by its digest alone."""
    bare = replace(reference, tag=None, digest=None)
    return [f"{bare.short}:{reference.tag}"] if reference.tag else []
