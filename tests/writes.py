"""What a process writes into a folder, call by call, to be replayed up to any of them.

`record()` runs Python code under a small library (writes.c, compiled by `cc`) that notes
the calls in their order; `replay()` makes them again elsewhere, so that a folder is as a
killed process left it, or as a power cut may have left it when some calls are left out.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HEAD = struct.Struct("<cHHqq")
SOURCE = Path(__file__).with_name("writes.c")


@dataclass(frozen=True)
class Call:
    """kind: w pwrite, t ftruncate, r fallocate, u unlink, m rename, l link."""

    kind: str
    name: str
    other: str
    offset: int
    size: int
    data: bytes


def compiler() -> str | None:
    """What compiles C here, if anything."""
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


def build(folder: Path) -> Path:
    """The library, compiled."""
    made = folder / "writes.so"
    subprocess.run([compiler(), "-shared", "-fPIC", "-O1", "-o", made, SOURCE, "-ldl", "-lpthread"], check=True)
    return made


def record(library: Path, folder: Path, code: str, *args: object) -> list[Call]:
    """The calls that `code` makes to files in `folder`; it finds args in sys.argv[1:]."""
    log = folder.with_name(folder.name + ".log")
    log.write_bytes(b"")
    more = {"LD_PRELOAD": str(library), "WRITES": str(log), "WRITES_IN": str(folder)}
    subprocess.run([sys.executable, "-c", code, *map(str, args)], env=os.environ | more, check=True, timeout=60)
    raw, at, calls = log.read_bytes(), 0, []
    while at < len(raw):
        kind, name, other, offset, size = HEAD.unpack_from(raw, at)
        at += HEAD.size
        length = size if kind == b"w" else 0
        texts = raw[at : at + name].decode(), raw[at + name : at + name + other].decode()
        at += name + other
        calls.append(Call(kind.decode(), *texts, offset, size, raw[at : at + length]))
        at += length
    return calls


def replay(calls: list[Call], folder: Path) -> None:
    """Make the calls in `folder`. Names that are not there, because a call was left out, are made."""
    for call in calls:
        path = folder / call.name
        if call.kind == "u":
            path.unlink(missing_ok=True)
        elif call.kind in "ml" and path.exists():
            target = folder / call.other
            if call.kind == "m":
                os.replace(path, target)
            elif not target.exists():
                os.link(path, target)
        elif call.kind in "wtr":
            fd = os.open(path, os.O_RDWR | os.O_CREAT)
            if call.kind == "w":
                os.pwrite(fd, call.data, call.offset)
            elif call.kind == "t":
                os.ftruncate(fd, call.size)
            elif os.fstat(fd).st_size < call.offset + call.size:
                os.ftruncate(fd, call.offset + call.size)
            os.close(fd)
