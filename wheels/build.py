"""`make wheels`: builds, repairs and checks wheels without docker. What fails a check is not left in dist/.

    python -m wheels.build [--target manylinux-x86_64 …] [--python PYTHON] [--out dist]

--python: whose wheel it is. A CPython with the GIL gives one abi3 wheel for 3.11 and later, a
free-threaded one a wheel of its own version; it needs pip and its headers, and gets the build tools
in an environment of its own. A foreign processor or musl is cross-compiled.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from . import check, dependencies
from .sources import WheelError
from .toolchain import TARGETS, zig

__all__ = ["main", "wheel"]

ROOT = Path(__file__).resolve().parents[1]
# The names of musl's C library in wheels, as auditwheel and Alpine know it; zig calls it libc.so.
MUSL = {"x86_64": "libc.musl-x86_64.so.1", "aarch64": "libc.musl-aarch64.so.1"}


def wheel(target: str, python: str, work: Path, out: Path, *, jobs: int, places: tuple[str, ...]) -> Path:
    """The path of the wheel for this target, checked, in `out`."""
    work = work.resolve()
    toolchain = zig(target, work / target / "tools")
    prefix = work / target / "deps"
    dependencies.build(prefix, toolchain, work / "sources", jobs=jobs, places=places)
    raw, repaired = _empty(work / target / "raw"), _empty(work / target / "repaired")
    environment = os.environ | toolchain.environment | {
        "PARPULL_STATIC_DEPS": str(prefix),
        "CMAKE_ARGS": " ".join(toolchain.cmake),
        "CMAKE_BUILD_PARALLEL_LEVEL": str(jobs),
        "_PYTHON_HOST_PLATFORM": f"linux-{toolchain.processor}",
    }  # fmt: skip
    if python != sys.executable:
        python = _with_tools(python, work)
    # Without isolation: pip would bring build tools for the host platform that we state.
    settings = [f"-Cbuild-dir={work / target / 'cmake'}-{{wheel_tag}}", "-Cinstall.strip=false"]
    _run(
        [
            python,
            "-m",
            "pip",
            "wheel",
            "-q",
            "--no-deps",
            "--no-build-isolation",
            "--wheel-dir",
            str(raw),
            *settings,
            str(ROOT),
        ],
        environment,
    )
    (made,) = raw.glob("*.whl")
    if toolchain.libc == "musl":
        made = _as_musl(made, toolchain.processor)
        shutil.copy(made, repaired)
    else:
        _run([sys.executable, "-m", "auditwheel", "repair", "--wheel-dir", str(repaired), str(made)], os.environ)
    (whole,) = repaired.glob("*.whl")
    check.check(whole)
    out.mkdir(parents=True, exist_ok=True)
    return Path(shutil.move(whole, out / whole.name))


def _with_tools(python: str, work: Path) -> str:
    """The same Python in an environment that has the build tools, made once; its `ready` is written last."""
    told = "import sys, sysconfig; print(sys.version_info[:3], sysconfig.get_config_var('SOABI'), sys.base_prefix)"
    which = _run([python, "-c", told], os.environ)
    folder = work / ("venv-" + hashlib.sha256(which.encode()).hexdigest()[:8])
    inner = folder / "bin" / "python"
    if not (folder / "ready").exists():
        _run([python, "-m", "venv", "--clear", str(folder)], os.environ)
        _run([str(inner), "-m", "pip", "install", "-q", "--upgrade", "pip>=25.1"], os.environ)
        _run([str(inner), "-m", "pip", "install", "-q", "--group", f"{ROOT / 'pyproject.toml'}:build"], os.environ)
        (folder / "ready").touch()
    return str(inner)


def _as_musl(made: Path, processor: str) -> Path:
    """Name musl as its systems do, and tag the wheel so: auditwheel repairs only what is of its own libc."""
    folder = _empty(made.parent / "unpacked")
    _run([sys.executable, "-m", "wheel", "unpack", "-d", str(folder), str(made)], os.environ)
    (tree,) = folder.iterdir()
    for module in tree.rglob("*.so"):
        _run(["patchelf", "--replace-needed", "libc.so", MUSL[processor], str(module)], os.environ)
    made.unlink()
    _run([sys.executable, "-m", "wheel", "pack", "-d", str(made.parent), str(tree)], os.environ)
    shutil.rmtree(folder)
    tag = f"musllinux_1_2_{processor}"
    _run([sys.executable, "-m", "wheel", "tags", "--remove", "--platform-tag", tag, str(made)], os.environ)
    (renamed,) = made.parent.glob("*.whl")
    return renamed


def _empty(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _run(command: list[str], environment: os._Environ[str] | dict[str, str]) -> str:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        said = "\n  ".join((done.stdout + done.stderr).splitlines()[-25:])
        raise WheelError(f"{' '.join(command[:4])} failed:\n  {said}")
    return done.stdout


def main(arguments: list[str] | None = None) -> int:
    """Build what was asked for, or say why not."""
    parser = argparse.ArgumentParser(prog="python -m wheels.build", description=__doc__.splitlines()[0])
    parser.add_argument("--target", action="append", choices=TARGETS, help="default: manylinux-x86_64")
    parser.add_argument("--python", default=sys.executable, help="whose wheel it is (default: this one's)")
    parser.add_argument("--work", type=Path, default=Path("build/wheels"), metavar="DIR")
    parser.add_argument("--out", type=Path, default=Path("dist"), metavar="DIR")
    parser.add_argument(
        "--from", dest="places", default="debian,upstream", metavar="PLACES", help="default: %(default)s"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args(arguments)
    try:
        for target in args.target or ["manylinux-x86_64"]:
            places = tuple(args.places.split(","))
            made = wheel(target, args.python, args.work, args.out, jobs=args.jobs, places=places)
            with zipfile.ZipFile(made) as archive:
                unpacked = sum(each.file_size for each in archive.infolist())
            print(f"{made}: {made.stat().st_size / 1e6:.2f} MB, {unpacked / 1e6:.2f} MB unpacked")
    except WheelError as error:
        print(f"wheels: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
