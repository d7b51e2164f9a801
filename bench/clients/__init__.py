"""Programs that the benchmark runs as processes and measures from outside.

Each takes its task on the command line (`task`), brings the bytes where they belong, and prints one
line of JSON (`report`) when that is memory. They run in the bench's own environment and import
nothing of parpull's.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import mmap
import os
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable

SAMPLES = 64


@dataclass(frozen=True)
class Task:
    """One object, or the many of `urls`; `out` is a file, or their folder; None is memory."""

    url: str
    size: int
    connections: int | None
    out: str | None
    ca_file: str | None
    urls: tuple[str, ...]

    @property
    def count(self) -> int:
        return self.connections or 8

    @property
    def host(self) -> tuple[str, int]:
        split = urlsplit(self.url)
        return split.hostname or "", split.port or (443 if split.scheme == "https" else 80)

    @property
    def tls(self) -> bool:
        return self.url.startswith("https:")

    def parts(self, largest: int | None = None) -> list[tuple[int, int]]:
        """(start, stop) of one part a connection, or of as many as make none larger than that."""
        step = -(-self.size // self.count)
        step = min(step, largest or step)
        return [(at, min(at + step, self.size)) for at in range(0, self.size, step)]

    def open(self) -> int:
        """A descriptor of the file, as long as the object."""
        assert self.out is not None
        file = os.open(self.out, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
        os.truncate(file, self.size)
        return file

    def many(self) -> list[tuple[str, str]]:
        """Each URL with the file to write it to."""
        assert self.out is not None
        return [(url, os.path.join(self.out, urlsplit(url).path.rpartition("/")[2])) for url in self.urls]


def task() -> Task:
    """What the command line asks for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("size", type=int)
    parser.add_argument("--connections", type=int)
    parser.add_argument("--out")
    parser.add_argument("--ca-file")
    parser.add_argument("--urls", nargs="*", default=())
    options = vars(parser.parse_args())
    return Task(**{**options, "urls": tuple(options["urls"])})


def in_threads(work: Callable[[], None], count: int) -> None:
    """Run it in so many threads; the first that fails fails the process."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


def huge_memory(size: int) -> mmap.mmap:
    """The floor's kind of memory; `mmap.mmap(-1, n)` is shared, without huge pages."""
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


def write_all(file: int, data: memoryview, at: int) -> None:
    """`pwrite` until all is written."""
    while data:
        done = os.pwrite(file, data, at)
        data, at = data[done:], at + done


def sample_offsets(size: int) -> list[int]:
    """Where everyone looks, floor included, to notice a part in the wrong place."""
    return [size // SAMPLES * i for i in range(SAMPLES)]


def report(*pieces: memoryview) -> str:
    """The size and a few bytes of what was fetched, cheap enough not to be measured.

    In several pieces where a library gives it so, and joining them would be charged to it. With
    BENCH_HASH=1 also the SHA-256 of the whole.
    """
    size = sum(piece.nbytes for piece in pieces)
    sample, wanted, begin = bytearray(), sample_offsets(size), 0
    for piece in pieces:
        end = begin + piece.nbytes
        sample += bytes(piece[at - begin] for at in wanted if begin <= at < end)
        begin = end
    said: dict[str, object] = {"bytes": size, "sample": sample.hex()}
    if os.environ.get("BENCH_HASH") == "1":
        whole = hashlib.sha256()
        for piece in pieces:
            whole.update(piece)
        said["sha256"] = whole.hexdigest()
    return json.dumps(said)
