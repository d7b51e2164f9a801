"""Brings the rivals into .cache/, each once and only when it is asked for; nothing is installed.

Debian's packages are unpacked as the test servers' are, Python's go into an environment of the
bench's own, one requirement after the other so that one that fails takes no other with it, and Go's
are compiled. What cannot be had raises `Failed` with the reason.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager
from fcntl import LOCK_EX, flock
from typing import TYPE_CHECKING

from bench.measure import ROOT, Failed
from tests.servers.fetch import Unavailable, debian

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CACHE = ROOT / ".cache" / "bench"
GO = ROOT / "bench" / "go"
REQUIREMENTS = ROOT / "bench" / "rivals" / "requirements.txt"
_VENV = CACHE / "venv"


def said(command: list[str], timeout: float = 60, **environment: str) -> str:
    """What a command prints, or `Failed` with its last word and no address in it."""
    try:
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=timeout, env={**os.environ, **environment}
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failed(f"{command[0].rpartition('/')[2]}: {type(error).__name__}") from error
    if done.returncode:
        raise Failed(_last_word(done.stderr or done.stdout))
    return done.stdout.strip()


def _last_word(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()] or ["it does not start"]
    errors = [line for line in lines if "error" in line.lower()]  # pip's last line is about pip itself
    return re.sub(r"\S+://\S+", "…", (errors or lines)[-1])[:200]


@functools.cache
def packaged(package: str, program: str) -> tuple[str, ...]:
    """How a command line with this program begins: that on PATH, else Debian's with its libraries."""
    if found := shutil.which(program.rpartition("/")[2]):
        return (found,)
    try:
        path, environment = debian(package, program)
    except Unavailable as missing:
        raise Failed(str(missing)) from missing
    settings = [f"{name}={value}" for name, value in environment.items()]
    return (*(["env", *settings] if settings else []), str(path))


@functools.cache
def python(*needs: str) -> str:
    """The interpreter of the bench's environment, with these of its requirements in it."""
    interpreter = _VENV / "bin" / "python"
    with _alone("venv"):
        if not interpreter.exists():
            said([sys.executable, "-m", "venv", str(_VENV)], timeout=120)
        for pin in map(_pinned, needs):
            stamp = _VENV / f"{pin}.installed"
            if not stamp.exists():
                pip = [str(interpreter), "-m", "pip", "--disable-pip-version-check", "--no-input"]
                said([*pip, "install", "-q", "--prefer-binary", pin], timeout=600)
                stamp.touch()
    return str(interpreter)


def installed(distribution: str, module: str, *needs: str) -> str:
    """Its version, once it has shown that it can be imported."""
    code = f"import importlib.metadata, {module}; print(importlib.metadata.version({distribution!r}))"
    return f"{distribution} {said([python(distribution, *needs), '-W', 'ignore', '-c', code]).splitlines()[-1]}"


def scripts() -> Path:
    """Where the environment's own commands are."""
    return _VENV / "bin"


def within(pattern: str) -> Path:
    """A file that a wheel brought into the environment."""
    found = next(_VENV.glob(f"lib/python*/site-packages/{pattern}"), None)
    if found is None:
        raise Failed(f"the wheel has no {pattern}")
    return found


def _pinned(need: str) -> str:
    lines = REQUIREMENTS.read_text().splitlines()
    return next(line for line in lines if line.partition("==")[0] == need)


@functools.cache
def go_program(module: str, version: str) -> str:
    """A module's command: that on PATH, else compiled by `go install`."""
    name = module.rpartition("/")[2]
    path = CACHE / "go" / name
    with _alone(f"go-{name}"):
        if not path.exists():
            if found := shutil.which(name):
                return found
            try:
                _go(["install", f"{module}@{version}"])
            except Failed as error:
                raise Failed(f"not on PATH, and go install {module}@{version} says: {error}") from error
    return str(path)


@functools.cache
def go_source(name: str) -> str:
    """A program of ours, from bench/go/NAME.go, compiled when it is newer."""
    source, path = GO / f"{name}.go", CACHE / "go" / name
    with _alone(f"go-{name}"):
        if not path.exists() or path.stat().st_mtime < source.stat().st_mtime:
            _go(["build", "-o", str(path), str(source)])
    return str(path)


def go_version() -> str:
    if not shutil.which("go"):
        raise Failed("there is no go here")
    return said(["go", "version"]).removeprefix("go version ")


def _go(arguments: list[str]) -> None:
    go_version()
    said(["go", *arguments], timeout=900, GOBIN=str(CACHE / "go"), GOFLAGS="-modcacherw", CGO_ENABLED="0")


@contextmanager
def _alone(what: str) -> Iterator[None]:
    """Two benches at once must not fetch over each other."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{what}.lock").open("w") as lock:
        flock(lock, LOCK_EX)
        yield
