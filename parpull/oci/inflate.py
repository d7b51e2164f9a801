"""Inflating one layer along its front: bytes as they travel in, the tar out into a pipe, and
both of the layer's digests on the way.

Knows a binary file, which may grow while it is read, a descriptor to write to, and what
the manifest says; nothing of registries, of files in a tar, or of where a layer ends up.
What comes out is not proven before inflate() returns: whoever reads the pipe has to be
ready to throw it all away.

gzip: members one after another, zeros and garbage behind the last (as gzip itself takes
them: the digests say what belongs to the layer). zstd: frames one after another, skippable
ones among them, and nothing else. Neither: the tar as it is. The first bytes decide.

Why these libraries: MB/s of tar on one core, a Python tree of 840 MB, gzip -6 (3.2:1) and
zstd -3: isal's igzip 825 (its zlib face 720, zlib-ng 580, zlib 320), backports.zstd 1180,
which is the standard library's from Python 3.14 on. zstandard is 5 % faster, but can't tell
a frame that was cut from one that ended. rapidgzip: 600 on one core, 750 on two, where
two layers on a thread each give 1300 with isal: it would need more free cores than that.
"""

from __future__ import annotations

import hashlib
import os
import queue
import re
import sys
import threading
from dataclasses import dataclass
from importlib import import_module

from ..errors import ChecksumMismatch, SizeMismatch
from .digest import Digest
from .errors import BadLayer, ImageError, UnsafeLayer
from .media import HEAD, sniff

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType
    from typing import Any, Never, Protocol, Self

    from .media import Compression

    class Readable(Protocol):
        """A binary file that is read from its beginning to its end."""

        def read(self, size: int, /) -> bytes | None: ...

    class Decoder(Protocol):
        """One member or frame: the face of bz2, which igzip and zstd have too."""

        def decompress(self, data: bytes | memoryview, max_length: int, /) -> bytes: ...
        @property
        def eof(self) -> bool: ...
        @property
        def needs_input(self) -> bool: ...
        @property
        def unused_data(self) -> bytes: ...


__all__ = ["Inflated", "Limits", "inflate"]

READ = 256 << 10  # bytes as they travel, at a time
# Of the tar, at a time. glibc takes up to here from its heap: with 1 MiB each piece is mapped
# and zeroed anew, which costs zstd 15 %.
PIECE = 128 << 10
# The first bytes that a new member is given, doubled from there: what it leaves is copied, and
# a layer may have a hundred thousand members (eStargz), or be nothing but their beginnings.
FIRST = 4 << 10
AHEAD = 16  # pieces that wait for their digest
PIPE = 1 << 20  # bytes of the pipe, so that two processes need not take turns
WINDOW = 27  # log2 of what a zstd frame may look back: 128 MiB, as the zstd tool allows
GZIP = b"\x1f\x8b"
ZEROS = re.compile(rb"\0*")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a layer may become. tar: bytes. ratio: bytes of tar from each byte that
    travelled; only counts beyond `free` bytes, since a small layer of zeros harms nobody."""

    tar: int = 1 << 40
    ratio: int = 200
    free: int = 1 << 30


@dataclass(frozen=True, slots=True)
class Inflated:
    """What a layer was: as it travelled, and its tar, in bytes; all that was asked for is proven."""

    digest: Digest
    size: int
    diff_id: Digest
    tar: int
    compression: Compression


def inflate(
    source: Readable,
    into: int | None,
    *,
    digest: Digest | None = None,
    size: int | None = None,
    diff_id: Digest | None = None,
    label: Compression = "gzip",
    limits: Limits | None = None,
    apart: bool = True,
) -> Inflated:
    """Read `source` to its end and write the tar to the descriptor `into` (None: prove only),
    on the caller's thread. digest, size, diff_id: what the manifest and the config say.
    label: what the media type says, where the bytes don't. apart: digests on a thread of their
    own, worth it while there are more cores than layers: a layer alone on two cores then gives
    690 MB/s of gzip instead of 525 (zstd 930, 645), for 17 % more CPU. Two layers on two
    threads give 890 together, without.

    Raises ChecksumMismatch and SizeMismatch, BadLayer for what can't be inflated though it is
    what the manifest means, UnsafeLayer beyond the limits, BrokenPipeError where the reader
    of the pipe is gone, and what the source raises. `source` and `into` stay the caller's."""
    limits = limits or Limits()
    with _Hashes(apart) as hashes:
        front = _Front(source, hashes, digest.algorithm if digest else "sha256", size)
        diff: Any = hashes.new(diff_id.algorithm if diff_id else "sha256")
        tar, failure, compression = 0, None, label
        try:
            compression = _compression(front.peek(), label, digest)
            if compression == "none" and diff.name == front.hash.name:
                diff = front.hash  # what travels is the tar
            if into is not None:
                _widen(into)
            for piece in _opened(compression, front, digest):
                tar += len(piece)
                _check(tar, front.size, limits, digest)
                if diff is not front.hash:
                    hashes.update(diff, piece)
                if into is not None:
                    _write(into, piece)
        except BadLayer as error:
            # Perhaps it is not the layer at all: that is the better answer, and it takes the rest.
            for _ in front:
                pass
            failure = error
        found = Inflated(hashes.of(front.hash), front.size, hashes.of(diff), tar, compression)
    if size is not None and found.size != size:
        raise SizeMismatch(
            f"the layer has {found.size} bytes, not {size}", expected=size, actual=found.size
        ) from failure
    _compare("layer", digest, found.digest, failure)
    if failure is not None:
        raise failure
    _compare("layer's tar", diff_id, found.diff_id)
    return found


def _compare(what: str, expected: Digest | None, actual: Digest, cause: Exception | None = None) -> None:
    if expected is not None and expected != actual:
        raise ChecksumMismatch(
            f"{expected.algorithm} of the {what} is {actual.hex}, not {expected.hex}",
            algorithm=expected.algorithm, expected=expected.hex, actual=actual.hex,
        ) from cause  # fmt: skip


def _check(tar: int, size: int, limits: Limits, digest: Digest | None) -> None:
    if tar > limits.tar:
        _unsafe(f"it has more than {limits.tar:,} bytes", digest)
    if tar > limits.free and tar > limits.ratio * size:
        _unsafe(f"each of its bytes becomes more than {limits.ratio:,}", digest)


def _unsafe(reason: str, digest: Digest | None) -> Never:
    raise UnsafeLayer(f"the layer is refused: {reason}", reason=reason, digest=str(digest) if digest else None)


def _bad(reason: str, digest: Digest | None) -> BadLayer:
    return BadLayer(f"the layer can't be read: {reason}", reason=reason, digest=str(digest) if digest else None)


def _compression(head: bytes, label: Compression, digest: Digest | None) -> Compression:
    """By the first bytes; by the label where they are too few or too odd to tell."""
    found = sniff(head)
    if found == "none" or (found is None and label == "none"):
        return "none"
    if found == "gzip":
        return "gzip"
    if found == "zstd":
        return "zstd"
    if found is None and len(head) < HEAD:
        return label  # it was cut, or has ended: the decoder knows
    raise _bad(f"it is {found}, which no layer may be" if found else "it is neither tar nor gzip nor zstd", digest)


# --- the way in -----------------------------------------------------------------------------


class _Front:
    """Pieces of the source, as they travel. Each goes to its digest, also those that are read
    for nothing else. More bytes than there may be end it."""

    def __init__(self, source: Readable, hashes: _Hashes, algorithm: str, expected: int | None) -> None:
        # A buffered reader's read() waits until all is there; read1() for what is.
        self._read: Callable[[int], bytes | None] = getattr(source, "read1", None) or source.read
        self._hashes = hashes
        self.hash = hashes.new(algorithm)
        self._expected = expected
        self._head = b""
        self.size = 0

    def peek(self) -> bytes:
        """The first HEAD bytes, or all if there are fewer; they are read again."""
        while len(self._head) < HEAD and (piece := self._next()):
            self._head += piece
        return self._head[:HEAD]

    def __iter__(self) -> Iterator[bytes]:
        if self._head:
            head, self._head = self._head, b""
            yield head
        while piece := self._next():
            yield piece

    def _next(self) -> bytes:
        piece = self._read(READ) or b""
        self.size += len(piece)
        if self._expected is not None and self.size > self._expected:
            raise SizeMismatch(
                f"the layer has more than {self._expected} bytes", expected=self._expected, actual=self.size
            )
        self._hashes.update(self.hash, piece)
        return piece


def _opened(compression: Compression, front: _Front, digest: Digest | None) -> Iterator[bytes]:
    """Pieces of the tar."""
    if compression == "none":
        yield from front
        return
    make, failures = _gzip() if compression == "gzip" else _zstd()
    try:
        yield from _members(front, make, GZIP if compression == "gzip" else b"")
    except EOFError:
        raise _bad(f"its {compression} ends early", digest) from None
    except failures as error:
        raise _bad(f"its {compression} is corrupt", digest) from error


def _members(pieces: _Front, make: Callable[[], Decoder], magic: bytes) -> Iterator[bytes]:
    """What members, or frames, hold, one after another. magic: how one begins behind another;
    zeros may lie between, and whatever else is there belongs to nobody. b"": there is always another.
    Raises EOFError if it ends within one, or without any."""
    decoder: Decoder | None = None
    whole, held = 0, b""
    for piece in pieces:
        if held:  # half a magic number
            piece, held = held + piece, b""
        view, at, step = memoryview(piece), 0, READ
        while at < len(piece):
            if decoder is None:
                if whole and magic:
                    zeros = ZEROS.match(piece, at)
                    at = zeros.end() if zeros else at
                    if not piece.startswith(magic, at):
                        if magic.startswith(piece[at:]):
                            held = piece[at:]
                            break
                        for _ in pieces:  # garbage, of which only the digest is taken
                            pass
                        return
                decoder, step = make(), FIRST
            given = view[at : at + step]
            at, step = at + len(given), step * 2
            yield from _decoded(decoder, given)
            if decoder.eof:
                at -= len(decoder.unused_data)
                decoder, whole = None, whole + 1
    if decoder is not None or not whole:
        raise EOFError


def _decoded(decoder: Decoder, given: memoryview) -> Iterator[bytes]:
    """All that these bytes give, by the piece: a bomb goes off one PIECE at a time."""
    data: memoryview | bytes = given
    while True:
        piece = decoder.decompress(data, PIECE)
        if piece:
            yield piece
        if decoder.eof or decoder.needs_input:
            return
        data = b""


def _gzip() -> tuple[Callable[[], Decoder], type[Exception]]:
    """igzip, or zlib where it is not installed: 2.5 times slower."""
    try:
        igzip: Any = import_module("isal.igzip_lib")
    except ImportError:
        import zlib

        return _Zlib, zlib.error
    return lambda: igzip.IgzipDecompressor(flag=igzip.DECOMP_GZIP), igzip.IsalError


def _zstd() -> tuple[Callable[[], Decoder], type[Exception]]:
    try:
        zstd: Any = import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
    except ImportError:
        raise ImageError("zstd is not installed", hint="pip install 'parpull[oci]'") from None
    options = {zstd.DecompressionParameter.window_log_max: WINDOW}
    return lambda: zstd.ZstdDecompressor(options=options), zstd.ZstdError


class _Zlib:
    """zlib's decompressor with the face of the others."""

    def __init__(self) -> None:
        import zlib

        self._zlib = zlib.decompressobj(31)
        self.needs_input = True

    def decompress(self, data: bytes | memoryview, max_length: int, /) -> bytes:
        """At most `max_length` bytes; what is left of `data` is kept."""
        made = self._zlib.decompress(self._zlib.unconsumed_tail or data, max_length)
        # A full piece may mean that there is more, though all the input is taken.
        self.needs_input = not self._zlib.unconsumed_tail and len(made) < max_length
        return made

    @property
    def eof(self) -> bool:
        """Whether the member has ended, and its sums hold."""
        return self._zlib.eof

    @property
    def unused_data(self) -> bytes:
        """What lies behind the end."""
        return self._zlib.unused_data


# --- the way out ----------------------------------------------------------------------------


def _widen(fd: int) -> None:
    import fcntl

    try:
        fcntl.fcntl(fd, getattr(fcntl, "F_SETPIPE_SZ", 1031), PIPE)
    except OSError:
        pass  # no pipe, no Linux, or more than this user may have


def _write(fd: int, piece: bytes) -> None:
    done = os.write(fd, piece)
    while done < len(piece):
        with memoryview(piece) as view:
            done += os.write(fd, view[done:])


class _Hashes:
    """Digests that are taken one piece after another, on a thread of their own or on the
    caller's. One thread for both of a layer's: together they need less than inflating does."""

    def __init__(self, apart: bool) -> None:
        self._queue: queue.Queue[tuple[Any, bytes] | None] | None = queue.Queue(AHEAD) if apart else None
        self._thread = threading.Thread(target=self._run, name="parpull-digest", daemon=True) if apart else None

    def __enter__(self) -> Self:
        if self._thread is not None:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._join()

    def new(self, algorithm: str) -> Any:
        """A hash object, which is the thread's until of() gives its digest."""
        return hashlib.new(algorithm)

    def update(self, hash_: Any, piece: bytes) -> None:
        """Soon, in the order of the calls; waits when the thread is behind."""
        if self._queue is None:
            hash_.update(piece)
        else:
            self._queue.put((hash_, piece))

    def of(self, hash_: Any) -> Digest:
        """The digest of all that was given. There can be no more."""
        self._join()
        return Digest(hash_.name, hash_.hexdigest())

    def _join(self) -> None:
        if self._thread is not None and self._queue is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        assert self._queue is not None
        while (given := self._queue.get()) is not None:
            hash_, piece = given
            hash_.update(piece)
