"""How wheels are made: only from what is pinned, and nothing half-built. The wheel itself: wheels/smoke.py."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from wheels import advisories, dependencies, musl, roots, sbom, sources
from wheels.sources import WheelError, fetch, pins

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def pin():
    return replace(pins()["curl"], sha256=hashlib.sha256(b"right").hexdigest())


def test_pins_are_recent_enough_and_complete():
    found = pins()
    assert set(found) == {"curl", "openssl"}
    for name, least in (("curl", (8, 21)), ("openssl", (3, 5))):
        each = found[name]
        assert tuple(map(int, each.version.split(".")))[:2] >= least
        assert len(each.sha256) == 64
        assert each.version in each.url
        assert each.version in each.cpe
        assert each.debian["version"].startswith(each.version + "-")


@pytest.mark.parametrize("text", ["[curl", "curl = 3", '[curl]\nversion = "8"', '[curl]\nnonsense = "8"'])
def test_bad_pins_are_told(tmp_path, text):
    path = tmp_path / "pins.toml"
    path.write_text(text)
    with pytest.raises(WheelError, match=r"pins\.toml can't be used"):
        pins(path)


def test_another_source_is_not_used(tmp_path, pin):
    (tmp_path / pin.file_name).write_bytes(b"wrong")
    with pytest.raises(WheelError, match=f"is not curl {pin.version}: its sha256 is .*, pins.toml says {pin.sha256}"):
        fetch(pin, tmp_path)


def test_a_source_that_is_there_is_not_fetched(tmp_path, pin):
    (tmp_path / pin.file_name).write_bytes(b"right")
    assert fetch(pin, tmp_path, places=()) == tmp_path / pin.file_name


def test_what_a_place_brings_is_verified_before_it_has_its_name(tmp_path, pin, monkeypatch):
    monkeypatch.setattr(sources, "_from_upstream", lambda pin, path: path.write_bytes(b"wrong"))
    with pytest.raises(WheelError, match=r"the source of curl .* is missing:\n  upstream: .* is not curl"):
        fetch(pin, tmp_path, places=("upstream",))
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(sources, "_from_upstream", lambda pin, path: path.write_bytes(b"right"))
    assert fetch(pin, tmp_path, places=("upstream",)).read_bytes() == b"right"


def test_a_failed_build_leaves_no_stamp(tmp_path, monkeypatch, capsys):
    prefix = tmp_path / "deps"
    prefix.mkdir()
    (prefix / dependencies.STAMP).write_text("{}")
    monkeypatch.setattr(dependencies, "fetch", lambda pin, folder, places: (_ for _ in ()).throw(WheelError("gone")))
    assert dependencies.main([str(prefix)]) == 1
    assert capsys.readouterr().err == "wheels: gone\n"
    assert not (prefix / dependencies.STAMP).exists()


@pytest.mark.parametrize(
    ("stamp", "said"),
    [(None, "holds no complete build"), ({"processor": "sparc"}, "is for sparc")],
    ids=["half-built", "architecture"],
)
def test_cmake_refuses_a_prefix(tmp_path, stamp, said):
    cmake = shutil.which("cmake", path=str(Path(sys.executable).parent)) or shutil.which("cmake")
    if cmake is None:
        pytest.skip("no cmake here")
    if stamp is not None:
        (tmp_path / dependencies.STAMP).write_text(json.dumps(stamp))
    script = tmp_path / "x.cmake"
    script.write_text(f'set(PARPULL_STATIC_DEPS "{tmp_path}")\nset(CMAKE_SYSTEM_PROCESSOR x86_64)\n'
                      f'include("{ROOT}/wheels/bundled.cmake")\n')  # fmt: skip
    done = subprocess.run([cmake, "-P", str(script)], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert said in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("define", "said", "packages"),
    [
        ("CMAKE_DISABLE_FIND_PACKAGE_CURL=ON", "libcurl's headers are missing",
         ("libcurl4-openssl-dev", "libcurl-devel", "curl-dev", "Homebrew")),
        ("CMAKE_DISABLE_FIND_PACKAGE_Python=ON", "Python's headers are missing", ("python3-dev", "python3-devel")),
        (None, "There is no C compiler", ("libc6-dev", "gcc (Fedora, RHEL)", "musl-dev (Alpine)", "xcode-select")),
    ],
    ids=["libcurl", "python", "compiler"],
)  # fmt: skip
def test_what_a_build_lacks_is_named(tmp_path, monkeypatch, define, said, packages):
    """What somebody sees whose pip builds the sdist."""
    cython_cmake = pytest.importorskip("cython_cmake")
    programs = {name: shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
                for name in ("cmake", "ninja", "cython")}  # fmt: skip
    if None in programs.values():
        pytest.skip("no cmake, ninja or cython here")
    defines = [f"CMAKE_MODULE_PATH={Path(cython_cmake.__file__).parent}/cmake", f"Python_EXECUTABLE={sys.executable}"]
    monkeypatch.delenv("CC", raising=False)
    if define:
        defines.append(define)
    else:
        (tmp_path / "bin").mkdir()
        for name, path in programs.items():
            (tmp_path / "bin" / name).symlink_to(path)
        monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    command = [
        programs["cmake"],
        "-G",
        "Ninja",
        "-S",
        ROOT,
        "-B",
        tmp_path / "build",
        *(f"-D{each}" for each in defines),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    text = " ".join(done.stderr.split())
    assert done.returncode != 0
    assert said in text, text
    for each in packages:
        assert each in text


@pytest.mark.parametrize("system", ["trixie", "nonsense:3.13", "/nowhere/python3"])
def test_a_root_that_cannot_be_had_is_told(tmp_path, monkeypatch, capsys, system):
    monkeypatch.setattr(roots, "apt", lambda work, kind, suite: (_ for _ in ()).throw(WheelError(f"no {suite}")))
    monkeypatch.setattr(roots, "_packages", lambda wheel, folder: None)
    monkeypatch.setattr(roots.smoke, "serve", lambda folder: roots.smoke.Origin("https://localhost/x", "", __file__))
    assert roots.main(["x.whl", system, "--work", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert said.err.startswith(f"{system}: ")
    assert said.out == ""
    assert [each.name for each in tmp_path.iterdir() if each.suffix != ".partial"] == []


def test_the_bill_of_materials_is_reproducible():
    made = sbom.document(pins().values())
    assert made == sbom.document(reversed(pins().values()))
    assert {each["name"]: each["version"] for each in made["components"]} == {n: p.version for n, p in pins().items()}


@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [
        ({"results": [{}, {}]}, 0, ""),
        ({"results": [{"vulns": [{"id": "CURL-CVE-1"}]}, {}]}, 1, "CURL-CVE-1"),
        ({"results": [{}]}, 2, "one result for each pin"),
        ({"message": "busy"}, 2, "one result for each pin"),
    ],
)
def test_advisories(tmp_path, capsys, answer, code, said):
    (tmp_path / "answer").write_text(json.dumps(answer))
    assert advisories.main(["--answer", str(tmp_path / "answer")]) == code
    assert said in "".join(capsys.readouterr())


def test_a_python_for_musl_that_cannot_be_had_is_told_and_not_taken_for_made(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(musl, "apt", lambda work, kind, suite: (_ for _ in ()).throw(WheelError(f"no {suite}")))
    work = tmp_path / "musl"
    for _ in range(2):
        assert musl.main(["x.whl", "--work", str(work)]) == 1
        assert capsys.readouterr().err == "wheels: no bookworm\n"
    assert not (work / "ready").exists()
