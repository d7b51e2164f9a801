"""What a rival is: a command line, where its bytes can go, and a way to be missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from bench.measure import Failed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MEMORY, TMPFS, DISK, NULL = "memory", "tmpfs", "disk", "null"
FILES = frozenset({TMPFS, DISK})
BUCKET = "bucket"
"""What stores.Store serves as S3 and GCS besides plain HTTP."""


@dataclass(frozen=True)
class Job:
    """Fetch all SIZE bytes of URL; files go to OUT, an empty folder.

    `connections`: None is the tool's own default. `urls`: many small objects instead of one, each
    to OUT/its last path segment; `size` is then that of one.
    """

    url: str
    size: int
    connections: int | None
    out: Path
    destination: str = MEMORY
    ca_file: str | None = None
    urls: tuple[str, ...] = ()

    @property
    def file(self) -> str:
        return str(self.out / "object")

    @property
    def in_memory(self) -> bool:
        return self.destination == MEMORY

    @property
    def endpoint(self) -> str:
        """Scheme, host and port: what an SDK calls the store."""
        split = urlsplit(self.url)
        return f"{split.scheme}://{split.netloc}"

    @property
    def key(self) -> str:
        """The object's name in the bucket."""
        return urlsplit(self.url).path.lstrip("/")

    def number(self) -> int:
        """The connections of a rival that has no number of its own."""
        if self.connections is None:
            raise Failed("has no number of connections of its own")
        return self.connections

    def parts(self, count: int) -> list[tuple[int, int]]:
        """Equal parts, stop exclusive; the last one takes the remainder."""
        step = self.size // count
        starts = [step * i for i in range(count)]
        return list(zip(starts, [*starts[1:], self.size], strict=True))


@dataclass(frozen=True)
class Rival:
    """`version` raises `Failed` where it cannot run here, `command` where it cannot do that job.

    `server`: the kind of endpoint, "http", "gcs" or "s3"; stores.Store is all three. `steals`: a
    slow connection does not hold a whole share back, be it that its rest is taken over or that
    small parts are handed out from a queue. `many`: takes `Job.urls`. `remark`: what is not like
    with like.
    """

    name: str
    destinations: frozenset[str]
    version: Callable[[], str]
    command: Callable[[Job], list[str]]
    server: str = "http"
    steals: bool = False
    many: bool = False
    remark: str = ""
