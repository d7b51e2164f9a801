"""Checksums: how they are written, and the follower that proves bytes along the front."""

from __future__ import annotations

import hashlib
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parpull._landing import Landing
from parpull.checksums import LENGTHS, STEP, Checksum, Follower, parse_checksum
from parpull.errors import BadOption, ChecksumMismatch, IntegrityError

PAGE = 4096
DATA = bytes(range(256)) * 64
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.mark.parametrize("algorithm", LENGTHS)
@pytest.mark.parametrize("mark", ["=", ":", " = ", ": "])
@pytest.mark.parametrize("case", [str.lower, str.upper])
def test_spellings(algorithm, mark, case):
    digest = hashlib.new(algorithm, DATA).hexdigest()
    checksum = parse_checksum(case(f" {algorithm}{mark}{digest}\n"))
    assert (checksum.algorithm, checksum.expected) == (algorithm, digest)
    hasher = checksum.hasher()
    hasher.update(DATA)
    checksum.compare(hasher.hexdigest())


@pytest.mark.parametrize("name", ["sha-256", "SHA-256", "sha256"])
def test_names_with_a_dash(name):
    assert parse_checksum(f"{name}={SHA256}").algorithm == "sha256"


@pytest.mark.parametrize(
    "text",
    ["", "=", ":", SHA256, "sha256", "sha256=", f"={SHA256}", f"crc99={SHA256}", f"sha256={SHA256[:-1]}",
     f"sha256={SHA256}0", f"sha256={SHA256[:-1]}g", f"sha256={SHA256[:30]}zz{SHA256[32:]}", f"sha512={SHA256}",
     f"sha256==={SHA256}",
     f"sha256={SHA256[:-1]}٣", f"sha256={SHA256[:32]} {SHA256[33:]}", f"shake_128={'a' * 32}",
     f"sha256={SHA256[:-2]}0x"],
)  # fmt: skip
def test_what_is_no_checksum(text):
    with pytest.raises(BadOption) as caught:
        parse_checksum(text)
    assert (caught.value.name, caught.value.value) == ("checksum", text)
    assert caught.value.hint


@given(st.text(max_size=80))
def test_any_text_is_a_checksum_or_a_bad_option(text):
    try:
        checksum = parse_checksum(text)
    except BadOption:
        return
    assert len(checksum.expected) == LENGTHS[checksum.algorithm]
    assert bytes.fromhex(checksum.expected)


def test_a_mismatch_says_both():
    with pytest.raises(ChecksumMismatch) as caught:
        Checksum("md5", "a" * 32).compare("b" * 32)
    error = caught.value
    assert (error.algorithm, error.expected, error.actual) == ("md5", "a" * 32, "b" * 32)
    assert isinstance(error, IntegrityError)
    assert error.hint


# --- the follower ----------------------------------------------------------------------


class Follow:
    """A follower on a landing in memory, and what it said at the end."""

    def __init__(self, size, *, read=None, checksum=None):
        self.memory = bytearray(max(size, len(DATA)))
        self.landing = Landing(size, PAGE)
        self.landing.into_memory(self.memory)
        self.said = []
        self.follower = Follower(
            checksum or Checksum("sha256", SHA256),
            self.landing,
            read or self.read,
            lambda *said: self.said.append(said),
        )

    def read(self, start, stop):
        assert stop <= self.landing.front, "read beyond the front"
        assert stop - start <= STEP
        return memoryview(self.memory)[start:stop]

    def end(self):
        self.landing.close()
        self.follower.join()
        self.landing.release()
        assert len(self.said) == 1, "done exactly once"
        return self.said[0]


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(4)))
def test_it_follows_the_front_whatever_the_order(order):
    follow = Follow(len(DATA))
    for block in order:
        follow.landing.land(block * PAGE, DATA[block * PAGE : (block + 1) * PAGE])
    assert follow.end() == (SHA256, None)


def test_a_stream_of_unknown_size():
    follow = Follow(-1)
    for at in range(0, len(DATA), 1000):
        follow.landing.land(at, DATA[at : at + 1000])
    assert follow.end() == (SHA256, None)


def test_a_reader_that_gives_less_than_was_asked():
    """A file's read() gives 4 MiB at most."""
    follow = Follow(len(DATA), read=lambda start, stop: memoryview(follow.memory)[start : min(stop, start + 333)])
    follow.landing.land(0, DATA)
    assert follow.end() == (SHA256, None)


def test_an_empty_object():
    assert Follow(0).end() == (hashlib.sha256().hexdigest(), None)


def test_a_transfer_that_ends_short_has_no_digest():
    follow = Follow(len(DATA))
    follow.landing.land(0, DATA[:PAGE])
    assert follow.end() == (None, None)


@pytest.mark.parametrize("wrong", [b"", None])
def test_a_reader_that_gives_nothing_does_not_hang(wrong):
    """A part file that somebody truncated: read() comes back empty."""
    calls = threading.Semaphore(100)

    def read(start, stop):
        if not calls.acquire(blocking=False):
            raise SystemExit("asked a hundred times for bytes that do not come")
        return wrong

    follow = Follow(len(DATA), read=read)
    follow.landing.land(0, DATA)
    digest, error = follow.end()
    assert digest is None
    assert isinstance(error, Exception)


def test_an_error_of_the_reader_is_told():
    def broken(start, stop):
        raise OSError(5, "the disk is gone")

    follow = Follow(len(DATA), read=broken)
    follow.landing.land(0, DATA)
    digest, error = follow.end()
    assert digest is None
    assert isinstance(error, OSError)


def test_an_error_of_the_one_who_is_told_is_not_told_to_him_again(monkeypatch):
    said = []
    landing = Landing(0)
    landing.into_memory(bytearray())
    landing.close()

    def done(digest, error):
        said.append((digest, error))
        if len(said) == 1:
            raise RuntimeError("mine")

    monkeypatch.setattr(threading, "excepthook", lambda args: None)
    Follower(Checksum("sha256", SHA256), landing, lambda *_: b"", done).join()
    landing.release()
    assert len(said) == 1
