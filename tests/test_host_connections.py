"""host_connections: several processes keep to one number of connections to a host."""

from __future__ import annotations

import subprocess
import sys

import pytest

import parpull
from tests.servers.origin import Origin

FETCH = """
import sys

import parpull

url, n = sys.argv[1], int(sys.argv[2])
with parpull.fetch(url, connections=8, host_connections=n, part_size=1 << 20) as blob:
    print(blob.size)
"""
SIZE = 24 << 20


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    tmp_path.chmod(0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


def test_processes_share(name):
    with Origin() as origin:
        url = origin.url(name, size=SIZE, pace=5_000_000)
        many = [
            subprocess.Popen([sys.executable, "-c", FETCH, url, "4"], stdout=subprocess.PIPE, text=True)
            for _ in range(3)
        ]
        for process in many:
            assert process.communicate(timeout=60)[0].split() == [str(SIZE)]
            assert process.returncode == 0
        assert origin.most_open <= 4


def test_transfers_of_one_client_share(name, origin):
    with parpull.Client(connections=8, host_connections=2) as client:
        downloads = [client.submit(origin.url(name + str(i), size=8 << 20)) for i in range(4)]
        for download in downloads:
            with download.result() as blob:
                assert blob.size == 8 << 20
    assert max(download.progress().peak for download in downloads) <= 2


def test_redirects_lead_to_another_host(name, origin):
    url = origin.url(name, size=8 << 20, scenario="redirect-other-host")
    with parpull.fetch(url, connections=8, host_connections=2) as blob:
        assert blob.size == 8 << 20


def test_a_failed_start_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("parpull.slots.TEMPORARY", str(tmp_path / "none"))
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    with pytest.raises(parpull.errors.BadOption):
        parpull.fetch("http://127.0.0.1:9/", host_connections=2)


def test_cancel_while_waiting(name, origin):
    from parpull.slots import Slots

    url = origin.url(name, size=8 << 20)
    slots = Slots(url.split("/")[2], 1)
    assert slots.take(1) == 1
    told = []
    with parpull.submit(url, host_connections=1, on_event=told.append) as download:
        with pytest.raises(TimeoutError):
            download.result(1.5)
    slots.close()
    assert [event.kind for event in told] == ["warned", "finished"]
    assert "other processes use all 1" in told[0].message
    assert len(origin.log(name)) == 0
