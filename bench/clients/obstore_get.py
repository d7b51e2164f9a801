"""obstore (Rust's object_store): ranges at the same time, by asyncio into memory, by threads to a file.

`get_ranges` would join neighbours into one request, so each range is asked for by itself. To a file
parts are 16 MiB, since each is a buffer of its own before it is written.
"""

import asyncio
from typing import Any

import obstore
from obstore.store import HTTPStore

from bench.clients import Task, in_threads, report, task, write_all

LARGEST = 16 << 20


async def to_memory(store: Any, key: str, job: Task) -> None:
    asked = [obstore.get_range_async(store, key, start=start, end=stop) for start, stop in job.parts()]
    print(report(*(memoryview(piece) for piece in await asyncio.gather(*asked))))


def to_file(store: Any, key: str, job: Task) -> None:
    file = job.open()
    left = job.parts(LARGEST)[::-1]

    def work() -> None:
        while True:
            try:
                start, stop = left.pop()
            except IndexError:
                return
            write_all(file, memoryview(obstore.get_range(store, key, start=start, end=stop)), start)

    in_threads(work, job.count)


async def many(store: Any, job: Task) -> None:
    gate = asyncio.Semaphore(job.count)

    async def one(url: str, path: str) -> None:
        async with gate:
            answer = await obstore.get_async(store, url.rpartition("/")[2])
            data = await answer.bytes_async()
        with open(path, "wb") as file:  # noqa: ASYNC230, tmpfs and small: a thread would cost more
            file.write(memoryview(data))

    await asyncio.gather(*(one(url, path) for url, path in job.many()))


def main() -> None:
    job = task()
    base, _, key = job.url.rpartition("/")
    store = HTTPStore.from_url(base, client_options={"allow_http": not job.tls, "http1_only": True})
    if job.urls:
        asyncio.run(many(store, job))
    elif job.out:
        to_file(store, key, job)
    else:
        asyncio.run(to_memory(store, key, job))


if __name__ == "__main__":
    main()
