"""Tensors as destinations, of every dtype. Opt-in: only where torch is installed."""

from __future__ import annotations

import pytest

import parpull
from tests.servers import content

torch = pytest.importorskip("torch", reason="torch is not installed: opt-in", exc_type=ImportError)

SIZE = 6 << 20
DTYPES = ["uint8", "float32", "float64", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "int64", "bool"]


def as_bytes(tensor):
    return tensor.view(torch.uint8).numpy().data


@pytest.mark.parametrize("name_of_dtype", DTYPES)
def test_into_a_tensor(name_of_dtype, origin, name):
    dtype = getattr(torch, name_of_dtype)
    width = torch.empty(0, dtype=dtype).element_size()
    tensor = torch.zeros(SIZE // width, dtype=dtype).reshape(2, -1)
    address = tensor.data_ptr()
    with parpull.fetch(origin.url(name, size=SIZE), tensor) as blob:
        assert blob.size == SIZE
    assert tensor.data_ptr() == address
    assert content.first_difference(as_bytes(tensor.flatten())) is None


def test_pinned(origin, name):
    if not torch.cuda.is_available():
        pytest.skip("pinning needs a GPU's driver")
    tensor = torch.zeros(SIZE, dtype=torch.uint8).pin_memory()
    address = tensor.data_ptr()
    parpull.fetch(origin.url(name, size=SIZE), tensor).close()
    assert tensor.data_ptr() == address
    assert content.first_difference(as_bytes(tensor)) is None


def test_unfit_tensors(origin, name):
    url = origin.url(name, size=100)
    for tensor in (torch.zeros(10, 10).t(), torch.zeros(10, requires_grad=True) * 2, torch.zeros(10, device="meta")):
        with pytest.raises(BufferError):
            parpull.fetch(url, tensor)
    assert len(origin.log(name)) == 0
    with pytest.raises(parpull.errors.BufferTooSmall):
        parpull.fetch(url, torch.zeros(10, dtype=torch.uint8))


def test_blob_as_tensor(origin, name):
    with parpull.fetch(origin.url(name, size=SIZE)) as blob:
        tensor = blob.tensor("bfloat16", (3, SIZE // 6))
        assert tensor.shape == (3, SIZE // 6)
        assert content.first_difference(as_bytes(tensor.flatten())) is None
        del tensor
