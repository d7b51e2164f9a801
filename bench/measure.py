"""Run one command and say what it cost: to itself, to the server, to the machine.

A command's CPU is that of its whole process tree, start-up and exit included, as the kernel
reports it to `wait4`; `adopting` makes sure that a process which outlives its parent comes
back to us, to be counted and ended.  The server's CPU is read beside it, and *foreign* is
what the machine was busy with besides: the measure of how far a figure may be trusted.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import platform
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    import resource
    from collections.abc import Callable, Iterator, Mapping, Sequence

ROOT = Path(__file__).resolve().parent.parent
GIB = 1 << 30
_TICK = os.sysconf("SC_CLK_TCK")
_PR_SET_CHILD_SUBREAPER = 36
_LINE_STEP = 0.05  # seconds between two points of a time line


class Failed(Exception):
    """A command ended badly, or fetched something else than was asked for."""


@dataclass(frozen=True)
class Usage:
    """Seconds, except `rss_mib` (the peak resident set of the largest process) and the counts."""

    wall: float
    user: float
    system: float
    server: float
    foreign: float
    busy: float
    """Of all cores, whoever had them: a disk's writeback belongs to no process."""
    rss_mib: float
    first: float | None = None
    """Until the first byte came out of the pipe, where there is one."""
    left: int = 0
    """Processes that the command left behind; they were ended."""
    line: tuple[tuple[float, int], ...] = field(default=(), repr=False)
    """Bytes that had come, by time."""

    @property
    def cpu(self) -> float:
        """User and system."""
        return self.user + self.system


@dataclass(frozen=True)
class Setting:
    """What stands around a command while it runs."""

    server: tuple[int, ...] = ()
    limit: float = 120.0
    environment: Mapping[str, str] | None = None
    sink: tuple[str, ...] = ()
    """The other end of the command's standard output: its report is then the output."""
    durable: Path | None = None
    """A folder whose files must be on their device before the clock stops."""
    line: Callable[[], int] | None = None
    """Asked twenty times a second how many bytes have come."""
    launcher: str = ""
    """floor/launch.c, which knows the command's peak of memory from the harness's own."""


def run(command: list[str], server: Sequence[int] = (), timeout: float = 120) -> tuple[Usage, str]:
    """Without anything around it."""
    return cost(command, Setting(tuple(server), timeout))


def cost(command: list[str], setting: Setting) -> tuple[Usage, str]:
    """Run to the end; returns the cost and the standard output, or raises `Failed`.

    Nothing that the command started is running afterwards, however it ended.
    """
    before = set(descendants())
    ended = "ended"
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as error, tempfile.TemporaryFile() as peak:
        busy, served, own = _busy(), _cpu_of(setting.server), time.process_time()
        with _line(setting.line) as line:
            begin = time.monotonic()
            processes = _start(command, setting, out, error, peak)
            until = begin + setting.limit
            try:
                in_time = all(_wait(process.pid, until) for process in processes)
            finally:
                for process in processes:
                    _kill_group(process.pid)
            used = [_reap(process) for process in processes]
            if in_time and not processes[0].returncode and setting.durable is not None:
                _make_durable(setting.durable)
            wall = time.monotonic() - begin
        strays = _end(set(descendants()) - before)
        served = _cpu_of(setting.server) - served
        total = _busy() - busy
        said, complaint, most = _text(out), _text(error).strip().splitlines(), _text(peak)
    if not in_time:
        ended = f"still running after {setting.limit:g} s: ended"
    elif bad := next((p for p in processes if p.returncode), None):
        ended = f"exit status {bad.returncode}" + (f": {complaint[-1][:200]}" if complaint else "")
    if ended != "ended":
        raise Failed(ended)
    tool = [used[0], *strays]
    user, system = sum(each.ru_utime for each in tool), sum(each.ru_stime for each in tool)
    others = sum(each.ru_utime + each.ru_stime for each in used[1:]) + time.process_time() - own
    foreign = total - served - user - system - others
    rss = (int(most) if most else max(each.ru_maxrss for each in tool)) / 1024
    first = _first(said, begin) if setting.sink else None
    return Usage(wall, user, system, served, foreign, total, rss, first, len(strays), tuple(line)), said


def _start(
    command: list[str], setting: Setting, out: IO[bytes], error: IO[bytes], peak: IO[bytes]
) -> list[subprocess.Popen[bytes]]:
    """The command, and the sink if there is one; in sessions of their own, to be ended as a whole."""
    environment = {**os.environ, **(setting.environment or {})}

    keep = (peak.fileno(),) if setting.launcher else ()
    if setting.launcher:
        command = [setting.launcher, str(peak.fileno()), *command]

    def start(what: list[str], source: int, sink: IO[bytes] | int) -> subprocess.Popen[bytes]:
        try:
            return subprocess.Popen(
                what,
                cwd=ROOT,
                stdin=source,
                stdout=sink,
                stderr=error,
                env=environment,
                start_new_session=True,
                pass_fds=keep,
            )
        except OSError as problem:
            raise Failed(str(problem)) from problem

    if not setting.sink:
        return [start(command, subprocess.DEVNULL, out)]
    source, end = os.pipe()
    try:
        taker = start(list(setting.sink), source, out)
        try:
            return [start(command, subprocess.DEVNULL, end), taker]
        except Failed:
            _kill_group(taker.pid)
            taker.wait()
            raise
    finally:
        os.close(source)
        os.close(end)


def _wait(pid: int, until: float) -> bool:
    """Whether it ended in time; it is left to be reaped."""
    watched = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(watched, select.POLLIN)
        return bool(poll.poll(max(0.0, until - time.monotonic()) * 1000))
    finally:
        os.close(watched)


def _reap(process: subprocess.Popen[bytes]) -> resource.struct_rusage:
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)  # we reaped it, Popen must not
    return used


def _end(pids: set[int]) -> list[resource.struct_rusage]:
    """Kill what was left behind; what each had used, as far as it became our child."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    used = []
    for pid in pids:
        with contextlib.suppress(ChildProcessError):
            used.append(os.wait4(pid, 0)[2])
    return used


def _make_durable(folder: Path) -> None:
    """As `sync -d` does: the contents of all files, and what is needed to find them."""
    for path in sorted(folder.iterdir()):
        file = os.open(path, os.O_RDONLY)
        try:
            os.fdatasync(file)
        finally:
            os.close(file)


@contextlib.contextmanager
def _line(received: Callable[[], int] | None) -> Iterator[list[tuple[float, int]]]:
    points: list[tuple[float, int]] = []
    if received is None:
        yield points
        return
    done, began, zero = threading.Event(), time.monotonic(), received()

    def watch() -> None:
        while not done.wait(_LINE_STEP):
            points.append((round(time.monotonic() - began, 3), received() - zero))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield points
    finally:
        done.set()
        thread.join()


def over_loopback() -> int:
    """By whomever: on a machine that others use, not only by us."""
    for row in Path("/proc/net/dev").read_text().splitlines():
        if row.strip().startswith("lo:"):
            return int(row.partition(":")[2].split()[0])
    return 0


def _first(said: str, begin: float) -> float | None:
    try:
        return float(json.loads(said)["first"]) - begin
    except (ValueError, KeyError, TypeError):
        return None  # a sink that hashes has not looked


def warm_up(size: int) -> None:
    """Have the host supply memory before the clock runs (see `clients.touch`).

    Some more than SIZE: a host that is told of free pages takes them back in the
    background, seconds after they were given up, while the next process is running.
    """
    toucher = [sys.executable, "-m", "bench.clients.touch", str(size + size // 4)]
    subprocess.run(toucher, cwd=ROOT, check=True)


@contextlib.contextmanager
def adopting() -> Iterator[None]:
    """Orphans below us become our children, not init's."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def descendants() -> list[int]:
    """Every process below this one: at the right moment, the server and its workers."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parents[int(entry.name)] = int(_stat(int(entry.name))[1])
    found = [os.getpid()]
    for pid in found:  # grows while we walk it
        found += [child for child, parent in parents.items() if parent == pid]
    return found[1:]


def foreign_share(seconds: float = 2.0) -> float:
    """What share of all cores others have, looked at for so long."""
    busy, own, begin = _busy(), time.process_time(), time.monotonic()
    time.sleep(seconds)
    spent = _busy() - busy - (time.process_time() - own)
    return spent / ((time.monotonic() - begin) * (os.cpu_count() or 1))


def machine() -> dict[str, str | int]:
    """What a reader needs to place the figures, and nothing that names the host."""
    cpu = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
            break
    return {
        "cpu": cpu,
        "cores": os.cpu_count() or 1,
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GIB),
        "kernel": platform.release().partition("-")[0],
        "huge_pages": Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text().strip(),
        "python": platform.python_version(),
    }


def available_memory() -> int:
    """Bytes that can be had without swapping."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    return 0


def revision() -> str:
    """The commit that was measured, marked when the tree differed from it."""
    git = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    done = subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "uncommitted"


def parse_report(output: str) -> tuple[int, bytes]:
    """The one line of JSON which a client that fetched into memory prints."""
    try:
        said = json.loads(output)
        return int(said["bytes"]), bytes.fromhex(said["sample"])
    except (ValueError, KeyError, TypeError) as error:
        raise Failed(f"unreadable report {output[:80]!r}") from error


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read(1 << 20).decode(errors="replace")


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def _busy() -> float:
    """Seconds that all cores were not idle; stolen time counts, it is lost to us."""
    with open("/proc/stat") as stat:
        user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, stat.readline().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / _TICK


def _cpu_of(pids: tuple[int, ...]) -> float:
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            total += sum(map(int, _stat(pid)[11:13]))
    return total / _TICK


def _stat(pid: int) -> list[str]:
    """The fields after the command name, which may itself hold spaces and brackets."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
