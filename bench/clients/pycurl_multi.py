"""pycurl as well as it can be tuned: one multi handle, 1 MiB buffers, huge pages.

Usage: `python -m bench.clients.pycurl_multi URL SIZE CONNECTIONS`

libcurl hands over at most 16 KiB a callback whatever the buffer, and pycurl makes a
bytes object of each before our copy to the final address: that is what this row shows.
"""

import sys
from collections.abc import Callable

import pycurl  # type: ignore[import-untyped, unused-ignore]

from bench.clients import huge_memory, report


def writer(memory: memoryview, at: int, stop: int) -> Callable[[bytes], int | None]:
    def write(data: bytes) -> int | None:
        nonlocal at
        end = at + len(data)
        if end > stop:
            return -1  # more than was asked for: makes libcurl fail the transfer
        memory[at:end] = data
        at = end
        return None

    return write


def part(url: str, memory: memoryview, start: int, stop: int) -> pycurl.Curl:
    curl = pycurl.Curl()
    curl.setopt(pycurl.URL, url)
    curl.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1)
    curl.setopt(pycurl.BUFFERSIZE, 1 << 20)
    curl.setopt(pycurl.RANGE, f"{start}-{stop - 1}")
    curl.setopt(pycurl.WRITEFUNCTION, writer(memory, start, stop))
    return curl


def perform(curls: list[pycurl.Curl]) -> None:
    multi = pycurl.CurlMulti()
    for curl in curls:
        multi.add_handle(curl)
    running = len(curls)
    while running:
        _, running = multi.perform()
        if running:
            multi.select(1.0)
    _, _, failed = multi.info_read(len(curls))
    if failed or any(c.getinfo(pycurl.RESPONSE_CODE) != 206 for c in curls):
        sys.exit(f"pycurl: {failed or 'not a partial response'}")


def main() -> None:
    url, size, connections = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    memory = memoryview(huge_memory(size))
    cuts = [size // connections * i for i in range(connections)] + [size]
    perform([part(url, memory, cuts[i], cuts[i + 1]) for i in range(connections)])
    print(report(memory))


if __name__ == "__main__":
    main()
