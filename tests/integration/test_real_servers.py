"""Real input through real servers: a large wheel behind nginx and Caddy over TLS and
a redirecting origin, its digest as the package index states it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pycurl
import pytest

import parpull
from tests.servers.content import first_difference, views
from tests.servers.fixtures import real
from tests.servers.origin import Origin
from tests.servers.real import Caddy, HttpServer, Nginx

CACHE = Path(__file__).resolve().parents[2] / ".cache" / "wheels"
PACKAGE = "pyarrow==21.0.0"  # about 42 MB


def pip(*args):
    command = [sys.executable, "-m", "pip", *args, "--no-deps", "--only-binary=:all:", PACKAGE]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=600).stdout


def unavailable(reason):
    if os.environ.get("PARPULL_REQUIRE") == "all":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def wheel():
    """(path, sha256 as the index states it); fetched once into .cache/."""
    about = CACHE / "about.json"
    if not about.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        try:
            report = json.loads(pip("install", "--dry-run", "--ignore-installed", "-q", "--report", "-"))
            pip("download", "-q", "-d", str(CACHE))
        except (OSError, subprocess.SubprocessError) as error:
            unavailable(f"{PACKAGE} can't be fetched: {error}")
        stated = report["install"][0]["download_info"]["archive_info"]["hashes"]["sha256"]
        (path,) = CACHE.glob("*.whl")
        about.write_text(json.dumps({"path": path.name, "sha256": stated}))
    known = json.loads(about.read_text())
    return CACHE / known["path"], known["sha256"]


@pytest.mark.slow
@pytest.mark.parametrize("server", [Nginx, Caddy])
@pytest.mark.parametrize("connections", [1, 8])
def test_a_wheel_behind_a_redirect(server, connections, wheel, name, tmp_path):
    path, sha256 = wheel
    with real(lambda: server(path.parent, tls=True)) as there, Origin(tls=True) as home:
        bundle = tmp_path / "ca.pem"
        bundle.write_text(Path(there.ca_file).read_text() + Path(home.ca_file).read_text())
        url = home.url(name, size=1, redirect="plain", to=there.url(path.name))
        options = {"connections": connections, "ca_file": bundle, "checksum": f"sha256={sha256}"}
        with parpull.fetch(url, **options) as blob:
            assert blob.digests == {"sha256": sha256}
            assert blob.size == path.stat().st_size
        with parpull.fetch(url, tmp_path / path.name, **options):
            assert (tmp_path / path.name).read_bytes() == path.read_bytes()
        assert home.log(name).resolutions == 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with one object of 40 MB and an empty one."""
    root = tmp_path_factory.mktemp("served")
    with (root / "object").open("wb") as file:
        for view in views(0, 40_000_001):
            file.write(view)
    (root / "empty").touch()
    return root


@pytest.mark.parametrize("server", [Nginx, Caddy, HttpServer])
def test_as_an_independent_client_sees_it(server, folder, tmp_path):
    """The bytes that pycurl gets, parpull gets, from servers of three makers."""
    with real(lambda: server(folder)) as there:
        with parpull.fetch(there.url("object"), connections=8) as blob, memoryview(blob) as view:
            assert first_difference(view) is None
            with (tmp_path / "curl").open("wb") as file:
                handle = pycurl.Curl()
                handle.setopt(pycurl.URL, there.url("object"))
                handle.setopt(pycurl.WRITEDATA, file)
                handle.perform()
                handle.close()
            assert (tmp_path / "curl").read_bytes() == view
        assert parpull.fetch(there.url("empty")).size == 0
        with pytest.raises(parpull.errors.NotFound):
            parpull.fetch(there.url("nothing"))
        if server is not HttpServer:
            ranges = [(30_000_000, 30_001_000), (5, 10)]
            for blob, (start, _) in zip(parpull.fetch_ranges(there.url("object"), ranges), ranges, strict=True):
                assert first_difference(memoryview(blob), start) is None


def test_paced_connections_add_up(folder):
    """The founding measurement in small: each connection is capped, so more of them
    bring more. Not timed: the number of connections is what is asserted."""
    with real(lambda: Nginx(folder, pace=20_000_000)) as there:
        download = parpull.submit(there.url("object"), connections=16)
        download.result().close()
        assert download.progress().peak == 16
