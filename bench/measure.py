"""Run one command and say what it cost: to itself, to the server, to the machine.

A command's CPU is that of the whole process and of the children it waited for, start-up
and exit included, as the kernel reports it to `wait4`.  The server's CPU is read beside
it, and *foreign* is what the machine was busy with besides: the measure of how far a
figure may be trusted.
"""

import contextlib
import json
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GIB = 1 << 30
_TICK = os.sysconf("SC_CLK_TCK")


class Failed(Exception):
    """A command ended badly, or fetched something else than was asked for."""


@dataclass(frozen=True)
class Usage:
    """Seconds, except `rss_mib`: the peak resident set of the largest process."""

    wall: float
    user: float
    system: float
    server: float
    foreign: float
    rss_mib: float

    @property
    def cpu(self) -> float:
        return self.user + self.system


def run(command: list[str], server: list[int], timeout: float = 120) -> tuple[Usage, str]:
    """Run to the end; returns the cost and the standard output, which must be short."""
    busy, served, own = _busy(), _cpu_of(server), time.process_time()
    begin = time.perf_counter()
    # A session of its own, so that a time-out reaches the children of a shell too.
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, start_new_session=True)
    alarm = threading.Timer(timeout, _kill_group, [child.pid])
    alarm.start()
    try:
        assert child.stdout is not None
        with child.stdout:
            output = child.stdout.read().decode()
        _, status, used = os.wait4(child.pid, 0)
        wall = time.perf_counter() - begin
    finally:
        alarm.cancel()
    child.returncode = os.waitstatus_to_exitcode(status)  # we reaped it, Popen must not
    if child.returncode:
        raise Failed(f"exit status {child.returncode}")
    served = _cpu_of(server) - served
    cpu = used.ru_utime + used.ru_stime
    foreign = _busy() - busy - served - cpu - (time.process_time() - own)
    usage = Usage(wall, used.ru_utime, used.ru_stime, served, foreign, used.ru_maxrss / 1024)
    return usage, output


def warm_up(size: int) -> None:
    """Have the host supply memory before the clock runs (see `clients.touch`).

    Some more than SIZE: a host that is told of free pages takes them back in the
    background, seconds after they were given up, while the next process is running.
    """
    toucher = [sys.executable, "-m", "bench.clients.touch", str(size + size // 4)]
    subprocess.run(toucher, cwd=ROOT, check=True)


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


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def _busy() -> float:
    """Seconds that all cores were not idle; stolen time counts, it is lost to us."""
    with open("/proc/stat") as stat:
        user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, stat.readline().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / _TICK


def _cpu_of(pids: list[int]) -> float:
    return sum(sum(map(int, _stat(pid)[11:13])) for pid in pids) / _TICK


def _stat(pid: int) -> list[str]:
    """The fields after the command name, which may itself hold spaces and brackets."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
