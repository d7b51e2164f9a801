"""Runs a musllinux wheel where it belongs: in a CPython made here for musl, from Debian's packages.

    python -m wheels.musl WHEEL [CHECK …]

No wheel of Python for musl can be had without a musl system, so one is compiled, in a minute, by the system's gcc
under Debian's specs for musl; nothing is installed. It has no ssl, so the origin of `smoke.py` runs outside. Kept in
build/wheels/musl-python, which can't be moved: the path of musl's loader is in every program.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from . import smoke
from .sources import WheelError, apt

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["install", "main", "python"]

# An old musl, so that it is seen if the wheel asks for what only a newer one has.
MUSL = ("bookworm", "musl", "musl-dev", "musl-tools", "linux-libc-dev")
PYTHON = ("trixie", "python3.13")
CHECKS = ("bundled", "checksums", "plain", "private_authority", "refusals", "threads", "exits")
MACHINE = os.uname().machine
# configure compares this answer with the platform that it finds, and gcc would name its own libc.
COMPILER = """#!/bin/sh
test "$*" = --print-multiarch && exec echo {machine}-linux-musl
exec gcc "$@" -specs {specs}
"""
CONFIGURE = ("--disable-test-modules", "--without-ensurepip", "--with-pkg-config=no", "CFLAGS=-O1")


def python(folder: Path, jobs: int) -> Path:
    """The interpreter below `folder`; made there from a clean tree if its `ready` is missing, which is written last."""
    program = folder / "python" / "bin" / PYTHON[1]
    if not (folder / "ready").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        compiler = _compiler(folder)
        _apt(folder, "deb-src", PYTHON[0], "source", "--tar-only", "--download-only", PYTHON[1])
        (archive,) = (folder / "deb-src" / "files").glob("*.orig.tar.*")
        source = folder / "source"
        source.mkdir()
        _run(["tar", "-xf", str(archive), "--strip-components=1"], source)
        _run(["./configure", f"--prefix={folder / 'python'}", f"CC={compiler}", *CONFIGURE], source)
        _run(["make", "-s", f"-j{jobs}"], source)
        _run(["make", "-s", "install"], source)
        shutil.rmtree(source)
        (folder / "ready").touch()
    return program


def _compiler(folder: Path) -> Path:
    """gcc for musl as it lies below `folder`: what musl-gcc does, by paths of our own."""
    root = folder / "root"
    _apt(folder, "deb", MUSL[0], "download", *MUSL[1:])
    for archive in (folder / "deb" / "files").glob("*.deb"):
        _run(["dpkg", "-x", str(archive), str(root)], folder)
    triplet = f"{MACHINE}-linux-musl"
    headers = root / "usr/include"
    for name, target in (("linux", "linux"), ("asm-generic", "asm-generic"), ("asm", f"{MACHINE}-linux-gnu/asm")):
        (headers / triplet / name).symlink_to(headers / target)
    text = (root / "usr/lib" / triplet / "musl-gcc.specs").read_text()
    text = text.replace("/usr/", f"{root}/usr/").replace("-dynamic-linker /lib/", f"-dynamic-linker {root}/lib/")
    # libc.so before libc.a, which lies elsewhere than on a merged system: a static Python loads no modules.
    text = text.replace("-L", f"-L{root}/lib/{triplet} -L", 1)
    specs, compiler = folder / "musl.specs", folder / "cc"
    specs.write_text(text)
    compiler.write_text(COMPILER.format(machine=MACHINE, specs=specs))
    compiler.chmod(0o755)
    return compiler


def install(wheel: Path, site: Path) -> None:
    """The wheel and what it depends on, by pip's own judgement of its tags. The tested Python has no pip."""
    shutil.rmtree(site, ignore_errors=True)
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-compile", "--only-binary", ":all:"]
    tags = ["--platform", f"musllinux_1_2_{MACHINE}", "--implementation", "cp", "--abi", "abi3"]
    version = ["--python-version", PYTHON[1].removeprefix("python")]
    _run([*pip, *tags, *version, "--target", str(site), str(wheel.resolve())], site.parent)


def check(program: Path, site: Path, names: list[str]) -> bool:
    """Whether all hold; what they say goes to this program's output."""
    origin = smoke.serve(site.parent)
    # Only these: what is set outside, such as PYTHONPATH, PYTHONHOME or a proxy, is for another Python.
    environment = {
        "PATH": os.defpath,
        "HOME": str(site.parent),
        "PYTHONPATH": str(site),
        "SMOKE_URL": origin.url,
        "SMOKE_PLAIN": origin.plain,
        "SMOKE_CA": origin.ca_file,
        "SMOKE_EXITS": os.environ.get("SMOKE_EXITS", "20"),
    }
    # From a folder without parpull/: -c puts the folder it runs in on the path.
    shutil.copy(smoke.__file__, site.parent / "smoke.py")
    done = subprocess.run([str(program), "smoke.py", *names], cwd=site.parent, env=environment, check=False)
    return done.returncode == 0


def _apt(folder: Path, kind: str, suite: str, *command: str) -> None:
    work = folder / kind
    files = work / "files"
    files.mkdir(parents=True)
    environment = apt(work, kind, suite)
    _run(["apt-get", "-q", "update"], files, environment)
    _run(["apt-get", "-q", *command], files, environment)


def _run(command: list[str], folder: Path, environment: Mapping[str, str] = os.environ) -> None:
    try:
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise WheelError(f"{command[0]} is missing: install it") from error
    if done.returncode:
        said = "\n  ".join((done.stdout + done.stderr).splitlines()[-10:])
        raise WheelError(f"{' '.join(command[:4])} failed:\n  {said}")


def main(arguments: list[str] | None = None) -> int:
    """Check the wheel; 1 if anything is wrong, or there is no Python for it."""
    parser = argparse.ArgumentParser(prog="python -m wheels.musl", description=__doc__.splitlines()[0])
    parser.add_argument("wheel", type=Path)
    parser.add_argument("checks", nargs="*", metavar="CHECK", help=f"of smoke.py (default: {' '.join(CHECKS)})")
    parser.add_argument("--work", type=Path, default=Path("build/wheels/musl-python"), metavar="DIR")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args(arguments)
    folder = args.work.resolve()
    try:
        program = python(folder, args.jobs)
        site = folder / "run" / "site"
        site.parent.mkdir(exist_ok=True)
        install(args.wheel, site)
        return 0 if check(program, site, args.checks or list(CHECKS)) else 1
    except (WheelError, OSError) as error:
        print(f"wheels: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
