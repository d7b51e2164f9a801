"""Journals: an entry counts only where it is whole, in its place and of this file; a page
only as we would write it; and nothing of somebody else's is touched."""

from __future__ import annotations

import json
import os
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from parpull import _journal, journal
from parpull._journal import ENTRY_SIZE, claimed, entry, proven, sum_of
from parpull._landing import Landing
from parpull.journal import FIELDS, MAGIC, MOST, PAGE, Journal, is_journal, remove_journal

BLOCK = 4096
COUNT = 5
SIZE = (COUNT - 1) * BLOCK + 17
ABOUT = {"source": "s" * 32, "validator": '"v"', "total": SIZE, "start": 0, "size": SIZE, "block": BLOCK}
DATA = bytes(os.urandom(SIZE))
BLOCKS = [DATA[i * BLOCK : (i + 1) * BLOCK] for i in range(COUNT)]


@pytest.fixture
def part(tmp_path):
    """A part file, open, with all of DATA in it."""
    fd = os.open(tmp_path / "x.parpull-part", os.O_RDWR | os.O_CREAT)
    os.pwrite(fd, DATA, 0)
    yield fd
    os.close(fd)


@pytest.fixture
def made(tmp_path, part):
    """Its journal, with every block entered."""
    new = Journal.create(str(tmp_path / "x.parpull"), part, **ABOUT)
    os.pwrite(new.fd, b"".join(entry(i, sum_of(block)) for i, block in enumerate(BLOCKS)), PAGE)
    yield new
    new.close()


def reread(made):
    """What the file says by now, or None."""
    again = Journal.read(made.path)
    if again is not None:
        again.close()
    return again


def put(made, page):
    """Replace the page."""
    os.pwrite(made.fd, page.ljust(PAGE, b"\0")[:PAGE], 0)


def page_of(**fields):
    return journal._page(fields)


def fields_of(made):
    return {name: getattr(made, name) for name in FIELDS}


# --- entries -----------------------------------------------------------------------------


@given(index=st.integers(0, MOST), total=st.integers(0, 2**32 - 1))
def test_an_entry_counts_in_its_own_place_only(index, total):
    one = entry(index, total)
    assert len(one) == ENTRY_SIZE
    assert list(claimed(entry(0, total) * 3)) == [1, 0, 0]
    assert list(claimed(one)) == [index == 0]


@given(total=st.integers(0, 2**32 - 1), at=st.integers(0, ENTRY_SIZE * 8 - 1))
def test_a_bit_that_is_wrong_is_seen(total, at):
    raw = bytearray(entry(0, total))
    raw[at // 8] ^= 1 << at % 8
    assert list(claimed(raw)) == [0]


@given(total=st.integers(1, 2**32 - 1), keep=st.integers(0, ENTRY_SIZE - 1))
def test_a_torn_entry_is_none(total, keep):
    whole = entry(0, total)
    raw = whole[:keep].ljust(ENTRY_SIZE, b"\0")
    assert list(claimed(raw)) == [raw == whole]
    assert list(claimed(whole[:keep])) == []


def test_room_without_entries_claims_nothing():
    """No index is such that eight zeros would stand for a block, up to the largest file."""
    assert not any(claimed(bytes(ENTRY_SIZE << 20)))
    assert (0x70617270 * pow(2246822519, -1, 2**32)) % 2**32 > MOST


@given(st.binary(max_size=800))
def test_garbage_is_no_claim(raw):
    # One entry in 2**32 would be a whole one.
    assert not any(claimed(raw))


@given(st.binary(max_size=300_000) | st.integers(0, 70_000).map(lambda n: b"\xa5" * n))
@example(b"")
def test_sums_are_the_same_with_and_without_the_cpu(data):
    assert sum_of(data) == sum_of(data, soft=True)


@pytest.mark.parametrize("length", [1, 7, 8, 9, 63, 64, 4095, 4096, (1 << 20) - 1, 1 << 20])
def test_a_sum_tells_every_byte(length):
    data = bytearray(os.urandom(length))
    right = sum_of(data)
    for at in {0, length // 2, length - 1}:
        for start in (0, 1):
            assert sum_of(memoryview(data)[start:]) == sum_of(bytes(data[start:]), soft=True), "at any alignment"
        data[at] ^= 1
        assert sum_of(data) != right
        data[at] ^= 1


def test_proofs_read_every_block(part):
    entries = b"".join(entry(i, sum_of(block)) for i, block in enumerate(BLOCKS))

    def proofs(first=0, count=COUNT):
        return list(proven(part, entries, SIZE, BLOCK, first, count))

    assert proofs() == [1] * COUNT
    assert proofs(3, 100) == [1, 1]
    assert proofs(COUNT, 3) == []
    os.pwrite(part, b"\0", 2 * BLOCK + 5)
    assert proofs() == [1, 1, DATA[2 * BLOCK + 5] == 0, 1, 1]
    os.ftruncate(part, SIZE - 1)
    assert proofs()[-1] == 0, "the end is missing"
    os.ftruncate(part, BLOCK + 1)
    assert proofs() == [1, 0, 0, 0, 0]
    assert list(proven(part, entries[:-1], SIZE, BLOCK, 0, COUNT))[-1] == 0, "an entry that is not there"


def test_what_lands_is_entered_block_by_block(tmp_path, part, made):
    """Whole, in pieces, out of order; and nothing before a block is whole."""
    os.ftruncate(made.fd, PAGE)
    landing = Landing(SIZE, BLOCK)
    landing.into_file(part, journal_fd=made.fd, journal_at=PAGE)
    landing.land(3 * BLOCK, DATA[3 * BLOCK :])
    assert list(made.claims()) == [0, 0, 0, 1, 1]
    landing.land(5, DATA[5 : BLOCK + 9])
    assert list(made.claims()) == [0, 0, 0, 1, 1]
    landing.land(0, DATA[:5])
    assert list(made.claims()) == [1, 0, 0, 1, 1]
    landing.land(BLOCK + 9, DATA[BLOCK + 9 : 3 * BLOCK])
    landing.release()
    assert list(made.claims()) == list(made.proofs(part, lambda: True)) == [1] * COUNT


# --- pages -------------------------------------------------------------------------------


def test_what_is_written_is_read(made, part):
    again = Journal.read(made.path)
    assert fields_of(again) == fields_of(made)
    assert again.is_of(validator='"v"', total=SIZE, start=0, size=SIZE)
    assert not again.is_of(validator='"w"', total=SIZE, start=0, size=SIZE)
    assert not again.is_of(validator='"v"', total=SIZE + 1, start=0, size=SIZE + 1)
    assert list(again.claims()) == [1] * COUNT
    again.close()


def test_every_length_of_a_torn_page_is_refused(made):
    whole = os.pread(made.fd, PAGE, 0)
    for length in range(PAGE):
        os.ftruncate(made.fd, length)
        assert Journal.read(made.path) is None
        os.pwrite(made.fd, whole, 0)
    for length in range(0, PAGE, 7):  # as a power cut leaves it: room, and not all of it written
        if whole[length:].strip(b"\0"):  # else nothing is missing: one sum in 256 ends with a zero
            put(made, whole[:length])
            assert Journal.read(made.path) is None
    put(made, whole)
    assert reread(made) is not None


def test_every_byte_that_is_wrong_is_refused(made):
    whole = os.pread(made.fd, PAGE, 0)
    for at in range(PAGE):
        wrong = bytearray(whole)
        wrong[at] ^= 0x20
        assert journal._fields(bytes(wrong)) is None, at


@pytest.mark.parametrize(
    "change",
    [
        {"size": 0}, {"size": -1}, {"start": -1}, {"inode": -5}, {"size": 10**40}, {"size": MOST * BLOCK + 1},
        {"block": 0}, {"block": 512}, {"block": 5000}, {"block": 1 << 31}, {"size": 1.5}, {"size": True},
        {"size": "1"}, {"validator": 3}, {"validator": None}, {"boot": ["x"]}, {"more": 1},
    ],
)  # fmt: skip
def test_a_page_that_we_would_not_write_is_refused(made, change):
    put(made, page_of(**(fields_of(made) | change)))
    assert reread(made) is None


@pytest.mark.parametrize("change", [{"total": 10**40}, {"pid": 10**100}, {"inode": 2**70, "device": 2**70}])
def test_huge_numbers_harm_nobody(made, part, change):
    put(made, page_of(**(fields_of(made) | change)))
    again = Journal.read(made.path)
    assert again.gap() == ((COUNT - 1) * BLOCK, SIZE)
    again.is_certain(os.fstat(part))
    again.close()


def test_another_version_and_other_texts_are_refused(made, monkeypatch):
    fields = fields_of(made)
    monkeypatch.setattr(journal, "VERSION", 2)
    put(made, page_of(**fields))
    monkeypatch.undo()
    assert reread(made) is None
    assert is_journal(made.fd), "but clean may remove it"
    for text in (b"", b"[]", b"1", b"null", b"[" * 4000, b"{", b"\xff", json.dumps({"version": 1}).encode()):
        body = (MAGIC + len(text).to_bytes(4, "little") + text)[: PAGE - 4].ljust(PAGE - 4, b"\0")
        put(made, body + sum_of(body).to_bytes(4, "little"))
        assert reread(made) is None
    body = (MAGIC + b"\xff\xff\xff\xff").ljust(PAGE - 4, b"\0")
    put(made, body + sum_of(body).to_bytes(4, "little"))
    assert reread(made) is None


@given(st.binary(max_size=PAGE + 10))
def test_garbage_is_no_page(raw):
    assert journal._fields(raw) is None


def test_links_pipes_and_folders_are_no_journal(tmp_path, made):
    os.symlink(made.path, tmp_path / "link")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("link", "pipe", "folder", "nothing"):
        path = str(tmp_path / name)
        assert Journal.read(path) is None
        remove_journal(path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder", "link", "pipe", "x.parpull", "x.parpull-part"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_journal_of_somebody_else_is_refused(made):
    os.fchown(made.fd, 12345, -1)
    assert reread(made) is None


def test_only_journals_are_removed(tmp_path, part):
    mine = tmp_path / "x.parpull"
    for left in (
        b"",
        bytes(5),
        bytes(PAGE + 80),
        MAGIC[:4],
        MAGIC[:9] + bytes(9000),
        MAGIC,
        MAGIC + b"of the year 2040",
    ):
        mine.write_bytes(left)
        remove_journal(str(mine))
        assert not mine.exists()
    for own in (b"my notes\n", bytes(16) + b"x", MAGIC[:-1] + b"."):
        mine.write_bytes(own)
        remove_journal(str(mine))
        with pytest.raises(FileExistsError):
            Journal.create(str(mine), part, **ABOUT)
        assert mine.read_bytes() == own


def test_a_validator_like_a_novel_is_not_kept(tmp_path, part):
    with pytest.raises(OSError, match="is not kept"):
        Journal.create(str(tmp_path / "y"), part, **ABOUT | {"validator": "x" * PAGE})
    assert not (tmp_path / "y").exists()


# --- what is believed ----------------------------------------------------------------------


def test_a_boot_is_told_from_another():
    assert journal.boot_id() == journal.boot_id()
    assert "\n" not in journal.boot_id()


def test_certain_is_the_same_boot_the_same_file_and_nobody_since(made, part, monkeypatch):
    assert made.is_certain(os.fstat(part)) == (journal.boot_id() != "")
    made.boot = "this"
    monkeypatch.setattr(journal, "boot_id", lambda: "this")
    assert made.is_certain(os.fstat(part))
    for name in ("device", "inode", "size", "boot"):
        before = getattr(made, name)
        setattr(made, name, "another" if name == "boot" else before + 1)
        assert not made.is_certain(os.fstat(part)), name
        setattr(made, name, before)
    made.boot = ""
    monkeypatch.setattr(journal, "boot_id", lambda: "")
    assert not made.is_certain(os.fstat(part)), "nothing tells boots apart here"


def test_a_part_that_changed_since_is_not_certain_whatever_its_date_says(made, part):
    if made.boot == "":
        pytest.skip("nothing tells boots apart here")
    long_ago = time.time_ns() - 10 * journal.TOUCHED
    os.utime(made.fd, ns=(long_ago, long_ago))
    os.utime(part, ns=(long_ago, long_ago))
    assert not made.is_certain(os.fstat(part))


def test_proofs_stop_when_nobody_wants_them(made, part, monkeypatch):
    monkeypatch.setattr(journal, "STEP", 2)
    asked = iter([True, True, False])
    assert list(made.proofs(part, lambda: next(asked))) == [1, 1, 1, 1, 0]
    assert list(made.proofs(part, lambda: False)) == [0] * COUNT


def test_a_renewed_one_takes_the_place_in_one_step(made, part, monkeypatch):
    made.boot = "long ago"
    put(made, page_of(**fields_of(made)))
    old = Journal.read(made.path)
    seen = []
    replace = os.replace

    def watched(source, target):
        """Until this very call the old one is there, whole; the new one is complete."""
        now, new = Journal.read(target), Journal.read(source)
        seen.append((now.boot, list(now.claims()), new.boot, list(new.claims())))
        now.close()
        new.close()
        replace(source, target)

    monkeypatch.setattr(os, "replace", watched)
    new = old.renew(part, bytes([1, 0, 1, 0, 0]))
    assert seen == [("long ago", [1] * COUNT, journal.boot_id(), [1, 0, 1, 0, 0])]
    assert (old.fd, new.path) == (-1, made.path)
    assert fields_of(reread(new)) == fields_of(new)
    assert list(new.claims()) == [1, 0, 1, 0, 0]
    assert not os.path.exists(made.path + "~")
    new.close()


def test_one_that_cannot_be_renewed_stays(made, part, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "no room")

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", full)
        with pytest.raises(OSError, match="no room"):
            made.renew(part, bytes(COUNT))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.parpull", "x.parpull-part"]
    assert list(made.claims()) == [1] * COUNT
    (tmp_path / "x.parpull~").write_text("my own file")
    with pytest.raises(FileExistsError):
        made.renew(part, bytes(COUNT))
    assert (tmp_path / "x.parpull~").read_text() == "my own file"


@pytest.mark.parametrize(
    ("claims", "gap"),
    [
        ([0, 0, 0, 0, 0], (0, SIZE)), ([1, 1, 1, 1, 1], (4 * BLOCK, SIZE)), ([1, 0, 1, 0, 0], (BLOCK, 2 * BLOCK)),
        ([1, 1, 0, 0, 0], (2 * BLOCK, SIZE)), ([1, 1, 1, 1, 0], (4 * BLOCK, SIZE)), ([0, 1, 1, 1, 1], (0, BLOCK)),
    ],
)  # fmt: skip
def test_the_first_gap(made, claims, gap):
    for index, there in enumerate(claims):
        if not there:
            os.pwrite(made.fd, bytes(ENTRY_SIZE), PAGE + index * ENTRY_SIZE)
    assert made.gap() == gap


def test_entries_that_were_never_written_are_none(made):
    os.ftruncate(made.fd, PAGE + 2 * ENTRY_SIZE + 3)
    assert list(made.claims()) == [1, 1, 0, 0, 0]
    os.ftruncate(made.fd, PAGE)
    assert list(made.claims()) == [0] * COUNT


def test_it_is_gone_when_it_has_done_its_work(made):
    made.remove()
    made.remove()
    assert not os.path.exists(made.path)
    assert _journal.ENTRY_SIZE == 8
