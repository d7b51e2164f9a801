"""parpull as a process of its own: fixtures for the tests of the command line."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

__all__ = ["cli", "environment", "start", "wait_for"]


def environment(**more):
    """Ours, without what would lead elsewhere: the tests' machine may have a proxy, its
    user a configuration."""
    kept = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy") and not k.startswith("PARPULL_")}
    kept.pop("NETRC", None)
    return kept | {"PYTHONPATH": os.getcwd(), "PYTHONWARNINGS": "error", "PARPULL_CONFIG": ""} | more


@pytest.fixture
def start(tmp_path):
    """start(*args) -> Popen of `python -m parpull` in a folder of its own."""
    running = []

    def begin(*args, **more):
        options = {"cwd": tmp_path, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": environment()} | more
        process = subprocess.Popen([sys.executable, "-m", "parpull", *map(str, args)], **options)
        running.append(process)
        return process

    yield begin
    for process in running:
        process.kill()
        process.communicate()


@pytest.fixture
def cli(start):
    """cli(*args, given=b"") -> (exit code, stdout, stderr) as bytes, bytes, text."""

    def run(*args, given=None, **more):
        if given is not None:
            more["stdin"] = subprocess.PIPE
        process = start(*args, **more)
        out, err = process.communicate(given, timeout=60)
        err = (err or b"").decode()
        assert "Traceback" not in err
        return process.returncode, out, err

    return run


def wait_for(condition, seconds=10.0):
    """Poll until it holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.01)
