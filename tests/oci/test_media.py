"""Media types and magic numbers: labels, and what bytes say against them."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parpull.oci.media import HEAD, Layering, layering_of, plain, sniff

OCI, DOCKER = "application/vnd.oci.image.layer", "application/vnd.docker.image.rootfs"


@pytest.mark.parametrize(
    ("label", "compression", "foreign"),
    [
        (f"{OCI}.v1.tar", "none", False),
        (f"{OCI}.v1.tar+gzip", "gzip", False),
        (f"{OCI}.v1.tar+zstd", "zstd", False),
        (f"{OCI}.nondistributable.v1.tar+gzip", "gzip", True),
        (f"{DOCKER}.diff.tar", "none", False),
        (f"{DOCKER}.diff.tar.gzip", "gzip", False),
        (f"{DOCKER}.diff.tar.zstd", "zstd", False),
        (f"{DOCKER}.foreign.diff.tar.gzip", "gzip", True),
    ],
)
def test_layers(label, compression, foreign):
    assert layering_of(label) == Layering(compression, foreign)


@pytest.mark.parametrize(
    "label",
    ["", f"{OCI}.v1.tar+gzip+encrypted", f"{OCI}.v1.tar+lzma", f"{OCI}.v1.erofs", "application/vnd.in-toto+json"],
)
def test_what_is_no_layer(label):
    assert layering_of(label) is None


def test_a_media_type_can_be_compared():
    assert plain(" Application/JSON ; charset=utf-8") == "application/json"
    assert plain(None) == ""


def a_tar(style):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=style) as tar:
        info = tarfile.TarInfo("a" * 120 if style != tarfile.USTAR_FORMAT else "a")
        info.size = 3
        tar.addfile(info, io.BytesIO(b"abc"))
    return file.getvalue()


@pytest.mark.parametrize("style", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_the_bytes_decide(style):
    data = a_tar(style)
    assert sniff(data[:HEAD]) == "none"
    assert sniff(data[:100]) is None
    assert sniff(data[1 : HEAD + 1]) is None
    assert sniff(gzip.compress(data)) == "gzip"
    assert sniff(bz2.compress(data)) == "bzip2"
    assert sniff(lzma.compress(data)) == "xz"


@pytest.mark.parametrize("name", ["BZh91AY", "PK\3\4", "\x1f\x8b"])
def test_a_name_in_a_tar_may_begin_as_another_format_does(name):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT, encoding="latin-1") as tar:
        tar.addfile(tarfile.TarInfo(name))
    assert sniff(file.getvalue()[:HEAD]) == "none"


def test_other_beginnings():
    assert sniff(b"\x28\xb5\x2f\xfd\x00") == "zstd"
    assert sniff(b"\x50\x2a\x4d\x18\x00\x00\x00\x00") == "zstd"  # a skippable frame
    assert sniff(bytes(HEAD)) == "none"  # an empty layer
    assert sniff(b"") is None
    assert sniff(b"<html>" + b"x" * HEAD) is None


@given(st.binary(max_size=2 * HEAD))
def test_any_bytes_can_be_looked_at(head):
    assert sniff(head) in {None, "none", "gzip", "zstd", "bzip2", "xz", "lz4", "zip"}
