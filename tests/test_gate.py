"""The gate of slots.py: transfers of one process, and of several, take turns at a host."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time

import pytest

from parpull import slots
from parpull.slots import Gate, Slots
from tests.test_slots import FORKS, HOST, PATIENCE, child, names, until


@pytest.fixture
def folder(tmp_path):
    return str(tmp_path)


# --- several processes ---------------------------------------------------------------------------

# A process with one transfer: as long as it is told, or until `work` is done. It says what its
# connections do; a line of fewer is written before, one of more afterwards, so that the lines of
# all processes together never add up to more than there was.
PLAYER = """
import sys, threading, time
from parpull.slots import Gate

folder, limit, wanted, work = sys.argv[1], *map(int, sys.argv[2:5])
told = active = done = 0
voice = threading.Lock()

def say(*words):
    with voice:
        print(time.monotonic_ns(), *words, flush=True)

def allow(n):
    global told
    told = n
    say("allowed", n)

gate = Gate(limit, folder=folder, pause=0.05)
seat = gate.add("host:443", wanted, allow=allow, active=lambda: active, warn=lambda text: say("warned", text))
asked = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), asked.set()), daemon=True).start()
while not asked.is_set() and (work == 0 or done < work):
    if active < told:
        active += 1
        say("active", active)
    elif active > told:
        say("active", active - 1)
        active -= 1
    else:
        done += active
    time.sleep(0.01)
say("active", 0)
active = 0
gate.remove(seat)
gate.close()
say("over")
"""


class Player:
    def __init__(self, folder, limit, wanted, work=0):
        self.lines = []
        self.process = subprocess.Popen(
            [sys.executable, "-c", PLAYER, folder, *map(str, (limit, wanted, work))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
        )  # fmt: skip
        self.reader = threading.Thread(target=self.read)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            when, kind, *rest = line.split(maxsplit=2)
            self.lines.append((int(when), kind, rest[0].strip() if rest else ""))

    def of(self, kind):
        return [(when, value) for when, what, value in list(self.lines) if what == kind]

    @property
    def active(self):
        return int(self.of("active")[-1][1]) if self.of("active") else 0

    def end(self, sign=None):
        if sign:
            self.process.send_signal(sign)
        self.process.stdin.close()
        self.process.wait(PATIENCE)
        self.reader.join()
        self.process.stdout.close()
        self.lines.append((time.monotonic_ns(), "active", "0"))


@pytest.fixture
def play(folder):
    players = []

    def begin(*args, **options):
        players.append(Player(folder, *args, **options))
        return players[-1]

    yield begin
    for player in players:
        if player.process.returncode is None:
            player.end(signal.SIGKILL)


def most(players):
    """The most connections that all of them had at once."""
    events = sorted((when, i, int(n)) for i, player in enumerate(players) for when, n in player.of("active"))
    now, peak = [0] * len(players), 0
    for _, i, n in events:
        now[i] = n
        peak = max(peak, sum(now))
    return peak


def test_many_processes_never_exceed_the_limit(play):
    players = [play(5, 8, 200) for _ in range(4)]
    for player in players:
        player.process.wait(PATIENCE)
        player.end()
        assert player.process.returncode == 0
        assert player.lines[-2][1] == "over"
    assert 1 < most(players) <= 5


def test_a_newcomer_gets_its_share_and_the_dead_give_theirs_back(play, folder):
    first = play(8, 16)
    until(lambda: first.active == 8, "all slots")
    second = play(8, 16)
    until(lambda: (first.active, second.active) == (4, 4), "a half each")
    third = play(8, 16)
    until(lambda: (first.active, second.active, third.active) == (3, 3, 2), "a third each")
    assert most([first, second, third]) == 8
    first.end(signal.SIGKILL)
    third.end(signal.SIGKILL)
    until(lambda: second.active == 8, "what the dead had")
    until(lambda: len(names(folder, "member.")) == 1, "the end of stale members")
    second.end()
    assert names(folder, "member.") == []


def test_one_slot_for_two(play):
    """The second waits, says so once, and has its turn."""
    first = play(1, 4)
    until(lambda: first.active == 1)
    second = play(1, 4)
    until(lambda: second.of("warned"), "a word that it waits")
    assert second.active == 0
    assert [text for _, text in second.of("warned")] == [
        "waiting for a connection to host:443: other processes use all 1"
    ]
    assert first.of("warned") == []
    first.end()
    until(lambda: second.active == 1)
    second.end()
    assert len(second.of("warned")) == 1
    assert most([first, second]) == 1


# --- the gate ----------------------------------------------------------------------------------


class Transfer:
    """A transfer that begins what it may at once, and ends what it should at once, or
    only when the test says so."""

    def __init__(self, gate, wanted, host=HOST, warn=None, *, quick=False):
        self.quick = quick
        self.told = []
        self.active = 0
        self.warned = []
        self.seat = gate.add(
            host, wanted, allow=self.allow, active=lambda: self.active, warn=warn or self.warned.append
        )  # fmt: skip

    def allow(self, n):
        self.told.append(n)
        self.active = n if self.quick else max(self.active, n)


@pytest.fixture
def gate(folder):
    gate = Gate(6, folder=folder, pause=0.02)
    yield gate
    gate.close()
    gate.close()


def test_transfers_share_what_the_process_holds(gate, folder):
    one = Transfer(gate, 4)
    until(lambda: one.told == [0, 4])
    two = Transfer(gate, 16)
    until(lambda: two.told == [0, 2])
    until(lambda: one.told == [0, 4, 3])
    time.sleep(0.1)
    assert two.told == [0, 2], "a connection that has not ended was given away"
    one.active = 3
    until(lambda: two.told == [0, 2, 3])
    gate.remove(one.seat)
    gate.remove(one.seat)
    until(lambda: two.told == [0, 2, 3, 6])
    gate.remove(two.seat)
    until(lambda: names(folder, "member.") == [])
    until(lambda: not any(thread.name == "parpull-slots" for thread in threading.enumerate()))


def test_slots_in_use_are_not_given_back(gate, folder):
    one = Transfer(gate, 6)
    until(lambda: one.told == [0, 6])
    other = Slots(HOST, 6, folder)
    assert other.take(6) == 0
    until(lambda: one.told == [0, 6, 3])
    time.sleep(0.1)
    assert other.take(6) == 0
    one.active = 5
    until(lambda: other.take(6) == 1)
    one.active = 3
    until(lambda: other.take(6) == 3)
    other.close()
    until(lambda: one.told == [0, 6, 3, 6])
    gate.remove(one.seat)


def test_hosts_do_not_share(gate):
    one, two = Transfer(gate, 9), Transfer(gate, 9, host="other:80")
    until(lambda: (one.told[-1], two.told[-1]) == (6, 6))


def test_transfers_that_queue_for_their_own_process_are_not_told(gate, monkeypatch):
    monkeypatch.setattr(slots, "WARN_AFTER", 0.0)
    many = [Transfer(gate, 2, quick=True) for _ in range(9)]
    until(lambda: [one.told[-1] for one in many] == [1] * 6 + [0] * 3)
    time.sleep(0.1)
    assert [one.warned for one in many] == [[]] * 9
    for one in many[:6]:
        gate.remove(one.seat)
    until(lambda: [one.told[-1] for one in many[6:]] == [2, 2, 2])


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_warning_that_fails_harms_nobody(gate, folder, monkeypatch):
    monkeypatch.setattr(slots, "WARN_AFTER", 0.0)
    other = Slots(HOST, 6, folder)
    other.take(6)
    called = []

    def warn(text):
        called.append(text)
        raise RuntimeError("of its author's")

    one = Transfer(gate, 1, warn=warn)
    until(lambda: called)
    other.close()
    until(lambda: one.told[-1] == 1)
    assert len(called) == 1


def test_a_disk_that_fails_is_told(gate, monkeypatch):
    def fail(*_):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(slots, "WARN_AFTER", 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(Slots, "take", fail)
        one = Transfer(gate, 4)
        until(lambda: one.warned == ["waiting for a connection to host:443: Too many open files"])
        assert one.told == [0]
    until(lambda: one.told[-1] == 4)


def test_a_gate_is_closed_and_used_again(gate, folder):
    one = Transfer(gate, 4)
    until(lambda: one.told[-1] == 4)
    gate.close()
    assert names(folder, "member.") == []
    assert not any(thread.name == "parpull-slots" for thread in threading.enumerate())
    two = Transfer(gate, 6)
    until(lambda: two.told[-1] == 6)


@FORKS
def test_a_gate_in_a_forked_child(gate, folder):
    one = Transfer(gate, 6)
    until(lambda: one.told[-1] == 6)

    def code():
        gate.abandon()
        two = Transfer(gate, 6)
        until(lambda: one.told == [0, 6] and two.told == [0])
        time.sleep(0.1)
        assert two.told == [0], "the child has the parent's slots"
        gate.close()

    child(code)()
    assert Slots(HOST, 6, folder).held == 0
    gate.remove(one.seat)
