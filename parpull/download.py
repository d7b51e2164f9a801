"""Downloads: one transfer as its caller sees it, a future with progress.

The control plane of a transfer lives here: it answers the reactor's questions
(which hop next, where to land) on the notifier thread and decides the end. Bytes
never pass through. Second floor.
"""

from __future__ import annotations

import threading
import time

from ._controller import WHYS
from ._job import STEPS, JobHandle
from .alternatives import Alternatives
from .blob import Blob
from .checksums import Follower, parse_checksum, stated
from .errors import (
    IntegrityError,
    NotFound,
    ObjectChanged,
    ParpullError,
    SizeMismatch,
    TargetExists,
    TransferError,
    redact,
)
from .events import Adapted, Finished, Redirected, Refreshed, Retrying, Started, Traced, Warned
from .failures import failure, failure_of
from .files import FileSink
from .future import Future, Progress
from .memory import MemorySink
from .reader import BUFFER, FrontReader, Reader
from .settings import ca_file, proxied, settings_of
from .sources import Request, Source, Target, absolute, follow, resolve, target_of
from .spans import size_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any, Self

    from ._landing import Landing
    from .engine import Engine
    from .events import Event
    from .options import Options
    from .record import Record
    from .sink import Sink


__all__ = ["Download"]

FIRST_PART = 4 << 20
STREAM = 1  # _response.Kind
FINAL = (IntegrityError, NotFound, ObjectChanged, TargetExists)  # after which nothing of a file is worth keeping


class Download(Future):
    """A transfer under way: a future whose result is a Blob.

    Use `result()`, `await`, or a with-block, whose end cancels what is not done.
    However it ends, once result() has returned or raised no transfer writes any
    more: the destination is the caller's again."""

    def __init__(
        self,
        engine: Engine,
        url: str,
        request: Request,
        sink: Sink,
        options: Options,
        spans: Sequence[tuple[int, int | None]],
        *,
        first_part: int = FIRST_PART,
        known: tuple[Request, Target] | None = None,
        source: Source | None = None,
    ) -> None:
        """`source`: makes the request anew when it is refused. `known`: the resolved request
        and the target, from an earlier transfer; then parts are asked for at once."""
        super().__init__(redact(url))
        self.target: Target | None = None
        self._engine = engine
        self._options = options
        self._sink = sink
        self._spans = spans
        self._first = self._request = request
        self._source = source
        self._generation = 0
        self._checksum = parse_checksum(options.checksum) if options.checksum else None
        self._follower: Follower | None = None
        self._digest: tuple[str | None, BaseException | None] | None = None
        self._landing: Landing | None = None
        self._readers = 0
        self._slowly = False  # what is there may have to be proven first
        self._opening = False  # a thread of its own opens the sink
        self._resumed = 0  # bytes that were in place before the transfer
        self._ended = False  # the reactor has let go
        self._concluder: threading.Thread | None = None
        self._existing: FileSink | None = None  # its file may be what is asked for
        self._conditions: tuple[str, ...] = ()
        self._settled: Blob | None = None  # that file, once it turned out to be
        self._began = time.monotonic()
        self._took = 0.0
        self._begun = threading.Event()  # the target is known, or all is over
        first_part = options.part_size or first_part
        sink.check()
        if isinstance(sink, FileSink) and sink.existing is not None:
            self._existing = sink
            self._conditions = sink.conditions(options.headers)
            known, first_part = None, 1  # one byte tells the version as well as many
        first_start = 0
        if sink.gap is not None:
            self._slowly = True
            first_start, stop = sink.gap
            first_part = min(first_part, stop - first_start)
        self.handle = JobHandle(
            engine.next_id(),
            settings=settings_of(options),
            spans=spans,
            limit=options.limit,
            retries=options.retries,
            retry_for=options.retry_for,
            stall_timeout=options.stall_timeout,
            part_size=0 if self._existing else options.part_size or 0,
            first_part=first_part,
            first_start=first_start,
            steal=options.steal,
            hedge=options.hedge,
            renews=source is not None,
            start=engine.learned(request.origin) or options.start if options.start else 0,
            limit_rate=float(options.limit_rate or 0),
            trace=options.trace,
            direct=not proxied(options),
        )
        self._at_once = first_part
        self._alternatives = Alternatives(
            self.handle, options, url, ask=self._ask, poke=engine.poke, warn=self.warn, doubt=sink.doubt
        )
        if known is None:
            self._set_request(request)
        else:
            self._set_request(known[0])
            self._land(known[1], stream=False)

    def _ask(self, url: str, options: Options) -> Download:
        download = Download(self._engine, url, resolve(url, options), MemorySink(None), options, [(0, 1)])
        return download.start(along=True)

    def start(self, *, along: bool = False) -> Self:
        """Hand the transfer to the engine; `along`: for another one that is under way.
        Called once, by the Client."""
        self._engine.submit(self.handle_id, self, along=along)
        return self

    @property
    def host(self) -> str:
        """Where its connections lead, "name:port"."""
        _, name, port = self._request.origin
        return f"{name}:{port}"

    @property
    def wanted(self) -> int:
        """How many connections it can use."""
        return self._options.limit

    def warn(self, message: str) -> None:
        """Tell the user. Called on any thread."""
        try:
            self._tell(Warned(self.url, message=message))
        except BaseException as error:
            self._abort(error)

    @property
    def handle_id(self) -> int:
        """The engine's number of this transfer."""
        return int(self.handle.id)

    def begun(self, timeout: float | None = None) -> bool:
        """Wait until the target is known, or all is over; False if that takes longer."""
        return self._begun.wait(timeout)

    def ground(self) -> Landing:
        """Wait until the target is known; where its bytes land. Raises what ended the
        transfer before."""
        self._begun.wait()
        if self._landing is None:
            self.result()
            raise TransferError("the transfer ended before it began", url=self.url)
        return self._landing

    def reader(self, buffering: int = BUFFER) -> Reader | FrontReader:
        """A binary file that reads along while the target lands; `buffering=0` gives
        the raw one. Its end is told when the download is done and proven. Close it
        before the Blob in memory."""
        self._readers += 1
        self.handle.follow()
        raw = FrontReader(self, self._sink)
        return Reader(raw, buffering) if buffering else raw

    @property
    def resolved(self) -> Request:
        """The request that redirects have led to so far."""
        return self._request

    # --- the caller's side ----------------------------------------------------------

    def cancel(self) -> bool:
        """Ask for the end; False if it is done already. What was in place is discarded, but
        for what a file keeps for the next transfer. result() and `await` return once
        nothing writes any more."""
        with self._lock:
            if self._done.is_set() or self._ended:
                return False
            self._cancelled = True
        self._engine.cancel(self.handle)
        return True

    def progress(self) -> Progress:
        """How far it is. Takes no lock, costs microseconds."""
        counts = self.handle.counters()
        landing = self._landing
        landed = landing.landed if landing else 0
        size = None if landing is None or landing.size < 0 else landing.size
        received = landed + counts["underway"]
        return Progress(
            landed=landed,
            received=received if size is None else min(received, size),
            size=size,
            front=landing.front if landing else 0,
            connections=counts["active"],
            peak=counts["peak"],
            seconds=self._took or time.monotonic() - self._began,
            requests=counts["requests"],
            retries=counts["failures"],
            steals=counts["steals"],
            hedges=counts["hedges"],
            wasted=counts["wasted"],
            resumed=self._resumed,
        )

    def __repr__(self) -> str:
        state = "done" if self._done.is_set() else "running"
        return f"<parpull.Download {self.url} {state}>"

    # --- the notifier thread ----------------------------------------------------------

    def handle_event(self, event: dict[str, Any]) -> None:
        """Decide on one event of the reactor. Any error ends the transfer with it."""
        try:
            getattr(self, "_on_" + event["kind"])(event)
        except BaseException as error:
            if event["kind"] == "finished":
                self._error = self._error or error
                self._conclude()
            else:
                self._abort(error)

    def _abort(self, error: BaseException) -> None:
        if self._error is None:
            self._error = error
        self._engine.cancel(self.handle)

    def _tell(self, event: Event) -> None:
        if self._options.on_event is not None:
            self._options.on_event(event)

    def _set_request(self, request: Request) -> None:
        self._request = request
        headers = request.headers + self._conditions
        self.handle.request(request.url, headers, private=request.private, generation=self._generation)

    def _on_redirected(self, event: dict[str, Any]) -> None:
        if event["status"] == 304 and self._existing is not None and self._conditions:
            self._settle(self._existing)
            return
        request = follow(self._request, event["status"], absolute(self._request.url, event["text"]))
        self._tell(Redirected(self.url, status=event["status"], location=redact(request.url)))
        self._set_request(request)
        if self.target is None:  # the connections will be to that host
            self._engine.enter(self.handle_id, self)
        self._engine.answer_request(self.handle)

    def _on_stale(self, event: dict[str, Any]) -> None:
        self._generation += 1
        self._tell(Refreshed(self.url, status=event["status"], generation=self._generation))
        if self._source is None:
            self._set_request(self._first)
            self._engine.answer_request(self.handle)
        else:
            threading.Thread(target=self._renew, args=(self._source,), name="parpull-renew", daemon=True).start()

    def _renew(self, source: Source) -> None:
        """On a thread of its own: the source may have to ask for a token, and the notifier
        has other transfers to look after. When the transfer has ended meanwhile, nobody listens."""
        try:
            self._first = source.resolve(self._options, refused=self._request)
            self._set_request(self._first)
            self._engine.answer_request(self.handle)
        except BaseException as error:
            if not self._ended:
                self._abort(error)

    def _on_headers(self, event: dict[str, Any]) -> None:
        ranges = event["status"] == 206
        total = event["total"]
        target = target_of(self._request.url, event["text"] or "", total=total, ranges=ranges, address=event["address"])
        self._check_size(target)
        if self._existing is not None:
            if not self._existing.is_current(validator=target.validator, size=target.size):
                raise self._existing.exists("the server has another version")
            self._settle(self._existing)
            return
        stream = event["code"] == STREAM
        if self._slowly:
            self._opening = True  # before it runs: whoever ends the transfer meanwhile waits for it
            threading.Thread(target=self._land_slowly, args=(target, stream), name="parpull-prove", daemon=True).start()
        else:
            self._begin(target, stream)

    def _begin(self, target: Target, stream: bool) -> None:
        self._land(target, stream=stream)
        assert self._landing is not None
        if not stream and self._landing.size > self._at_once:  # else the first response brings all of it
            self._alternatives.look(target, self._landing.size, proven=self._checksum is not None)
        self._engine.answer_begin(self.handle)

    def _land_slowly(self, target: Target, stream: bool) -> None:
        """On a thread of its own: the notifier has other transfers to look after while
        this one reads what is in place."""
        try:
            if self._wanted():
                self._begin(target, stream)
        except BaseException as error:
            self._abort(error)
        finally:
            with self._lock:
                self._opening = False
                ended = self._ended
            if ended:
                self._let_go()

    def _land(self, target: Target, *, stream: bool) -> None:
        """The target is known: open the ground for it."""
        self.target = target
        size = size_of(self._spans, target, self.url)
        if self._checksum is None and self._options.verify == "stated" and self._spans[0] == (0, None):
            self._checksum = stated(target.headers)
        # A checksum reads along the front, and a follower wants the page cache.
        followed = self._checksum is not None or self._readers > 0
        validator = target.validator if target.ranges else None
        landing = self._sink.open(size, followed=followed, validator=validator, wanted=self._wanted)
        self._resumed = landing.landed
        self._landing = landing
        if self._checksum is not None:
            self._follower = Follower(self._checksum, landing, self._sink.read, self._digested)
        for message in self._doubts(target, size):
            self._tell(Warned(self.url, message=message))
        self._tell(
            Started(
                self.url,
                size=size,
                validator=target.validator,
                ranges=target.ranges,
                address=target.address,
                resumed=self._resumed,
            )
        )
        self.handle.begin(
            landing,
            total=-1 if target.size is None else target.size,
            etag=target.etag,
            last_modified=target.last_modified,
            stream=stream,
            followed=followed,
        )
        self._begun.set()

    def _doubts(self, target: Target, size: int | None) -> Iterator[str]:
        if not target.ranges and target.validator is None and size != 0:
            yield "the server gives neither ranges nor a validator"
        framed = "transfer-encoding" in target.headers or self._options.http_version != "1.1"
        if size is None and not framed and self._checksum is None:
            yield "the server tells neither size nor end: a cut would look like the end"

    def _wanted(self) -> bool:
        return not self._cancelled and self._error is None

    def _settle(self, sink: FileSink) -> None:
        """The file that is there is what was asked for: end without fetching it."""
        existing = sink.existing
        assert existing is not None
        self._check_size(existing)
        self._landing = sink.settle_existing()
        self._settled = Blob(
            None, path=sink.path, size=existing.size, validator=existing.validator, digests=existing.digests
        )
        self._begun.set()
        self._engine.cancel(self.handle)

    @property
    def up_to_date(self) -> bool:
        """Whether nothing was fetched, because the file was there already."""
        return self._settled is not None

    def _check_size(self, target: Target | Record) -> None:
        expected = self._options.size
        if expected is not None and target.size is not None and target.size != expected:
            raise SizeMismatch(
                f"the object has {target.size:,} bytes, not {expected:,}",
                expected=expected,
                actual=target.size,
                url=self.url,
            )

    def _digested(self, digest: str | None, error: BaseException | None) -> None:
        """The follower's thread: the digest is there, or never will be."""
        self._digest = (digest, error)
        if self._ended:
            self._conclude()

    def _about(self) -> dict[str, Any]:
        return {
            "url": self.url,
            "before": self.target.validator if self.target else None,
            "stall_timeout": self._options.stall_timeout,
            "path": self._sink.path,
            "trusting": ca_file(self._options.ca_file) is not None,
        }

    def _on_note(self, event: dict[str, Any]) -> None:
        error = failure_of(event, **self._about())
        self._tell(Retrying(self.url, attempt=event["number"], delay=event["seconds"], error=error))

    def _on_traced(self, event: dict[str, Any]) -> None:
        self._tell(
            Traced(
                self.url,
                lane=event["number"],
                what=STEPS[event["code"]],
                at=event["seconds"],
                start=event["start"],
                stop=event["stop"],
                connections=event["total"],
            )
        )

    def _on_adapted(self, event: dict[str, Any]) -> None:
        self._engine.learn(self._request.origin, event["stop"])
        self._tell(
            Adapted(
                self.url,
                before=event["start"],
                after=event["stop"],
                rate=event["seconds"],
                why=WHYS[event["number"]],
            )
        )

    def _on_dropped(self, event: dict[str, Any]) -> None:
        why = "it is slow" if not event["cause"] else str(failure_of(event, **self._about()))
        self._tell(Warned(self.url, message=f"{self._alternatives.name(event['number'])} is used no more: {why}"))

    def _on_finished(self, event: dict[str, Any]) -> None:
        self.handle.finished()
        self._alternatives.close()
        landing = self._landing
        stopped = event["cause"] == "cancelled" and (self._cancelled or self._settled is not None)
        if self._error is None and event["cause"] and not stopped:
            if event["cause"] == "sink" and landing is not None and landing.size < 0 and self._sink.path is None:
                self._error = self._sink.overflow(landing.landed)
            else:
                self._error = failure(
                    event, retries=self._options.retries, started=self.target is not None, **self._about()
                )
        with self._lock:
            if self._error is not None:
                self._cancelled = False
            self._ended = True
            busy = self._opening
        if not busy:
            self._let_go()

    def _let_go(self) -> None:
        """Nothing writes any more."""
        if self._landing is not None:
            self._landing.close()
        if self._follower is None or self._digest is not None:
            self._conclude()
        # else the follower concludes when it has read to the end

    def _conclude(self) -> None:
        """Everything has ended: prove, commit or discard, resolve the future. Runs
        once: on the notifier's thread, or on the follower's."""
        with self._lock:
            if self._concluder is not None:
                return
            self._concluder = threading.current_thread()
        error = self._error
        blob = None
        try:
            if error is None and not self._cancelled:
                blob = self._commit()
        except BaseException as failed:
            error = failed
        self._end(blob=blob, error=error)

    def _commit(self) -> Blob:
        if self._settled is not None:
            return self._settled
        landing, target = self._landing, self.target
        assert landing is not None
        assert target is not None
        size = landing.landed
        if landing.size >= 0 and size != landing.size:
            raise TransferError(f"{landing.size - size:,} bytes are missing", url=self.url)
        expected = self._options.size
        if expected is not None and target.size is None and self._spans[0] == (0, None) and size != expected:
            raise SizeMismatch(f"the object has {size:,} bytes, not {expected:,}", expected=expected, actual=size)
        digests = {}
        if self._checksum is not None:
            digest, problem = self._digest or (None, None)
            if problem is not None:
                raise problem
            assert digest is not None
            self._checksum.compare(digest)
            digests[self._checksum.algorithm] = digest
        landing.release()
        place = self._sink.commit(size, validator=target.validator, digests=digests)
        path = place if isinstance(place, str) else None
        return Blob(None if path else place, path=path, size=size, validator=target.validator, digests=digests)

    def _end(self, *, blob: Blob | None = None, error: BaseException | None = None) -> None:
        self._took = time.monotonic() - self._began
        if blob is None:
            try:
                if self._landing is not None:
                    self._landing.release()
                if self._sink.keeps and not isinstance(error, FINAL):
                    self._sink.keep()
                else:
                    self._sink.discard()
            except BaseException as failed:  # the future is resolved whatever happens
                error = error or failed
                self._discard_quietly()
        counts = self.handle.counters()
        shown = error if isinstance(error, ParpullError) else None
        if shown is not None and shown.url is None:
            shown.url = self.url
        self._outcome, self._error = blob, error
        try:
            self._tell(
                Finished(
                    self.url,
                    size=blob.size if blob else None,
                    landed=self._landing.landed if self._landing else 0,
                    seconds=self._took,
                    requests=counts["requests"],
                    connections=counts["peak"],
                    retries=counts["failures"],
                    cancelled=self._cancelled,
                    up_to_date=self.up_to_date,
                    error=shown,
                )
            )
        except BaseException as failed:
            self._error = self._error or failed
        self._begun.set()
        callbacks = self._wake()
        self._engine.ended(self.handle_id)
        for callback in callbacks:
            self._call(callback)

    def _discard_quietly(self) -> None:
        try:
            self._sink.discard()
        except Exception:
            pass  # the first error is the one to tell

    def wait(self) -> None:
        """Wait for the end, whatever it is; on the thread that brings it, at once."""
        if threading.current_thread() is not self._concluder and not self._engine.notifying:
            self._done.wait()

    def forked(self) -> None:
        """In a forked child: the transfer goes on in the parent only."""
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._begun = threading.Event()
        self._begun.set()
        self._sink.abandon()
        self._error = TransferError("the process forked; this transfer goes on in the parent", url=self.url)
        self._done.set()
