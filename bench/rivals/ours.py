"""parpull, and what all clients of bench/clients have in common. The floors in C are the harness's."""

from __future__ import annotations

import shlex
import sys

from bench.fetching import said
from bench.rivals.base import FILES, MEMORY, NULL, Job, Rival

FLOOR, PARPULL = "floor", "parpull"


def _version() -> str:
    # `fetch` is asked for too: an unbuilt tree may import as an empty namespace.
    code = "import parpull; print(parpull.__version__ if parpull.fetch else '')"
    return said([sys.executable, "-c", code])


def client(interpreter: str, module: str, job: Job) -> list[str]:
    """A client of bench/clients with its task (see `bench.clients.task`)."""
    words = [interpreter, "-m", f"bench.clients.{module}", job.url, str(job.size)]
    if job.connections is not None:
        words += ["--connections", str(job.connections)]
    if job.ca_file:
        words += ["--ca-file", job.ca_file]
    if job.destination in FILES:
        words += ["--out", str(job.out) if job.urls else job.file]
    return [*words, "--urls", *job.urls] if job.urls else words


def _cli(job: Job, *words: str) -> list[str]:
    many = ["-x", str(job.connections)] if job.connections is not None else []
    trust = ["--cacert", job.ca_file] if job.ca_file else []
    return [sys.executable, "-m", "parpull", *words, "-q", *many, *trust]


def _parpull(job: Job) -> list[str]:
    if job.destination == NULL:
        return ["sh", "-c", f"{shlex.join([*_cli(job, 'cat'), job.url])} >/dev/null"]
    if job.urls:
        return [*_cli(job), "-d", str(job.out), *job.urls]
    return client(sys.executable, "parpull", job)


RIVALS = [Rival(PARPULL, FILES | {MEMORY, NULL}, _version, _parpull, steals=True, many=True)]
