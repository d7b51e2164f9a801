"""The pinned sources: found in a folder, at Debian or upstream, and used only if the checksum is right."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tomllib
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["PINS", "Pin", "WheelError", "apt", "fetch", "pins", "verify"]

PINS = Path(__file__).with_name("pins.toml")
TIMEOUT = 60  # seconds without a byte from upstream
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


class WheelError(Exception):
    """Why no wheel can be made; for a person to read, without a traceback."""


@dataclass(frozen=True)
class Pin:
    """One bundled library, as pins.toml has it."""

    name: str
    version: str
    sha256: str
    url: str
    debian: Mapping[str, str]
    licence: str
    licence_file: str
    cpe: str

    @property
    def file_name(self) -> str:
        return f"{self.name}-{self.version}.tar.gz"


def pins(path: Path = PINS) -> dict[str, Pin]:
    """name -> Pin. WheelError if the file isn't what it should be."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
        return {
            name: Pin(name=name, **{key.replace("-", "_"): value for key, value in table.items()})
            for name, table in tables.items()
        }
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise WheelError(f"{path} can't be used: {error}") from error


def verify(path: Path, pin: Pin) -> None:
    """WheelError if the file is not the pinned one."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != pin.sha256:
        raise WheelError(
            f"{path} is not {pin.name} {pin.version}: its sha256 is {found}, pins.toml says {pin.sha256}. "
            "It is not used; delete it to have it fetched again."
        )


def fetch(pin: Pin, folder: Path, *, places: tuple[str, ...] = ("debian", "upstream")) -> Path:
    """The verified tarball in `folder`; brought there from the first of `places` that has it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / pin.file_name
    if not path.exists():
        _bring(pin, path, places)
    verify(path, pin)
    return path


def _bring(pin: Pin, path: Path, places: tuple[str, ...]) -> None:
    partial = path.with_name(path.name + ".partial")
    failures = []
    for place in places:
        try:
            {"debian": _from_debian, "upstream": _from_upstream}[place](pin, partial)
            verify(partial, pin)
        except (WheelError, OSError) as error:
            failures.append(f"\n  {place}: {error}")
            partial.unlink(missing_ok=True)
        else:
            partial.rename(path)
            return
    raise WheelError(
        f"the source of {pin.name} {pin.version} is missing:{''.join(failures)}\n"
        f"  or put it there by hand: {path} (from {pin.url})"
    )


def _from_upstream(pin: Pin, path: Path) -> None:
    with urllib.request.urlopen(pin.url, timeout=TIMEOUT) as answer, path.open("wb") as file:
        shutil.copyfileobj(answer, file)


def _from_debian(pin: Pin, path: Path) -> None:
    """`apt-get source` with lists of its own: the system's sources may be of another release, and stay as they are."""
    work = path.with_name(path.name + ".apt").resolve()
    shutil.rmtree(work, ignore_errors=True)
    (work / "files").mkdir(parents=True)
    environment = apt(work, "deb-src", pin.debian["suite"])
    wanted = f"{pin.debian['package']}={pin.debian['version']}"
    try:
        for command in (["update"], ["source", "--tar-only", "--download-only", wanted]):
            _run(["apt-get", "-q", *command], work / "files", environment)
        found = [each for each in (work / "files").glob("*.orig.tar.gz") if "-" not in each.name]
        if len(found) != 1:
            raise WheelError(f"{wanted} brought no single .orig.tar.gz")
        found[0].rename(path)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def apt(work: Path, kind: str, suite: str) -> dict[str, str]:
    """The environment in which apt-get has lists of its own in `work`, and nothing is installed. kind: deb, deb-src."""
    if shutil.which("apt-get") is None or not os.path.exists(KEYRING):
        raise WheelError("this is no Debian")
    for name in ("state/lists/partial", "cache/archives/partial"):
        (work / name).mkdir(parents=True, exist_ok=True)
    lines = [f"{kind} [signed-by={KEYRING}] {uri} {suite} main\n" for uri in _mirrors(suite)]
    (work / "sources.list").write_text("".join(lines))
    (work / "status").touch()
    (work / "apt.conf").write_text(
        f'Dir::State "{work}/state";\nDir::State::status "{work}/status";\nDir::Cache "{work}/cache";\n'
        f'Dir::Etc::SourceList "{work}/sources.list";\nDir::Etc::SourceParts "/dev/null";\n'
        'Acquire::Languages "none";\nAPT::Sandbox::User "";\nAPT::Install-Recommends "false";\n'
    )
    return os.environ | {"APT_CONFIG": str(work / "apt.conf")}


def _mirrors(suite: str) -> Iterator[str]:
    """The archives that this machine uses already; security has one of its own."""
    said = _run(["apt-get", "indextargets", "--format", "$(REPO_URI)"], Path("/"), os.environ)
    security = suite.endswith("-security")
    found = sorted({uri for uri in said.split() if uri.rstrip("/").endswith("-security") == security})
    if not found:
        raise WheelError(f"apt's sources name no archive for {suite}")
    yield from found


def _run(command: list[str], folder: Path, environment: Mapping[str, str]) -> str:
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("E:")] or done.stderr.splitlines()
        raise WheelError(f"{' '.join(command)}: {said[0] if said else f'exit {done.returncode}'}")
    return done.stdout
