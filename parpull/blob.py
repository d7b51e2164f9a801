"""Blobs: what a transfer gives back. Second floor."""

from __future__ import annotations

import mmap

from ._mapping import Exporter, Mapping
from .errors import BadOption

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    import numpy as np
    from typing_extensions import Buffer

__all__ = ["Blob"]

# What numpy has no name for, and its width in bytes; ml_dtypes has.
ML_DTYPES = {"bfloat16": "bfloat16", "bf16": "bfloat16", "fp8": "float8_e4m3fn"}


class Blob(Exporter):
    """An object that was brought: its bytes, or the file they are in.

    `memoryview(blob)`, `bytes(blob)`, `numpy.frombuffer(blob)` work on it; memory
    is writable, a file is mapped read-only when first asked for. `size` in bytes;
    `path` is None in memory; `validator` the ETag or date that the server gave;
    `digests` what was proven, {algorithm: hexadecimal}."""

    def __init__(
        self,
        source: Buffer | None,
        *,
        size: int,
        path: str | None = None,
        validator: str | None = None,
        digests: dict[str, str] | None = None,
    ) -> None:
        self.source = source
        self.size = size
        self.path = path
        self.validator = validator
        self.digests = digests or {}
        self._closed = False

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int | slice) -> Any:
        """A byte as a number, or a memoryview of several: no copy. A view keeps the
        blob from being closed."""
        view = memoryview(self).cast("B")
        return view[index]

    def __repr__(self) -> str:
        where = repr(self.path) if self.path else "in memory"
        return f"<parpull.Blob {where}, {self.size:,} bytes>"

    def __enter__(self) -> Blob:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def attach(self) -> Buffer:
        """Map the file; called when the bytes are first asked for."""
        if self.path is None or self._closed:
            raise BufferError("this blob was closed")
        if self.size == 0:
            return b""
        with open(self.path, "rb") as file:
            return mmap.mmap(file.fileno(), self.size, access=mmap.ACCESS_READ)

    def array(self, dtype: Any = "uint8", shape: int | Sequence[int] | None = None) -> np.ndarray[Any, Any]:
        """A numpy array on the same memory. `dtype`: anything numpy takes, also
        "bfloat16" and the "float8_…" types where ml_dtypes is installed; `shape`
        defaults to one dimension. BadOption when the bytes do not fit the shape."""
        import numpy

        try:
            kind = numpy.dtype(_ml_dtype(dtype) if isinstance(dtype, str) else dtype)
        except TypeError as error:
            raise BadOption(f"no such dtype: {dtype!r}", name="dtype", value=str(dtype)) from error
        if kind.hasobject or not kind.itemsize:
            raise BadOption(f"{kind} is no type for plain bytes", name="dtype", value=str(dtype))
        if self.size % kind.itemsize:
            raise BadOption(f"{self.size:,} bytes are no whole number of {kind}", name="dtype", value=str(dtype))
        view = memoryview(self)  # also says so if the blob was closed
        flat = numpy.frombuffer(view, kind) if self.size else numpy.empty(0, kind)
        if shape is None:
            return flat
        try:
            return flat.reshape(shape)
        except (ValueError, TypeError):
            # No view of ours may live on in this error's traceback.
            count = flat.size
            del flat
            view.release()
            raise BadOption(f"{count:,} values of {kind} do not make {shape}", name="shape", value=shape) from None

    def tensor(self, dtype: Any, shape: Sequence[int] | None = None) -> Any:
        """A torch tensor on the same memory; `dtype` a torch dtype or its name."""
        import torch  # type: ignore[import-not-found,unused-ignore]

        kind = getattr(torch, dtype) if isinstance(dtype, str) else dtype
        flat = torch.frombuffer(self, dtype=kind)
        return flat if shape is None else flat.reshape(tuple(shape))

    def close(self) -> None:
        """Give the memory back. BufferError while a view of it is in use."""
        source = self.source
        if isinstance(source, memoryview):
            source.release()
        elif isinstance(source, (Mapping, mmap.mmap)):
            source.close()
        self.source = None
        self._closed = True


def _ml_dtype(name: str) -> Any:
    """The dtype of a name: numpy's own, or from ml_dtypes."""
    name = ML_DTYPES.get(name, name)
    if not name.startswith(("bfloat", "float8", "float6", "float4", "int4", "uint4")):
        return name
    try:
        import ml_dtypes  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        raise BadOption(
            f"numpy has no {name}", name="dtype", value=name, hint="pip install ml_dtypes, or use tensor()"
        ) from None
    try:
        return getattr(ml_dtypes, name)
    except AttributeError:
        raise BadOption(f"ml_dtypes has no {name}", name="dtype", value=name) from None
