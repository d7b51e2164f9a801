"""Layers along their front: what comes out, whose digests, and what is refused."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import random
import sys
import tarfile
import threading
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

import parpull
from parpull.errors import ChecksumMismatch, NotFound, SizeMismatch
from parpull.oci import BadLayer, ImageError, UnsafeLayer
from parpull.oci import inflate as module
from parpull.oci.digest import Digest
from parpull.oci.inflate import PIECE, Limits, inflate

zstd = pytest.importorskip("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
KIB, MIB = 1 << 10, 1 << 20


def a_tar(size=300 * KIB, seed=1):
    """Half of it is random, half text."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, data in (("a", random.Random(seed).randbytes(size // 2)), ("b", b"many words\n" * (size // 22))):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return file.getvalue()


TAR = a_tar()
SKIPPABLE = b"\x50\x2a\x4d\x18\x05\x00\x00\x00abcde"


class Pieces(io.RawIOBase):
    """A file that gives what it has bit by bit, as a front does."""

    def __init__(self, data, cuts=()):
        ends = sorted({cut % (len(data) + 1) for cut in cuts} | {len(data)})
        self._pieces = [data[start:stop] for start, stop in zip([0, *ends], ends, strict=False) if stop > start]

    def readable(self):
        return True

    def readinto(self, buffer):
        if not self._pieces:
            return 0
        piece = self._pieces.pop(0)
        if len(piece) > len(buffer):
            self._pieces.insert(0, piece[len(buffer) :])
        n = min(len(piece), len(buffer))
        buffer[:n] = piece[:n]
        return n


def inflated(data, *, cuts=(), file=None, **options):
    """What came out of the pipe, and what was found."""
    reading, writing = os.pipe()
    got = []

    def read():
        with open(reading, "rb") as end:
            got.append(end.read())

    reader = threading.Thread(target=read)
    reader.start()
    try:
        found = inflate(file or Pieces(data, cuts), writing, **options)
    finally:
        os.close(writing)
        reader.join()
    return got[0], found


@pytest.fixture(params=["isal", "zlib"])
def library(request, monkeypatch):
    if request.param == "isal":
        pytest.importorskip("isal")
    else:
        monkeypatch.setitem(sys.modules, "isal", None)


@pytest.mark.parametrize("apart", [True, False])
@pytest.mark.parametrize(("kind", "pack"), [("gzip", gzip.compress), ("zstd", zstd.compress), ("none", bytes)])
def test_the_tar_and_both_digests(kind, pack, apart, library):
    data = pack(TAR)
    out, found = inflated(
        data, digest=Digest.of(data), size=len(data), diff_id=Digest.of(TAR, "sha512"), apart=apart, label="none"
    )
    assert out == TAR
    assert (found.digest, found.size) == (Digest.of(data), len(data))
    assert (found.diff_id, found.tar) == (Digest.of(TAR, "sha512"), len(TAR))
    assert found.compression == kind


@pytest.mark.parametrize("label", ["none", "gzip", "zstd"])
def test_the_bytes_decide_and_not_the_label(label):
    for data in (TAR, gzip.compress(TAR), zstd.compress(TAR), SKIPPABLE + zstd.compress(TAR)):
        assert inflated(data, label=label)[0] == TAR


def test_without_a_pipe_it_is_only_proven():
    assert inflate(io.BytesIO(gzip.compress(TAR)), None).diff_id == Digest.of(TAR)


members = st.lists(st.binary(max_size=2000) | st.integers(0, 5000).map(bytes), min_size=1, max_size=6)
cuts = st.lists(st.integers(0, 1 << 20), max_size=12)
junk = st.binary(max_size=600).filter(lambda text: not text.lstrip(b"\0").startswith(b"\x1f\x8b"))


def with_header(data, flags):
    """A member with every field that a header may have: what seekable archives put there."""
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    body = packer.compress(data) + packer.flush()
    head = b"\x1f\x8b\x08" + bytes([flags]) + bytes(6)
    head += (
        (b"\x04\x00SGab" if flags & 4 else b"") + (b"name\0" if flags & 8 else b"") + (b"text\0" if flags & 16 else b"")
    )
    head += (zlib.crc32(head) & 0xFFFF).to_bytes(2, "little") if flags & 2 else b""
    return head + body + zlib.crc32(data).to_bytes(4, "little") + (len(data) & 0xFFFFFFFF).to_bytes(4, "little")


@given(members, st.integers(0, 31), cuts, st.integers(0, 600), junk, st.booleans())
def test_any_members_in_any_pieces(parts, flags, where, zeros, garbage, apart):
    data = b"".join(with_header(part, flags & 30) for part in parts) + bytes(zeros) + garbage
    out, found = inflated(data, cuts=where, apart=apart)
    assert out == b"".join(parts)
    assert found.digest == Digest.of(data)


@given(members, cuts, st.integers(0, 600), junk)
def test_any_members_by_zlib(parts, where, zeros, garbage):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "isal", None)
        data = b"".join(map(gzip.compress, parts)) + bytes(zeros) + garbage
        assert inflated(data, cuts=where)[0] == b"".join(parts)


@given(members, cuts, st.lists(st.booleans(), min_size=6, max_size=6))
def test_any_frames_in_any_pieces(parts, where, skip):
    data = b"".join((SKIPPABLE if also else b"") + zstd.compress(part) for part, also in zip(parts, skip, strict=False))
    assert inflated(data, cuts=where)[0] == b"".join(parts)


@given(st.binary(max_size=3000), cuts, st.sampled_from(["none", "gzip", "zstd"]))
def test_any_bytes_end_somehow(data, where, label):
    for start in (b"", gzip.compress(TAR[:2000]), b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd"):
        try:
            inflated(start + data, cuts=where, label=label)
        except (BadLayer, UnsafeLayer):
            pass


@given(st.integers(1, len(TAR)), st.sampled_from([gzip.compress, zstd.compress]))
def test_a_cut_layer(at, pack):
    data = pack(TAR[:20000])
    short = data[: at % len(data)]
    with pytest.raises(BadLayer) as caught:
        inflated(short, label="gzip" if pack is gzip.compress else "zstd")
    assert "ends early" in caught.value.reason
    with pytest.raises(SizeMismatch):
        inflated(short, size=len(data), digest=Digest.of(data))


@given(st.integers(0, 10**6), st.integers(0, 7), st.sampled_from([gzip.compress, zstd.compress]))
def test_a_flipped_bit_is_never_taken_for_the_layer(at, bit, pack):
    data = bytearray(pack(TAR[:20000]))
    good = Digest.of(bytes(data))
    data[at % len(data)] ^= 1 << bit
    with pytest.raises(ChecksumMismatch):  # and not BadLayer: it isn't what the manifest means
        inflated(bytes(data), digest=good, size=len(data), diff_id=Digest.of(TAR[:20000]))


def test_corrupt_though_it_is_what_the_manifest_means(library):
    data = bytearray(gzip.compress(TAR))
    data[-6] ^= 1  # the sum at its end
    with pytest.raises(BadLayer, match="corrupt") as caught:
        inflated(bytes(data), digest=Digest.of(bytes(data)), size=len(data))
    assert caught.value.digest == str(Digest.of(bytes(data)))


def test_another_tar_than_the_config_says():
    with pytest.raises(ChecksumMismatch, match="layer's tar") as caught:
        inflated(gzip.compress(TAR), diff_id=Digest.of(b""))
    assert caught.value.actual == Digest.of(TAR).hex


def test_more_than_its_size_ends_at_once():
    source = Pieces(TAR, range(0, len(TAR), KIB))
    with pytest.raises(SizeMismatch):
        inflated(None, file=source, size=10 * KIB)
    assert source.read(1)  # the rest was not asked for


@pytest.mark.parametrize("name", ["bzip2", "xz"])
def test_other_compressions(name):
    import bz2
    import lzma

    data = {"bzip2": bz2.compress, "xz": lzma.compress}[name](TAR)
    with pytest.raises(BadLayer, match=name):
        inflated(data)


def test_a_page_of_html():
    with pytest.raises(BadLayer, match="neither"):
        inflated(b"<html>" * 500)


def test_garbage_behind_frames_is_no_layer():
    with pytest.raises(BadLayer, match="corrupt"):
        inflated(zstd.compress(TAR) + b"garbage")


@pytest.mark.parametrize("pack", [gzip.compress, zstd.compress])
def test_bombs(pack):
    data = pack(bytes(64 * MIB))
    with pytest.raises(UnsafeLayer, match="more than"):
        inflated(data, limits=Limits(tar=MIB))
    with pytest.raises(UnsafeLayer, match="each of its bytes"):
        inflated(data, limits=Limits(free=MIB))
    assert len(inflated(data)[0]) == 64 * MIB  # zeros are no crime by themselves


def test_a_bomb_goes_off_by_the_piece():
    wrote = []
    data = zstd.compress(bytes(64 * MIB))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_write", lambda _, piece: wrote.append(len(piece)))
        with pytest.raises(UnsafeLayer):
            inflate(io.BytesIO(data), 1, limits=Limits(tar=MIB))
    assert max(wrote) <= PIECE
    assert sum(wrote) <= MIB


def test_many_small_members_cost_no_more_than_they_are(monkeypatch):
    """What is behind a member's end is given back, and would be copied for each of them."""
    made, seen = gzip.compress(b""), []
    decoded = module._decoded
    monkeypatch.setattr(module, "_decoded", lambda decoder, given: seen.append(len(given)) or decoded(decoder, given))
    inflated(gzip.compress(TAR) + made * 3000)
    assert sum(seen[-3000:]) <= 3000 * module.FIRST


def test_nobody_reads_the_pipe():
    reading, writing = os.pipe()
    os.close(reading)
    with pytest.raises(BrokenPipeError):
        inflate(io.BytesIO(gzip.compress(TAR)), writing)
    os.close(writing)


def test_without_zstd(monkeypatch):
    for name in ("compression", "compression.zstd", "backports.zstd", "backports"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImageError) as caught:
        inflated(zstd.compress(TAR))
    assert "parpull[oci]" in caught.value.hint


# --- along a real download --------------------------------------------------------------------


@pytest.mark.parametrize("into", [None, "x"])
def test_along_a_download(into, origin, name, tmp_path):
    """What travels is proven while it travels: into memory, and into a file."""
    with parpull.submit(origin.url(f"{name}/x", size=5 * MIB), into and tmp_path / into, connections=4) as download:
        with download.reader() as reader:
            out, found = inflated(None, file=reader, label="none", size=5 * MIB)
        body = bytes(download.result()) if into is None else (tmp_path / into).read_bytes()
        download.result().close()
    assert out == body
    assert found.digest.hex == hashlib.sha256(body).hexdigest()


def test_a_download_that_fails(origin, name):
    with parpull.submit(origin.url(f"{name}/x", size=MIB, scenario="not-found")) as download:
        with download.reader() as reader, pytest.raises(NotFound):
            inflated(None, file=reader)
        with pytest.raises(NotFound):
            download.result()
