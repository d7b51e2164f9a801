"""A plain folder as destination: the image's root filesystem.

Layers are unpacked over each other in a hidden folder beside it, which takes its place by one
rename when everything is proven. So the folder is the whole image or it is not there.
"""

from __future__ import annotations

import errno
import os

from ..errors import SinkError, TargetExists
from ..files import sink_error
from .destination import Destination, Image, Located, Outlet, Staging
from .errors import BadManifest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .manifest import Descriptor

__all__ = ["Directory"]


class Directory(Destination):
    """path: what the root filesystem becomes; absent, or an empty folder, whose mode and owner
    then are those of the image's root."""

    unpack = True
    in_order = True

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.path.realpath(os.fsdecode(path))
        self._staging = Staging(self.path)
        self._root = os.path.join(self._staging.work, "root")

    def begin(self, image: Image) -> None:
        """Raises TargetExists, InUse, SinkError; BadManifest of what is no image."""
        if image.config is None or not image.manifest.is_image:
            raise BadManifest(
                f"{image.reference.short} is no image that could be unpacked",
                hint="oci:DIR stores it as it is",
                reason="it is another artifact",
                digest=str(image.descriptor.digest),
            )
        self._check()
        self._staging.open()
        os.mkdir(self._root)
        # Whatever the umask: the mode of an image that says none.
        os.chmod(self._root, 0o755)  # noqa: S103

    def _check(self) -> None:
        try:
            there = os.listdir(self.path)
        except FileNotFoundError:
            return
        except NotADirectoryError:
            raise self._exists() from None
        except OSError as error:
            raise sink_error(error.errno or errno.EIO, self.path) from error
        if there:
            raise self._exists()
        if os.path.ismount(self.path):  # of another file system than what is beside it
            raise SinkError(
                f"{self.path} is a mount point", path=self.path, errno=errno.EBUSY, hint="name a folder in it"
            )

    def _exists(self) -> TargetExists:
        return TargetExists(
            f"{self.path} exists and is not an empty folder",
            path=self.path, errno=errno.EEXIST, hint="name a folder that is empty, or not there yet",
        )  # fmt: skip

    def locate(self, blob: Descriptor) -> Located:
        """In the hidden folder."""
        return self._staging.locate(blob)

    def outlet(self, index: int) -> Outlet:
        """The same for all of them."""
        return Outlet(folder=self._root)

    def commit(self, index: int, data: memoryview | None = None) -> None:
        """Nothing is left to do: its files are where they belong."""

    def finish(self) -> str:
        """Raises TargetExists if somebody was faster."""
        try:
            os.rename(self._root, self.path)  # also over an empty folder, and no other
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise self._exists() from None
            raise sink_error(error.errno or errno.EIO, self.path) from error
        self._staging.close()
        return self.path

    def abort(self, *, keep: bool = False) -> None:
        """The files go in any case."""
        self._staging.close(keep=keep)
