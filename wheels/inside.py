"""What has to be so in a root of `wheels.roots`: the checks, from outside, by what a user there would see."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from . import smoke

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .roots import Root

__all__ = ["Given", "check"]

FOUND = "/etc/ssl/certs/ca-certificates.crt"
NAMED = "/root/private.pem"
LARGEST = 6_000_000  # bytes of parpull and what it depends on, as installed, without .pyc
SITE = "import sysconfig; print(sysconfig.get_path('purelib'))"
FETCH = """
import sys, parpull
try:
    print(len(parpull.fetch(sys.argv[1], connections=4, ca_file=sys.argv[2] or None)))
except parpull.errors.TLSFailed as error:
    print("TLSFailed", error.code, error, error.hint, sep="|")
"""
FEW_FILES = """
import resource, runpy
resource.setrlimit(resource.RLIMIT_NOFILE, (512, 512))
runpy.run_module("parpull", run_name="__main__")
"""


class Given:
    """What the checks of one root are given. wheel: its file name. authority: who signed the server's certificate."""

    def __init__(self, packages: Path, wheel: str, url: str, authority: bytes) -> None:
        self.packages = packages
        self.wheel = wheel
        self.url = url
        self.authority = authority


def check(root: Root, given: Given) -> Iterator[tuple[bool, str]]:
    """(holds, what was seen) for each check. Nothing else is looked at if the wheel can't be installed."""
    for path in ("/venv", "/packages", "/tmp/x", FOUND, NAMED):
        root.remove(path)
    for each in given.packages.iterdir():
        root.put(f"/packages/{each.name}", each.read_bytes())
    for holds in CHECKS:
        try:
            yield True, holds(root, given)
        except AssertionError as error:
            yield False, f"{holds.__name__.strip('_')}: {error}"
            if holds is _install:
                return


def _bare(root: Root, _: Given) -> str:
    tools = [path for name in ("cc", "gcc*", "clang*", "tcc") for path in root.path.glob(f"usr/bin/{name}")]
    libraries = list(root.path.rglob("libcurl*"))
    assert not tools and not libraries, (tools, libraries)
    return "no compiler, no libcurl"


def _python(root: Root, *words: str, **variables: str) -> str:
    done = root.run("/venv/bin/python", *words, **variables)
    assert done.returncode == 0, (words[-1], done.returncode, done.stdout, done.stderr)
    return done.stdout.strip()


def _pip(root: Root, *words: str) -> None:
    pip = next(root.path.glob("packages/pip-*.whl")).name
    _python(root, f"/packages/{pip}/pip", "install", "-q", "--no-index", "--find-links", "/packages", *words)


def _install(root: Root, given: Given) -> str:
    done = root.run(root.python, "-m", "venv", "--without-pip", "/venv")
    assert done.returncode == 0, done.stderr
    _pip(root, "--no-compile", f"/packages/{given.wheel}")
    site = root.path / _python(root, "-B", "-c", SITE).lstrip("/")
    plain = _size(site)
    _python(root, "-m", "compileall", "-q", str(site).removeprefix(str(root.path)))
    return f"installed: {plain / 1e6:.1f} MB with what it needs, {_size(site) / 1e6:.1f} MB with .pyc"


def _small(root: Root, _: Given) -> str:
    site = root.path / _python(root, "-B", "-c", SITE).lstrip("/")
    sizes = {
        each.name: _size(each, bytecode=False)
        for each in site.iterdir()
        if each.is_dir() and "certifi" not in each.name
    }
    largest = ", ".join(f"{name} {sizes[name] / 1e6:.1f}" for name in sorted(sizes, key=lambda n: -sizes[n])[:4])
    said = f"{sum(sizes.values()) / 1e6:.1f} MB as installed, without .pyc ({largest})"
    assert sum(sizes.values()) <= LARGEST, f"{said}, more than {LARGEST / 1e6:.0f} MB"
    return said


def _size(folder: Path, *, bytecode: bool = True) -> int:
    files = (path for path in folder.rglob("*") if path.is_file() and (bytecode or path.suffix != ".pyc"))
    return sum(path.stat().st_size for path in files)


def _versions(root: Root, _: Given) -> str:
    said = _python(root, "-m", "parpull", "--version")
    assert said == _python(root, "/venv/bin/parpull", "--version")
    bundled = _python(root, "-c", "from parpull._bundled import BUNDLED; print(BUNDLED)")
    assert bundled in said, (bundled, said)
    fact = _facts(root)["libcurl"]
    assert "(built in)" in fact["value"] and fact["problem"] is None, fact
    assert all(each.replace(" ", "/") in fact["value"] for each in bundled.split(", ")), (bundled, fact)
    return f"{said}; doctor: {fact['value']}"


def _facts(root: Root, **variables: str) -> dict[str, dict[str, str]]:
    lines = _python(root, "-m", "parpull", "doctor", "--json", **variables).splitlines()
    return {fact["name"]: fact for fact in map(json.loads, lines)}


def _fetch(root: Root, url: str, ca_file: str = "", **variables: str) -> str:
    return _python(root, "-c", FETCH, url, ca_file, **variables)


def _nobody(root: Root, given: Given) -> str:
    failed, code, message, hint = _fetch(root, given.url).split("|")
    assert (failed, code) == ("TLSFailed", "60"), (failed, code, message)
    assert all(word in hint for word in ("ca-certificates", "certifi", "ca_file=")), hint
    fact = _facts(root)["authorities"]
    assert fact["value"] == "none" and "ca-certificates" in (fact["problem"] or ""), fact
    done = root.run("/venv/bin/parpull", given.url, "-o", "/tmp/x")
    assert (
        done.returncode == 1 and "hint: there is no file of trusted" in done.stderr and "Traceback" not in done.stderr
    ), done
    return f"no authorities: {message}; hint: {hint}"


def _named(root: Root, given: Given) -> str:
    root.put(NAMED, given.authority)
    size = str(smoke.SIZE)
    assert _fetch(root, given.url, NAMED) == size
    for variable in ("SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE"):
        assert _fetch(root, given.url, **{variable: NAMED}) == size
        fact = _facts(root, **{variable: NAMED})["authorities"]
        assert fact["value"].startswith(f"{NAMED}, 0 days old, 1 certificate"), fact
    done = root.run("/venv/bin/parpull", given.url, "-o", "/tmp/x", "--overwrite", "--cacert", NAMED)
    assert done.returncode == 0, done.stderr
    said = _fetch(root, given.url, SSL_CERT_FILE="/nowhere.pem")
    assert said.startswith("TLSFailed|77|") and "/nowhere.pem" in said, said
    problem = _facts(root, SSL_CERT_FILE="/nowhere.pem")["authorities"]["problem"] or ""
    assert "can't be read" in problem, problem
    return "ca_file=, --cacert, SSL_CERT_FILE and its kin; one that isn't there is told"


def _system(root: Root, given: Given) -> str:
    root.put(FOUND, given.authority)
    assert _fetch(root, given.url) == str(smoke.SIZE)
    fact = _facts(root)["authorities"]
    assert fact["problem"] is None and fact["value"].startswith(FOUND), fact
    _python(root, "-c", f"import os; os.utime({FOUND!r}, (1e9, 1e9))")
    old = _facts(root)["authorities"]["problem"] or ""
    assert "update ca-certificates" in old, old
    root.remove(FOUND)
    return f"the system's bundle: {fact['value']}; an old one is told"


def _certifi(root: Root, given: Given) -> str:
    _pip(root, "certifi")
    bundle = _python(root, "-c", "import certifi; print(certifi.where())")
    assert _fetch(root, given.url).startswith("TLSFailed|60|")  # a stranger to certifi
    root.put(bundle, (root.path / bundle.lstrip("/")).read_bytes() + given.authority)
    assert _fetch(root, given.url) == str(smoke.SIZE)
    fact = _facts(root)["authorities"]
    assert fact["value"].startswith(bundle) and fact["problem"] is None, fact
    return f"certifi's bundle: {fact['value']}"


def _doctor(root: Root, _: Given) -> str:
    facts = _facts(root)
    unknown = [fact for fact in facts.values() if fact["value"].startswith("unknown")]
    assert not unknown, unknown
    assert facts["build"]["value"] == "abi3", facts["build"]
    huge = _python(root, "-c", "print(open('/sys/kernel/mm/transparent_hugepage/enabled').read())")
    assert f"[{facts['huge pages']['value']}]" in huge, (facts["huge pages"], huge)
    assert "O_DIRECT works" in facts["TMPDIR"]["value"], facts["TMPDIR"]
    assert "O_DIRECT" in facts["folder here"]["value"], facts["folder here"]
    few = _python(root, "-c", FEW_FILES, "doctor")
    assert "512, at most 512" in few and "ulimit -n 1024" in few, few
    return f"doctor: huge pages {facts['huge pages']['value']}, TMPDIR {facts['TMPDIR']['value']}, limits"


CHECKS = (_bare, _install, _small, _versions, _nobody, _named, _system, _certifi, _doctor)
