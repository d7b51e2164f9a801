"""fsspec's HTTP file system: `cat_ranges`, as pandas and zarr read, one range a connection.

The result is one bytes object a range; they are not joined.
"""

import ssl
from typing import Any

import aiohttp
import fsspec

from bench.clients import report, task


def main() -> None:
    job = task()

    async def client(loop: Any, **options: Any) -> aiohttp.ClientSession:
        trust = ssl.create_default_context(cafile=job.ca_file) if job.tls else True
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=trust), read_bufsize=1 << 20, **options
        )

    files = fsspec.filesystem("http", get_client=client, skip_instance_cache=True)
    parts = job.parts()
    starts, stops = [start for start, _ in parts], [stop for _, stop in parts]
    pieces = files.cat_ranges([job.url] * len(parts), starts, stops, batch_size=job.count, on_error="raise")
    print(report(*(memoryview(piece) for piece in pieces)))


if __name__ == "__main__":
    main()
