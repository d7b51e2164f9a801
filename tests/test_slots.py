"""Slots: processes that never saw each other keep to one number of connections."""

from __future__ import annotations

import os
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parpull import slots
from parpull.errors import BadOption
from parpull.slots import Gate, Slots, moves, shares

HOST = "host:443"
PATIENCE = 30.0  # seconds; only a failure takes as long


def until(holds, what="what should happen"):
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, f"{what} never came"
        time.sleep(0.01)


# --- pure ---------------------------------------------------------------------------------

WISHES = st.lists(st.integers(0, 40), max_size=8)


@given(WISHES, st.integers(0, 60))
def test_shares(wanted, held):
    out = shares(wanted, held)
    assert sum(out) == min(held, sum(wanted)), "nothing is left over, nothing is invented"
    assert all(0 <= got <= want for got, want in zip(out, wanted, strict=True))
    for got, want in zip(out, wanted, strict=True):
        if got < want:  # whoever could use more has as much as anyone, but for what is odd
            assert got >= max(out) - 1
    short = [got for got, want in zip(out, wanted, strict=True) if got < want]
    assert short == sorted(short, reverse=True), "the earlier first"


@pytest.mark.parametrize(
    ("wanted", "held", "out"),
    [([], 3, []), ([5], 3, [3]), ([8, 8], 5, [3, 2]), ([1, 8, 8], 9, [1, 4, 4]), ([8, 0, 8], 0, [0, 0, 0]),
     ([1, 1, 1], 2, [1, 1, 0]), ([2, 9], 8, [2, 6]), ([9, 2], 8, [6, 2])],
)  # fmt: skip
def test_shares_by_example(wanted, held, out):
    assert shares(wanted, held) == out


@given(st.data())
def test_moves_never_use_more_than_is_held(data):
    """Whatever the transfers do within their allowances, and whatever comes and goes."""
    count = data.draw(st.integers(1, 5))
    used, held = [0] * count, 0
    for _ in range(data.draw(st.integers(1, 8))):
        held = data.draw(st.integers(sum(used), sum(used) + 8))
        wanted = data.draw(st.lists(st.integers(0, 12), min_size=count, max_size=count))
        goals = shares(wanted, data.draw(st.integers(0, held)))
        allowed = moves(goals, used, held)
        assert sum(map(max, used, allowed)) <= held
        assert all(n <= goal for n, goal in zip(allowed, goals, strict=True))
        assert all(n == goal for n, goal, now in zip(allowed, goals, used, strict=True) if goal <= now)
        # Some of the connections beyond the allowance have ended by the next look.
        used = [data.draw(st.integers(n, max(n, now))) for n, now in zip(allowed, used, strict=True)]


@given(WISHES, st.integers(0, 60))
def test_moves_arrive(wanted, held):
    goals = shares(wanted, held)
    assert moves(goals, [0] * len(wanted), held) == goals
    assert moves(goals, goals, held) == goals


# --- one process -----------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    return str(tmp_path)


def names(folder, kind):
    return [name for _, _, files in os.walk(folder) for name in files if name.startswith(kind)]


def test_alone(folder):
    one = Slots(HOST, 4, folder)
    assert one.held == 0
    assert one.take(3) == 3
    assert one.take(9) == 4
    assert one.take(2) == 2
    assert one.held == 4, "nothing is given up by itself"
    one.give_back(2)
    one.give_back(-1)
    assert one.held == 2
    assert len(names(folder, "member.")) == 1
    one.close()
    one.close()
    assert one.held == 0
    assert names(folder, "member.") == []
    assert one.take(1) == 1, "it may come back"
    one.close()


def test_two(folder):
    one, two = Slots(HOST, 5, folder), Slots(HOST, 5, folder)
    assert one.take(9) == 5
    assert two.take(9) == 0
    assert one.take(9) == 3, "the elder has what is odd"
    assert (one.held, two.take(9)) == (5, 0)
    one.give_back(1)
    assert two.take(9) == 1
    one.give_back(1)
    assert two.take(9) == 2
    assert two.take(9) == 2
    one.close()
    assert two.take(9) == 5
    two.close()


def test_who_wants_little_leaves_the_rest(folder):
    one, two = Slots(HOST, 8, folder), Slots(HOST, 8, folder)
    assert one.take(1) == 1
    assert two.take(16) == 7
    assert one.take(16) == 1
    assert two.take(16) == 4
    two.give_back(3)
    assert one.take(16) == 4
    one.close()
    two.close()


def test_more_members_than_slots(folder):
    many = [Slots(HOST, 2, folder) for _ in range(5)]
    assert [one.take(4) for one in many] == [2, 0, 0, 0, 0]
    assert many[0].take(4) == 1
    many[0].give_back(1)
    assert [one.take(4) for one in many] == [1, 1, 0, 0, 0]
    many[0].close()
    assert many[4].take(4) == 1, "one each, for whoever comes first"
    for one in many:
        one.close()


def test_hosts_have_slots_of_their_own(folder):
    hosts = ["host:443", "host:80", "other:443", "[::1]:443", "../../x:1", "..", "a/b:1", "h" * 300, "h" * 301, ""]
    many = [Slots(host, 1, folder) for host in hosts]
    assert [one.take(1) for one in many] == [1] * len(hosts)
    assert len(os.listdir(folder)) == len(hosts)
    same = Slots("HOST:443", 1, folder)
    assert same.take(1) == 0
    for one in (*many, same):
        one.close()
    assert all(name.startswith("at-") for name in os.listdir(folder))


def test_other_limits(folder):
    """Each keeps to its own; who is content with more leaves the low ones to the other."""
    many, few = Slots(HOST, 6, folder), Slots(HOST, 2, folder)
    assert many.take(4) == 4
    assert few.take(4) == 1
    assert many.take(6) == 3
    many.close()
    assert few.take(4) == 2
    few.close()


def test_a_folder_that_somebody_tidied(folder):
    one = Slots(HOST, 2, folder)
    assert one.take(1) == 1
    for base, _, files in os.walk(folder, topdown=False):
        for name in files:
            os.unlink(os.path.join(base, name))
        if base != folder:
            os.rmdir(base)
    two = Slots(HOST, 2, folder)
    assert two.take(1) == 1
    one.close()
    two.close()


def test_a_member_whose_file_is_nonsense(folder):
    one, two = Slots(HOST, 4, folder), Slots(HOST, 4, folder)
    two.take(1)
    path = next(os.path.join(base, n) for base, _, f in os.walk(folder) for n in f if n.startswith("member."))
    for text in (b"", b"many", b"-3", b"9" * 100):
        with open(path, "wb") as file:
            file.write(text)
        assert one.take(4) == 2
        one.give_back(4)
    one.close()
    two.close()


def test_when_no_more_files_can_be_opened(folder, monkeypatch):
    one = Slots(HOST, 4, folder)
    lock = Slots._lock

    def scarce(self, name, *, wait):
        if self.held == room:
            raise OSError(24, "Too many open files")
        return lock(self, name, wait=wait)

    one.take(1)
    one.give_back(1)
    monkeypatch.setattr(Slots, "_lock", scarce)
    room = 2
    assert one.take(4) == 2, "what there is can be used"
    one.give_back(2)
    room = 0
    with pytest.raises(OSError, match="Too many open files"):
        one.take(4)
    one.close()


# --- the folder --------------------------------------------------------------------------------


def test_the_folder_is_the_users(tmp_path, monkeypatch):
    os.chmod(tmp_path, 0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    one = Slots(HOST, 1)
    assert os.listdir(tmp_path) == ["parpull"]
    assert os.stat(tmp_path / "parpull").st_mode & 0o777 == 0o700
    assert one.take(1) == 1
    one.close()


@pytest.mark.parametrize("given", ["", "relative", "none", "open", "link"])
def test_the_folder_in_tmp(tmp_path, monkeypatch, given):
    monkeypatch.setattr(slots, "TEMPORARY", str(tmp_path))
    (tmp_path / "open").mkdir(mode=0o777)
    os.chmod(tmp_path / "open", 0o777)
    (tmp_path / "mine").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to("mine")
    monkeypatch.setenv("XDG_RUNTIME_DIR", given if given in ("", "relative") else str(tmp_path / given))
    one = Slots(HOST, 1)
    own = tmp_path / f"parpull-{os.geteuid()}"
    assert own.stat().st_mode & 0o777 == 0o700
    assert one.take(1) == 1
    one.close()


@pytest.mark.parametrize("trap", ["link", "open", "file", "foreign"])
def test_a_folder_that_is_a_trap(tmp_path, monkeypatch, trap):
    monkeypatch.setattr(slots, "TEMPORARY", str(tmp_path))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    own = tmp_path / f"parpull-{os.geteuid()}"
    if trap == "link":
        (tmp_path / "theirs").mkdir(mode=0o700)
        own.symlink_to("theirs")
    elif trap == "open":
        own.mkdir()
        os.chmod(own, 0o770)
    elif trap == "file":
        own.touch(0o600)
    else:
        own.mkdir(mode=0o700)
        other = os.geteuid() + 1
        monkeypatch.setattr(os, "geteuid", lambda: other)
        os.rename(own, tmp_path / f"parpull-{os.geteuid()}")
    with pytest.raises(BadOption, match="not a folder of yours alone") as caught:
        Slots(HOST, 1)
    assert caught.value.name == "host_connections"
    with pytest.raises(BadOption):
        Gate(1)


# --- forks -----------------------------------------------------------------------------------


FORKS = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # of threads, since Python 3.12


def child(code):
    """Run a function in a forked child; give the pipe on which it waits for its end."""
    ready, done = os.pipe(), os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.close(done[1])
            code()
            os.write(ready[1], b"1")
            os.read(done[0], 1)
        finally:
            os._exit(0)
    os.close(ready[1])
    os.close(done[0])
    assert os.read(ready[0], 1) == b"1"
    os.close(ready[0])

    def end():
        os.close(done[1])
        os.waitpid(pid, 0)

    return end


@FORKS
def test_a_child_that_abandons_takes_nothing_along(folder):
    one, two = Slots(HOST, 2, folder), Slots(HOST, 2, folder)
    assert one.take(2) == 2
    end = child(one.abandon)
    assert two.take(2) == 0, "the child has unlocked the parent's slots"
    assert one.take(2) == 1
    one.give_back(1)
    assert two.take(2) == 1
    one.close()
    assert two.take(2) == 2
    end()
    two.close()


@FORKS
def test_a_child_that_knows_of_nothing_keeps_nothing(folder):
    one, two = Slots(HOST, 2, folder), Slots(HOST, 2, folder)
    assert one.take(2) == 2
    end = child(lambda: None)
    one.close()
    assert two.take(2) == 2
    end()
    two.close()


def test_descriptors_are_not_inherited(folder):
    one = Slots(HOST, 2, folder)
    one.take(2)
    assert not any(os.get_inheritable(fd) for fd in (*one._held.values(), one._member))
    one.close()
