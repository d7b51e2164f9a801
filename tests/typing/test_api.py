"""What a type checker sees of the public API. Checked by mypy --strict, never run:
each `type: ignore` is a call that has to be wrong (unused ignores are errors)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, assert_type

import parpull
from parpull import Blob, Client, Download, Options, ParpullError, Progress, Target, errors, events

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

URL = "https://host/x"


def verbs() -> None:
    assert_type(parpull.fetch(URL), Blob)
    assert_type(parpull.submit(URL), Download)
    assert_type(parpull.fetch_ranges(URL, [(0, 5)]), list[Blob])
    assert_type(parpull.__version__, str)


def destinations(array: np.ndarray[Any, Any], allocate: Callable[[int], bytearray]) -> None:
    parpull.fetch(URL, None)
    parpull.fetch(URL, "name")
    parpull.fetch(URL, into=Path("name"))
    parpull.fetch(URL, bytearray(5))
    parpull.fetch(URL, memoryview(bytearray(5)))
    parpull.fetch(URL, array)
    parpull.fetch(URL, allocate)
    parpull.fetch_ranges(URL, ((0, 5), (5, 6)), into=bytearray(6))


def spans() -> None:
    parpull.fetch(URL, start=5)
    parpull.fetch(URL, start=5, stop=10)
    parpull.submit(URL, stop=None)
    parpull.fetch(URL, None, 5)  # type: ignore[call-arg]
    parpull.fetch(URL, start="5")  # type: ignore[arg-type]
    parpull.fetch_ranges(URL, [5])  # type: ignore[list-item]
    parpull.fetch_ranges(URL, [(0, 5)], start=1)  # type: ignore[call-arg]
    parpull.fetch(5)  # type: ignore[arg-type]
    parpull.fetch()  # type: ignore[call-arg]


def every_option() -> None:
    Options(
        connections=4,
        part_size=1 << 20,
        checksum="sha256=00",
        overwrite=True,
        retries=3,
        retry_for=1.5,
        connect_timeout=1,
        stall_timeout=2,
        headers={"A": "b"},
        auth=("user", "password"),
        cookies="a=b",
        proxy="http://p",
        noproxy="*",
        ca_file=Path("ca.pem"),
        cert="cert.pem",
        key="key.pem",
        http_version="2",
        max_memory=1 << 30,
        durable=True,
        size=5,
        steal=False,
        curl={1: "x", 2: 3, 4: ["y"]},
        on_event=lambda event: None,
    )
    Options(connections="auto", headers=["A: b"], part_size=None, checksum=None, on_event=None)


def wrong_options() -> None:
    Options(connections="many")  # type: ignore[arg-type]
    Options(conections=4)  # type: ignore[call-arg]
    Options(http_version="1.0")  # type: ignore[arg-type]
    Options(auth="user:password")  # type: ignore[arg-type]
    Options(retries=None)  # type: ignore[arg-type]
    parpull.fetch(URL, connections="many")  # type: ignore[arg-type]
    parpull.fetch(URL, nonsense=1)  # type: ignore[call-arg]
    parpull.submit(URL, retries="3")  # type: ignore[arg-type]
    parpull.fetch_ranges(URL, [(0, 1)], overwrite=5)  # type: ignore[arg-type]
    Client(retries="3")  # type: ignore[arg-type]


def option_objects(options: Options) -> None:
    assert_type(options.replace(retries=1), Options)
    assert_type(Options.from_env(), Options)
    assert_type(Options.from_env({"PARPULL_RETRIES": "1"}), Options)
    assert_type(options.limit, int)
    assert_type(options.retries, int)
    assert_type(options.retry_for, float)
    assert_type(options.headers, tuple[str, ...])
    assert_type(options.auth, tuple[str, str] | None)
    options.replace(nonsense=1)  # type: ignore[call-arg]


def clients(options: Options) -> None:
    with Client() as client:
        assert_type(client, Client)
        assert_type(client.fetch(URL, "x", overwrite=True), Blob)
        assert_type(client.submit(URL), Download)
        assert_type(client.fetch_ranges(URL, [(0, 1)]), list[Blob])
        assert_type(client.options, Options)
        client.fetch(URL, nonsense=1)  # type: ignore[call-arg]
    Client(options)
    Client(options, connections=3)
    Client({"retries": 3})  # type: ignore[arg-type]


async def downloads(download: Download) -> None:
    assert_type(await download, Blob)
    assert_type(download.result(), Blob)
    assert_type(download.result(timeout=1.5), Blob)
    assert_type(download.exception(), BaseException | None)
    assert_type(download.done(), bool)
    assert_type(download.cancel(), bool)
    assert_type(download.cancelled(), bool)
    assert_type(download.target, Target | None)
    download.add_done_callback(lambda done: print(done.url))
    download.add_done_callback(lambda: None)  # type: ignore[arg-type,misc]
    with download as same:
        assert_type(same, Download)
    progress = download.progress()
    assert_type(progress, Progress)
    assert_type(progress.landed, int)
    assert_type(progress.size, int | None)
    assert_type(progress.seconds, float)
    print(progress.nonsense)  # type: ignore[attr-defined]


def blobs(blob: Blob) -> None:
    memoryview(blob)
    bytes(blob)
    assert_type(len(blob), int)
    assert_type(blob.path, str | None)
    assert_type(blob.validator, str | None)
    assert_type(blob.digests, dict[str, str])
    blob.array("f4", (2, 3)).reshape(6)
    blob.array(shape=5)
    blob.array(shape="x")  # type: ignore[arg-type]
    with blob as same:
        assert_type(same, Blob)


def targets(target: Target) -> None:
    assert_type(target.size, int | None)
    assert_type(target.etag, str | None)
    assert_type(target.validator, str | None)
    assert_type(target.ranges, bool)


def watch(event: events.Event) -> None:
    assert_type(event.url, str)
    if isinstance(event, events.Finished):
        assert_type(event.error, ParpullError | None)
        assert_type(event.landed, int)
    parpull.fetch(URL, on_event=watch)
    parpull.fetch(URL, on_event=print)
    parpull.fetch(URL, on_event="print")  # type: ignore[arg-type]


def failing() -> None:
    try:
        parpull.fetch(URL)
    except errors.RetriesExhausted as error:
        assert_type(error.attempts, int)
        assert_type(error.last, ParpullError)
        assert_type(error.hint, str | None)
    except errors.NotFound as error:
        assert_type(error.status, int)
        as_builtin: FileNotFoundError = error
        print(as_builtin)
    except errors.ChecksumMismatch as error:
        assert_type((error.expected, error.actual), tuple[str, str])
