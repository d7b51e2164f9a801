"""Files: names that lead nowhere else, and a file that is there whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat
import subprocess
import sys
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from parpull import files, record
from parpull.errors import InUse, NoSpace, SinkError, TargetExists
from parpull.files import LONGEST, FileSink, default_name, lock_owner, sink_error

DATA = bytes(range(256)) * 40
SHA = "sha256=" + hashlib.sha256(DATA).hexdigest()
URL = "https://host/x"
TAG = '"abc"'


def put(path, data=DATA, **options):
    """A sink that has landed everything and has yet to commit."""
    sink = FileSink(path, **options)
    sink.check()
    landing = sink.open(len(data), followed=False)
    landing.land(0, data)
    landing.release()
    return sink


# --- names ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://host/a/model.bin", "model.bin"), ("https://host/model.bin?sig=1#x", "model.bin"),
        ("https://host/a/", "a"), ("https://host", "index"), ("https://host/", "index"), ("https://host/..", "index"),
        ("https://host/.bashrc", "bashrc"), ("https://host/%2e%2e%2fetc%2fpasswd", "_etc_passwd"),
        ("https://host/a%2Fb", "a_b"), ("https://host/a%5Cb", "a_b"),
        ("https://host/a%00b", "a_b"), ("https://host/a%0Ab%1B[31m", "a_b_[31m"), ("https://host/%D1%84.bin", "ф.bin"),
        ("https://host/%FF", "\ufffd"), ("https://host/a%E2%80%AEb", "a_b"), ("https://host/%20a%20", "a"),
        ("https://host/C:x", "C_x"), ("https://host/a*?b", "a_"), ("https://host/.%20.x", "x"),
    ],
)  # fmt: skip
def test_names(url, name):
    assert default_name(url) == name


ANY = st.text(max_size=30) | st.text(min_size=100, max_size=300) | st.binary(max_size=80).map(
    lambda raw: "".join(f"%{byte:02X}" for byte in raw)
)  # fmt: skip


@given(ANY)
@example("ф" * 200)
@example("x" + "ф" * 200)
@example("xx" + "日" * 200)
@example("xxx" + "😀" * 100)
@example(". x")
@example(". . .")
@example("%20" * 300)
def test_any_url_has_a_name_that_is_only_a_name(path):
    name = default_name("https://host/" + path.encode("utf-8", "replace").decode())
    raw = name.encode()  # no lone surrogates: it can be written down
    assert name
    assert 0 < len(raw) <= LONGEST
    assert not set(name) & set('/\\\0:*?"<>|')
    assert not name.startswith(".")
    assert name.isprintable()
    assert name == name.strip()
    assert not any(unicodedata.category(c) in ("Cc", "Cf") for c in name)
    assert os.path.basename(name) == name


# --- before anything is asked -----------------------------------------------------------


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(SinkError, match="is a folder") as caught:
        FileSink(tmp_path).check()
    assert caught.value.errno == errno.EISDIR


def test_a_folder_must_be_there(tmp_path):
    with pytest.raises(SinkError, match="there is no folder") as caught:
        FileSink(tmp_path / "no" / "x").check()
    assert (caught.value.errno, caught.value.hint) == (errno.ENOENT, "make it first, or let -d FOLDER make it")
    (tmp_path / "file").touch()
    with pytest.raises(SinkError) as caught:
        FileSink(tmp_path / "file" / "x").check()
    assert caught.value.errno == errno.ENOTDIR


def test_a_file_that_exists_is_kept(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"mine")
    with pytest.raises(TargetExists) as caught:
        FileSink(path).check()
    assert caught.value.errno == errno.EEXIST
    assert "overwrite" in caught.value.hint
    FileSink(path, overwrite=True).check()
    assert path.read_bytes() == b"mine"


def test_pipes_and_devices_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/null"):
        for overwrite in (False, True):
            with pytest.raises(SinkError, match="not a regular file"):
                FileSink(path, overwrite=overwrite).check()


def test_a_folder_that_may_not_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(SinkError) as caught:
        FileSink(tmp_path / "x").check()
    assert caught.value.errno == errno.EACCES


def test_a_name_of_bytes(tmp_path):
    path = os.fsencode(tmp_path) + b"/na\xffme"
    sink = put(path)
    assert sink.commit(len(DATA)) == os.fsdecode(path)
    assert os.listdir(os.fsencode(tmp_path)) == [b"na\xffme"]


# --- how it ends --------------------------------------------------------------------------


@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("size", [0, 1, 4096, len(DATA), 9 << 20])
def test_a_file_that_is_whole(tmp_path, durable, overwrite, size):
    data = (DATA * (size // len(DATA) + 1))[:size]
    sink = put(tmp_path / "x", data, durable=durable, overwrite=overwrite)
    assert os.listdir(tmp_path) == ["x.parpull-part"]
    assert sink.commit(size) == str(tmp_path / "x")
    assert os.listdir(tmp_path) == ["x"]
    assert (tmp_path / "x").read_bytes() == data
    sink.discard()
    assert (tmp_path / "x").exists(), "what is committed is not discarded"


def test_durable_means_file_before_name_before_folder(tmp_path, monkeypatch):
    calls = []
    fsync, link = os.fsync, os.link
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append(stat.S_ISDIR(os.fstat(fd).st_mode)), fsync(fd)))
    monkeypatch.setattr(os, "link", lambda *paths: (calls.append("name"), link(*paths)))
    put(tmp_path / "x", durable=True).commit(len(DATA))
    assert calls == [False, "name", True]


def test_an_object_of_unknown_size(tmp_path):
    sink = FileSink(tmp_path / "x")
    landing = sink.open(None, followed=True)
    landing.land(0, b"abc")
    assert bytes(sink.read(1, 100)) == b"bc"
    assert isinstance(sink.overflow(3), NoSpace)
    landing.release()
    sink.commit(3)
    assert (tmp_path / "x").read_bytes() == b"abc"


def test_discard_leaves_nothing(tmp_path):
    sink = put(tmp_path / "x")
    sink.discard()
    sink.discard()
    assert os.listdir(tmp_path) == []
    FileSink(tmp_path / "y").discard()  # was never opened


def test_a_part_file_that_somebody_removed(tmp_path):
    sink = put(tmp_path / "x")
    os.unlink(sink.part)
    sink.discard()
    sink = put(tmp_path / "x")
    os.unlink(sink.part)
    with pytest.raises(SinkError):
        sink.commit(len(DATA))
    sink.discard()
    assert os.listdir(tmp_path) == []


def test_an_old_part_file_is_started_anew(tmp_path):
    (tmp_path / "x.parpull-part").write_bytes(b"z" * 100_000)
    put(tmp_path / "x", b"abc").commit(3)
    assert (tmp_path / "x").read_bytes() == b"abc"


def test_overwrite_is_one_step(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"old")
    sink = put(path, overwrite=True)
    assert path.read_bytes() == b"old"
    with open(path, "rb") as before:
        sink.commit(len(DATA))
        assert before.read() == b"old"
    assert path.read_bytes() == DATA


def test_a_target_that_appears_meanwhile_is_kept(tmp_path):
    path = tmp_path / "x"
    sink = put(path)
    path.write_bytes(b"theirs")
    with pytest.raises(TargetExists):
        sink.commit(len(DATA))
    sink.discard()
    assert path.read_bytes() == b"theirs"
    assert os.listdir(tmp_path) == ["x"]


@pytest.fixture
def no_links(monkeypatch):
    def refuse(*_):
        raise OSError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(os, "link", refuse)


@pytest.mark.usefixtures("no_links")
def test_a_file_system_without_hard_links(tmp_path):
    path = tmp_path / "x"
    put(path).commit(len(DATA))
    assert path.read_bytes() == DATA
    path.unlink()
    sink = put(path)
    path.symlink_to("nowhere")  # also a name that is taken
    with pytest.raises(TargetExists):
        sink.commit(len(DATA))
    sink.discard()
    assert os.listdir(tmp_path) == ["x"]


def test_through_a_symbolic_link(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "x").symlink_to("elsewhere/real")
    assert put(tmp_path / "x").commit(len(DATA)) == str(tmp_path / "elsewhere/real")
    assert (tmp_path / "x").is_symlink()
    assert (tmp_path / "x").read_bytes() == DATA
    with pytest.raises(TargetExists):
        FileSink(tmp_path / "x").check()


def test_a_part_file_that_is_a_trap(tmp_path):
    """In a folder that others may write to, a link must not lead to a file of ours."""
    (tmp_path / "precious").write_bytes(b"precious")
    (tmp_path / "x.parpull-part").symlink_to("precious")
    sink = FileSink(tmp_path / "x")
    with pytest.raises(SinkError):
        sink.open(3, followed=False)
    sink.discard()
    assert (tmp_path / "precious").read_bytes() == b"precious"


def test_a_part_file_that_is_a_folder(tmp_path):
    (tmp_path / "x.parpull-part").mkdir()
    sink = FileSink(tmp_path / "x")
    with pytest.raises(SinkError) as caught:
        sink.open(3, followed=False)
    assert caught.value.errno == errno.EISDIR
    sink.discard()


# --- a file that is there already ------------------------------------------------------------


@pytest.fixture
def finished(tmp_path):
    """A file that was fetched from URL, whole and with its checksum proven."""
    sink = put(tmp_path / "x", url=URL)
    sink.commit(len(DATA), validator=TAG, digests=dict([SHA.split("=")]))
    if record.read(sink.path) is None:
        pytest.skip("no extended attributes here")
    return tmp_path / "x"


@pytest.mark.parametrize("size", [0, len(DATA), 9 << 20])
@pytest.mark.parametrize("options", [{}, {"durable": True}, {"overwrite": True}], ids=str)
def test_a_finished_file_has_a_record(tmp_path, finished, size, options):
    sink = put(tmp_path / "y", bytes(size), url=URL, **options)
    sink.commit(size, validator=TAG)
    found = record.read(sink.path)
    assert (found.size, found.validator, found.digests) == (size, TAG, {})
    assert found.is_from(URL)


def test_a_file_of_a_part_of_an_object_has_none(tmp_path):
    sink = put(tmp_path / "x")
    sink.commit(len(DATA), validator=TAG)
    assert record.read(sink.path) is None
    with pytest.raises(TargetExists):
        FileSink(sink.path, url=URL).check()


def test_a_file_that_may_be_current(finished):
    sink = FileSink(finished, url=URL)
    assert sink.conditions() == ()
    sink.check()
    assert sink.existing.size == len(DATA)
    assert sink.conditions(["Accept: */*"]) == (f"If-None-Match: {TAG}",)
    assert sink.conditions(["If-Match: x"]) == ()
    assert sink.is_current(validator=TAG, size=len(DATA))
    assert not sink.is_current(validator=TAG, size=len(DATA) + 1)
    assert not sink.is_current(validator='"abd"', size=len(DATA))
    assert not sink.is_current(validator=None, size=None)
    landing = sink.settle_existing()
    assert (landing.size, landing.landed, landing.front) == (len(DATA),) * 3
    assert landing.closed
    assert landing.wait(1) == landing.wait(len(DATA) + 1, 5.0) == len(DATA)
    with open(sink.tap(), "rb") as file:
        assert file.read() == DATA
    landing.release()
    sink.discard()
    assert finished.read_bytes() == DATA
    assert os.listdir(finished.parent) == ["x"]


@pytest.mark.parametrize("options", [{}, {"url": "https://host/y"}, {"url": URL + "?v=2"}], ids=str)
def test_a_file_that_is_something_else(finished, options):
    with pytest.raises(TargetExists) as caught:
        FileSink(finished, **options).check()
    assert "overwrite" in caught.value.hint


def test_overwrite_always_fetches(finished):
    sink = FileSink(finished, url=URL, checksum=SHA, overwrite=True)
    sink.check()
    assert sink.existing is None
    assert sink.conditions() == ()
    assert not sink.is_current(validator=TAG, size=len(DATA))


def test_a_file_that_was_touched(finished):
    os.utime(finished)
    with pytest.raises(TargetExists):
        FileSink(finished, url=URL).check()


def test_a_file_that_changes_while_the_server_is_asked(finished):
    sink = FileSink(finished, url=URL)
    sink.check()
    finished.write_bytes(b"mine")
    with pytest.raises(TargetExists):
        sink.settle_existing()
    finished.unlink()
    with pytest.raises(TargetExists):
        sink.settle_existing()


def test_a_checksum_that_was_proven_is_enough(finished):
    """Whatever the server has by now, and wherever it came from."""
    for url in (URL, "https://mirror/y"):
        sink = FileSink(finished, url=url, checksum=SHA)
        sink.check()
        assert sink.is_current(validator='"other"', size=1)
        assert sink.settle_existing().size == len(DATA)


@pytest.mark.parametrize("checksum", ["sha256=" + "0" * 64, "md5=" + hashlib.md5(DATA).hexdigest()])
def test_a_checksum_that_was_not_proven(finished, checksum):
    with pytest.raises(TargetExists, match="not proven to have this checksum"):
        FileSink(finished, url=URL, checksum=checksum).check()


def test_a_file_through_a_link(finished, tmp_path):
    (tmp_path / "link").symlink_to("x")
    sink = FileSink(tmp_path / "link", url=URL)
    sink.check()
    assert sink.settle_existing().size == len(DATA)


def test_another_transfers_part_file_is_left_alone(finished):
    other = put(finished, b"new", overwrite=True)
    sink = FileSink(finished, url=URL)
    sink.check()
    assert sink.settle_existing().size == len(DATA)
    sink.discard()
    assert other.commit(3) == str(finished)
    assert finished.read_bytes() == b"new"


def test_where_no_record_can_be_kept(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EOPNOTSUPP, "no attributes here")

    monkeypatch.setattr(os, "setxattr", refuse, raising=False)
    put(tmp_path / "x", url=URL).commit(len(DATA), validator=TAG)
    assert (tmp_path / "x").read_bytes() == DATA
    with pytest.raises(TargetExists):
        FileSink(tmp_path / "x", url=URL).check()


# --- locks --------------------------------------------------------------------------------


def test_two_transfers_to_one_place(tmp_path):
    first = put(tmp_path / "x")
    second = FileSink(tmp_path / "x")
    with pytest.raises(InUse) as caught:
        second.open(3, followed=False)
    assert caught.value.errno == errno.EBUSY
    second.discard()
    assert os.path.exists(first.part), "the loser took the winner's file away"
    first.commit(len(DATA))
    assert (tmp_path / "x").read_bytes() == DATA


HOLD = """
import sys
from parpull.files import FileSink
sink = FileSink(sys.argv[1])
sink.open(3, followed=False).release()
print("locked", flush=True)
sys.stdin.read()
sink.discard()
"""


def locks_are_told(folder):
    """Whether the system says who holds a lock on a file in this folder."""
    with open(folder / "probe", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        told = lock_owner(os.fstat(file.fileno()))
    (folder / "probe").unlink()
    assert told in (None, "this process")
    return told is not None


def test_another_process_has_it(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path / "x"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "locked\n"
        with pytest.raises(InUse) as caught:
            FileSink(tmp_path / "x").open(3, followed=False)
        other.stdin.close()
        assert other.wait(20) == 0
    if not locks_are_told(tmp_path):
        assert caught.value.owner is None
        return
    assert caught.value.owner.startswith(f"process {other.pid} (")
    assert str(caught.value) == f"another transfer writes {tmp_path / 'x'} ({caught.value.owner})"
    assert os.listdir(tmp_path) == []


def test_this_process_has_it(tmp_path):
    first = put(tmp_path / "x")
    with pytest.raises(InUse) as caught:
        FileSink(tmp_path / "x").open(3, followed=False)
    first.discard()
    assert caught.value.owner == ("this process" if locks_are_told(tmp_path) else None)


@pytest.fixture
def proc(tmp_path):
    """A made-up /proc; gives what to put into its `locks`, and asks who holds a file."""
    root = tmp_path / "proc"
    (root / "1234").mkdir(parents=True)
    (root / "1234" / "comm").write_text("python3\n")
    (root / "99").mkdir()
    (root / "99" / "comm").write_bytes(b"\x1b[31m\nred\xff\n")
    (root / "self").symlink_to("77")
    (tmp_path / "file").touch()
    about = os.stat(tmp_path / "file")
    place = f"{os.major(about.st_dev):02x}:{os.minor(about.st_dev):02x}:{about.st_ino}"

    def ask(*lines):
        (root / "locks").write_text("".join(line.replace("PLACE", place) + "\n" for line in lines))
        return lock_owner(about, proc=str(root))

    return ask


@pytest.mark.parametrize(
    ("lines", "owner"),
    [
        (["1: FLOCK  ADVISORY  WRITE 1234 PLACE 0 EOF"], "process 1234 (python3)"),
        (["1: FLOCK  ADVISORY  WRITE 77 PLACE 0 EOF"], "this process"),
        (["1: FLOCK  ADVISORY  WRITE 99 PLACE 0 EOF"], "process 99 (_[31m_red\ufffd)"),
        (["1: POSIX  ADVISORY  WRITE 77 PLACE 0 EOF", "1: -> FLOCK  ADVISORY  WRITE 77 PLACE 0 EOF",
          "2: FLOCK  ADVISORY  WRITE 1234 PLACE 0 EOF"], "process 1234 (python3)"),
        (["1: FLOCK  ADVISORY  WRITE 0 PLACE 0 EOF"], None), (["1: FLOCK  ADVISORY  WRITE -1 PLACE 0 EOF"], None),
        (["1: FLOCK  ADVISORY  WRITE 555 PLACE 0 EOF"], None),  # gone, or not ours to see
        (["1: FLOCK  ADVISORY  WRITE 1234 PLACE1 0 EOF"], None),
        (["1: FLOCK  ADVISORY  WRITE 1234 00:00:1 0 EOF"], None),
        (["1: FLOCK  ADVISORY  WRITE x PLACE 0 EOF"], None),
        (["1: FLOCK", "", "1: FLOCK ADVISORY WRITE 1 <none>:0"], None),
        (["1: OFDLCK ADVISORY  WRITE -1 PLACE 0 EOF"], None), ([], None),
    ],
)  # fmt: skip
def test_whose_lock_it_is(proc, lines, owner):
    assert proc(*lines) == owner


def test_whose_lock_it_is_where_there_is_no_proc(tmp_path):
    assert lock_owner(os.stat(tmp_path), proc=str(tmp_path / "none")) is None


@pytest.mark.parametrize("end", ["commit", "discard"])
def test_a_transfer_that_ends_while_another_one_waits_for_its_lock(tmp_path, monkeypatch, end):
    """The second has opened the first's part file; by the time it has the lock, that
    file is the finished target, or gone."""
    first = put(tmp_path / "x")
    flock = fcntl.flock

    def late(fd, how):
        monkeypatch.setattr(fcntl, "flock", flock)
        first.commit(len(DATA)) if end == "commit" else first.discard()
        flock(fd, how)

    second = FileSink(tmp_path / "x", overwrite=True)
    monkeypatch.setattr(fcntl, "flock", late)
    landing = second.open(3, followed=False)
    if end == "commit":
        assert (tmp_path / "x").read_bytes() == DATA, "the finished file was emptied"
    landing.land(0, b"abc")
    landing.release()
    second.commit(3)
    assert (tmp_path / "x").read_bytes() == b"abc"
    assert os.listdir(tmp_path) == ["x"]


# --- errors of the disk ---------------------------------------------------------------------


def test_an_object_larger_than_the_disk(tmp_path):
    sink = FileSink(tmp_path / "x")
    with pytest.raises(NoSpace, match="bytes free") as caught:
        sink.open(1 << 59, followed=False)
    assert caught.value.errno == errno.ENOSPC
    sink.discard()
    assert os.listdir(tmp_path) == []


def test_no_room_can_be_reserved(tmp_path, monkeypatch):
    def full(fd, size):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(files, "reserve", full)
    monkeypatch.setattr(files, "file_system", lambda _: files.EXT4)
    sink = FileSink(tmp_path / "x")
    with pytest.raises(NoSpace):
        sink.open(100, followed=False)
    sink.discard()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("code", "kind"),
    [(errno.ENOSPC, NoSpace), (errno.EDQUOT, NoSpace), (errno.EACCES, SinkError), (errno.EROFS, SinkError),
     (errno.EFBIG, SinkError), (errno.EIO, SinkError), (errno.ENAMETOOLONG, SinkError)],
)  # fmt: skip
def test_errnos(code, kind):
    error = sink_error(code, "/x")
    assert type(error) is kind
    assert (error.errno, error.path) == (code, "/x")
    assert os.strerror(code) in str(error)
    assert "the destination" in str(sink_error(code, None))


@pytest.mark.parametrize("length", [255, 250, 300])
def test_long_names_are_refused_or_kept_but_never_crash(tmp_path, length):
    path = tmp_path / ("n" * length)
    sink = FileSink(path)
    try:
        sink.check()
        landing = sink.open(3, followed=False)
    except SinkError:
        sink.discard()
        return
    landing.land(0, b"abc")
    landing.release()
    sink.commit(3)
    assert path.read_bytes() == b"abc"


def test_the_umask_counts(tmp_path):
    before = os.umask(0o027)
    try:
        put(tmp_path / "x").commit(len(DATA))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o640
