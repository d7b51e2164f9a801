"""Records: believed only of the very file they were written for, whatever they say."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from parpull import record
from parpull._landing import file_system, reserve
from parpull.record import ATTRIBUTE, LIMIT, LONGEST, Record, conditions, keep, read

URL = "https://host/a/model.bin?download=true"
DATA = bytes(range(256)) * 40
SHA = hashlib.sha256(DATA).hexdigest()


def can_tell(folder):
    """Whether the file system keeps attributes, and tells what is on the disk."""
    path = folder / "probe"
    path.touch()
    try:
        os.setxattr(path, ATTRIBUTE, b"x" * LIMIT)
        with open(path, "rb") as file:
            record._is_written(file.fileno(), 1)
    except (AttributeError, OSError):
        return False
    finally:
        path.unlink()
    return True


@pytest.fixture
def path(tmp_path):
    """A finished file with its record."""
    if not can_tell(tmp_path):
        pytest.skip("no records on this file system")
    path = tmp_path / "x"
    path.write_bytes(DATA)
    assert note(path)
    return path


def note(path, url=URL, validator='"abc"', digests=None):
    fd = os.open(path, os.O_RDWR)
    try:
        return keep(fd, url, validator=validator, digests=digests or {})
    finally:
        os.close(fd)


def forge(path, **changes):
    fields = json.loads(os.getxattr(path, ATTRIBUTE)) | changes
    os.setxattr(path, ATTRIBUTE, json.dumps(fields).encode())


# --- a file with a record --------------------------------------------------------------


def test_what_was_kept_is_read(path):
    assert note(path, validator='W/"ü"', digests={"sha256": SHA})
    found = read(str(path))
    assert (found.size, found.validator, found.digests) == (len(DATA), 'W/"ü"', {"sha256": SHA})
    assert found.mtime_ns == path.stat().st_mtime_ns
    assert found.is_from(URL)
    assert found.proves(f"sha256={SHA}")
    assert found.proves(f"SHA-256:{SHA.upper()}")
    assert not found.proves("sha256=" + "0" * 64)
    assert not found.proves("md5=" + "0" * 32)
    assert found.text() == os.getxattr(path, ATTRIBUTE)


def test_a_record_says_nothing_of_a_secret_url(path):
    note(path, url="https://user:hunter2@host/x?sig=hunter3#hunter4")
    assert b"hunter" not in os.getxattr(path, ATTRIBUTE)
    found = read(str(path))
    assert found.is_from("https://host/x?sig=hunter3")
    assert found.is_from(" https://other:one@host/x?sig=hunter3#y ")


@pytest.mark.parametrize(
    "other",
    [
        "https://host/a/model.bin", "http://host/a/model.bin?download=true", URL + "1", URL[:-1],
        "https://host/a/other.bin?download=true", "https://host2/a/model.bin?download=true",
    ],
)  # fmt: skip
def test_the_same_tag_at_another_address_is_another_object(path, other):
    """Servers that make a tag of size and time give the same one to two shards."""
    assert not read(str(path)).is_from(other)


def test_which_version(path):
    found = read(str(path))
    assert found.is_version(validator='"abc"', size=len(DATA))
    for validator, size in (
        ('"abd"', len(DATA)),
        ('W/"abc"', len(DATA)),
        (None, len(DATA)),
        ('"abc"', None),
        ('"abc"', 1),
    ):
        assert not found.is_version(validator=validator, size=size)  # fmt: skip


def test_a_record_without_a_validator_is_of_no_version(path):
    assert note(path, validator=None, digests={"sha256": SHA})
    found = read(str(path))
    assert found.proves(f"sha256={SHA}")
    assert not found.is_version(validator=None, size=len(DATA))
    assert conditions(found) == ()


def test_nothing_to_record(path):
    os.removexattr(path, ATTRIBUTE)
    assert not note(path, validator=None)
    assert not note(path, validator='"' + "x" * LONGEST + '"')
    assert not note(path, validator='"a\x00b"')
    assert read(str(path)) is None


def test_the_longest_record_fits(path):
    worst = {"md5": "0" * 32, "sha1": "0" * 40, "sha256": "0" * 64, "sha512": "0" * 128, "blake2b": "0" * 128}
    tag = '"' + "\xff" * (LONGEST - 2) + '"'
    assert note(path, validator=tag)
    assert read(str(path)).validator == tag
    assert note(path, digests=worst)
    assert read(str(path)).digests == worst


@pytest.mark.parametrize("size", [0, 1, 4096, 9 << 20])
def test_sizes(path, size):
    path.write_bytes(b"x" * size)
    note(path)
    assert read(str(path)).size == size


# --- a file that is no longer what it was ------------------------------------------------


def test_a_file_that_was_written_to(path):
    with open(path, "r+b") as file:
        file.write(b"!")
    os.utime(path, ns=(0, 10**18))
    assert read(str(path)) is None


def test_a_file_that_grew_and_got_its_time_back(path):
    about = path.stat()
    with open(path, "ab") as file:
        file.write(b"!")
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert read(str(path)) is None


def test_a_file_with_another_time(path):
    about = path.stat()
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns + 1))
    assert read(str(path)) is None
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert read(str(path)) is not None


def test_a_copy_with_everything_copied(path):
    copy = shutil.copy2(path, path.with_name("copy"))
    assert os.getxattr(copy, ATTRIBUTE)
    assert read(copy) is None


def test_a_renamed_file_is_still_the_file(path):
    moved = path.rename(path.with_name("moved"))
    assert read(str(moved)) is not None


@pytest.fixture
def disk(path):
    with open(path, "rb") as file:
        if file_system(file.fileno()) == record.TMPFS:
            pytest.skip("no disk")


@pytest.mark.usefixtures("disk")
def test_holes(path):
    with open(path, "r+b") as file:
        file.truncate(0)
        file.seek(4 << 20)
        file.write(DATA)
    note(path)
    assert read(str(path)) is None


@pytest.mark.usefixtures("disk")
@pytest.mark.parametrize("looked", [False, True])
def test_reserved_room_that_was_never_written(path, looked):
    """What a power cut leaves: the size and the attributes are there, the bytes are not.
    Zeros that somebody has read since are no better."""
    with open(path, "r+b") as file:
        file.truncate(0)
        if not reserve(file.fileno(), 4 << 20):
            pytest.skip("no reserving here")
        file.write(DATA)
    if looked:
        assert path.read_bytes().startswith(DATA)
    note(path)
    assert read(str(path)) is None
    path.write_bytes(bytes(4 << 20))  # zeros that were written are bytes as good as others
    note(path)
    assert read(str(path)) is not None


def extents(*given):
    """An ioctl that tells of these extents: (start, length, flags)."""

    def ioctl(_fd, number, room):
        assert number == record.FS_IOC_FIEMAP
        at, length, flags, _, most, _ = record.HEAD.unpack_from(room)
        assert flags == record.SYNC
        found = [one for one in given if one[0] + one[1] > at and one[0] < at + length][: min(most, 2)]
        for i, (start, size, state) in enumerate(found):
            record.EXTENT.pack_into(room, record.HEAD.size + i * record.EXTENT.size, start, 1 << 40, size, state)
        record.HEAD.pack_into(room, 0, at, length, flags, len(found), most, 0)

    return ioctl


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ([(0, 12288, 1)], True), ([(0, 4096, 0), (4096, 4096, 0), (8192, 4096, 1)], True),
        ([(0, 4096, 0), (4096, 8192, 0x8)], True),  # compressed
        ([], False), ([(0, 8192, 0)], False), ([(4096, 8192, 0)], False), ([(0, 4096, 0), (8192, 4096, 1)], False),
        ([(0, 12288, 0x800)], False), ([(0, 8192, 0), (8192, 4096, 0x801)], False), ([(0, 12288, 0x6)], False),
    ],
)  # fmt: skip
def test_what_is_on_the_disk(path, monkeypatch, given, written):
    monkeypatch.setattr(fcntl, "ioctl", extents(*given))
    monkeypatch.setattr(record, "file_system", lambda _: 0xEF53)
    assert (read(str(path)) is not None) == written


def test_a_file_system_that_does_not_tell(path, monkeypatch):
    def refuse(*_):
        raise OSError(95, "not supported")

    monkeypatch.setattr(fcntl, "ioctl", refuse)
    monkeypatch.setattr(record, "file_system", lambda _: 0x6969)
    assert read(str(path)) is None
    monkeypatch.setattr(record, "file_system", lambda _: record.TMPFS)  # nothing outlives a power cut
    assert read(str(path)) is not None


def test_somebody_elses_file(path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    assert read(str(path)) is None


def test_what_is_no_file(path, tmp_path):
    (tmp_path / "link").symlink_to("x")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe", "nothing", "."):
        assert read(str(tmp_path / name)) is None
    assert read("/dev/null") is None


def test_where_there_are_no_attributes(path, monkeypatch):
    def refuse(*_):
        raise OSError(95, "not supported")

    with monkeypatch.context() as patch:
        patch.setattr(os, "setxattr", refuse)
        assert not note(path)
        patch.setattr(os, "getxattr", refuse)
        assert read(str(path)) is None
    with monkeypatch.context() as patch:  # as on macOS
        patch.delattr(os, "setxattr")
        patch.delattr(os, "getxattr")
        assert not note(path)
        assert read(str(path)) is None


# --- hostile records ------------------------------------------------------------------------

FORGED = [
    {"version": 2}, {"size": -1}, {"size": "10240"}, {"size": 10240.0}, {"inode": None}, {"source": 1},
    {"mtime_ns": True}, {"more": 1}, {"self": 1},
    {"validator": ""}, {"validator": 1}, {"validator": '"a"\nX-Evil: 1'}, {"validator": "x" * 300},
    {"validator": "\ud800"}, {"validator": "\u20ac"},
    {"digests": []}, {"digests": {"sha256": 1}}, {"digests": {"sha256": "0"}}, {"digests": {"nonsense": "0" * 64}},
    {"digests": {"SHA256": "0" * 64}}, {"digests": {"sha256": "A" * 64}}, {"digests": {"sha256=x": "y"}},
]  # fmt: skip


@pytest.mark.parametrize("changes", FORGED, ids=str)
def test_a_forged_record(path, changes):
    forge(path)
    assert read(str(path)) is not None
    forge(path, **changes)
    assert read(str(path)) is None


@pytest.mark.parametrize(
    "raw",
    [b"", b"null", b"[]", b"{}", b"[" * 2000, b'{"a":' * 400, b"1" * 2000, b"\xff\xfe", b"NaN", b"{" + b" " * 3000],
)
def test_a_record_that_is_none(path, raw):
    os.setxattr(path, ATTRIBUTE, raw)
    assert read(str(path)) is None


def test_a_field_is_missing(path):
    whole = json.loads(os.getxattr(path, ATTRIBUTE))
    for name in whole:
        os.setxattr(path, ATTRIBUTE, json.dumps({k: v for k, v in whole.items() if k != name}).encode())
        assert read(str(path)) is None, name


@given(st.binary(max_size=300) | st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=20))
@example(b"\x00")
def test_any_text_is_a_record_or_none(data):
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    assert record._parse(raw) is None or isinstance(record._parse(raw), Record)


NUMBERS = st.integers(0, 2**63 - 1)
PLAIN = st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]), min_size=1, max_size=LONGEST)


@given(PLAIN, NUMBERS, NUMBERS, NUMBERS)
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_what_is_written_is_understood(validator, size, mtime, inode):
    one = Record(source="0" * 32, validator=validator, size=size, mtime_ns=mtime, inode=inode, digests={})
    assert len(one.text()) <= LIMIT
    again = record._parse(one.text())
    assert again.text() == one.text()
    for line in conditions(again):
        assert line.isascii()
        assert line.isprintable()


# --- conditions -------------------------------------------------------------------------------


def of(validator):
    return Record(source="0" * 32, validator=validator, size=1, mtime_ns=1, inode=1, digests={})


@pytest.mark.parametrize("tag", ['"abc"', 'W/"abc"', '""', '"5f-1a:2"'])
def test_a_tag_is_asked_for(tag):
    assert conditions(of(tag), ["Accept: */*"]) == (f"If-None-Match: {tag}",)


@pytest.mark.parametrize(
    "tag", ["*", "abc", '"a", "b"', '"a"b"', '"ü"', 'w/"a"', "Wed, 21 Oct 2015 07:28:00 GMT", '"a b"']
)
def test_what_could_match_something_else_is_not_asked(tag):
    """They are compared with what the response says instead."""
    assert conditions(of(tag)) == ()


@pytest.mark.parametrize("line", ["If-None-Match: *", "if-modified-since: x", "IF-MATCH: x", "If-Range: x"])
def test_the_users_own_condition_goes_first(line):
    assert conditions(of('"abc"'), ["Accept: */*", line]) == ()
