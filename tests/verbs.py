"""parpull as a process of its own, without fixtures: for tests that start several in
turn, or stop one half-way. Beside running.py, whose environment it uses."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from typing import NamedTuple

from tests.running import environment, wait_for

__all__ = ["Ended", "environment", "started", "verb", "wait_for"]


class Ended(NamedTuple):
    """How a run of it ended."""

    code: int
    out: bytes
    err: str


@contextmanager
def started(*args, **more):
    """`python -m parpull ARGS…` under way; killed at the end if it still is."""
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    command = [sys.executable, "-m", "parpull", *map(str, args)]
    process = subprocess.Popen(command, **({"env": environment(), **streams} | more))
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def verb(*args, **more):
    """Run it to its end; never a traceback."""
    with started(*args, **more) as process:
        out, err = process.communicate(timeout=60)
        text = (err or b"").decode()
        assert "Traceback" not in text, text
        return Ended(process.returncode, out, text)
