"""Who is measured: each rival is a command line, a destination and a way to be missing.

The destination is part of the name, for memory and a file in tmpfs do not cost the
same: only rows with the same destination are like with like.
"""

import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from bench.clients import sample_offsets
from bench.measure import ROOT, Failed, parse_report

RAM, TMPFS, NULL = "huge pages", "tmpfs", "/dev/null"
_FLOOR = ROOT / "build" / "bench" / "recv"
_CURL = ["curl", "-sSf"]


@dataclass(frozen=True)
class Job:
    """Fetch all SIZE bytes of URL; files go to OUT, an empty directory in tmpfs."""

    url: str
    size: int
    connections: int
    out: Path

    @property
    def file(self) -> str:
        return str(self.out / "object")

    def parts(self) -> list[tuple[int, int]]:
        """Equal parts, stop exclusive; the last one takes the remainder."""
        step = self.size // self.connections
        starts = [step * i for i in range(self.connections)]
        return list(zip(starts, [*starts[1:], self.size], strict=True))


@dataclass(frozen=True)
class Rival:
    """`version` raises `Failed` with the reason when the rival cannot run here."""

    name: str
    destination: str
    version: Callable[[], str]
    command: Callable[[Job], list[str]]

    def check(self, job: Job, output: str, expected: bytes) -> None:
        """Raise `Failed` unless all arrived, each byte we look at in its place."""
        if self.destination == RAM:
            size, sample = parse_report(output)
        elif self.destination == TMPFS:
            size, sample = _look_at_files(job)
        else:
            size, sample = int(output), expected  # nothing to look at but the length
        if size != job.size or sample != expected:
            raise Failed(f"fetched {size} of {job.size} bytes, or others than were served")


def _look_at_files(job: Job) -> tuple[int, bytes]:
    """Files in the order of their names are the object, be it one or one a part."""
    paths = sorted(job.out.iterdir())
    sizes = [path.stat().st_size for path in paths]
    sample = bytearray()
    for at in sample_offsets(job.size):
        for path, size in zip(paths, sizes, strict=True):
            if at < size:
                with path.open("rb") as file:
                    file.seek(at)
                    sample += file.read(1)
                break
            at -= size
    return sum(sizes), bytes(sample)


def _first_line(*command: str) -> str:
    """What a program says of itself, or `Failed` with why it does not run."""
    if not shutil.which(command[0]):
        raise Failed(f"{command[0]} is not on PATH")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed((done.stderr.strip().splitlines() or ["does not start"])[-1])
    return (done.stdout.splitlines() or [""])[0]


def _python(expression: str, module: str) -> str:
    return _first_line(sys.executable, "-c", f"import {module}; print({expression})")


def build_floor() -> str:
    """Compile the floor if its source is newer; returns what compiled it."""
    source = ROOT / "bench" / "floor" / "recv.c"
    compiler = _first_line("cc", "--version")
    if not _FLOOR.exists() or _FLOOR.stat().st_mtime < source.stat().st_mtime:
        _FLOOR.parent.mkdir(parents=True, exist_ok=True)
        _first_line("cc", "-O2", "-Wall", "-Wextra", "-o", str(_FLOOR), str(source))
    return f"cc -O2, {compiler}"


def _floor(job: Job) -> list[str]:
    url = urlsplit(job.url)
    target = [url.hostname or "", str(url.port or 80), url.path, "0", str(job.size)]
    return [str(_FLOOR), "-c", str(job.connections), "-r", str(1 << 20), *target]


def _parpull(job: Job) -> list[str]:
    client = [sys.executable, "-m", "bench.clients.parpull"]
    return [*client, job.url, str(job.connections)]


def _pycurl(job: Job) -> list[str]:
    client = [sys.executable, "-m", "bench.clients.pycurl_multi"]
    return [*client, job.url, str(job.size), str(job.connections)]


def _forked_curl(job: Job) -> list[str]:
    """One shell, one curl and one file a part; not joined, which costs as much again.

    `wait` with an id returns that child's status, so that a failed part is not missed.
    """
    url = shlex.quote(job.url)
    lines = ["pids="]
    for number, (start, stop) in enumerate(job.parts()):
        out = shlex.quote(f"{job.file}.{number:03}")
        lines += [
            f"curl -sSf -r {start}-{stop - 1} -o {out} {url} &",
            'pids="$pids $!"',
        ]
    lines += ["for pid in $pids; do wait $pid || exit; done"]
    return ["sh", "-c", "\n".join(lines)]


def _aria2(job: Job) -> list[str]:
    n = str(job.connections)
    options = f"-q --no-conf --file-allocation=none -k 1M -x {n} -s {n}".split()
    return ["aria2c", *options, "-d", str(job.out), "-o", "object", job.url]


def _curl_version() -> str:
    return " ".join(_first_line("curl", "--version").split()[:2])


def _parpull_version() -> str:
    # `fetch` is asked for too: an unbuilt tree may import as an empty namespace.
    return _python("parpull.__version__ if parpull.fetch else ''", "parpull")


FLOOR, PARPULL = "floor", "parpull"

RIVALS = [
    Rival(FLOOR, RAM, build_floor, _floor),
    Rival(PARPULL, RAM, _parpull_version, _parpull),
    Rival("pycurl", RAM, lambda: _python("pycurl.version", "pycurl"), _pycurl),
    Rival("parpull-file", TMPFS, _parpull_version, lambda job: [*_parpull(job), job.file]),
    Rival("forked-curl", TMPFS, _curl_version, _forked_curl),
    Rival(
        "curl-file",
        TMPFS,
        _curl_version,
        lambda job: [*_CURL, "-o", job.file, job.url],
    ),
    Rival("aria2", TMPFS, lambda: _first_line("aria2c", "--version"), _aria2),
    Rival(
        "curl-null",
        NULL,
        _curl_version,
        lambda job: [*_CURL, "-o", "/dev/null", "-w", "%{size_download}", job.url],
    ),
]
