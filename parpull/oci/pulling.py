"""Pulls: an image's layers through one Client, each proven and unpacked along its front.

A pull is three parties. Its own thread decides: it submits layers in the plan's order, shares
the connections out, commits layers to the destination, the lowest first, and is the only one
that speaks to it but for outlet(). The Client's threads bring bytes. A few threads unpack: each
takes a layer, waits for its bytes, inflates them (inflate.py) into a pipe, and a confined process
makes files of what comes out (quarantine.py). Where layers lie over each other one thread does
so in their order; overlays are unpacked by as many as there are cores. So a layer costs the
longest of bringing, inflating and writing it, not their sum.

Nothing is proven before the end of a layer, and nothing is to be seen before the end of all.
Third floor.
"""

from __future__ import annotations

import io
import os
import threading
import time
from collections import deque
from concurrent.futures import CancelledError
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue

from ..errors import IntegrityError, MemoryBudget, ParpullError
from ..memory import available_memory
from .destination import Image
from .errors import BadLayer, BadManifest, UnsafeLayer
from .inflate import inflate
from .manifest import CONFIG_LIMIT
from .plan import Layer, Machine, in_turn, plan_of, shares
from .quarantine import limits_for, unpack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from typing import BinaryIO

    from ..client import Client
    from ..download import Download
    from ..options import OptionFields
    from ..reader import FrontReader, Reader
    from .destination import Destination, Located
    from .manifest import Descriptor
    from .media import Compression
    from .plan import Place, Plan, Ram
    from .quarantine import Style, Unpacking
    from .registry import Image as Found
    from .registry import Registry

__all__ = ["LayerProgress", "Pull", "Pulled", "machine_for"]

TICK = 0.1  # seconds between two calls of `tick`
HEADROOM = 256 << 20  # bytes of memory that no layer is given: pipes, processes, the page cache's least


@dataclass(frozen=True, slots=True)
class LayerProgress:
    """How a layer stands. index: in the manifest. size, landed: bytes as they travel. place: where
    they go. state: waiting, fetching, fetched (all of it is here), unpacking (its rest), done; here: it
    was already."""

    index: int
    digest: str
    size: int
    landed: int
    place: Place
    state: str


@dataclass(frozen=True, slots=True)
class Pulled:
    """What came of a pull. path: where the image is; digest: of its manifest; size: of its layers as
    they travel, fetched: of those that did; unpacked: bytes of their tars; seconds: from plan to end."""

    path: str
    digest: str
    size: int
    fetched: int
    unpacked: int
    seconds: float


def machine_for(connections: int, *, max_memory: int | None = None) -> Machine:
    """This machine as a plan sees it, nothing being measured yet. max_memory: bytes that layers
    may take; without it what is available (control groups included), less some headroom."""
    room = available_memory()
    memory = 0 if room is None else max(room - HEADROOM, 0)
    if max_memory is not None:
        memory = min(memory, max_memory) if room is not None else max_memory
    return Machine(connections=connections, memory=memory, cores=os.cpu_count() or 1)


@dataclass(frozen=True, slots=True)
class _Attempt:
    """One transfer of a blob. foreign: from an address that the manifest names."""

    download: Download
    place: Place
    foreign: bool

    def may_follow(self, error: BaseException) -> bool:
        """Whether another attempt can be made after this end of it: nothing of it has been read."""
        if self.foreign:
            return isinstance(error, ParpullError)
        # Others have taken the memory since the plan was made. A server that tells no length is
        # another matter: then the end of the memory comes after bytes that were read.
        return isinstance(error, MemoryBudget) and self.place == "memory" and not self.download.progress().landed


class _Blob:
    """The bytes of one or more equal layers: where they come from, and how far they are.

    The pull's thread begins attempts; threads that unpack open what the last one brings. `changed`
    guards attempt, readers and stopped, and tells of them."""

    def __init__(self, descriptor: Descriptor, compression: Compression, located: Located | None) -> None:
        self.descriptor = descriptor
        self.located = located
        self.indices: list[int] = []
        self.place: Place = "disk"
        self.foreign = bool(descriptor.urls)  # whether the next attempt is
        self.attempts = 0
        self.attempt: _Attempt | None = None
        self.readers: list[Reader | FrontReader] = []
        self.changed = threading.Condition()
        self.stopped = False
        self.here = (located is not None and located.complete) or descriptor.data is not None
        self.ended = self.here
        self.layer = Layer(descriptor.size, compression=compression, landed=0 if located is None else located.landed)

    @property
    def download(self) -> Download | None:
        """The transfer of the last attempt."""
        return None if self.attempt is None else self.attempt.download

    @property
    def landed(self) -> int:
        """Bytes that are in place."""
        if self.ended:
            return self.descriptor.size
        download = self.download
        return max(self.layer.landed, 0 if download is None else download.progress().landed)

    @property
    def fetched(self) -> int:
        """Bytes that this pull has brought."""
        if self.download is None:
            return 0
        progress = self.download.progress()
        return progress.landed - progress.resumed

    @property
    def left(self) -> Layer:
        """As the plan has it, now."""
        return replace(self.layer, landed=min(self.landed, self.descriptor.size))

    def begin(self, attempt: _Attempt, *, read: bool) -> None:
        """A transfer is under way; `read`: its layers are read along."""
        with self.changed:
            self.attempt = attempt
            self.attempts += 1
            # Now: what somebody reads along is written where it can be read again soon.
            self.readers = [attempt.download.reader(0) for _ in self.indices] if read else []
            self.changed.notify_all()

    def again(self) -> None:
        """The last attempt has failed, and there is to be another."""
        with self.changed:
            for reader in self.readers:
                reader.close()
            self.attempt, self.readers = None, []

    def stop(self) -> None:
        """Nobody waits any more."""
        with self.changed:
            self.stopped = True
            self.changed.notify_all()

    def open(self, after: int = 0) -> tuple[int, _Attempt | None, BinaryIO | Reader | FrontReader]:
        """A file that reads along, of an attempt later than number `after`; waits for one. Any
        thread, once for each layer and attempt. CancelledError once the pull has been stopped."""
        if self.descriptor.data is not None:
            return 0, None, io.BytesIO(self.descriptor.data)
        if self.here:
            assert self.located is not None
            return 0, None, open(self.located.path, "rb", buffering=0)
        with self.changed:
            self.changed.wait_for(lambda: self.stopped or (self.attempts > after and self.attempt is not None))
            if self.stopped:
                raise CancelledError
            return self.attempts, self.attempt, self.readers.pop()

    def data(self) -> memoryview | None:
        """Its bytes, if they are in memory and not in a file."""
        if self.descriptor.data is not None:
            return memoryview(self.descriptor.data)
        if self.attempt is not None and self.attempt.place == "memory":
            return memoryview(self.attempt.download.result())
        return None

    def close(self) -> None:
        """Let go of its memory: nobody reads any more, and the transfer has ended."""
        for reader in self.readers:
            reader.close()
        if self.attempt is not None and self.attempt.place == "memory":
            with suppress(Exception):  # it has failed, and was told of
                self.attempt.download.result().close()


class Pull:
    """One image on its way to one destination; `run()` does it, on the caller's thread.

    client: brings the layers; its `connections` are shared among them. registry: open until the
    end. ram: which layers go to memory, as plan_of has it, of those for which there is room. tick:
    called ten times a second, and at each step of a layer; what it raises ends the pull. limit: bytes
    of memory for layers. `failed`: the layer that ended it, if one did. `waiting`: a context that is
    entered where the pull's thread waits, and may be interrupted."""

    def __init__(
        self,
        image: Found,
        destination: Destination,
        *,
        client: Client,
        registry: Registry,
        ram: Ram = "largest",
        max_memory: int | None = None,
        tick: Callable[[], object] = lambda: None,
    ) -> None:
        self.failed: int | None = None
        self._image = image
        self._destination = destination
        self._client = client
        self._registry = registry
        self._ram: Ram = ram
        self.tick = tick
        self.waiting: Callable[[], AbstractContextManager[object]] = nullcontext
        self._machine = machine_for(client.options.limit, max_memory=max_memory)
        self._plan: Plan | None = None
        self._blobs: list[_Blob] = []  # of each layer
        self._waiting: deque[_Blob] = deque()
        self._done: set[int] = set()  # layers that are proven, and unpacked if that is wanted
        # (a layer, bytes of its tar or an error), or (a blob, its transfer that has ended).
        self._inbox: SimpleQueue[tuple[int, int | BaseException] | tuple[_Blob, Download]] = SimpleQueue()
        self._taken: set[int] = set()  # layers that a thread has begun to unpack
        self._lock = threading.Lock()  # guards what unpacks, for stop()
        self._unpacking: set[Unpacking] = set()
        self._stopped = False
        self._threads: list[threading.Thread] = []
        self._committed = self._unpacked = 0

    @property
    def plan(self) -> Plan | None:
        """What was decided; None before run()."""
        return self._plan

    @property
    def layers(self) -> list[LayerProgress]:
        """How each layer stands. Any thread."""
        return [self._progress(index, blob) for index, blob in enumerate(self._blobs)]

    def _progress(self, index: int, blob: _Blob) -> LayerProgress:
        done = index in self._done
        if done:
            state = "here" if blob.here else "done"
        elif blob.ended:
            state = "unpacking" if index in self._taken else "fetched"
        else:
            state = "waiting" if blob.download is None else "fetching"
        return LayerProgress(index, str(blob.descriptor.digest), blob.descriptor.size, blob.landed, blob.place, state)

    def run(self) -> Pulled:
        """Bring it. Raises what the registry, the transfers, the layers and the destination do; then
        nothing is to be seen of it, and what can be gone on from is kept."""
        began = time.monotonic()
        destination = self._destination
        with destination:
            destination.begin(self._about())
            try:
                self._prepare()
                self._start_unpacking()
                self._work()
                for thread in self._threads:
                    thread.join()
                path = destination.finish()
            except BaseException as error:
                try:
                    self._stop()
                finally:  # a failure of this machine says nothing against what was brought
                    wrong = (IntegrityError, BadLayer, BadManifest, UnsafeLayer)
                    destination.abort(keep=not isinstance(error, wrong))
                raise
        size = sum(blob.descriptor.size for blob in set(self._blobs))
        fetched = sum(blob.fetched for blob in set(self._blobs))
        digest = str(self._image.documents[-1].descriptor.digest)
        return Pulled(path, digest, size, fetched, self._unpacked, time.monotonic() - began)

    # --- before -----------------------------------------------------------------------------------

    def _about(self) -> Image:
        found, manifest = self._image, self._image.documents[-1]
        body = found.config_body
        if body is None:  # an artifact's, of which nobody but its makers knows the meaning
            body = self._small(found.manifest.config)
        return Image(found.reference, manifest.descriptor, found.manifest, manifest.body, body, found.config)

    def _small(self, descriptor: Descriptor) -> bytes:
        if descriptor.data is not None:
            return descriptor.data
        if descriptor.size > CONFIG_LIMIT:
            reason = f"its config has {descriptor.size:,} bytes, of at most {CONFIG_LIMIT:,}"
            raise BadManifest(f"{self._image.reference.short}: {reason}", reason=reason, digest=str(descriptor.digest))
        source = self._registry.blob(self._image.reference, descriptor)
        with self._client.fetch(source, **source.fields) as blob:
            return bytes(blob)

    def _prepare(self) -> None:
        """What there is to do, and the plan for it."""
        unpacks = self._destination.unpack
        blobs: dict[str, _Blob] = {}
        for index, descriptor in enumerate(self._image.manifest.layers):
            layering = descriptor.layering
            if layering is None and unpacks:
                reason = f"nobody here knows how to unpack {descriptor.media_type}"
                raise BadManifest(
                    f"{self._image.reference.short}: {reason}",
                    hint="oci:DIR stores it as it is", reason=reason, digest=str(descriptor.digest),
                )  # fmt: skip
            name = str(descriptor.digest)
            if name not in blobs:
                located = None if descriptor.data is not None else self._destination.locate(descriptor)
                blobs[name] = _Blob(descriptor, layering.compression if layering else "none", located)
            blobs[name].indices.append(index)
            self._blobs.append(blobs[name])
        distinct = list(blobs.values())
        self._plan = plan_of(
            [blob.layer for blob in distinct],
            self._machine,
            ram=self._ram,
            keep=self._destination.keep,
            unpack=unpacks,
            in_order=self._destination.in_order,
        )
        for step in self._plan.steps:
            blob = distinct[step.index]
            blob.place = step.place
            if not blob.here:
                self._waiting.append(blob)

    # --- on the pull's own thread -------------------------------------------------------------------

    def _work(self) -> None:
        self._share()
        for index, blob in enumerate(self._blobs):
            if blob.here and not self._is_unpacked(index):
                self._settle(index)
        while len(self._done) < len(self._blobs):
            self.tick()
            try:
                with self.waiting():
                    said = self._inbox.get(timeout=TICK)
            except Empty:
                continue
            if isinstance(said[0], _Blob):
                self._brought(*said)
                continue
            index, how = said
            if isinstance(how, BaseException):
                self.failed = index
                raise how
            self._unpacked += how
            self._settle(index)
        self.tick()

    def _is_unpacked(self, index: int) -> bool:
        """Whether a thread of ours has to do with the layer, beyond its bytes."""
        return self._destination.unpack or not self._destination.keep

    def _share(self) -> None:
        """Share out the connections among what is left; begin what has got some."""
        active = [blob for blob in dict.fromkeys(self._blobs) if blob.download is not None and not blob.ended]
        if self._destination.in_order:
            active.sort(key=lambda blob: blob.indices[0])
        both = [*active, *self._waiting]
        left = [blob.left for blob in both]
        if self._destination.in_order:
            granted = in_turn(left, self._machine)
        else:
            granted = shares([layer.left for layer in left], self._machine, left)
        for blob, count in zip(both, granted, strict=True):
            if blob.download is None:
                if not count and blob.left.left:  # with nothing left it needs one request, to be ended
                    continue
                self._waiting.remove(blob)
                self._submit(blob)
            if self._client.options.host_connections is None and blob.download is not None:
                self._client.allow(blob.download, max(count, 1))

    def _submit(self, blob: _Blob) -> None:
        """Begin to bring it. A layer that is inflated is proven there; else as any object is. One of
        an address of its own is proven before anybody reads it: another may have to be asked."""
        descriptor, read = blob.descriptor, self._is_unpacked(blob.indices[0])
        into = None if blob.place == "memory" or blob.located is None else blob.located.path
        if blob.foreign:
            checksum = f"{descriptor.digest.algorithm}={descriptor.digest.hex}"
            first, *others = descriptor.urls
            download = self._client.submit(
                first, into, mirrors=tuple(others), connections=self._machine.connections, checksum=checksum,
                size=descriptor.size, headers=(), auth=None, netrc=False, cookies=None, cert=None, key=None,
            )  # fmt: skip
        else:
            source = self._registry.blob(self._image.reference, descriptor)
            fields: OptionFields = {**source.fields, "connections": self._machine.connections}
            if read:
                fields["checksum"] = None
            download = self._client.submit(source, into, **fields)
        blob.begin(_Attempt(download, blob.place, blob.foreign), read=read)
        download.add_done_callback(lambda ended: self._inbox.put((blob, ended)))

    def _brought(self, blob: _Blob, download: Download) -> None:
        """A transfer has ended."""
        attempt = blob.attempt
        assert attempt is not None
        try:
            download.result(0)
        except BaseException as error:
            if not attempt.may_follow(error) or blob.located is None:
                self.failed = blob.indices[0]
                raise
            blob.place, blob.foreign = "disk", False
            blob.again()
            self._waiting.appendleft(blob)
            self._share()
            return
        blob.ended = True
        if not self._is_unpacked(blob.indices[0]):
            for index in blob.indices:
                self._settle(index)
        self._share()

    def _settle(self, index: int) -> None:
        """The layer is proven: commit it, and those above that waited for it."""
        self._done.add(index)
        while self._committed in self._done:
            blob = self._blobs[self._committed]
            data = blob.data()
            try:
                self._destination.commit(self._committed, data)
            finally:
                if data is not None:
                    data.release()
            if self._committed == blob.indices[-1]:
                blob.close()
            self._committed += 1

    # --- threads that unpack ------------------------------------------------------------------------

    def _start_unpacking(self) -> None:
        if not self._is_unpacked(0) or not self._blobs:
            return
        assert self._plan is not None
        if self._destination.in_order:
            turns = deque(range(len(self._blobs)))
        else:
            distinct = list(dict.fromkeys(self._blobs))
            turns = deque(index for step in self._plan.steps for index in distinct[step.index].indices)
        count = 1 if self._destination.in_order else min(os.cpu_count() or 1, len(self._blobs))
        apart = (os.cpu_count() or 1) > count  # a core that nobody else has
        for number in range(count):
            thread = threading.Thread(target=self._unpack_all, args=(turns, apart), name=f"parpull-unpack-{number}")
            thread.daemon = True
            thread.start()
            self._threads.append(thread)

    def _unpack_all(self, turns: deque[int], apart: bool) -> None:
        while not self._stopped:
            try:
                index = turns.popleft()
            except IndexError:
                return
            try:
                self._inbox.put((index, self._unpack(index, apart)))
            except BaseException as error:
                self._inbox.put((index, error))
                return

    def _unpack(self, index: int, apart: bool) -> int:
        """Inflate and prove one layer, and make files of it where they are wanted; bytes of its tar."""
        blob, config = self._blobs[index], self._image.config
        outlet = self._destination.outlet(index)
        diff_id = None if config is None else config.diff_ids[index]
        digest, size = blob.descriptor.digest, blob.descriptor.size
        label = blob.layer.compression

        def bring(into: int | None) -> int:
            after = 0
            while True:
                after, attempt, source = blob.open(after)
                self._taken.add(index)
                try:
                    with source:
                        if attempt is not None and attempt.foreign:
                            attempt.download.result()
                        found = inflate(
                            source, into, digest=digest, size=size, diff_id=diff_id, label=label, apart=apart
                        )  # fmt: skip
                except ParpullError as error:
                    if attempt is None or not attempt.may_follow(error):
                        raise
                else:
                    return found.tar

        if outlet.folder is None:
            return bring(outlet.tar)
        reading, writing = os.pipe2(os.O_CLOEXEC)
        try:
            style: Style = "plain" if self._destination.in_order else "overlay"
            unpacking = unpack(outlet.folder, reading, style=style, limits=limits_for(size))
            os.close(reading)
            reading = -1
            with unpacking, self._known(unpacking):
                try:
                    tar = bring(writing)
                except BrokenPipeError:
                    unpacking.result()  # says why it has left
                    raise
                os.close(writing)
                writing = -1
                unpacking.result()
                return tar
        finally:
            for fd in (reading, writing):
                if fd >= 0:
                    os.close(fd)

    @contextmanager
    def _known(self, unpacking: Unpacking) -> Iterator[None]:
        """Let _stop() end it."""
        with self._lock:
            self._unpacking.add(unpacking)
            stopped = self._stopped
        try:
            if stopped:
                unpacking.stop()
            yield
        finally:
            with self._lock:
                self._unpacking.discard(unpacking)

    def _stop(self) -> None:
        """End all transfers and threads; returns when nothing is written any more."""
        with self._lock:
            self._stopped = True
            unpacking = list(self._unpacking)
        blobs = set(self._blobs)
        for blob in blobs:
            if blob.download is not None:
                blob.download.cancel()
            blob.stop()
        for each in unpacking:
            each.stop()
        for thread in self._threads:
            thread.join()
        for blob in blobs:
            if blob.download is not None:
                blob.download.wait()
            blob.close()
