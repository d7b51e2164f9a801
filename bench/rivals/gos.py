"""Programs in Go: a few lines of our own, and replicate/pget."""

from __future__ import annotations

import shlex

from bench.fetching import go_program, go_source, go_version
from bench.rivals.base import FILES, MEMORY, Job, Rival

_PGET = "github.com/replicate/pget", "v0.9.2"


def _trusting(job: Job) -> list[str]:
    return ["env", f"SSL_CERT_FILE={job.ca_file}"] if job.ca_file else []


def _goroutines_version() -> str:
    go_source("goroutines")
    return go_version()


def _goroutines(job: Job) -> list[str]:
    words = [*_trusting(job), go_source("goroutines"), "-n", str(job.number()), "-size", str(job.size)]
    if job.destination in FILES:
        words += ["-out", str(job.out) if job.urls else job.file]
    return [*words, *(job.urls or (job.url,))]


def _pget_version() -> str:
    go_program(*_PGET)
    return " ".join(_PGET)


def _pget(job: Job) -> list[str]:
    # Its pid file is locked, and lies in /run unless told: two users' runs would wait for each other.
    pid = str(job.out.parent / f"{job.out.name}.pid")
    pget = [*_trusting(job), go_program(*_PGET), "--log-level", "error", "--pid-file", pid]
    n = job.connections
    if job.urls:
        # Its documents know options for the number of files at a time; 0.9.2 has none.
        run = shlex.join([*pget[:-4], "multifile", *pget[-4:], "-"])
        return ["sh", "-c", f'for url; do echo "$url $0/${{url##*/}}"; done | {run}', str(job.out), *job.urls]
    parts = ["-c", str(n), "-m", str(-(-job.size // n))] if n else []
    return [*pget, *parts, job.url, job.file]


RIVALS = [
    Rival("goroutines", FILES | {MEMORY}, _goroutines_version, _goroutines, many=True),
    Rival("pget", FILES, _pget_version, _pget, many=True, remark="buffers whole parts before it writes"),
]
