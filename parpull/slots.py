"""Slots: how many connections to a host all processes of a user may hold together.

A connection is a slot, a slot is a locked file: the kernel keeps count, and a
process that dies gives back what it held. Nobody is in charge. Each process asks
for no more than its share, which it works out from who else is a member; so when a
newcomer comes, the others come down to theirs as their connections end.

Slots is one process's part in this for one host; Gate runs it for the transfers of
a Client, on a thread of its own. First floor.
"""

from __future__ import annotations

import fcntl
import os
import stat
import threading
import time
from urllib.parse import quote

from .errors import BadOption

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Gate", "Seat", "Slots", "moves", "shares"]

PAUSE = 0.25  # seconds between two looks
WARN_AFTER = 1.0  # seconds: others need two looks to notice a newcomer
TEMPORARY = "/tmp"  # noqa: S108  not TMPDIR, which differs between processes; checked below
LONGEST = 200  # characters of a folder's name


# --- pure ---------------------------------------------------------------------------------


def shares(wanted: Sequence[int], held: int) -> list[int]:
    """Divide `held` among those who want so many each: as evenly as their wishes allow,
    nothing left over while somebody wants more, the earlier first with what is odd."""
    out = list(wanted)
    hungry = sorted(range(len(wanted)), key=wanted.__getitem__)
    while hungry and wanted[hungry[0]] * len(hungry) <= held:
        held -= wanted[hungry.pop(0)]
    for rank, i in enumerate(sorted(hungry)):
        out[i] = held // len(hungry) + (rank < held % len(hungry))
    return out


def moves(goals: Sequence[int], used: Sequence[int], held: int) -> list[int]:
    """The next allowances on the way to `goals`, of transfers that use so many now and
    hold `held` slots together. Who has to come down is told at once; who may go up
    gets no more than what nobody uses yet."""
    room = held - sum(used)
    out = []
    for goal, now in zip(goals, used, strict=True):
        up = max(min(goal - now, room), 0)
        room -= up
        out.append(min(goal, now + up))
    return out


# --- one host -----------------------------------------------------------------------------


class Slots:
    """The slots of one host that this process holds.

    host: "name:port". limit: how many there are. Processes that state other limits
    each keep to their own: they use the first `limit` files only, the highest of them
    first, which leaves the low ones to those who are content with fewer. folder: where
    the files are; by default one that belongs to the user alone. BadOption if there is
    none. Not for use on several threads at once."""

    def __init__(self, host: str, limit: int, folder: str | None = None) -> None:
        self.host = host
        self.limit = limit
        self._folder = os.path.join(_own_folder() if folder is None else folder, _safe(host))
        self._held: dict[int, int] = {}  # slot: descriptor
        self._member = -1
        self._name = ""
        os.makedirs(self._folder, mode=0o700, exist_ok=True)

    @property
    def held(self) -> int:
        """How many slots are held now."""
        return len(self._held)

    def take(self, wanted: int) -> int:
        """Try to hold `wanted` slots, but not more than a fair share; return how many
        should be in use. Never waits, and never gives a slot up by itself: when the
        answer is less than `held`, end connections and give_back() what they leave."""
        goal = self._share(wanted)
        for slot in reversed(range(self.limit)):
            if len(self._held) >= goal:
                break
            if slot in self._held:
                continue
            try:
                fd = self._lock(f"slot.{slot}", wait=False)
            except OSError:  # no descriptors left: use what there is
                if not self._held:
                    raise
                break
            if fd >= 0:
                self._held[slot] = fd
        return min(goal, len(self._held))

    def give_back(self, n: int) -> None:
        """Let go of `n` slots, for others to take."""
        for slot in sorted(self._held)[: max(n, 0)]:
            _unlock(self._held.pop(slot))

    def close(self) -> None:
        """Give everything back, and leave."""
        self.give_back(len(self._held))
        if self._member >= 0:
            self._remove(self._name)
            _unlock(self._member)
            self._member = -1

    def abandon(self) -> None:
        """In a forked child: close the descriptors, and nothing else. The locks belong
        to parent and child together: unlocking would take them from the parent."""
        for fd in (*self._held.values(), self._member):
            if fd >= 0:
                os.close(fd)
        self._held = {}
        self._member = -1

    # --- members --------------------------------------------------------------------

    def _share(self, wanted: int) -> int:
        """What this process may hold at most, of the slots that all members want."""
        self._join(wanted)
        names, wishes = [self._name], [wanted]
        for name in os.listdir(self._folder):
            if name.startswith("member.") and name != self._name:
                wish = self._wish_of(name)
                if wish is not None:
                    names.append(name)
                    wishes.append(wish)
        order = sorted(range(len(names)), key=names.__getitem__)  # the same for everyone: by time of joining
        fair = shares([wishes[i] for i in order], self.limit)[order.index(0)]
        return min(wanted, max(fair, 1))

    def _join(self, wanted: int) -> None:
        """Be a member that wants so many: a locked file that says so."""
        if self._member < 0:
            self._name = f"member.{time.time_ns():020}.{os.getpid()}.{id(self):x}"
            self._member = self._lock(self._name, wait=True)
        os.pwrite(self._member, b"%8d" % wanted, 0)

    def _wish_of(self, name: str) -> int | None:
        """How many slots another member wants. None if it has gone: a lock that can be
        had is one that its owner took to the grave, and then the file goes as well."""
        try:
            fd = os.open(os.path.join(self._folder, name), os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            text = os.pread(fd, 8, 0).strip()
            return int(text) if text.isdigit() else self.limit
        else:
            self._remove(name)
            return None
        finally:
            _unlock(fd)

    # --- files ----------------------------------------------------------------------

    def _lock(self, name: str, *, wait: bool) -> int:
        """A descriptor that holds the lock of a file, which is made if need be; -1 if
        another has it. Somebody may remove the file meanwhile: then it is not the one
        that others look at, and we begin again."""
        path = os.path.join(self._folder, name)
        while True:
            try:
                fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            except FileNotFoundError:  # somebody tidied up
                os.makedirs(self._folder, mode=0o700, exist_ok=True)
                continue
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
                if os.path.samestat(os.fstat(fd), os.stat(path, follow_symlinks=False)):
                    return fd
            except FileNotFoundError:
                pass
            except BlockingIOError:
                os.close(fd)
                return -1
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)

    def _remove(self, name: str) -> None:
        try:
            os.unlink(os.path.join(self._folder, name))
        except FileNotFoundError:
            pass


def _unlock(fd: int) -> None:
    """Unlock, then close: a child that was forked may have a copy of the descriptor."""
    fcntl.flock(fd, fcntl.LOCK_UN)
    os.close(fd)


def _safe(host: str) -> str:
    """A host as a folder's name."""
    name = "at-" + quote(host.lower(), safe="")
    if len(name) > LONGEST:
        import hashlib

        name = "at-" + hashlib.sha256(name.encode()).hexdigest()
    return name


def _own_folder() -> str:
    """The folder for this user's slots, which nobody else can write to."""
    given = os.environ.get("XDG_RUNTIME_DIR", "")
    if os.path.isabs(given) and _is_ours(given):
        folder = os.path.join(given, "parpull")
        try:
            os.mkdir(folder, 0o700)
        except OSError:
            pass
        if _is_ours(folder):
            return folder
    folder = os.path.join(TEMPORARY, f"parpull-{os.geteuid()}")
    try:
        os.mkdir(folder, 0o700)
    except OSError:
        pass
    if not _is_ours(folder):
        raise BadOption(
            f"host_connections can't be kept: {folder} is not a folder of yours alone",
            name="host_connections",
            value=folder,
            hint="remove it, or set XDG_RUNTIME_DIR",
        )
    return folder


def _is_ours(folder: str) -> bool:
    """Whether it is a folder, no link, ours, and closed to others."""
    try:
        about = os.lstat(folder)
    except OSError:
        return False
    return stat.S_ISDIR(about.st_mode) and about.st_uid == os.geteuid() and not about.st_mode & 0o077


# --- the transfers of a Client -----------------------------------------------------------


class Seat:
    """A transfer's place at a Gate."""

    __slots__ = ("_before", "_until", "active", "allow", "allowed", "host", "since", "wanted", "warn", "warned")

    def __init__(
        self,
        host: str,
        wanted: int,
        allow: Callable[[int], object],
        active: Callable[[], int],
        warn: Callable[[str], object],
    ) -> None:
        self.host = host
        self.wanted = wanted
        self.allow = allow
        self.active = active
        self.warn = warn
        self.allowed = 0
        self.since = time.monotonic()  # when it was last sent to wait
        self.warned = False
        self._before = 0
        self._until = self.since

    def used(self) -> int:
        """How many connections it uses at most: those that it may begin, or might just
        be beginning because it could until now, and those that have not ended."""
        before = self._before if time.monotonic() < self._until else 0
        return max(self.allowed, before, self.active())

    def move(self, n: int, pause: float) -> None:
        """Allow `n`. Fewer than before frees nothing until `pause` seconds later."""
        if n == self.allowed:
            return
        if n < self.allowed:
            self._before = self.used()
            self._until = time.monotonic() + pause
        if n == 0:
            self.since = time.monotonic()
        self.allowed = n
        self.allow(n)


class Gate:
    """Decides how many connections each transfer of a Client may use.

    limit: slots of each host; folder: as for Slots. Its thread, "parpull-slots", runs
    while there are transfers, and makes all calls to them but the first."""

    def __init__(self, limit: int, *, folder: str | None = None, pause: float = PAUSE) -> None:
        self.limit = limit
        self._folder = _own_folder() if folder is None else folder
        self._pause = pause
        self._lock = threading.Lock()
        self._news = threading.Event()
        self._seats: list[Seat] = []
        self._hosts: dict[str, Slots] = {}  # the thread's own
        self._thread: threading.Thread | None = None

    def add(
        self,
        host: str,
        wanted: int,
        *,
        allow: Callable[[int], object],
        active: Callable[[], int],
        warn: Callable[[str], object],
    ) -> Seat:
        """Let a transfer in, which may use up to `wanted` connections to `host`.

        allow(n) is called with how many it may use: with 0 before this returns, then
        on the Gate's thread whenever that changes. active() tells how many it uses;
        warn(message) is called once if it has to wait."""
        seat = Seat(host, wanted, allow, active, warn)
        allow(0)
        with self._lock:
            self._seats.append(seat)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="parpull-slots", daemon=True)
                self._thread.start()
        self._news.set()
        return seat

    def remove(self, seat: Seat) -> None:
        """A transfer has ended, and uses no connection any more. Harmless twice."""
        with self._lock:
            if seat in self._seats:
                self._seats.remove(seat)
        self._news.set()

    def close(self) -> None:
        """Forget all transfers; returns when every slot is given back."""
        with self._lock:
            self._seats.clear()
            thread = self._thread
        self._news.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def abandon(self) -> None:
        """In a forked child: the slots are the parent's, and so are the transfers."""
        self._lock = threading.Lock()
        self._news = threading.Event()
        self._seats = []
        self._thread = None
        for slots in self._hosts.values():
            slots.abandon()
        self._hosts = {}

    def _run(self) -> None:
        """The thread: look after each host until there are no transfers left."""
        while True:
            self._news.clear()
            with self._lock:
                seats = list(self._seats)
                if not seats:
                    self._close_hosts(set())
                    self._thread = None
                    return
            hosts = {seat.host for seat in seats}
            self._close_hosts(hosts)
            for host in hosts:
                self._look(host, [seat for seat in seats if seat.host == host])
            self._news.wait(self._pause)

    def _close_hosts(self, but: set[str]) -> None:
        for host in self._hosts.keys() - but:
            self._hosts.pop(host).close()

    def _look(self, host: str, seats: list[Seat]) -> None:
        """One host: take what is due, pass it on, give back what nobody uses."""
        problem = None
        try:
            if host not in self._hosts:
                self._hosts[host] = Slots(host, self.limit, self._folder)
            slots = self._hosts[host]
            usable = slots.take(sum(seat.wanted for seat in seats))
            used = [seat.used() for seat in seats]
            goals = shares([seat.wanted for seat in seats], usable)
            for seat, n in zip(seats, moves(goals, used, slots.held), strict=True):
                seat.move(n, self._pause)
            slots.give_back(slots.held - max(usable, sum(seat.used() for seat in seats)))
            if not slots.held:
                problem = f"other processes use all {self.limit}"
        except OSError as error:  # no descriptors left, say: what is allowed stays so
            problem = error.strerror or str(error)
        if problem is not None:
            for seat in seats:
                self._warn(seat, problem)

    @staticmethod
    def _warn(seat: Seat, problem: str) -> None:
        if seat.allowed or seat.warned or time.monotonic() - seat.since < WARN_AFTER:
            return
        seat.warned = True
        try:
            seat.warn(f"waiting for a connection to {seat.host}: {problem}")
        except BaseException as error:  # its author's; the others' allowances go on
            kind, trace = type(error), error.__traceback__
            threading.excepthook(threading.ExceptHookArgs((kind, error, trace, threading.current_thread())))
