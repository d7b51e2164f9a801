"""`parpull bench`: it fetches what it says and as often, prints what that means, and
leaves nothing behind, however it ends. Never how long anything took."""

from __future__ import annotations

import json
import os
import re
import signal

import pytest

from parpull.cli import bench
from tests.verbs import environment, started, verb, wait_for

MIB = 1 << 20
SIZE = 6 * MIB + 5
HEAD = r" *connections  +seconds +rate +CPU s/GiB +open at once +requests +retries"


def rows_of(out):
    """The numbers of connections, and the most that were open, table by table."""
    tables = []
    for line in out.decode().splitlines():
        if re.fullmatch(HEAD, line):
            tables.append([])
        elif found := re.match(r" +(\d+)  .*?B/s +[\d.]+ +(\d+) +\d+ +\d+$", line):
            tables[-1].append(tuple(map(int, found.groups())))
    return tables


def bodies(origin, name, size=SIZE):
    """How many whole objects were sent."""
    return round(origin.log(name).sent / size, 1)


# --- as its users see it -----------------------------------------------------------------


def test_a_table_and_what_it_means(origin, name, tmp_path):
    done = verb("bench", "-x", "1,4", "--part-size", "256KiB", origin.url(name, size=SIZE, pace=3 * MIB), cwd=tmp_path)
    assert done.code == 0, done.err
    lines = done.out.decode().splitlines()
    assert lines[0] == "memory"
    assert re.fullmatch(HEAD, lines[1])
    ((one, four),) = rows_of(done.out)
    assert one == (1, 1)
    assert four[0] == 4
    assert 2 <= four[1] <= 4
    assert re.match(r"4 connections are \d\.\d x as fast as 1\.", lines[-1])
    assert done.err.splitlines()[0] == "2 fetches of 6.0 MiB: 12.0 MiB in all"
    assert "--runs 3" in done.err
    assert "1 connection, memory: 6.0 MiB in " in done.err
    assert bodies(origin, name) == pytest.approx(2, abs=0.3)  # and one byte
    assert os.listdir(tmp_path) == []


def test_the_first_request_is_for_one_byte(origin, name):
    verb("bench", "-q", "-x", "2", origin.url(name, size=SIZE))
    assert origin.log(name).asked[0] == (0, 1)


def test_it_tries_1_8_and_16(origin, name):
    done = verb("bench", "--quiet", origin.url(name, size=SIZE))
    assert (done.code, done.err) == (0, "")
    assert [row[0] for row in rows_of(done.out)[0]] == [1, 8, 16]


def test_runs_are_interleaved(origin, name):
    url = origin.url(name, size=SIZE)
    done = verb("bench", "--json", "--runs", "3", "-x", "3,1", "-o", "memory", "--retry", "2", url)
    assert (done.code, len(done.err.splitlines())) == (0, 1)
    lines = [json.loads(line) for line in done.out.splitlines()]
    runs = [line for line in lines if line["event"] == "run"]
    assert [(run["run"], run["connections"]) for run in runs] == [(1, 3), (1, 1), (2, 1), (2, 3), (3, 3), (3, 1)]
    assert all(run["size"] == SIZE and run["seconds"] > 0 and run["rate"] > 0 for run in runs)
    results = [line for line in lines if line["event"] == "result"]
    assert [(line["connections"], line["runs"]) for line in results] == [(1, 3), (3, 3)]
    for line in results:
        assert line["fastest"] <= line["seconds"] <= line["slowest"]
        assert {"rate", "cpu_per_gib", "open", "requests", "retries"} <= set(line)
    assert lines[-1]["event"] == "verdict"
    assert lines[-1]["destination"] == "memory"
    assert bodies(origin, name) == pytest.approx(6, abs=0.5)


def test_ranges_are_shown_for_several_runs(origin, name):
    done = verb("bench", "-q", "--runs", "2", "-s", "1", origin.url(name, size=SIZE))
    assert re.search(r"\n +1  \d+\.\d\d \(\d+\.\d\d-\d+\.\d\d\)  ", done.out.decode())


def test_several_destinations(origin, name, tmp_path):
    (tmp_path / "here").mkdir()
    places = ["memory", "here", ".", "here"]
    flags = [flag for place in places for flag in ("-o", place)]
    done = verb("bench", "-x", "2", *flags, origin.url(name, size=SIZE), cwd=tmp_path)
    assert done.code == 0, done.err
    assert len(rows_of(done.out)) == 3
    text = done.out.decode()
    assert text.startswith("memory\n")
    assert re.search(r"\n\nhere \(\w+, (with fsync|in memory: no fsync)\)\n", text)
    assert re.search(r"\n\n\. \(\w+, ", text)
    assert bodies(origin, name) == pytest.approx(3, abs=0.3)
    assert sorted(os.listdir(tmp_path)) == ["here"]
    assert os.listdir(tmp_path / "here") == []


@pytest.mark.skipif(not os.path.isdir("/dev/shm"), reason="no /dev/shm")
def test_shared_memory_is_no_disk(origin, name):
    before = set(os.listdir("/dev/shm"))
    done = verb("bench", "-x", "2", "--output", "/dev/shm", "--json", origin.url(name, size=SIZE))
    line = json.loads(done.out.splitlines()[0])
    assert (line["file_system"], line["fsync"]) == ("tmpfs", False)
    assert not {entry for entry in set(os.listdir("/dev/shm")) - before if "parpull" in entry}


def test_a_disk_is_synced(origin, name, tmp_path, monkeypatch, capfd):
    """The files that are written are fsynced where the file system is one on a disk."""
    from parpull.cli import run

    synced = []
    monkeypatch.setenv("PARPULL_CONFIG", "")
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")))
    for number, count in ((0xEF53, 2), (0x01021994, 0)):  # a file and its folder, each
        monkeypatch.setattr("parpull._landing.file_system", lambda fd, number=number: number)
        synced.clear()
        assert run(["bench", "-q", "-x", "2", "-o", str(tmp_path), origin.url(name, size=SIZE)]) == 0
        assert len(synced) == count
        assert ("with fsync" in capfd.readouterr().out) is bool(count)


# --- servers of other kinds ---------------------------------------------------------------


def test_a_server_without_ranges(origin, name):
    done = verb("bench", origin.url(name, size=SIZE, ranges=False))
    assert done.code == 0
    assert rows_of(done.out) == [[(1, 1)]]
    assert done.out.endswith(b"\nMore connections do not help here: the server gives no ranges.\n")
    assert "the server gives no ranges" in done.err
    assert bodies(origin, name) <= 2  # the first look leaves early, or just not


def test_the_first_look_does_not_take_a_stream_to_its_end(origin, name):
    with started("bench", origin.url(name, size=1 << 40, ranges=False)) as process:
        assert b"the server gives no ranges" in process.stderr.readline()
    assert origin.log(name).requests[0].sent < 64 * MIB


def test_an_object_of_unknown_size(origin, name):
    done = verb("bench", origin.url(name, size=SIZE, ranges=False, length="close"))
    assert done.code == 0
    assert done.err.startswith("1 fetch of an object of unknown size; ")


def test_an_empty_object(origin, name):
    done = verb("bench", "-x", "1,2", origin.url(name, size=0))
    assert done.code == 0
    assert "The object is empty" in done.out.decode()


def test_retries_are_counted_and_told(origin, name):
    done = verb("bench", "--json", "-x", "2", origin.url(name, size=SIZE, scenario="error-500-once"))
    assert done.code == 0
    lines = [json.loads(line) for line in done.out.splitlines()]
    assert lines[0]["retries"] == lines[1]["retries"] == 1
    assert lines[0]["size"] == SIZE


def test_verbose(origin, name):
    done = verb("bench", "--verbose", "-x", "2", origin.url(name, size=SIZE, scenario="redirect-hops"))
    assert "redirected (302) to" in done.err
    assert "?size" not in done.err


# --- how it fails ----------------------------------------------------------------------------


@pytest.mark.parametrize(("scenario", "code"), [("not-found", 3), ("forbidden", 4), ("busy-503-always", 1)])
def test_exit_codes(origin, name, scenario, code):
    done = verb("bench", "--retry", "1", origin.url(name, size=SIZE, scenario=scenario))
    assert (done.code, done.out) == (code, b"")
    assert done.err.startswith("parpull: error: ")


def test_what_does_not_fit_is_left_out(origin, name, tmp_path):
    url = origin.url(name, size=SIZE)
    env = environment(PARPULL_MAX_MEMORY="1MiB")
    done = verb("bench", "-x", "1,2", "-o", "memory", "-o", ".", url, cwd=tmp_path, env=env)
    assert done.code == 6
    assert "parpull: error: memory: the object needs" in done.err
    assert done.err.count("parpull: error: ") == 1
    assert [[row[0] for row in rows] for rows in rows_of(done.out)] == [[1, 2]]
    assert done.out.startswith(b". (")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("args", "hint"),
    [
        ((), "parpull bench -h"),
        (("-x", "0", "http://h/x"), "-x 1,8,16"),
        (("-x", "1,,8", "http://h/x"), "-x 1,8,16"),
        (("-x", "auto", "http://h/x"), "-x 1,8,16"),
        (("-x", "1000", "http://h/x"), "256"),
        (("--connections", "http://me:geheim@proxy", "http://h/x"), "-x 1,8,16"),
        (("--runs", "0", "http://h/x"), "1 to 1000"),
        (("-o", "nowhere", "http://h/x"), "-o memory"),
        (("http://h/x", "http://h/y"), ""),
        (("ftp://h/x",), "http"),
    ],
)
def test_usage(tmp_path, args, hint):
    done = verb("bench", *args, cwd=tmp_path)
    assert (done.code, done.out) == (2, b"")
    assert hint in done.err.partition("hint: ")[2]
    assert "geheim" not in done.err


# --- how it stops ------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_what_was_measured_is_printed(origin, name, tmp_path, number, code):
    url = origin.url(name, size=8 * MIB, pace=4 * MIB)
    with started("bench", "-x", "8,1", "-o", ".", url, cwd=tmp_path) as process:
        seen = b""
        while b"8 connections, .: " not in seen:
            piece = os.read(process.stderr.fileno(), 4096)
            assert piece, seen
            seen += piece
        wait_for(lambda: os.listdir(tmp_path))  # the second is under way
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
    assert process.returncode == code
    assert err.decode().endswith(f"parpull: stopped by {number.name}; nothing is left behind\n")
    assert [[row[0] for row in rows] for rows in rows_of(out)] == [[8]]
    assert b"Only one number of connections was measured" in out
    assert os.listdir(tmp_path) == []


def test_nothing_was_measured(origin, name):
    with started("bench", origin.url(name, size=1 << 30, pace=MIB)) as process:
        wait_for(lambda: len(origin.log(name, 0)) >= 2)
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=20)[0] == b""
    assert process.returncode == 130


def test_nobody_reads(origin, name):
    for flags in ([], ["--json"]):
        with started("bench", "-q", *flags, origin.url(name, size=SIZE)) as process:
            process.stdout.close()
            assert process.wait(30) == 6
            assert process.stderr.read() == b""


def test_what_is_left_by_a_kill_can_be_cleaned(origin, name, tmp_path):
    with started("bench", "-o", ".", origin.url(name, size=64 * MIB, pace=MIB), cwd=tmp_path) as process:
        wait_for(lambda: os.listdir(tmp_path))
        process.kill()
        process.wait(10)
    assert verb("clean", tmp_path).code == 0
    assert os.listdir(tmp_path) == []


# --- the parts that need no process ----------------------------------------------------------------


def timed(connections, *seconds, size=1 << 30, peak=None, retries=0):
    """Runs with these times."""
    return [
        bench.Run(
            connections, size=size, seconds=s, cpu=s / 10, peak=connections if peak is None else peak, requests=9,
            retries=retries,
        )
        for s in seconds
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("runs", "text"),
    [
        (timed(1, 49) + timed(16, 10), "16 connections are 4.9 x as fast as 1. One run each: --runs 3 tells more."),
        (timed(1, 49, 49) + timed(8, 10, 10) + timed(16, 9.9, 9.9),
         "8 connections are 4.9 x as fast as 1; 16 bring nothing more."),
        (timed(1, 49, 49) + timed(16, 10, 10, peak=6),
         "16 connections are 4.9 x as fast as 1. Never more than 6 were open at once."),
        (timed(1, 10, 10) + timed(8, 10.2, 9.8) + timed(16, 9.9, 9.9),
         "More connections do not help here: 1 is as fast as 16, so the line or the server has no more to give."),
        (timed(1, 10, 10) + timed(16, 20, 20),
         "More connections do not help here: 1 is faster than 16."),
        (timed(2, 10, 10) + timed(16, 20, 20),
         "More connections do not help here: 2 are faster than 16."),
        (timed(8, 10), "Only one number of connections was measured: -x 1,8,16 compares."),
        (timed(1, 0.2, 0.2) + timed(8, 0.1, 0.1),
         "8 connections are 2.0 x as fast as 1. The object is small: a larger one tells more."),
        (timed(1, 49, 49) + timed(16, 10, 10, retries=3),
         "16 connections are 4.9 x as fast as 1. There were retries: the server may not like so many."),
        (timed(1, 0.1, size=0) + timed(16, 0.1, size=0), "The object is empty: there is nothing to measure."),
    ],
)  # fmt: skip
def test_verdicts(runs, text):
    assert bench.verdict(bench.summaries(runs)) == text


def test_other_verdicts():
    rows = bench.summaries(timed(1, 10, 10) + timed(8, 10, 10))
    assert bench.verdict(rows, ranges=False).endswith("the server gives no ranges.")
    assert "the line, the server or the disk has no more" in bench.verdict(rows, disk=True)


def test_medians():
    (one, two) = bench.summaries([*timed(2, 5, 3, 100), *timed(1, 8)])
    assert (one.connections, one.runs, one.seconds) == (1, 1, 8)
    assert (two.seconds, two.fastest, two.slowest) == (5, 3, 100)
    assert two.cpu_per_gib == pytest.approx(0.5)
    assert two.cells()[:2] == ("2", "5.00 (3.00-100.00)")


def test_an_empty_object_costs_nothing_per_gib():
    (row,) = bench.summaries(timed(1, 0.1, size=0))
    assert row.cpu_per_gib is None
    assert bench.table([row])[1].split() == ["1", "0.10", "0", "B/s", "1", "9", "0"]
