"""pycurl as well as it can be tuned: one multi handle, 1 MiB buffers, huge pages or pwrite.

libcurl hands over at most 16 KiB a callback whatever the buffer, and pycurl makes a bytes object of
each before our copy to the final address: that is what this row shows. To a file 1 MiB is gathered
before it is written, for tmpfs wants large blocks.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pycurl

from bench.clients import Task, huge_memory, report, task, write_all

if TYPE_CHECKING:
    from collections.abc import Callable

BLOCK = 1 << 20


def to_memory(memory: memoryview, at: int, stop: int) -> Callable[[bytes], int | None]:
    def write(data: bytes) -> int | None:
        nonlocal at
        end = at + len(data)
        if end > stop:
            return -1  # more than was asked for: makes libcurl fail the transfer
        memory[at:end] = data
        at = end
        return None

    return write


def to_file(file: int, at: int, stop: int) -> Callable[[bytes], int | None]:
    block = memoryview(bytearray(BLOCK + (64 << 10)))
    filled = 0

    def write(data: bytes) -> int | None:
        nonlocal at, filled
        block[filled : filled + len(data)] = data
        filled += len(data)
        if at + filled > stop:
            return -1
        if filled >= BLOCK or at + filled == stop:
            write_all(file, block[:filled], at)
            at, filled = at + filled, 0
        return None

    return write


def part(job: Task, start: int, stop: int, write: Callable[[bytes], int | None]) -> pycurl.Curl:
    curl = pycurl.Curl()
    curl.setopt(pycurl.URL, job.url)
    curl.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1)
    curl.setopt(pycurl.BUFFERSIZE, BLOCK)
    curl.setopt(pycurl.RANGE, f"{start}-{stop - 1}")
    curl.setopt(pycurl.WRITEFUNCTION, write)
    if job.ca_file:
        curl.setopt(pycurl.CAINFO, job.ca_file)
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
    job = task()
    if job.out is not None:
        file = job.open()
        perform([part(job, start, stop, to_file(file, start, stop)) for start, stop in job.parts()])
        return
    memory = memoryview(huge_memory(job.size))
    perform([part(job, start, stop, to_memory(memory, start, stop)) for start, stop in job.parts()])
    print(report(memory))


if __name__ == "__main__":
    main()
