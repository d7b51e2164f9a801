"""Libraries that read files, on files that parpull opens: what they get is what they
get from a local file; and what reading one column of many costs on the wire."""

from __future__ import annotations

import csv
import gzip
import importlib
import io
import json
import os
import pickle
import tarfile
import zipfile

import numpy as np
import pytest

import parpull
from tests.servers.content import content
from tests.servers.fixtures import real
from tests.servers.real import HttpServer, Nginx

ROWS, COLUMNS = 320_000, 20  # of eight bytes: 51 MB


def library(name):
    """The module, or a skip; a failure where PARPULL_REQUIRE=all says that nothing may be skipped."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        if os.environ.get("PARPULL_REQUIRE") == "all":
            pytest.fail(f"{name} is not installed: {error}")
        return pytest.skip(f"{name} is not installed: opt-in")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the server looks."""
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="module")
def with_ranges(folder):
    with real(lambda: Nginx(folder)) as server:
        yield server


@pytest.fixture(scope="module")
def without_ranges(folder):
    with real(lambda: HttpServer(folder)) as server:
        yield server


@pytest.fixture
def served(folder, with_ranges):
    """served(path) opens a file of the folder through the server."""
    return lambda path, *args, **options: parpull.open(with_ranges.url(path.name), *args, **options)


@pytest.fixture
def table():
    """COLUMNS columns of numbers that do not compress."""
    pyarrow = library("pyarrow")
    random = np.random.default_rng(1)
    return pyarrow.table({f"c{i}": random.random(ROWS) for i in range(COLUMNS)})


def test_tarfile(folder, served, without_ranges):
    path = folder / "object.tar"
    with tarfile.open(path, "w") as tar:
        for i in range(40):
            member = tarfile.TarInfo(f"m{i}")
            member.size = i * 10_007
            tar.addfile(member, io.BytesIO(content(i, member.size)))
    with served(path) as file, tarfile.open(fileobj=file) as tar:
        assert tar.extractfile("m39").read() == content(39, 39 * 10_007)
        assert tar.extractfile("m7").read() == content(7, 7 * 10_007)
    for opened in (served(path, window=1 << 20), parpull.open(without_ranges.url(path.name), window=1 << 20)):
        with opened as file, tarfile.open(fileobj=file, mode="r|") as tar:
            for i, member in enumerate(tar):
                assert tar.extractfile(member).read() == content(i, i * 10_007)


def test_zipfile_and_gzip(folder, served):
    path = folder / "object.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(20):
            archive.writestr(f"m{i}", content(i, 300_000))
    with served(path) as file, zipfile.ZipFile(file) as archive:
        assert archive.read("m13") == content(13, 300_000)
        assert file.progress().landed < 1_500_000 < path.stat().st_size
        assert archive.testzip() is None
    path = folder / "object.gz"
    path.write_bytes(gzip.compress(content(0, 3_000_000)))
    with served(path) as file, gzip.open(file) as unpacked:
        assert unpacked.read() == content(0, 3_000_000)


def test_numpy(folder, served):
    array = np.arange(500_000, dtype="f8").reshape(500, 1000)
    np.save(folder / "object.npy", array)
    np.savez(folder / "object.npz", first=array, second=array[::-1])
    with served(folder / "object.npy") as file:
        assert np.array_equal(np.load(file), array)
    with served(folder / "object.npz") as file, np.load(file) as arrays:
        assert np.array_equal(arrays["second"], array[::-1])


def test_pickle_json_and_csv(folder, served):
    value = {"name": "x" * 1000, "numbers": list(range(100_000)), "bytes": "ü" * 70_000}
    (folder / "object.pickle").write_bytes(pickle.dumps(value))
    (folder / "object.json").write_text(json.dumps(value))
    (folder / "object.csv").write_text("".join(f"{i},{i * i}\r\n" for i in range(30_000)))
    with served(folder / "object.pickle") as file:
        assert pickle.load(file) == value
    with served(folder / "object.json") as file:
        assert json.load(file) == value
    with served(folder / "object.csv") as file, io.TextIOWrapper(file, "utf-8", newline="") as text:
        assert sum(int(square) for _, square in csv.reader(text)) == sum(i * i for i in range(30_000))


@pytest.mark.leaks  # the libraries' own pools of threads stay
def test_pandas(folder, served):
    pandas = library("pandas")
    library("pyarrow")
    frame = pandas.DataFrame({"a": range(100_000), "b": [f"text {i}" for i in range(100_000)]})
    frame.to_csv(folder / "frame.csv", index=False)
    frame.to_parquet(folder / "frame.parquet")
    with served(folder / "frame.csv") as file:
        assert pandas.read_csv(file).equals(frame)
    with served(folder / "frame.parquet") as file:
        assert pandas.read_parquet(file).equals(frame)


def needed(parquet, path, column):
    """Bytes of a column's parts and of the footer."""
    about = parquet.ParquetFile(path).metadata
    total = about.serialized_size + 8
    for group in range(about.num_row_groups):
        total += about.row_group(group).column(column).total_compressed_size
    return total


@pytest.mark.parametrize("groups", [1, 10])
@pytest.mark.leaks  # the libraries' own pools of threads stay
def test_one_parquet_column_of_twenty(groups, folder, served, with_ranges, table, record_property):
    """At most a fifth more than what is needed; fsspec beside it for comparison."""
    parquet = library("pyarrow.parquet")
    path = folder / f"columns-{groups}.parquet"
    parquet.write_table(table, path, compression=None, use_dictionary=False, row_group_size=ROWS // groups)
    least = needed(parquet, path, 7)
    with served(path) as file:
        got = parquet.ParquetFile(file, pre_buffer=False).read(["c7"])
        assert got.equals(table.select(["c7"]))
        now = file.progress()
    print(f"\n{path.stat().st_size:,} bytes, {groups} row groups: needed {least:,}")
    print(f"parpull {now.landed:,} ({now.landed / least:.3f}) in {now.requests} requests")
    record_property("parpull", now.landed / least)
    assert now.landed <= 1.2 * least
    record_property("fsspec", with_fsspec(with_ranges.url(path.name), parquet) / least)


def with_fsspec(url, parquet):
    """Bytes that fsspec's file over HTTP fetches for the same."""
    try:
        fsspec = importlib.import_module("fsspec")
        importlib.import_module("aiohttp")
    except ImportError:
        return 0
    fetched = 0
    with fsspec.open(url) as file:
        fetch = file.cache.fetcher

        def counting(start, stop):
            nonlocal fetched
            data = fetch(start, stop)
            fetched += len(data)
            return data

        file.cache.fetcher = counting
        parquet.ParquetFile(file, pre_buffer=False).read(["c7"])
    print(f"fsspec {fetched:,}")
    return fetched


def test_h5py(folder, served):
    h5py = library("h5py")
    path = folder / "object.h5"
    random = np.random.default_rng(2).random((20, 100_000))
    with h5py.File(path, "w") as file:
        for i, row in enumerate(random):
            file.create_dataset(f"group/{i}", data=row, chunks=(10_000,))
    with served(path) as opened, h5py.File(opened, "r") as file:
        assert np.array_equal(file["group/13"][20_000:30_000], random[13, 20_000:30_000])
        assert opened.progress().landed < path.stat().st_size / 4
        assert all(np.array_equal(file[f"group/{i}"], row) for i, row in enumerate(random))


@pytest.mark.parametrize("kind", ["png", "jpeg", "tiff"])
def test_pillow(kind, folder, served):
    image = library("PIL.Image")
    path = folder / f"object.{kind}"
    made = image.frombytes("RGB", (400, 300), content(0, 360_000))
    made.save(path)
    with served(path) as file, image.open(file) as got, image.open(path) as local:
        assert got.size == (400, 300)
        assert got.tobytes() == local.tobytes()


def test_safetensors(folder, served):
    """Its API takes bytes or a path: bytes from a reader, a path from fetch(); and the
    header, by which one tensor of many is fetched, is JSON behind a length."""
    safetensors = library("safetensors.numpy")
    tensors = {f"t{i}": np.full((300, 1000), i, "f4") for i in range(10)}
    path = folder / "object.safetensors"
    safetensors.save_file(tensors, path)
    with served(path, access="sequential") as file:
        got = safetensors.load(file.read())
    assert all(np.array_equal(got[name], tensor) for name, tensor in tensors.items())
    with served(path) as file:
        length = int.from_bytes(file.read(8), "little")
        start, stop = json.loads(file.read(length))["t6"]["data_offsets"]
        file.seek(8 + length + start)
        one = np.frombuffer(file.read(stop - start), "f4").reshape(300, 1000)
        assert np.array_equal(one, tensors["t6"])
        assert file.progress().landed < 1.2 * one.nbytes
