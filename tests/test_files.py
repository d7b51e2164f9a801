"""Files: names that lead nowhere else, and a file that is there whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from parpull import files
from parpull.errors import InUse, NoSpace, SinkError, TargetExists
from parpull.files import LONGEST, FileSink, default_name, sink_error

DATA = bytes(range(256)) * 40


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
    assert (caught.value.errno, caught.value.hint) == (errno.ENOENT, "make it first")
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
