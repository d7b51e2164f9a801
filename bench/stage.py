"""Where bytes come from: objects on a tmpfs, and the server that a variant wants before them.

nginx is the server of `bench.rivals.stores`, which S3's and GCS's clients can read from as well.
Whoever checks knows what was served: `Expected`.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.clients import sample_offsets
from bench.measure import GIB, descendants, over_loopback
from bench.rivals.checking import look
from bench.rivals.stores import Store
from tests.servers import content
from tests.servers.origin import Origin
from tests.servers.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from bench.scenarios import Scenario, Variant

SERVED = "served"
_BLOCK = 64 << 20
_MARK = 1 << 20
_BAD_CONNECTION = 3


def fast_hash() -> Any:
    """A hash that costs less than the download it checks, where xxhash is installed."""
    try:
        import xxhash
    except ImportError:
        return hashlib.sha256()
    return xxhash.xxh3_128()


@dataclass(frozen=True)
class Expected:
    """Of one object, or of all of them one after the other."""

    names: tuple[str, ...]
    size: int
    sample: bytes
    sha256: str
    fast: str


def make(root: Path, scenario: Scenario, gib: float, tag: str = "") -> Expected:
    """The scenario's object (or objects) of this size, below ROOT.

    Each block is the same random one, shifted by a byte more than the last, so that no two offsets
    can be taken for each other and many GiB take seconds. A sparse one has a mark in every MiB
    instead, and holes between.
    """
    size = int(gib * GIB) // scenario.objects
    folder = root / SERVED
    folder.mkdir(exist_ok=True)
    random = memoryview(os.urandom(_BLOCK + 4096))
    names = [f"{tag}{gib:g}-{number:04}.bin" for number in range(scenario.objects)]
    for number, name in enumerate(names):
        with (folder / name).open("wb") as file:
            if scenario.sparse:
                file.truncate(size)
                for at in range(0, size, _MARK):
                    os.pwrite(file.fileno(), b"mark %20d" % at, at)
            else:
                left, shift = size, number % 4096
                while left:
                    left -= file.write(random[shift : shift + min(left, _BLOCK)])
                    shift += 1
    return expect([folder / name for name in names], size * scenario.objects, whole=size < 16 * GIB)


def expect(paths: list[Path], size: int, whole: bool = True) -> Expected:
    """What is to arrive. Without `whole` only the sampled bytes are known."""
    sha, fast = hashlib.sha256(), fast_hash()
    if whole:
        for piece in pieces(paths):
            sha.update(piece)
            fast.update(piece)
    sample = look(paths, size)
    digests = (sha.hexdigest(), fast.hexdigest()) if whole else ("", "")
    return Expected(tuple(path.name for path in paths), size, sample, *digests)


def pieces(paths: Iterable[Path]) -> Iterator[memoryview]:
    """The contents of all, one after the other, in pieces that are overwritten."""
    buffer = memoryview(bytearray(1 << 20))
    for path in paths:
        with path.open("rb", buffering=0) as file:
            while read := file.readinto(buffer):
                yield buffer[:read]


class Stage:
    """A server, and what lies before it, for one variant and number of connections."""

    def __init__(self, root: Path, variant: Variant, connections: int | None) -> None:
        self._variant, self._exits = variant, contextlib.ExitStack()
        self._nginx: Store | None = None
        self._origin: Origin | None = None
        self._proxy: Proxy | None = None
        self.pace = variant.paced(connections)
        before = set(descendants())
        try:
            if variant.lag:
                self._origin = self._exits.enter_context(Origin())
            else:
                self._nginx = self._exits.enter_context(Store(root / SERVED, tls=variant.tls, pace=self.pace))
                if variant.slow is not None:
                    self._proxy = self._exits.enter_context(Proxy(self._nginx.port))
        except BaseException:
            self._exits.close()
            raise
        self.processes = tuple(set(descendants()) - before)
        self.ca_file = self._nginx.ca_file if self._nginx else None

    def url(self, name: str, size: int) -> str:
        """Where the client is sent."""
        if self._origin is not None:
            return self._origin.url(name, size=size, latency=self._variant.lag)
        assert self._nginx is not None
        url = self._nginx.url(name)
        return url if self._proxy is None else self._proxy.url(url)

    def expected(self, given: Expected) -> Expected:
        """The origin has contents of its own."""
        if self._origin is None:
            return given
        size, fast = given.size, fast_hash()
        for view in content.views(0, size):
            fast.update(view)
        sample = b"".join(content.content(at, 1) for at in sample_offsets(size))
        return Expected(given.names[:1], size, sample, content.sha256(size), fast.hexdigest())

    def before_run(self) -> None:
        """The next connection is the first."""
        if self._proxy is not None and self._variant.slow is not None and self.pace is not None:
            self._proxy.reset()
            if self._variant.slow < 1:
                self._proxy.order(_BAD_CONNECTION, pace=int(self.pace * self._variant.slow))

    def received(self) -> int:
        """Bytes that went to clients so far: as the proxy counts them, or all that loopback had."""
        return sum(count.down for count in self._proxy.counts()) if self._proxy else over_loopback()

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *_: object) -> None:
        self._exits.close()
