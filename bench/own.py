"""Who is measured besides the rivals: the floors in C, and commands for a pipe and for start-up.

`everyone` is the whole list; a floor of ours replaces a rival of the same name.
"""

from __future__ import annotations

import hashlib
import shlex
import shutil
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit

from bench.measure import ROOT, Failed
from bench.rivals import DISK, FLOOR, MEMORY, RIVALS, TMPFS, Job, Rival
from bench.scenarios import NOTHING, STDOUT

BUILD = ROOT / "build" / "bench"
READER = "import sys, parpull; parpull.open(sys.argv[1], 0).read(1 << 20); sys.stdout.write('x')"
_FLOORS = ROOT / "bench" / "floor"


def everyone(openssl: str = "") -> list[Rival]:
    """Floors first. `openssl`: a prefix with a static OpenSSL, instead of the system's."""
    ours = [
        Rival(FLOOR, frozenset({MEMORY}), lambda: build("recv"), lambda job: _floor("recv", job)),
        Rival("floor-tls", frozenset({MEMORY}), lambda: build("tls", openssl), lambda job: _tls_floor(job, openssl)),
        Rival("floor-tmpfs", frozenset({TMPFS}), lambda: build("write"), lambda job: _floor("write", job)),
        Rival("floor-disk", frozenset({DISK}), lambda: build("direct"), lambda job: _floor("direct", job)),
        *_PIPES,
        *STARTS,
    ]
    names = {rival.name for rival in ours}
    return ours + [rival for rival in RIVALS if rival.name not in names]


def floor_of(destination: str, tls: bool) -> str:
    """The floor that a row is to be held against, or nothing."""
    if tls:
        return "floor-tls" if destination == MEMORY else ""
    return {MEMORY: FLOOR, TMPFS: "floor-tmpfs", DISK: "floor-disk"}.get(destination, "")


@lru_cache(maxsize=16)
def build(name: str, openssl: str = "") -> str:
    """Compile a program of bench/floor where its sources are newer; returns what compiled it."""
    source = _FLOORS / ("write.c" if name == "direct" else f"{name}.c")
    target = program(name, openssl)
    if not shutil.which("cc"):
        raise Failed("there is no C compiler")
    flags = ["-DDIRECT"] if name == "direct" else _openssl_flags(openssl) if name == "tls" else []
    newest = max(path.stat().st_mtime for path in (source, *_FLOORS.glob("*.h")))
    if not target.exists() or target.stat().st_mtime < newest:
        BUILD.mkdir(parents=True, exist_ok=True)
        first_line("cc", "-O2", "-Wall", "-Wextra", "-o", str(target), str(source), *flags)
    with_what = f", OpenSSL of {'a static prefix' if openssl else 'the system'}" if name == "tls" else ""
    return f"cc -O2, {first_line('cc', '--version')}{with_what}"


def program(name: str, openssl: str = "") -> Path:
    """Where it lies once it is built."""
    return BUILD / (f"{name}-{hashlib.sha256(openssl.encode()).hexdigest()[:8]}" if openssl else name)


def first_line(*command: str) -> str:
    """What a program says of itself, or `Failed` with why it does not run."""
    if not shutil.which(command[0]):
        raise Failed(f"{command[0]} is not on PATH")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode:
        raise Failed((done.stderr.strip().splitlines() or ["does not start"])[-1])
    return (done.stdout.splitlines() or [""])[0]


def _openssl_flags(prefix: str) -> list[str]:
    if prefix:
        libraries = [str(next(Path(prefix).glob(f"lib*/lib{name}.a"), f"lib{name}.a")) for name in ("ssl", "crypto")]
        return [f"-I{prefix}/include", *libraries, "-lpthread", "-ldl"]
    return first_line("pkg-config", "--cflags", "--libs", "openssl").split()


def _floor(name: str, job: Job, *more: str, tls: bool = False, openssl: str = "") -> list[str]:
    url = urlsplit(job.url)
    if (url.scheme == "https") != tls:
        raise Failed("a floor of TLS only" if tls else "has no TLS")
    out = [] if job.destination == MEMORY else ["-o", str(job.out / "object")]
    target = [url.hostname or "", str(url.port), f"{url.path}{'?' * bool(url.query)}{url.query}", str(job.size)]
    return [str(program(name, openssl)), "-c", str(job.connections or 8), *out, *more, *target]


def _tls_floor(job: Job, openssl: str) -> list[str]:
    if job.ca_file is None:
        raise Failed("a floor of TLS only")
    return _floor("tls", job, "-a", job.ca_file, tls=True, openssl=openssl)


def _curl(job: Job) -> list[str]:
    return ["curl", "-sSf", *(["--cacert", job.ca_file] if job.ca_file else []), job.url]


def _cat(job: Job) -> list[str]:
    many = ["-x", str(job.connections)] if job.connections else []
    return [*_parpull(), "cat", "-q", *many, *(["--cacert", job.ca_file] if job.ca_file else []), job.url]


def _reader(job: Job) -> list[str]:
    if job.ca_file:
        code = READER.replace(", 0)", ", 0, ca_file=sys.argv[2])")
        return [sys.executable, "-c", code, job.url, job.ca_file]
    return [sys.executable, "-c", READER, job.url]


def _parpull() -> list[str]:
    """The command as it is installed beside this Python."""
    return [sys.executable, "-m", "parpull"]


def _parpull_version() -> str:
    return first_line(sys.executable, "-c", "import parpull; print(parpull.__version__ if parpull.fetch else '')")


def _curl_version() -> str:
    return " ".join(first_line("curl", "--version").split()[:2])


def _wget(job: Job) -> list[str]:
    return ["wget", "-q", *([f"--ca-certificate={job.ca_file}"] if job.ca_file else []), "-O", "-", job.url]


def _start(what: str, *command: str) -> Rival:
    """Needs no server; its name is what is started."""
    return Rival(f"start: {what}", frozenset({NOTHING}), lambda: first_line(*command), lambda _: list(command))


PIPE = frozenset({STDOUT})
_PIPES = [
    Rival("parpull-cat", PIPE, _parpull_version, _cat),
    Rival("curl-pipe", PIPE, _curl_version, _curl, remark="one connection"),
    Rival("wget-pipe", PIPE, lambda: first_line("wget", "--version"), _wget, remark="one connection"),
    Rival("parpull-reader", PIPE, _parpull_version, _reader, remark="parpull.open(...).read, of the first MiB only"),
]
STARTS = [
    _start("parpull --version", *_parpull(), "--version"),
    _start("parpull -h", *_parpull(), "-h"),
    _start("import parpull", sys.executable, "-c", "import parpull; parpull.fetch"),
    _start("python", sys.executable, "-c", "pass"),
    _start("curl --version", "curl", "--version"),
    _start("aria2c --version", "aria2c", "--version"),
]


def readable(command: list[str], job: Job) -> str:
    """The command line without what is only true of this run and this machine."""
    local = {job.url: "$URL", str(job.out): "$OUT", sys.executable: "python", f"{ROOT}/": ""}
    if job.ca_file:
        local[job.ca_file] = "$CA"
    text = "; ".join(shlex.join(command).splitlines())
    for long, short in local.items():
        text = text.replace(long, short)
    return text if len(text) <= 600 else text[:600] + " …"
