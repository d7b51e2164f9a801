"""Builds the pinned OpenSSL and curl as static libraries into a prefix, for PARPULL_STATIC_DEPS.

    python -m wheels.dependencies PREFIX [--target manylinux-x86_64]

Without --target it uses the system's compiler. What is complete and as pinned is left alone. A prefix
counts only with its `parpull-deps.json`, which is written last: CMake refuses one without.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

from . import sbom
from .sources import WheelError, fetch, pins
from .toolchain import TARGETS, native, zig

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .sources import Pin
    from .toolchain import Toolchain

__all__ = ["STAMP", "build", "main"]

STAMP = "parpull-deps.json"
# Without tables for exceptions, which C has not: a tenth of the size.
CFLAGS = "-O2 -fPIC -fvisibility=hidden -ffunction-sections -fdata-sections -fno-asynchronous-unwind-tables"
SMALL = CFLAGS.replace("-O2", "-Os")  # OpenSSL's ciphers and curves are assembly, whatever the compiler is told

# no-atexit: OpenSSL's own exit handler frees what the reactor's thread still uses.
# no-autoload-config: the system's openssl.cnf is written for the system's OpenSSL.
# The rest can't occur in TLS 1.2 and 1.3 over TCP, or needs files beside the library.
OPENSSL = (
    "no-atexit no-autoload-config no-shared no-module no-dso no-engine no-legacy no-tests no-apps no-docs "
    "no-comp no-ssl3 no-ssl-trace no-dtls no-quic no-srp no-gost no-ec2m no-weak-ssl-ciphers "
    "no-cmp no-cms no-ct no-ts no-rfc3779 no-aria no-bf no-camellia no-cast no-idea no-md4 no-mdc2 no-rc2 no-rc4 "
    "no-rmd160 no-seed no-sm2 no-sm3 no-sm4 no-whirlpool no-argon2 no-blake2 no-dsa no-http no-ml-dsa no-multiblock "
    "no-ocb no-ocsp no-padlockeng no-scrypt no-siphash no-siv no-slh-dsa no-filenames"
).split()

# http, https, their proxies and SOCKS. No CA path is compiled in: parpull looks for the file (parpull/settings.py).
CURL = {
    "BUILD_SHARED_LIBS": "OFF", "BUILD_STATIC_LIBS": "ON", "BUILD_CURL_EXE": "OFF", "BUILD_TESTING": "OFF",
    "BUILD_EXAMPLES": "OFF", "BUILD_LIBCURL_DOCS": "OFF", "BUILD_MISC_DOCS": "OFF", "ENABLE_CURL_MANUAL": "OFF",
    "HTTP_ONLY": "ON", "CURL_USE_OPENSSL": "ON", "OPENSSL_USE_STATIC_LIBS": "ON", "ENABLE_THREADED_RESOLVER": "ON",
    "CURL_CA_BUNDLE": "none", "CURL_CA_PATH": "none", "CURL_DISABLE_OPENSSL_AUTO_LOAD_CONFIG": "ON",
    "CURL_USE_LIBPSL": "OFF", "CURL_USE_LIBSSH2": "OFF", "CURL_USE_GSSAPI": "OFF", "USE_LIBIDN2": "OFF",
    "USE_NGHTTP2": "OFF", "CURL_ZLIB": "OFF", "CURL_BROTLI": "OFF", "CURL_ZSTD": "OFF", "CURL_USE_PKGCONFIG": "OFF",
    "CURL_DISABLE_ALTSVC": "ON", "CURL_DISABLE_HSTS": "ON", "CURL_DISABLE_WEBSOCKETS": "ON", "CURL_DISABLE_IPFS": "ON",
    "CURL_DISABLE_NTLM": "ON", "CURL_DISABLE_DOH": "ON", "CURL_DISABLE_FORM_API": "ON", "CURL_DISABLE_MIME": "ON",
}  # fmt: skip


def build(prefix: Path, toolchain: Toolchain, sources: Path, *, jobs: int = 1, places: tuple[str, ...]) -> None:
    """Make `prefix` hold what pins.toml says. WheelError where it can't; the prefix is then without its stamp."""
    prefix = prefix.resolve()
    pinned = pins()
    wanted = _record(pinned, toolchain)
    stamp = prefix / STAMP
    if stamp.exists() and json.loads(stamp.read_text()) == wanted:
        print(f"{prefix}: complete, as pinned")
        return
    shutil.rmtree(prefix, ignore_errors=True)
    prefix.mkdir(parents=True)
    work = prefix.with_name(prefix.name + ".work")
    shutil.rmtree(work, ignore_errors=True)
    unpacked = {name: _unpack(pin, fetch(pin, sources, places=places), work) for name, pin in pinned.items()}
    _openssl(unpacked["openssl"], prefix, toolchain, jobs)
    _curl(unpacked["curl"], prefix, toolchain, jobs)
    about = prefix / "share" / "parpull"
    (about / "licenses").mkdir(parents=True)
    for name, pin in pinned.items():
        shutil.copy(unpacked[name] / pin.licence_file, about / "licenses" / f"{name}-LICENSE.txt")
    sbom.write(about / "sboms" / "bundled.cdx.json", pinned.values())
    stamp.write_text(json.dumps(wanted, indent=1) + "\n")
    shutil.rmtree(work)


def _record(pinned: Mapping[str, Pin], toolchain: Toolchain) -> dict[str, object]:
    """What the prefix was made from. It has to be the same for the prefix to be used again."""
    options = json.dumps([OPENSSL, CURL, CFLAGS, SMALL]).encode()
    return {
        "target": toolchain.name,
        "processor": toolchain.processor,
        "curl": pinned["curl"].version,
        "openssl": pinned["openssl"].version,
        "sha256": {name: pin.sha256 for name, pin in pinned.items()},
        "options": hashlib.sha256(options).hexdigest(),
    }


def _unpack(pin: Pin, archive: Path, work: Path) -> Path:
    folder = work / pin.name
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    (only,) = folder.iterdir()
    return only


def _openssl(source: Path, prefix: Path, toolchain: Toolchain, jobs: int) -> None:
    target = [toolchain.openssl] if toolchain.openssl else []
    _run(["perl", "Configure", *target, *OPENSSL, f"--prefix={prefix}", "--libdir=lib", "--openssldir=/etc/ssl",
          *SMALL.split()], source, toolchain)  # fmt: skip
    _run(["make", f"-j{jobs}", "-s", "build_libs"], source, toolchain)
    _run(["make", "-s", "install_dev"], source, toolchain)


def _curl(source: Path, prefix: Path, toolchain: Toolchain, jobs: int) -> None:
    defines = CURL | {
        "CMAKE_BUILD_TYPE": "Release", "CMAKE_C_FLAGS": CFLAGS, "CMAKE_POSITION_INDEPENDENT_CODE": "ON",
        "CMAKE_INSTALL_PREFIX": str(prefix), "CMAKE_INSTALL_LIBDIR": "lib", "OPENSSL_ROOT_DIR": str(prefix),
    }  # fmt: skip
    given = [f"-D{name}={value}" for name, value in defines.items()]
    _run(["cmake", "-S", ".", "-B", "made", *given, *toolchain.cmake], source, toolchain)
    _run(["cmake", "--build", "made", f"-j{jobs}"], source, toolchain)
    _run(["cmake", "--install", "made"], source, toolchain)


def _run(command: list[str], folder: Path, toolchain: Toolchain) -> None:
    """Quietly; what was said goes to a log beside the source, and its end is told if it failed."""
    log = folder.parent / "build.log"
    with log.open("ab") as file:
        try:
            subprocess.run(
                command, cwd=folder, env=os.environ | toolchain.environment, stdout=file, stderr=file, check=True
            )
        except FileNotFoundError as error:
            raise WheelError(f"{command[0]} is missing: install it") from error
        except subprocess.CalledProcessError as error:
            end = log.read_text(errors="replace").splitlines()[-15:]
            words = " ".join(command[:3])
            raise WheelError("\n  ".join([f"{words} failed in {folder}; all of it is in {log}", *end])) from error


def main(arguments: list[str] | None = None) -> int:
    """Build, or say why not."""
    parser = argparse.ArgumentParser(prog="python -m wheels.dependencies", description=__doc__.splitlines()[0])
    parser.add_argument("prefix", type=Path)
    parser.add_argument("--target", choices=TARGETS, help="compile with zig for this; default: the system's compiler")
    parser.add_argument("--sources", type=Path, default=Path("build/wheels/sources"), metavar="DIR")
    parser.add_argument(
        "--from", dest="places", default="debian,upstream", metavar="PLACES", help="default: %(default)s"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args(arguments)
    try:
        tools = args.prefix.with_name(args.prefix.name + ".tools")
        toolchain = zig(args.target, tools) if args.target else native()
        build(args.prefix, toolchain, args.sources, jobs=args.jobs, places=tuple(args.places.split(",")))
    except WheelError as error:
        print(f"wheels: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
