"""Checksums: how they are written, and the follower that proves bytes along the front."""

from __future__ import annotations

import base64
import hashlib
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parpull._crc import Crc32c, Crc64Nvme
from parpull._landing import Landing
from parpull.checksums import LENGTHS, STEP, Checksum, Follower, parse_checksum, stated
from parpull.errors import BadOption, ChecksumMismatch, IntegrityError

PAGE = 4096
DATA = bytes(range(256)) * 64
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.mark.parametrize("algorithm", LENGTHS)
@pytest.mark.parametrize("mark", ["=", ":", " = ", ": "])
@pytest.mark.parametrize("case", [str.lower, str.upper])
def test_spellings(algorithm, mark, case):
    known = Checksum(algorithm, "").hasher()
    known.update(DATA)
    digest = known.hexdigest()
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


# --- known answers, and what servers state -------------------------------------------------


@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [("crc32", "cbf43926"), ("crc32c", "e3069283"), ("crc64nvme", "ae8b14860a799888"),
     ("md5", "25f9e794323b453885f5181f1b624d0b"), ("xxh3_128", "f7c35fd68e6ddd5c6ed06f5cec8f5e19"),
     ("sha256", "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225")],
)  # fmt: skip
def test_check_values(algorithm, expected):
    """The digest of "123456789", as catalogues of algorithms give it."""
    hasher = Checksum(algorithm, expected).hasher()
    hasher.update(b"123456789")
    if algorithm != "xxh3_128":  # no catalogue has it: only that it is 128 bits
        assert hasher.hexdigest() == expected
    assert len(hasher.hexdigest()) == len(expected)


def test_the_instruction_is_used_where_the_processor_has_it():
    if not sys.platform.startswith("linux"):
        pytest.skip("only Linux tells in /proc/cpuinfo")
    flags = set(Path("/proc/cpuinfo").read_text().split())
    assert Crc32c().hard == bool(flags & {"sse4_2", "crc32"})
    assert not Crc32c(soft=True).hard


@given(st.lists(st.binary(max_size=100), max_size=8))
def test_the_instruction_and_the_table_agree(pieces):
    hard, soft = Crc32c(), Crc32c(soft=True)
    whole = Crc64Nvme()
    for piece in pieces:
        hard.update(piece)
        soft.update(piece)
        whole.update(piece)
    again = Crc64Nvme()
    again.update(b"".join(pieces))
    assert hard.digest() == soft.digest()
    assert whole.digest() == again.digest()


def b64(hexadecimal):
    return base64.b64encode(bytes.fromhex(hexadecimal)).decode()


SHA = "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225"
MD5 = "25f9e794323b453885f5181f1b624d0b"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"repr-digest": f"sha-256=:{b64(SHA)}:"}, ("sha256", SHA)),
        ({"repr-digest": f"sha-512=:AAAA:, sha-256=:{b64(SHA)}:;q=1"}, ("sha256", SHA)),
        ({"digest": f"SHA-256={b64(SHA)}"}, ("sha256", SHA)),
        ({"x-goog-hash": f"md5={b64(MD5)}"}, ("md5", MD5)),
        ({"x-goog-hash": f"crc32c=4waSgw==, md5={b64(MD5)}"}, ("crc32c", "e3069283")),
        ({"x-goog-hash": "crc32c=4waSgw==", "x-goog-stored-content-encoding": "gzip"}, None),
        ({"x-amz-checksum-crc64nvme": b64("ae8b14860a799888"), "x-amz-checksum-type": "FULL_OBJECT"},
         ("crc64nvme", "ae8b14860a799888")),
        ({"x-amz-checksum-crc32c": "4waSgw==", "x-amz-checksum-type": "COMPOSITE"}, None),
        ({"x-amz-checksum-sha256": f"{b64(SHA)}-5"}, None),
        ({"content-digest": f"sha-256=:{b64(SHA)}:"}, None),  # of the part, not of the object
        ({"repr-digest": "sha-256=:!!!!:"}, None),
        ({"repr-digest": "sha-256=:AAAA:"}, None),
        ({"repr-digest": ",,=;=,sha-256"}, None),
        ({}, None),
    ],
)  # fmt: skip
def test_what_servers_state(headers, expected):
    checksum = stated(headers)
    assert (None if checksum is None else (checksum.algorithm, checksum.expected)) == expected


@given(st.text(max_size=60), st.sampled_from(["repr-digest", "digest", "x-goog-hash", "x-amz-checksum-crc32"]))
def test_any_header_is_read_or_ignored(text, header):
    checksum = stated({header: text})
    assert checksum is None or len(checksum.expected) == LENGTHS[checksum.algorithm]


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
