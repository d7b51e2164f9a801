"""What compiles: the system's compiler (also inside a CI image), or zig, which brings old glibc and musl with it."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .sources import WheelError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["TARGETS", "Toolchain", "native", "zig"]


@dataclass(frozen=True)
class Target:
    """One of zig's. openssl: its name in OpenSSL's Configure. tag: of the wheel, before auditwheel."""

    triple: str
    openssl: str
    processor: str
    libc: str = "gnu"


TARGETS = {
    "manylinux-x86_64": Target("x86_64-linux-gnu.2.28", "linux-x86_64", "x86_64"),
    "manylinux-aarch64": Target("aarch64-linux-gnu.2.28", "linux-aarch64", "aarch64"),
    "musllinux-x86_64": Target("x86_64-linux-musl", "linux-x86_64", "x86_64", "musl"),
    "musllinux-aarch64": Target("aarch64-linux-musl", "linux-aarch64", "aarch64", "musl"),
}


@dataclass(frozen=True)
class Toolchain:
    """name: the target's. cmake: what CMake has to be told. openssl: Configure's target, "" lets it find out."""

    name: str
    processor: str
    openssl: str = ""
    libc: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    cmake: tuple[str, ...] = ()


def native() -> Toolchain:
    """The system's: CC, or cc."""
    cc = os.environ.get("CC", "cc")
    if shutil.which(cc.split()[0]) is None:
        raise WheelError(f"there is no C compiler ({cc}): install gcc or clang")
    return Toolchain("native", platform.machine())


def zig(name: str, folder: Path) -> Toolchain:
    """Zig for one of TARGETS, as small scripts `cc`, `ar`, `ranlib` in `folder`: OpenSSL wants a path, not words."""
    if name not in TARGETS:
        raise WheelError(f"there is no target {name!r}; there are: {', '.join(TARGETS)}")
    target = TARGETS[name]
    try:
        import ziglang  # type: ignore[import-not-found,unused-ignore]
    except ImportError as error:
        raise WheelError("the package ziglang is missing: `make wheels` installs it") from error
    program = os.path.join(os.path.dirname(str(ziglang.__file__)), "zig")
    folder.mkdir(parents=True, exist_ok=True)
    tools = {}
    for tool, words in (("cc", f"cc -target {target.triple}"), ("ar", "ar"), ("ranlib", "ranlib")):
        path = (folder / tool).resolve()
        path.write_text(f'#!/bin/sh\nexec "{program}" {words} "$@"\n')
        path.chmod(0o755)
        tools[tool] = str(path)
    cmake = [f"-DCMAKE_C_COMPILER={tools['cc']}", f"-DCMAKE_AR={tools['ar']}", f"-DCMAKE_RANLIB={tools['ranlib']}"]
    if target.processor != platform.machine() or sys.platform != "linux":
        cmake += ["-DCMAKE_SYSTEM_NAME=Linux", f"-DCMAKE_SYSTEM_PROCESSOR={target.processor}"]
    environment = {"CC": tools["cc"], "AR": tools["ar"], "RANLIB": tools["ranlib"]}
    return Toolchain(name, target.processor, target.openssl, target.libc, environment, tuple(cmake))
