"""Installs a wheel where nothing else is: small roots with a Python, without compiler, libcurl and authorities.

    python -m wheels.roots WHEEL [SYSTEM …]

SYSTEM is a Debian suite with its Python, as in `trixie:3.13`, or the path of an interpreter, which is copied with
the libraries that it needs. The roots are kept in build/wheels/roots. To enter one takes root or user namespaces.
What is checked inside: wheels/inside.py. Needs trustme, for the server that runs outside.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from . import inside, smoke
from .sources import WheelError, apt

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["Root", "debian", "main", "of_interpreter"]

SYSTEMS = ("bookworm:3.11", "trixie:3.13", "sid:3.14")
OTHERS = ("python3.12",)  # of no Debian suite: taken if it is on the path
# A new mount namespace, so that the mounts end with it.
ENTER = 'for d in proc sys dev; do mount --rbind "/$d" "$0/$d" || exit 125; done; exec chroot "$0" "$@"'
GLIBC = ("libpthread.so.0", "libdl.so.2", "librt.so.1", "libm.so.6", "libresolv.so.2", "libutil.so.1")
PROGRAMS = "/usr/sbin:/usr/bin:/sbin:/bin"


class Root:
    """A folder to be entered. python: its interpreter, as seen from inside."""

    def __init__(self, path: Path, python: str) -> None:
        self.path = path
        self.python = python

    def run(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Inside, with no variables but these."""
        environment = {"PATH": PROGRAMS, "HOME": "/root", "LANG": "C.UTF-8"} | variables
        user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        enter = ["unshare", "--mount", *user, "sh", "-c", ENTER, str(self.path), *command]
        return subprocess.run(enter, env=environment, capture_output=True, text=True, timeout=300, check=False)

    def put(self, path: str, content: bytes) -> None:
        """Write a file; `path` as seen from inside."""
        target = self.path / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)

    def remove(self, path: str) -> None:
        target = self.path / path.lstrip("/")
        if target.is_dir():
            shutil.rmtree(target)
        else:
            target.unlink(missing_ok=True)


def debian(suite: str, version: str, folder: Path) -> Root:
    """Debian's own Python with the packages that it depends on, unpacked and not configured; and libstdc++, which is in
    every image of Debian, for pip's cmake."""
    with _made(folder) as path:
        if path is not None:
            work = folder.with_name(folder.name + ".apt")
            environment = apt(work, "deb", suite)
            _run(["apt-get", "-q", "update"], environment)
            _run(["apt-get", "-q", "-y", "install", "--download-only", f"python{version}", "libstdc++6"], environment)
            for name in ("bin", "sbin", "lib", "lib64"):
                (path / "usr" / name).mkdir(parents=True)
                (path / name).symlink_to(f"usr/{name}")
            for archive in sorted((work / "cache" / "archives").glob("*.deb")):
                _run(["dpkg", "-x", str(archive), str(path)], environment)
            shutil.rmtree(work)
    return Root(folder, f"/usr/bin/python{version}")


def of_interpreter(python: str, folder: Path) -> Root:
    """A copy of an interpreter of this machine, where it is here, and of the shared libraries that it needs."""
    ask = "import sys; print(sys.base_prefix, sys.version_info[0], sys.version_info[1])"
    prefix, major, minor = _run([python, "-c", ask], os.environ).rsplit(maxsplit=2)
    name = f"python{major}.{minor}"
    program, library = Path(prefix, "bin", name), Path(prefix, "lib", name)
    with _made(folder) as path:
        if path is not None:
            unneeded = shutil.ignore_patterns("site-packages", "test", "idlelib", "__pycache__", "*.a")
            shutil.copytree(library, _below(path, library), ignore=unneeded)
            _below(path, program).parent.mkdir(parents=True)
            shutil.copy(program, _below(path, program))
            for each in (program, *library.glob("lib-dynload/*.so")):
                for needed in _with_glibc(_libraries(each)):
                    target = _below(path, needed)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(needed, target)
    return Root(folder, str(program))


def _libraries(path: Path) -> Iterator[Path]:
    for line in _run(["ldd", str(path)], os.environ).splitlines():
        words = [word for word in line.split() if word.startswith("/")]
        if words:
            yield Path(words[-1])


def _with_glibc(paths: Iterable[Path]) -> Iterator[Path]:
    """A system has glibc as a whole, also what a newer Python does not ask for."""
    for path in paths:
        yield path
        if path.name == "libc.so.6":
            yield from (each for each in map(path.with_name, GLIBC) if each.exists())


def _below(root: Path, path: Path) -> Path:
    return root / str(path).lstrip("/")


@contextmanager
def _made(folder: Path) -> Iterator[Path | None]:
    """A folder to fill, which gets its name when that is done; None where it has been."""
    if folder.exists():
        yield None
        return
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    for name in ("proc", "sys", "dev", "tmp", "root", "etc"):
        (partial / name).mkdir(parents=True)
    (partial / "etc" / "hosts").write_text("127.0.0.1 localhost\n")
    (partial / "etc" / "nsswitch.conf").write_text("hosts: files\n")
    yield partial
    partial.rename(folder)


def _run(command: list[str], environment: os._Environ[str] | dict[str, str]) -> str:
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise WheelError(f"{command[0]} is missing: install it") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines() or [f"exit {done.returncode}"]
        raise WheelError(f"{' '.join(command[:4])}: {said[-1]}")
    return done.stdout


def _root(system: str, work: Path) -> Root:
    if "/" in system:
        return of_interpreter(system, work / system.strip("/").replace("/", "-"))
    suite, _, version = system.partition(":")
    if not version:
        raise WheelError(f"{system!r} is neither SUITE:VERSION, as in trixie:3.13, nor the path of an interpreter")
    return debian(suite, version, work / suite)


def _packages(wheel: Path, folder: Path) -> None:
    """The wheel and what it needs, for pip in a root: from there no registry is reached."""
    shutil.rmtree(folder, ignore_errors=True)
    pip = [sys.executable, "-m", "pip", "download", "-q", "--only-binary", ":all:", "-d", str(folder)]
    _run([*pip, str(wheel), "pip", "certifi"], os.environ)


def _default() -> Iterator[str]:
    yield from SYSTEMS
    for name in OTHERS:
        try:
            yield _run([name, "-c", "import os, sys; print(os.path.realpath(sys.executable))"], os.environ).strip()
        except WheelError:
            print(f"{name}: not here", file=sys.stderr)


def main(arguments: list[str] | None = None) -> int:
    """Check the wheel in each; 1 if anything is wrong in one, or one can't be had."""
    parser = argparse.ArgumentParser(prog="python -m wheels.roots", description=__doc__.splitlines()[0])
    parser.add_argument("wheel", type=Path)
    parser.add_argument("systems", nargs="*", metavar="SYSTEM", help=f"default: {' '.join(SYSTEMS + OTHERS)}")
    parser.add_argument("--work", type=Path, default=Path("build/wheels/roots"), metavar="DIR")
    args = parser.parse_args(arguments)
    work = args.work.resolve()
    packages = work / "packages"
    wrong = 0
    try:
        _packages(args.wheel, packages)
        origin = smoke.serve(packages)
    except (WheelError, OSError) as error:
        print(f"wheels: {error}", file=sys.stderr)
        return 1
    given = inside.Given(packages, args.wheel.name, origin.url, Path(origin.ca_file).read_bytes())
    for system in args.systems or _default():
        try:
            root = _root(system, work)
            entered = root.run(root.python, "-c", "")
            if entered.returncode:
                raise WheelError(f"{system}: it can't be entered, that takes root or user namespaces: {entered.stderr}")
            for holds, said in inside.check(root, given):
                print(f"{system}: {'ok' if holds else 'WRONG'} {said}", flush=True)
                wrong |= not holds
        except (WheelError, OSError) as error:
            print(f"{system}: {error}", file=sys.stderr)
            wrong = 1
    return wrong


if __name__ == "__main__":
    sys.exit(main())
