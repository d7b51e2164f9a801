"""Python's: libraries that fetch ranges, and what people write by hand.

Scripts of ours have no number of connections of their own; libraries have.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.fetching import installed, python, said
from bench.measure import Failed
from bench.rivals.base import FILES, MEMORY, Job, Rival
from bench.rivals.ours import client

if TYPE_CHECKING:
    from collections.abc import Callable


def _library(module: str, *needs: str, trust: str = "") -> Callable[[Job], list[str]]:
    """A client in the bench's environment; `trust`: what tells its TLS of a private CA."""

    def command(job: Job) -> list[str]:
        words = client(python(*needs), module, job)
        return ["env", f"{trust}={job.ca_file}", *words] if trust and job.ca_file else words

    return command


def _script(module: str, *needs: str) -> Callable[[Job], list[str]]:
    def command(job: Job) -> list[str]:
        job.number()
        return client(python(*needs), module, job)

    return command


def _kvikio(job: Job) -> list[str]:
    if job.ca_file:
        raise Failed("no TLS with a private CA")
    return client(python("kvikio-cu12"), "kvikio_get", job)


def _kvikio_version() -> str:
    # It can be imported without a GPU, but asks the driver whose memory it is given.
    said([python("kvikio-cu12"), "-c", "import ctypes; ctypes.CDLL('libcuda.so.1')"])
    return installed("kvikio-cu12", "kvikio")


def _hf(job: Job) -> list[str]:
    return ["env", f"SSL_CERT_FILE={job.ca_file}", *client(python("hf-transfer"), "hf_transfer_get", job)]


def _bare_version() -> str:
    from platform import python_version

    python()
    return f"Python {python_version()}"


BOTH = FILES | {MEMORY}
_PIECES = "one buffer a range, not joined"

RIVALS = [
    Rival("pycurl", BOTH, lambda: installed("pycurl", "pycurl"), _script("pycurl_multi", "pycurl")),
    Rival("recv-into", BOTH, _bare_version, _script("recv_into"), remark="no retries, redirects or checks"),
    Rival(
        "requests-threads",
        BOTH,
        lambda: installed("requests", "requests"),
        _script("requests_threads", "requests"),
        many=True,
    ),
    Rival(
        "hf-transfer",
        FILES,
        lambda: installed("hf-transfer", "hf_transfer"),
        _hf,
        steals=True,
        remark="parts of 10 MiB from a queue",
    ),
    Rival(
        "obstore",
        BOTH,
        lambda: installed("obstore", "obstore"),
        _library("obstore_get", "obstore", trust="SSL_CERT_FILE"),
        many=True,
        remark=f"in memory {_PIECES}; to files parts of 16 MiB from a queue",
    ),
    Rival(
        "fsspec",
        frozenset({MEMORY}),
        lambda: installed("fsspec", "fsspec.implementations.http", "aiohttp"),
        _library("fsspec_get", "fsspec", "aiohttp"),
        remark=_PIECES,
    ),
    Rival("kvikio", frozenset({MEMORY}), _kvikio_version, _kvikio, steals=True),
]
