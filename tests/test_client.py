"""The verbs: what comes back, into which destination, and what is refused before
or after the first response."""

from __future__ import annotations

import asyncio
import ctypes
import socket
from multiprocessing import resource_tracker, shared_memory

import numpy as np
import pytest

import parpull
from parpull import errors
from tests.servers import content
from tests.servers.origin import Origin

BLOCK = 1 << 20
resource_tracker.ensure_running()  # its pipe is not a leak of ours


def right(blob, start=0, version=0):
    with memoryview(blob) as view:
        return not len(view) or content.first_difference(view, start, version) is None


@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 37 * BLOCK + 12345])
@pytest.mark.parametrize("connections", [1, 2, 16, 64])
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_sizes(size, connections, tls, origin, tls_origin, name, tmp_path):
    server = tls_origin if tls else origin
    url = server.url(name, size=size)
    options = {"connections": connections, "ca_file": server.ca_file}
    with parpull.fetch(url, **options) as blob:
        assert blob.size == len(blob) == size
        assert blob.path is None
        assert right(blob)
    with parpull.fetch(url, tmp_path / "object", **options) as blob:
        assert blob.size == size == (tmp_path / "object").stat().st_size
        assert right(blob)
    assert [p.name for p in tmp_path.iterdir()] == ["object"]


@pytest.mark.parametrize(
    "manner", [{"ranges": "no"}, {"ranges": "no", "length": "chunked"}, {"length": "close", "ranges": "no"}]
)
@pytest.mark.parametrize("size", [0, 1, 5 * BLOCK + 7])
def test_streams(manner, size, origin, name, tmp_path):
    """No ranges, no length: one stream, kept from its first byte."""
    url = origin.url(name, size=size, **manner)
    for into in (None, tmp_path / "object", bytearray(size + 10)):
        with parpull.fetch(url, into) as blob:
            assert blob.size == size
            assert right(blob)
    assert len(origin.log(name)) == 3


def test_empty_object_in_the_style_of_s3(origin, name):
    assert parpull.fetch(origin.url(name, size=0, empty="416")).size == 0


@pytest.mark.parametrize(("start", "stop"), [(0, 1), (12345, 9 * BLOCK + 3), (BLOCK, None), (5, 5), (20 * BLOCK, None)])
@pytest.mark.parametrize("ranges", ["yes", "no"])
def test_sub_range(start, stop, ranges, origin, name):
    size = 20 * BLOCK
    with parpull.fetch(origin.url(name, size=size, ranges=ranges), start=start, stop=stop) as blob:
        assert blob.size == (size if stop is None else stop) - start
        assert right(blob, start)


def test_sub_range_is_clipped_like_a_slice(origin, name):
    with parpull.fetch(origin.url(name, size=100), start=90, stop=1000) as blob:
        assert blob.size == 10
        assert right(blob, 90)
    with pytest.raises(errors.BadOption, match="beyond"):
        parpull.fetch(origin.url(name, size=100), start=101)


# --- destinations -------------------------------------------------------------------


class Interface:
    """Memory that only has __array_interface__."""

    def __init__(self, size):
        self.array = np.zeros(size, "u1")
        self.__array_interface__ = self.array.__array_interface__


def test_into_buffers(origin, name):
    size = 3 * BLOCK + 5
    url = origin.url(name, size=size)
    shared = shared_memory.SharedMemory(create=True, size=size)
    try:
        for target in (bytearray(size), np.zeros(size, "u1"), (ctypes.c_char * size)(), shared.buf):
            with parpull.fetch(url, target) as blob:
                assert blob.size == size
            with memoryview(target).cast("B") as view:
                assert content.first_difference(view[:size]) is None
        holder = Interface(size)
        parpull.fetch(url, holder).close()
        assert content.first_difference(holder.array) is None
    finally:
        shared.unlink()
        shared.close()


def test_buffer_is_free_again_afterwards(origin, name):
    target = bytearray(1000)
    parpull.fetch(origin.url(name, size=1000), target).close()
    target.append(1)  # BufferError while anything still exports it


def test_allocate(origin, name):
    asked = []

    def allocate(size):
        asked.append(size)
        return np.empty(size, "u1")

    with parpull.fetch(origin.url(name, size=123456), allocate) as blob:
        assert right(blob)
    assert asked == [123456]


def test_allocate_that_fails(origin, name):
    def allocate(size):
        raise RuntimeError("no pinned memory left")

    with pytest.raises(RuntimeError, match="pinned"):
        parpull.fetch(origin.url(name, size=10), allocate)


def test_array_is_a_view(origin, name):
    with parpull.fetch(origin.url(name, size=4 * 1024)) as blob:
        array = blob.array("float32", (32, 32))
        array[0, 0] = 42.0
        assert memoryview(blob)[:4].cast("f")[0] == 42.0
        with pytest.raises(BufferError):
            blob.close()
        with pytest.raises(errors.BadOption):
            blob.array("float32", (33, 32))
        del array


@pytest.mark.parametrize(
    "target", [b"123456", memoryview(b"123456"), np.zeros((4, 4), order="F"), np.zeros(8)[::2]], ids=repr
)
def test_unfit_buffer_is_refused_before_any_request(target, origin, name):
    with pytest.raises(BufferError):
        parpull.fetch(origin.url(name, size=6), target)
    assert len(origin.log(name)) == 0


def test_no_destination_at_all(origin, name):
    with pytest.raises(TypeError, match="cannot land in a float"):
        parpull.fetch(origin.url(name, size=6), 5.0)
    assert len(origin.log(name)) == 0


def test_small_buffer_is_refused_before_a_byte_lands(origin, name):
    target = bytearray(BLOCK)
    with pytest.raises(errors.BufferTooSmall) as caught:
        parpull.fetch(origin.url(name, size=9 * BLOCK), target)
    assert (caught.value.needed, caught.value.given) == (9 * BLOCK, BLOCK)
    assert not any(target)
    assert len(origin.log(name)) == 1


def test_memory_budget(origin, name):
    with pytest.raises(errors.MemoryBudget) as caught:
        parpull.fetch(origin.url(name, size=9 * BLOCK), max_memory=BLOCK)
    assert caught.value.needed == 9 * BLOCK
    assert "into=path" in caught.value.hint
    with pytest.raises(MemoryError):
        parpull.fetch(origin.url(name, size=9 * BLOCK, ranges="no", length="chunked"), max_memory=BLOCK)


# --- ranges -------------------------------------------------------------------------


def test_fetch_ranges(name):
    size, count = 1 << 30, 1000
    step = size // count
    wanted = [(i * step, i * step + 65536) for i in range(count)]
    with Origin() as server:
        url = server.url(name, size=size, redirect="signed")
        blobs = parpull.fetch_ranges(url, wanted, connections=16)
        log = server.log(name)
        assert all(right(blob, start) for blob, (start, _) in zip(blobs, wanted, strict=True))
        assert log.resolutions == 1
        assert len(log.with_status(206)) == count
        assert server.most_open <= 16
        assert log.sent - 65536 * count < 10_000  # the redirect's own body


def test_fetch_ranges_in_any_order_overlapping_and_near(origin, name):
    wanted = [(500_000, 600_000), (0, 10), (550_000, 700_000), (700_010, 700_020), (0, 10)]
    blobs = parpull.fetch_ranges(origin.url(name, size=BLOCK), wanted)
    assert all(right(b, start) and b.size == stop - start for b, (start, stop) in zip(blobs, wanted, strict=True))
    assert len(origin.log(name)) == 2


def test_fetch_ranges_into_a_buffer(origin, name):
    wanted = [(500_000, 600_000), (0, 10), (10, 20)]
    target = bytearray(100_020)
    parpull.fetch_ranges(origin.url(name, size=BLOCK), wanted, target)
    assert bytes(target) == b"".join(content.content(a, b - a) for a, b in wanted)


def test_fetch_ranges_refusals(origin, name):
    url = origin.url(name, size=1000)
    assert parpull.fetch_ranges(url, []) == []
    for bad in ([(5, 5)], [(-1, 5)], [(9, 5)], [(0, 2000)], [(0, 10), (999_000, 999_010)]):
        with pytest.raises(errors.BadOption):
            parpull.fetch_ranges(url, bad)
    with pytest.raises(errors.BufferTooSmall):
        parpull.fetch_ranges(url, [(0, 10)], bytearray(9))
    for length in ("known", "chunked"):
        with pytest.raises(errors.RangeIgnored):
            url = origin.url(name, size=BLOCK, ranges="no", length=length)
            parpull.fetch_ranges(url, [(0, 10), (900_000, 900_010)])


# --- bad input -----------------------------------------------------------------------


def closed_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("gopher://host/x", errors.UnknownScheme),
        ("no url at all", errors.BadURL),
        ("http://", errors.BadURL),
        ("http://host:port/", errors.BadURL),
        ("http://host/a\nb", errors.BadURL),
        ("http://nowhere.invalid/x", errors.ConnectFailed),
    ],
)
def test_bad_urls(url, kind):
    with pytest.raises(kind) as caught:
        parpull.fetch(url)
    assert caught.value.hint or kind is errors.BadURL


def test_closed_port():
    with pytest.raises(ConnectionError) as caught:
        parpull.fetch(f"http://127.0.0.1:{closed_port()}/secret?token=hush", auth=("me", "hush"))
    assert caught.value.hint
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("scenario", "kind"),
    [("not-found", FileNotFoundError), ("forbidden", PermissionError), ("unauthorized", PermissionError)],
)
def test_statuses(scenario, kind, origin, name, tmp_path):
    from tests.servers.scenarios import load_all

    if scenario not in load_all():
        url = origin.url(name, size=10, auth="me:hush")
    else:
        url = origin.url(name, size=10, scenario=scenario)
    with pytest.raises(kind):
        parpull.fetch(url, tmp_path / "object")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("condition", ["expired", "wrong-host", "untrusted"])
def test_tls_failures(condition, name):
    with Origin(tls=condition) as server, pytest.raises(errors.TLSFailed) as caught:
        parpull.fetch(server.url(name, size=10), ca_file=None if condition == "untrusted" else server.ca_file)
    assert isinstance(caught.value, ConnectionError)


def test_existing_file_is_untouched(origin, name, tmp_path):
    target = tmp_path / "object"
    target.write_bytes(b"precious")
    with pytest.raises(FileExistsError) as caught:
        parpull.fetch(origin.url(name, size=10), target)
    assert "overwrite" in caught.value.hint
    assert target.read_bytes() == b"precious"
    assert len(origin.log(name)) == 0
    with pytest.raises(errors.NotFound):
        parpull.fetch(origin.url(name, size=10, scenario="not-found"), target, overwrite=True)
    assert target.read_bytes() == b"precious"
    parpull.fetch(origin.url(name, size=10), target, overwrite=True)
    assert target.read_bytes() == content.content(0, 10)


def test_wrong_checksum_leaves_no_file(origin, name, tmp_path):
    with pytest.raises(errors.ChecksumMismatch) as caught:
        parpull.fetch(origin.url(name, size=5 * BLOCK), tmp_path / "object", checksum="sha256=" + "0" * 64)
    assert caught.value.actual == content.sha256(5 * BLOCK)
    assert not list(tmp_path.iterdir())


def test_checksum_and_size(origin, name, tmp_path):
    size = 25 * BLOCK + 1
    digest = content.sha256(size)
    for into in (None, tmp_path / "object"):
        with parpull.fetch(origin.url(name, size=size), into, checksum=f"sha256={digest}", size=size) as blob:
            assert blob.digests == {"sha256": digest}
            assert blob.validator
    with pytest.raises(errors.SizeMismatch):
        parpull.fetch(origin.url(name, size=size), size=size + 1)


# --- credentials ----------------------------------------------------------------------


def test_credentials_stay_with_their_origin(name):
    with Origin() as home, Origin() as away:
        url = home.url(name, size=9 * BLOCK, redirect="plain", to=away.url(name, size=9 * BLOCK))
        secrets = {"auth": ("me", "hush"), "headers": {"X-Token": "hush"}, "cookies": "a=hush"}
        with parpull.fetch(url, **secrets) as blob:
            assert right(blob)
        first = home.log(name).requests[0].headers
        assert first["authorization"].startswith("Basic ")
        assert (first["x-token"], first["cookie"]) == ("hush", "a=hush")
        for header in ("authorization", "x-token", "cookie"):
            assert not away.log(name).with_header(header)
        assert all(r.headers["user-agent"].startswith("parpull/") for r in away.log(name).requests)


# --- the rest of the surface ----------------------------------------------------------------


def test_events_tell_the_story(origin, name):
    seen = []
    with parpull.fetch(origin.url(name, size=9 * BLOCK, redirect="signed"), on_event=seen.append):
        pass
    assert [e.kind for e in seen] == ["redirected", "started", "finished"]
    assert seen[1].size == 9 * BLOCK
    assert seen[-1].error is None
    assert "sig=" not in repr(seen)


def test_await_and_gather(origin, name):
    async def main():
        async with asyncio.timeout(60):
            with parpull.Client() as client:
                downloads = [client.submit(origin.url(name, size=n * BLOCK)) for n in (1, 2, 3)]
                return [await d for d in downloads]

    assert [b.size for b in asyncio.run(main())] == [BLOCK, 2 * BLOCK, 3 * BLOCK]


def test_one_client_shares_its_connections(name):
    with Origin() as server, parpull.Client(connections=4) as client:
        downloads = [client.submit(server.url(f"{name}{i}", size=6 * BLOCK, pace=50_000_000)) for i in range(5)]
        assert all(right(d.result()) for d in downloads)
        assert server.most_open <= 4


def test_closed_client_takes_nothing(origin, name):
    client = parpull.Client()
    client.close()
    with pytest.raises(RuntimeError, match="closed"):
        client.fetch(origin.url(name, size=1))


def test_forgotten_client_warns_and_stops(origin, name):
    client = parpull.Client()
    client.fetch(origin.url(name, size=1)).close()
    with pytest.warns(ResourceWarning, match="unclosed"):
        del client
