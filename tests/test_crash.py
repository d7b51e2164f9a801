"""Crashes: killed at any moment, or with the power cut and writes lost, run again: the
bytes are right, and only what cannot be proven on the disk is fetched again.

PARPULL_TIMES=200 kills that many times for each folder, with 2 GiB; PARPULL_SIZE=BYTES
sets another size.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

import parpull
from parpull import journal
from parpull._journal import ENTRY_SIZE
from parpull.journal import PAGE
from tests.killing import NOTE
from tests.leaving import BLOCK, SIZE, journal_of, leave, part_of, rewrite
from tests.running import environment
from tests.servers.content import content, first_difference
from tests.writes import build, compiler, record, replay

FETCH = """
import sys, parpull
url, path, part_size, connections = sys.argv[1:]
parpull.fetch(url, path, part_size=int(part_size) or None, connections=int(connections))
"""
TIMES = int(os.environ.get("PARPULL_TIMES", "0"))
LARGE = int(os.environ.get("PARPULL_SIZE", "0")) or (2 << 30 if TIMES else 256 << 20)
CONNECTIONS = 4
STALE = "long ago"

# --- killed -----------------------------------------------------------------------------


def killed(url, path, notes, seconds):
    """Run the download, and kill it after so long. (received, resumed) as it noted, and
    whether it was done before."""
    notes.write_bytes(bytes(NOTE.size))
    with subprocess.Popen(
        [sys.executable, "-m", "tests.killing", url, path, notes, str(CONNECTIONS)], env=environment()
    ) as child:
        deadline = time.monotonic() + 30
        while NOTE.unpack(notes.read_bytes())[0] == 0 and child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(seconds)
        child.send_signal(signal.SIGKILL)
    return *NOTE.unpack(notes.read_bytes()), child.returncode == 0


def right(path, size):
    """Whether every byte is, and whether nothing else is there."""
    with open(path, "rb") as file:
        at = 0
        while data := file.read(32 << 20):
            assert first_difference(data, at) is None
            at += len(data)
    assert at == size
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.timeout(max(120, 20 * TIMES))
@pytest.mark.parametrize(("place", "times"), [("disk", TIMES or 10), ("/dev/shm", TIMES or 5)])
def test_killed_at_any_moment_it_goes_on(origin, name, place, times):
    """Each object is killed, gone on with, killed again, until it is done."""
    if place != "disk" and not os.path.isdir(place):
        pytest.skip(f"there is no {place}")
    url = origin.url(name, size=LARGE)
    dice = random.Random(4)
    again, kept, kills, took = [], [], 0, 0.4
    with tempfile.TemporaryDirectory(dir="." if place == "disk" else place) as folder:
        notes, path = Path(folder) / "notes", Path(folder) / "in" / "object"
        path.parent.mkdir()
        while kills < times:
            began = time.monotonic()
            received, _, done = killed(url, path, notes, dice.uniform(0, took))
            if done or path.exists():  # it was faster than we are; or it had its name already
                took *= 0.8
                parpull.fetch(url, path)
                right(path, LARGE)
                path.unlink()
                continue
            took = min(took * 1.05, 5.0)
            kills += 1
            with parpull.submit(url, path, connections=CONNECTIONS) as download:
                assert download.begun(60)
                kept.append(download.progress().resumed)
                again.append(received - kept[-1])
                if kills % 3 == 0:  # to the end; else on from what this one adds, and killed again
                    download.result(120)
            if kills % 3 == 0:
                right(path, LARGE)
                path.unlink()
            assert time.monotonic() - began < 120
        parpull.fetch(url, path)
        right(path, LARGE)
    worst, median = max(again), statistics.median(again)
    print(
        f"\n{place}: {kills} kills of {LARGE >> 20} MiB; kept {min(kept) >> 20} to {max(kept) >> 20}, median "
        f"{statistics.median(kept) / BLOCK:.0f} MiB; again median {median / LARGE:.4%}, worst {worst / BLOCK:.2f} MiB"
    )
    assert median <= LARGE * 0.02
    assert worst <= (CONNECTIONS + 1) * BLOCK


# --- writes that were lost ------------------------------------------------------------------


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    if not sys.platform.startswith("linux") or compiler() is None:
        pytest.skip("a C compiler and LD_PRELOAD are needed")
    return build(tmp_path_factory.mktemp("library"))


def written(library, tmp_path, url, part_size, base):
    """What a transfer wrote, from `base` (a folder as it was before) to its end."""
    folder = tmp_path / "recorded"
    if base is None:
        folder.mkdir()
    else:
        shutil.copytree(base, folder)
    calls = record(library, folder, FETCH, url, folder / "object", part_size, 3)
    assert first_difference((folder / "object").read_bytes()) is None
    assert sum(call.kind == "w" for call in calls) > 7
    return calls


def lost(calls):
    """Ways in which these calls may have reached the disk when the power went: all of
    them; without any one of the file's, or all of its last ones; torn; entries alone."""
    data = [i for i, call in enumerate(calls) if call.kind == "w" and call.name.endswith("-part")]
    entries = [i for i, call in enumerate(calls) if call.kind == "w" and i not in data]
    yield calls
    for dropped in ({data[-1]} if data else set(), set(data), set(data[len(data) // 2 :]), set(entries[:1])):
        if dropped:
            yield [call for i, call in enumerate(calls) if i not in dropped]
    for i in data[-2:] + entries[-1:]:
        torn = calls[i]
        for keep in {4, torn.size // 2}:
            half = type(torn)(torn.kind, torn.name, torn.other, torn.offset, keep, torn.data[:keep])
            yield [*calls[:i], half, *calls[i + 1 :]]


@pytest.mark.parametrize("part_size", [0, 700_001], ids=["blocks", "pieces"])
@pytest.mark.parametrize("resumes", [False, True], ids=["first", "second"])
def test_whatever_a_power_cut_leaves_the_bytes_are_right(library, origin, name, tmp_path, part_size, resumes):
    url, base = origin.url(name, size=SIZE), None
    if resumes:
        base = tmp_path / "base"
        base.mkdir()
        leave(base / "object", url, [0, 2, 3])
        with open(part_of(base / "object"), "r+b") as part:
            part.truncate(3 * BLOCK + 5)
        rewrite(journal_of(base / "object"), boot=STALE)
    calls = written(library, tmp_path, url, part_size, base)
    tried = 0
    with parpull.Client() as client:
        for cut in range(len(calls) + 1):
            for some in lost(calls[:cut]):
                folder = tmp_path / "cut"
                if base is None:
                    folder.mkdir()
                else:
                    shutil.copytree(base, folder)
                replay(some, folder)
                path = folder / "object"
                rewrite(journal_of(path), boot=STALE)
                if path.exists():  # it got its name, but no record of it: see record.py
                    path.unlink()
                client.submit(url, path).result(20)
                assert first_difference(path.read_bytes()) is None, (cut, some[-1:])
                assert {p.name for p in folder.iterdir()} <= {"object", "object.parpull~"}
                shutil.rmtree(folder)
                tried += 1
    print(f"\n{tried} ways at {len(calls) + 1} points")


def test_killed_at_every_call_no_block_that_was_entered_comes_again(library, origin, name, tmp_path):
    """As the kernel has it after a kill: all calls up to the cut, and the same boot."""
    if journal.boot_id() == "":
        pytest.skip("nothing tells boots apart here")
    url = origin.url(name, size=SIZE)
    calls = written(library, tmp_path, url, 700_001, None)
    for cut in range(len(calls) + 1):
        folder = tmp_path / "cut"
        folder.mkdir()
        path = folder / "object"
        replay(calls[:cut], folder)
        if path.exists():
            shutil.rmtree(folder)
            continue
        entries = [c for c in calls[:cut] if c.kind == "w" and c.offset >= PAGE and c.size == ENTRY_SIZE]
        there = sum(min(BLOCK, SIZE - (c.offset - PAGE) // ENTRY_SIZE * BLOCK) for c in entries)
        if part_of(path).exists() and journal_of(path).exists():
            about = part_of(path).stat()
            rewrite(journal_of(path), device=about.st_dev, inode=about.st_ino)
        with parpull.submit(url, path) as download:
            download.result(20)
            assert download.progress().resumed == there
        right(path, SIZE)
        shutil.rmtree(folder)


def test_an_entry_without_its_bytes_is_found_out(library, origin, name, tmp_path):
    """The sharpest of those, by hand: every entry is there, and every block but one is zeros."""
    path = tmp_path / "object"
    url = origin.url(name, size=SIZE)
    leave(path, url, range(7))
    with open(part_of(path), "r+b") as part:
        part.write(bytes(SIZE))
        part.seek(3 * BLOCK)
        part.write(content(3 * BLOCK, BLOCK))
    rewrite(journal_of(path), boot=STALE)
    with parpull.submit(url, path) as download:
        download.result(20)
        assert download.progress().resumed == BLOCK
    right(path, SIZE)
