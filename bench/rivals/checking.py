"""Whether a rival brought the right bytes."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from bench.clients import sample_offsets
from bench.measure import Failed, parse_report
from bench.rivals.base import MEMORY, NULL

if TYPE_CHECKING:
    from pathlib import Path

    from bench.rivals.base import Job


def check(job: Job, output: str, expected: bytes) -> None:
    """Raise `Failed` unless all arrived, each byte we look at in its place.

    EXPECTED: what stands at `sample_offsets(job.size)`; of many objects, of each one. A rival that
    throws the bytes away prints their number, or nothing: then its exit status has to do.
    """
    if job.urls:
        return _check_many(job, expected)
    if job.destination == MEMORY:
        size, sample = parse_report(output)
    elif job.destination == NULL:
        size, sample = int(output.strip() or job.size), expected
    else:
        size, sample = _look_at_files(job)
    if size != job.size or sample != expected:
        raise Failed(f"fetched {size} of {job.size} bytes, or others than were served")
    return None


def digest(job: Job, output: str) -> str:
    """The SHA-256 of what arrived, in memory (with BENCH_HASH=1) or in files."""
    if job.destination == MEMORY:
        return str(json.loads(output)["sha256"])
    whole = hashlib.sha256()
    for path in sorted(job.out.iterdir()):
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                whole.update(block)
    return whole.hexdigest()


def _look_at_files(job: Job) -> tuple[int, bytes]:
    """Files in the order of their names are the object, be it one or one a part."""
    paths = sorted(job.out.iterdir())
    return sum(path.stat().st_size for path in paths), look(paths, job.size)


def look(paths: list[Path], size: int) -> bytes:
    """The sampled bytes of files that are one object in the order given."""
    sample, sizes = bytearray(), [path.stat().st_size for path in paths]
    for at in sample_offsets(size):
        for path, here in zip(paths, sizes, strict=True):
            if at < here:
                with path.open("rb") as file:
                    file.seek(at)
                    sample += file.read(1)
                break
            at -= here
    return bytes(sample)


def _check_many(job: Job, expected: bytes) -> None:
    names = [urlsplit(url).path.rpartition("/")[2] for url in job.urls]
    for name in names:
        path = job.out / name
        data = path.read_bytes() if path.exists() else b""
        if len(data) != job.size or bytes(data[at] for at in sample_offsets(job.size)) != expected:
            raise Failed(f"{name}: {len(data)} of {job.size} bytes, or others than were served")
