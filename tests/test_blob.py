"""Blobs: the buffer protocol, arrays on the same memory, files mapped when first asked,
and a close that never pulls memory away from under a view."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from parpull import Blob
from parpull._mapping import Mapping, live_mappings
from parpull.errors import BadOption

DATA = bytes(range(64))


def in_memory(data=DATA):
    mapping = Mapping(len(data))
    with memoryview(mapping) as view:
        view[:] = data
    return Blob(mapping, size=len(data), validator='"v"', digests={"md5": "00"})


@pytest.fixture
def blob():
    with in_memory() as blob:
        yield blob


@pytest.fixture
def on_disk(tmp_path):
    (tmp_path / "x").write_bytes(DATA)
    with Blob(None, size=len(DATA), path=str(tmp_path / "x")) as blob:
        yield blob


def test_what_it_knows(blob):
    assert (len(blob), blob.size, blob.path, blob.validator, blob.digests) == (64, 64, None, '"v"', {"md5": "00"})
    assert repr(blob) == "<parpull.Blob in memory, 64 bytes>"
    assert Blob(None, size=12345, path="/x").digests == {}
    assert repr(Blob(None, size=12345, path="/x")) == "<parpull.Blob '/x', 12,345 bytes>"


def test_the_buffer_protocol(blob):
    assert bytes(blob) == DATA
    with memoryview(blob) as view:
        assert not view.readonly
        view[0] = 99
    assert bytes(blob)[0] == 99
    assert b"".join([blob])[1:] == DATA[1:]


def test_close_gives_the_memory_back():
    before = live_mappings()
    blob = in_memory()
    view = memoryview(blob)
    with pytest.raises(BufferError):
        blob.close()
    assert bytes(view) == DATA
    view.release()
    blob.close()
    blob.close()
    assert live_mappings() == before
    with pytest.raises(BufferError, match="closed"):
        memoryview(blob)


@pytest.mark.parametrize("use", [lambda blob: blob.array(), lambda blob: blob.array("f4"), bytes])
def test_a_closed_blob_gives_no_bytes(use):
    for size in (64, 0):
        blob = in_memory(DATA[:size])
        blob.close()
        with pytest.raises((BufferError, TypeError, ValueError)):
            use(blob)


def test_the_rest_of_a_view_keeps_the_memory():
    before = live_mappings()
    view = memoryview(in_memory())
    assert bytes(view) == DATA
    view.release()
    assert live_mappings() == before


def test_a_blob_on_a_part_of_a_buffer():
    memory = bytearray(DATA)
    blob = Blob(memoryview(memory)[8:16], size=8)
    assert bytes(blob) == DATA[8:16]
    view = memoryview(blob)
    with pytest.raises(BufferError):
        blob.close()
    view.release()
    blob.close()
    memory.append(1)  # nothing exports it any more


# --- files --------------------------------------------------------------------------------


def test_a_file_is_mapped_when_it_is_asked_for(on_disk):
    assert on_disk.source is None
    assert bytes(on_disk) == DATA
    with memoryview(on_disk) as view:
        assert view.readonly
        with pytest.raises(BufferError):
            on_disk.close()
    assert on_disk.array("u1").tolist() == list(DATA)


@pytest.mark.filterwarnings("ignore:.*path should be string:DeprecationWarning")
def test_its_bytes_are_never_taken_for_a_path(tmp_path):
    """os.stat, os.unlink … look at the buffer protocol before __fspath__."""
    (tmp_path / "precious").touch()
    (tmp_path / "x").write_bytes(os.fsencode(tmp_path / "precious"))
    blob = Blob(None, size=len(os.fsencode(tmp_path / "precious")), path=str(tmp_path / "x"))
    if hasattr(blob, "__fspath__"):
        assert os.path.samefile(blob, tmp_path / "x")


def test_an_empty_file(tmp_path):
    (tmp_path / "x").touch()
    with Blob(None, size=0, path=str(tmp_path / "x")) as blob:
        assert bytes(blob) == b""
        assert blob.array().size == 0


def test_a_file_that_shrank_is_an_error_not_a_signal(tmp_path):
    (tmp_path / "x").write_bytes(DATA)
    blob = Blob(None, size=64, path=str(tmp_path / "x"))
    os.truncate(tmp_path / "x", 10)
    with pytest.raises((ValueError, OSError)):
        memoryview(blob)


def test_a_file_that_is_gone(tmp_path):
    with pytest.raises(FileNotFoundError):
        memoryview(Blob(None, size=5, path=str(tmp_path / "no")))


# --- arrays ---------------------------------------------------------------------------------


def test_arrays_share_the_memory(blob):
    array = blob.array("<u4", (4, 4))
    assert (array.shape, array.dtype) == ((4, 4), np.dtype("<u4"))
    array[0, 0] = 7
    assert bytes(blob)[:4] == b"\7\0\0\0"
    with pytest.raises(BufferError):
        blob.close()
    del array


@pytest.mark.parametrize(
    ("dtype", "shape", "expected"),
    [("u1", None, (64,)), (np.float32, None, (16,)), (np.dtype("f8"), (2, 4), (2, 4)), ("f2", -1, (32,)),
     ("u1", (8, -1), (8, 8)), ("f4", 16, (16,)), ("S8", None, (8,)), ([("a", "u4"), ("b", "u4")], None, (8,)),
     ("M8[ns]", None, (8,))],
)  # fmt: skip
def test_shapes(blob, dtype, shape, expected):
    assert blob.array(dtype, shape).shape == expected


@pytest.mark.parametrize(
    ("dtype", "shape", "name"),
    [("u1", (5, 13), "shape"), ("f4", 64, "shape"), ("f4", (-1, -1), "shape"), ("f4", (0,), "shape"),
     ("u1", (3, -1), "shape"), ("S5", None, "dtype"), ("V3", None, "dtype"), ("S", None, "dtype"),
     ("V0", None, "dtype"), ("U", None, "dtype"),
     ("O", None, "dtype"), ("nonsense", None, "dtype"), ("float8_nonsense", None, "dtype")],
)  # fmt: skip
def test_what_does_not_fit(dtype, shape, name):
    with pytest.raises(BadOption) as caught, in_memory() as blob:  # nor is it masked by the block's end
        blob.array(dtype, shape)
    assert caught.value.name == name
    assert caught.value.value in (shape, dtype, str(dtype))


def test_bfloat16_needs_ml_dtypes(blob, monkeypatch):
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    for name in ("bfloat16", "bf16", "fp8", "float8_e4m3fn"):
        with pytest.raises(BadOption) as caught:
            blob.array(name)
        assert "ml_dtypes" in caught.value.hint


def test_nothing_makes_an_empty_array():
    with in_memory(b"") as blob:
        assert bytes(blob) == b""
        assert blob.array("f4").shape == (0,)
        assert blob.array("f4", (0, 3)).shape == (0, 3)
        with pytest.raises(BadOption):
            blob.array("f4", (1,))


def test_numpy_comes_only_with_arrays():
    code = "import sys, parpull; parpull.Blob(b'abc', size=3); assert 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
