"""`parpull exec`: the object in memory, as a path for a real command; and the sink it
lands in, whose other users have a descriptor of their own."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import sys

import pytest

import parpull
from parpull.cli import exec as verb_exec
from parpull.errors import ChecksumMismatch, MemoryBudget, NoSpace, SinkError
from parpull.memory import DescriptorSink
from tests.servers import content
from tests.verbs import environment, started, verb, wait_for

MIB = 1 << 20
SIZE = 9 * MIB + 17

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="memfds are Linux's")


def python(code, *args):
    """A command that runs Python code; its first argument is the object's path."""
    return [sys.executable, "-I", "-c", code, "{}", *args]


# --- the command and its object -------------------------------------------------------


def test_a_command_reads_it(origin, name, tmp_path):
    done = verb("exec", origin.url(name, size=SIZE), "--", "sha256sum", "{}", cwd=tmp_path)
    assert done.code == 0, done.err
    assert done.out.decode().split()[0] == content.sha256(SIZE)
    assert done.out.decode().split()[1].startswith("/proc/")
    assert "9.0 MiB in" in done.err
    assert os.listdir(tmp_path) == []


def test_cat_gets_all_of_it_in_order(origin, name):
    url = origin.url(name, size=SIZE)
    done = verb("exec", "-q", "--connections", "8", "--part-size", "256KiB", url, "--", "cat", "{}")
    assert (done.code, len(done.out), done.err) == (0, SIZE, "")
    assert content.first_difference(done.out) is None
    assert origin.log(name).connections > 1


def test_it_can_be_opened_twice_and_is_exactly_as_long(origin, name):
    code = (
        "import sys, os, hashlib\n"
        "path = sys.argv[1]\n"
        "fd = int(path.rpartition('/')[2])\n"
        "with open(path, 'rb') as a, open(path, 'rb') as b:\n"
        "    a.read(1000)\n"
        "    print(os.fstat(a.fileno()).st_size, hashlib.sha256(b.read()).hexdigest(), os.lseek(fd, 0, 1))\n"
    )
    done = verb("exec", "-q", origin.url(name, size=SIZE), "--", *python(code))
    assert done.code == 0, done.err
    assert done.out.decode().split() == [str(SIZE), content.sha256(SIZE), "0"]


def test_a_grandchild_without_our_descriptors(origin, name):
    code = (
        "import subprocess, sys\n"
        "count = 'import sys; print(len(open(sys.argv[1], \"rb\").read()))'\n"
        "inner = [sys.executable, '-I', '-c', count, sys.argv[1]]\n"
        "subprocess.run([sys.executable, '-I', '-c', 'import subprocess, sys;"
        " subprocess.run(sys.argv[1:], check=True, close_fds=True)', *inner], check=True, close_fds=True)\n"
    )
    done = verb("exec", "-q", origin.url(name, size=SIZE), "--", *python(code))
    assert (done.code, done.out, done.err) == (0, b"%d\n" % SIZE, "")


def test_the_process_becomes_the_command(origin, name):
    """Its number, its streams, no descriptor of ours but the one, no signal ignored."""
    code = (
        "import os, sys\n"
        "sys.stderr.write(sys.stdin.read())\n"
        "fds = sorted(int(n) for n in os.listdir('/proc/self/fd'))\n"
        "mine = [n for n in fds if os.path.exists(f'/proc/self/fd/{n}')]\n"
        "status = dict(line.split(':', 1) for line in open('/proc/self/status'))\n"
        "print(os.getpid(), sys.argv[1], len(mine), status['Threads'].strip())\n"
    )
    streams = os.pipe()
    os.write(streams[1], b"hello")
    os.close(streams[1])
    with started("exec", "-q", origin.url(name, size=SIZE), "--", *python(code), stdin=streams[0]) as process:
        os.close(streams[0])
        out, err = process.communicate(timeout=60)
    pid, path, count, threads = out.decode().split()
    assert int(pid) == process.pid
    assert path.startswith(f"/proc/{pid}/fd/")
    assert (count, threads) == ("4", "1")  # 0, 1, 2 and the object
    assert err == b"hello"


def test_no_signal_stays_ignored(origin, name):
    done = verb("exec", "-q", origin.url(name, size=10), "--", "grep", "-h", "SigIgn", "/proc/self/status", "{}")
    ignored = int(done.out.split()[1], 16)
    assert not ignored & (1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1)


def test_the_codes_are_those_of_the_command(origin, name):
    url = origin.url(name, size=10)
    assert verb("exec", "-q", url, "--", "sh", "-c", "exit 42", "{}").code == 42
    done = verb("exec", "-q", url, "--", "sh", "-c", "kill -TERM $$", "{}")
    assert done.code == -signal.SIGTERM


def test_every_place_is_filled(origin, name):
    done = verb("exec", "-q", origin.url(name, size=10), "--", "echo", "--file={}", "{}:{}", "{", "{ }", "--")
    assert done.code == 0
    one, two, *rest = done.out.decode().split()
    path = one.removeprefix("--file=")
    assert path.startswith("/proc/")
    assert two == f"{path}:{path}"
    assert rest == ["{", "{", "}", "--"]


@pytest.mark.parametrize("params", [{"ranges": False}, {"ranges": False, "length": "close"}, {"size": 0}])
def test_objects_of_other_kinds(origin, name, params):
    size = params.get("size", SIZE)
    done = verb("exec", "-q", origin.url(name, **({"size": SIZE} | params)), "--", "cat", "{}")
    assert (done.code, len(done.out)) == (0, size)
    assert content.first_difference(done.out) is None


def test_a_right_checksum(origin, name):
    done = verb(
        "exec", "--checksum", "sha256=" + content.sha256(SIZE), origin.url(name, size=SIZE), "--", "wc", "-c", "{}"
    )
    assert done.code == 0
    assert done.err.endswith(", sha256 ok\n")


# --- when there is nothing to run ------------------------------------------------------


def test_a_command_that_is_not_there(origin, name):
    done = verb("exec", origin.url(name, size=SIZE), "--", "no-such-command", "{}")
    assert (done.code, done.out) == (127, b"")
    assert done.err == "parpull: error: no-such-command: there is no such command\n"
    assert verb("exec", origin.url(name, size=SIZE), "--", "./nowhere", "{}").code == 127
    assert len(origin.log(name)) == 0


def test_a_command_that_can_not_be_executed(origin, name, tmp_path):
    (tmp_path / "plain").write_bytes(b"#!/bin/sh\n")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "there").write_bytes(b"#!/bin/sh\n")
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    for command in ("./plain", "./bin", "there"):
        done = verb("exec", origin.url(name, size=SIZE), "--", command, "{}", cwd=tmp_path, env=environment(PATH=path))
        assert done.code == 126, command
        assert "can't be executed" in done.err
    assert len(origin.log(name)) == 0


def test_a_file_that_is_no_program(origin, name, tmp_path):
    (tmp_path / "garbage").write_bytes(b"\0\1\2\3")
    (tmp_path / "garbage").chmod(0o755)
    done = verb("exec", "-q", origin.url(name, size=10), "--", "./garbage", "{}", cwd=tmp_path)
    assert done.code == 126
    assert "hint: a script begins with #!" in done.err


@pytest.mark.parametrize(
    ("args", "hint"),
    [
        ((), "parpull exec"),
        (("http://127.0.0.1:9/x",), "behind --"),
        (("http://127.0.0.1:9/x", "--"), "behind --"),
        (("http://127.0.0.1:9/x", "--", "cat"), "cat {}"),
        (("http://127.0.0.1:9/x", "--", "{}"), "{} {}"),
        (("http://127.0.0.1:9/x", "--", "cat", "-"), "cat {}"),
        (("http://127.0.0.1:9/x", "cat", "{}"), ""),
        (("--", "cat", "{}"), ""),
        (("ftp://h/x", "--", "cat", "{}"), "http"),
        (("--checksum", "sha256=12", "http://127.0.0.1:9/x", "--", "cat", "{}"), "64"),
    ],
)
def test_usage(args, hint):
    done = verb("exec", *args)
    assert (done.code, done.out) == (2, b"")
    assert hint in done.err.partition("hint: ")[2]


# --- when it does not come --------------------------------------------------------------


@pytest.mark.parametrize(
    ("scenario", "code"), [("not-found", 3), ("forbidden", 4), ("object-changes", 5), ("busy-503-always", 1)]
)
def test_a_fetch_that_fails_runs_nothing(origin, name, tmp_path, scenario, code):
    url = origin.url(name, size=8 * MIB, scenario=scenario)
    done = verb(
        "exec", "--part-size", "1MiB", "-x", "4", "--retry", "1", url, "--", "touch", "ran", "{}", cwd=tmp_path
    )  # fmt: skip
    assert (done.code, done.out) == (code, b""), done.err
    assert done.err.startswith("parpull: error: ")
    assert os.listdir(tmp_path) == []


def test_a_wrong_checksum_runs_nothing(origin, name, tmp_path):
    url = origin.url(name, size=SIZE)
    done = verb("exec", "--checksum", "sha256=" + "0" * 64, url, "--", "touch", "ran", "{}", cwd=tmp_path)
    assert done.code == 5
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("params", [{}, {"ranges": False, "length": "close"}])
def test_more_than_there_is_memory(origin, name, params):
    url = origin.url(name, size=SIZE, **params)
    done = verb("exec", url, "--", "cat", "{}", env=environment(PARPULL_MAX_MEMORY="2MiB"))
    assert (done.code, done.out) == (6, b"")
    assert "bytes of memory, 2,097,152 are available" in done.err
    assert "hint: parpull URL -o FILE" in done.err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals(origin, name, tmp_path, number, code):
    url = origin.url(name, size=1 << 30, pace=MIB)
    with started("exec", "-x", "4", url, "--", "touch", "ran", "{}", cwd=tmp_path) as process:
        wait_for(lambda: len(origin.log(name, 0)) >= 4)
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (code, b"")
    assert err.decode() == f"parpull: stopped by {number.name}; touch was not run\n"
    assert os.listdir(tmp_path) == []


def test_lookup_is_as_shells_do_it(tmp_path, monkeypatch):
    assert verb_exec.lookup("sh") == (shutil.which("sh"), 0)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert verb_exec.lookup("sh") == (None, 127)
    (tmp_path / "sh").write_bytes(b"")
    assert verb_exec.lookup("sh") == (None, 126)
    (tmp_path / "sh").chmod(0o755)
    assert verb_exec.lookup("sh") == (str(tmp_path / "sh"), 0)
    assert verb_exec.lookup("") == (None, 127)


# --- the sink ---------------------------------------------------------------------------


@pytest.fixture
def memory():
    """A memfd that may be sealed."""
    fd = os.memfd_create("test", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    yield fd
    os.close(fd)


def fetch(url, fd, max_memory=None, **options):
    """Through a client, as `exec` does it."""
    with parpull.Client(**options) as client:
        sink = DescriptorSink(fd, max_memory)
        with client._submit(url, sink, client.options, [(0, None)]) as download:
            return download.result()


def bytes_of(fd):
    return os.pread(fd, os.fstat(fd).st_size + 1, 0)


@pytest.mark.parametrize("params", [{}, {"ranges": False}, {"ranges": False, "length": "chunked"}])
def test_it_lands_in_a_memfd(origin, name, memory, params):
    os.write(memory, b"what was there before, and longer than the object" * 300_000)
    os.lseek(memory, 5, os.SEEK_SET)
    blob = fetch(origin.url(name, size=SIZE, **params), memory)
    assert (blob.size, blob.path) == (SIZE, f"/proc/self/fd/{memory}")
    assert content.first_difference(blob) is None
    blob.close()
    assert len(bytes_of(memory)) == SIZE
    assert os.lseek(memory, 0, os.SEEK_CUR) == 5


def test_it_lands_in_a_file(origin, name, tmp_path):
    with open(tmp_path / "x", "w+b") as file:
        blob = fetch(origin.url(name, size=SIZE), file.fileno(), max_memory=10)  # a disk is not memory
        assert blob.size == SIZE
    assert content.first_difference((tmp_path / "x").read_bytes()) is None


def test_a_checksum_is_read_back(origin, name, memory):
    url = origin.url(name, size=SIZE)
    assert fetch(url, memory, checksum="sha256=" + content.sha256(SIZE)).size == SIZE
    with pytest.raises(ChecksumMismatch):
        fetch(url, memory, checksum="sha256=" + "0" * 64)
    assert bytes_of(memory) == b""


def test_an_open_file_of_another_object_is_emptied(origin, name, memory):
    with pytest.raises(parpull.errors.NotFound):
        fetch(origin.url(name, size=SIZE, scenario="not-found"), memory)
    os.write(memory, b"kept")
    with pytest.raises(parpull.errors.NotFound):  # nothing began: nothing is lost
        fetch(origin.url(name, size=SIZE, scenario="not-found"), memory)
    assert bytes_of(memory) == b"kept"


def test_memory_is_guarded(origin, name, memory):
    with pytest.raises(MemoryBudget) as caught:
        fetch(origin.url(name, size=SIZE), memory, max_memory=MIB)
    assert (caught.value.needed, caught.value.available) == (SIZE, MIB)
    assert len(origin.log(name)) == 1
    with pytest.raises(MemoryBudget):
        fetch(origin.url(name, size=SIZE), memory, max_memory=0)


def test_an_object_of_unknown_size_can_not_outgrow_it(origin, name, memory):
    with pytest.raises(MemoryBudget) as caught:
        fetch(origin.url(name, size=64 * MIB, ranges=False, length="close"), memory, max_memory=5 * MIB)
    assert caught.value.available == 5 * MIB
    assert bytes_of(memory) == b""
    assert fcntl.fcntl(memory, fcntl.F_GET_SEALS) == fcntl.F_SEAL_GROW
    with pytest.raises(SinkError, match="not permitted"):  # never again
        fetch(origin.url(name, size=SIZE), memory)


def test_one_that_fits_is_as_long_as_it_is(origin, name, memory):
    fetch(origin.url(name, size=SIZE, ranges=False, length="close"), memory, max_memory=SIZE)
    assert content.first_difference(bytes_of(memory)) is None
    assert os.fstat(memory).st_size == SIZE


def test_a_memfd_that_may_not_be_sealed(origin, name):
    fd = os.memfd_create("test", os.MFD_CLOEXEC)
    fetch(origin.url(name, size=SIZE, ranges=False, length="close"), fd, max_memory=64 * MIB)
    assert content.first_difference(bytes_of(fd)) is None
    os.close(fd)


def test_what_can_not_take_ranges(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"mine")
    ends = os.pipe()
    fds = [os.open(path, flags) for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR | os.O_APPEND)]
    for fd, words in zip([*ends, *fds], ["regular", "regular", "reading", "reading", "appending"], strict=True):
        with pytest.raises(SinkError, match=words):
            DescriptorSink(fd).check()
    for fd in (*ends, *fds):
        os.close(fd)
    for fd in (-1, fds[0]):
        with pytest.raises(SinkError, match="Bad file descriptor"):
            DescriptorSink(fd).check()
    assert path.read_bytes() == b"mine"


def test_a_full_disk_is_not_out_of_memory(tmp_path):
    with open(tmp_path / "x", "w+b") as file:
        sink = DescriptorSink(file.fileno())
        sink.open(None, followed=False)
        assert isinstance(sink.overflow(5), NoSpace)
        sink.discard()


def test_a_descriptor_that_is_closed_meanwhile(memory):
    fd = os.dup(memory)
    sink = DescriptorSink(fd)
    sink.open(100, followed=False)
    os.close(fd)
    with pytest.raises(SinkError):
        sink.commit(100)
    sink.discard()
    sink.abandon()


def test_a_tap_is_its_callers_own(memory):
    sink = DescriptorSink(memory)
    tap = sink.tap()
    assert os.path.samestat(os.fstat(tap), os.fstat(memory))
    os.close(tap)
