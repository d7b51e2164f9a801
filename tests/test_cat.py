"""`parpull cat`: through a window, to a pipe that may leave at any time."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

from tests.servers import content
from tests.servers.raw import Raw, partial
from tests.test_cli import cli, environment, start

__all__ = ["cli", "start"]  # fixtures

MIB = 1 << 20
SIZE = 48 * MIB + 12345


@pytest.fixture
def bash(tmp_path):
    """bash("$cat URL | …") -> (codes of the pipe's commands, stdout, stderr)."""

    def run(line, **more):
        script = f'cat="{sys.executable} -m parpull cat"; {line}; echo "codes ${{PIPESTATUS[@]}}" >&2'
        done = subprocess.run(
            ["bash", "-c", script], capture_output=True, cwd=tmp_path, timeout=60, env=environment(**more)
        )
        err = done.stderr.decode()
        assert "Traceback" not in err
        match = re.search(r"codes (.*)\n", err)
        assert match, err
        return [int(code) for code in match[1].split()], done.stdout, err

    return run


def test_the_bytes_come_in_order_through_a_small_window(cli, origin, name):
    code, out, err = cli("cat", origin.url(name, size=SIZE), "--window", "4MiB", "-x", "8")
    assert code == 0
    assert hashlib.sha256(out).hexdigest() == content.sha256(SIZE)
    assert re.fullmatch(rf"{name}: 48.0 MiB in .* \(.*/s\), \d+ connections?\n", err)
    log = origin.log(name)
    assert log.sent == SIZE, "each byte once"
    assert log.connections <= 8
    assert all(stop - start <= 2 * MIB for start, stop in log.asked), "a part fits in half the window"


@pytest.mark.parametrize("scenario", ["range-ignored", "chunked-206", "rst-mid-body", "redirect-hops"])
def test_servers_of_all_kinds(cli, origin, name, scenario):
    code, out, _ = cli("cat", origin.url(name, size=8 * MIB, scenario=scenario), "-q")
    assert code == 0
    assert hashlib.sha256(out).hexdigest() == content.sha256(8 * MIB)


def test_several_objects_follow_each_other(cli, origin, name):
    urls = [origin.url(f"{name}-{i}", size=MIB + i) for i in range(3)]
    code, out, err = cli("cat", *urls)
    assert code == 0
    assert out == b"".join(content.content(0, MIB + i) for i in range(3))
    assert "3 of 3 objects" in err


def test_nothing_follows_an_object_that_failed(cli, origin, name):
    urls = [origin.url(f"{name}-0", size=100), origin.url(f"{name}-1", size=100, scenario="not-found")]
    code, out, err = cli("cat", *urls, origin.url(f"{name}-2", size=100))
    assert code == 3
    assert out == content.content(0, 100)
    assert "parpull: error: " in err
    assert "404" in err


def test_an_empty_object(cli, origin, name):
    assert cli("cat", origin.url(name, size=0), "-q") == (0, b"", "")


@pytest.mark.parametrize(("digest", "expected"), [(content.sha256(MIB), 0), ("0" * 64, 5)])
def test_a_checksum_is_known_at_the_end(cli, origin, name, digest, expected):
    code, out, err = cli("cat", origin.url(name, size=MIB), "--checksum", f"sha256={digest}")
    assert code == expected
    assert out == content.content(0, MIB), "what is written can't be taken back"
    assert ("sha256 ok" in err) == (expected == 0)
    assert ("can't be taken back" in err) == (expected == 5)


def test_a_reader_that_leaves(bash, origin, name):
    begin = time.monotonic()
    codes, out, err = bash(f"$cat '{origin.url(name, size=2000 * MIB)}' | head -c 1")
    assert codes == [6, 0]
    assert out == content.content(0, 1)
    assert "error" not in err
    assert time.monotonic() - begin < 10
    assert origin.log(name).sent < 300 * MIB, "it stopped at once"


def test_a_reader_that_leaves_while_nothing_arrives(bash):
    silence = threading.Event()

    def answer(send, number, span):
        send(partial(0, 10, 10, "Content-Length: 10"))
        send(b"12345")
        silence.wait(60)
        return False

    with Raw(answer) as server:
        begin = time.monotonic()
        codes, out, err = bash(f"$cat '{server.url}' -q | head -c 1")
        took = time.monotonic() - begin
        silence.set()
    assert codes == [6, 0]
    assert out == b"1"
    assert "error" not in err
    assert took < 20, "before the stall would have been noticed, after 30 s"


def test_a_closed_standard_output(bash, origin, name):
    codes, _, err = bash(f"$cat '{origin.url(name, size=MIB)}' >&-")
    assert codes == [6]
    assert "parpull: error: cannot write to standard output" in err


def test_a_full_device(bash, origin, name):
    codes, _, err = bash(f"$cat '{origin.url(name, size=MIB)}' >/dev/full")
    assert codes == [6]
    assert "No space left on device" in err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it(start, origin, name, number, code):
    process = start("cat", origin.url(name, size=200 * MIB, pace=MIB))
    assert process.stdout.read(1)
    process.send_signal(number)
    process.stdout.close()
    assert process.wait(10) == code
    assert b"stopped by" in process.stderr.read()


def test_a_slow_reader_holds_nothing_open(start, origin, name):
    process = start("cat", origin.url(name, size=64 * MIB), "--window", "8MiB")
    assert process.stdout.read(MIB)
    time.sleep(1.0)
    sent = origin.log(name).sent  # waits until no answer is under way
    assert sent <= 8 * MIB + 4 * MIB, "the window, and what was written"
    assert len(process.stdout.read()) == 63 * MIB
    assert process.wait(10) == 0


@pytest.mark.slow
def test_memory_stays_bounded(origin, name):
    """The issue's line is 20 GiB under 400 MiB, measured by hand; here as much as fits a test."""
    code = (
        "import resource, subprocess, sys;"
        "done = subprocess.run([sys.executable, '-m', 'parpull', 'cat', sys.argv[1], '-q'], stdout=subprocess.DEVNULL);"
        "print(done.returncode, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    url = origin.url(name, size=2 << 30)
    done = subprocess.run([sys.executable, "-c", code, url], capture_output=True, text=True, env=environment())
    returned, peak = map(int, done.stdout.split())
    assert returned == 0
    assert peak << 10 < 400 * MIB


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["cat"], "no URL given"),
        (["cat", "https://h/a", "https://h/b", "--checksum", "md5=" + "0" * 32], "--checksum is of one object"),
        (["cat", "https://h/a", "--window", "much"], "--window much is no size"),
        (["cat", "https://h/a", "--window", "5"], "window=5 is too small"),
        (["cat", "ftp://h/a"], "no source for ftp://"),
    ],
)
def test_what_makes_no_sense(cli, args, text):
    code, out, err = cli(*args)
    assert code == 2
    assert not out
    assert text in err
    assert "hint: " in err


def test_it_is_a_pipe_of_one_mebibyte(start, origin, name):
    fcntl = pytest.importorskip("fcntl")
    process = start("cat", origin.url(name, size=64 * MIB))
    assert os.read(process.stdout.fileno(), 1)
    assert fcntl.fcntl(process.stdout.fileno(), fcntl.F_GETPIPE_SZ) >= MIB
