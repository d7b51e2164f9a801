"""`parpull clean`: it removes what transfers left, and nothing else whatever its name is."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import time

import pytest

from parpull.cli import clean, run
from tests.verbs import started, verb, wait_for

MIB = 1 << 20
PART = ".parpull-part"


def part(folder, name, size=MIB):
    """A part file, sparse."""
    path = folder / (name + PART)
    path.write_bytes(b"")
    os.truncate(path, size)
    return path


def test_it_removes_lists_and_sums_up(tmp_path):
    part(tmp_path, "a", 3 * MIB)
    part(tmp_path, "b", 5)
    (tmp_path / "whole").write_bytes(b"mine")
    done = verb("clean", tmp_path)
    assert done.code == 0
    assert done.out.decode().splitlines() == [
        f"   3.0 MiB  {tmp_path}/a{PART}", f"       5 B  {tmp_path}/b{PART}",
    ]  # fmt: skip
    assert done.err == "removed 2 files, 3.0 MiB\n"
    assert os.listdir(tmp_path) == ["whole"]


@pytest.mark.parametrize("flag", ["-n", "--dry-run"])
def test_a_dry_run_touches_nothing(tmp_path, flag):
    path = part(tmp_path, "a")
    done = verb("clean", flag, cwd=tmp_path)
    assert (done.code, done.out.decode()) == (0, f"   1.0 MiB  a{PART}\n")
    assert done.err == "would remove 1 file, 1.0 MiB\n"
    assert path.exists()


def test_nothing_to_do(tmp_path):
    assert verb("clean", cwd=tmp_path) == (0, b"", "nothing to remove in .\n")
    assert verb("clean", "--quiet", cwd=tmp_path) == (0, b"", "")


@pytest.mark.parametrize("flag", [None, "-r", "--recursive"])
def test_folders_below(tmp_path, flag):
    (tmp_path / "sub" / "deep").mkdir(parents=True)
    paths = [part(tmp_path, "a"), part(tmp_path / "sub", "b"), part(tmp_path / "sub" / "deep", "c")]
    done = verb("clean", *[flag] * (flag is not None), cwd=tmp_path)
    assert done.code == 0
    assert [path.exists() for path in paths] == ([False, True, True] if flag is None else [False] * 3)
    if flag:
        names = sorted(line.split()[-1] for line in done.out.decode().splitlines())
        assert names == [f"a{PART}", f"sub/b{PART}", f"sub/deep/c{PART}"]


def test_names_that_only_look_like_it(tmp_path):
    outside = tmp_path / "treasure"
    outside.write_bytes(b"gold")
    folder = tmp_path / "here"
    folder.mkdir()
    (folder / ("link" + PART)).symlink_to(outside)
    (folder / ("dangling" + PART)).symlink_to("nowhere")
    (folder / ("folder" + PART)).mkdir()
    part(folder / ("folder" + PART), "inside")
    os.mkfifo(folder / ("pipe" + PART))
    (folder / PART).write_bytes(b"a name of nothing")
    (folder / "x.parpull-part.txt").write_bytes(b"")
    (folder / "x.parpull").write_bytes(b"")
    (folder / "linked-folder").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").mkdir()
    part(tmp_path / "elsewhere", "far")
    before = sorted(os.listdir(folder))
    assert verb("clean", folder) == (0, b"", f"nothing to remove in {folder}\n")
    assert sorted(os.listdir(folder)) == before
    done = verb("clean", "-r", folder)
    assert done.out.decode() == f"   1.0 MiB  {folder}/folder{PART}/inside{PART}\n"
    assert outside.read_bytes() == b"gold"
    assert os.listdir(tmp_path / "elsewhere") == ["far" + PART]


def test_a_folder_that_is_named_by_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    part(tmp_path / "real", "a")
    (tmp_path / "link").symlink_to("real")
    assert verb("clean", tmp_path / "link").code == 0
    assert os.listdir(tmp_path / "real") == []


@pytest.mark.parametrize("name", [b"a\nb", b"a\x1b[2Jb", b"\xff\xfe", "ü模".encode(), b"-rf", b" ", b"a\rb"])
def test_names_that_order_a_terminal_about(tmp_path, name):
    path = os.fsencode(tmp_path) + b"/" + name + PART.encode()
    with open(path, "wb") as file:
        file.write(b"12345")
    done = verb("clean", cwd=tmp_path)
    assert done.code == 0
    assert not os.listdir(tmp_path)
    (line,) = done.out.decode().split("\n")[:-1]
    assert line.startswith("       5 B  ")
    assert line.isprintable()


def test_what_is_in_use_stays(tmp_path):
    used, left = part(tmp_path, "used"), part(tmp_path, "left")
    with used.open("rb") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        done = verb("clean", cwd=tmp_path)
        assert done.code == 0
        assert done.out.decode() == f"   1.0 MiB  {left.name}\n"
        assert done.err == f"{used.name} is left alone: a running transfer writes to it\nremoved 1 file, 1.0 MiB\n"
        assert "left alone" not in verb("clean", "-q", cwd=tmp_path).err
    assert used.exists()
    assert not left.exists()
    assert verb("clean", cwd=tmp_path).code == 0
    assert not used.exists()


def test_a_real_transfer_and_what_its_death_leaves(origin, name, tmp_path):
    with started("-o", "x", origin.url(name, size=64 * MIB, pace=MIB), cwd=tmp_path) as process:
        wait_for(lambda: os.listdir(tmp_path))
        done = verb("clean", cwd=tmp_path)
        assert (done.code, done.out) == (0, b"")
        assert "a running transfer writes to it" in done.err
        assert sorted(os.listdir(tmp_path)) == ["x.parpull", "x" + PART]
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    assert verb("clean", cwd=tmp_path).out.decode() == f"  64.0 MiB  x{PART}\n"
    assert os.listdir(tmp_path) == []


def test_what_the_system_refuses(tmp_path, monkeypatch, capfd):
    """As if the folder were another user's: root, who may run the tests, may do everything."""
    kept, also = part(tmp_path, "a"), part(tmp_path, "b")
    (tmp_path / "closed").mkdir()
    real = os.unlink, os.open

    def unlink(path, **more):
        if path == kept.name:
            raise PermissionError(errno.EACCES, "Permission denied", path)
        real[0](path, **more)

    def open_(path, *args, **more):
        if path == "closed":
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return real[1](path, *args, **more)

    monkeypatch.setattr(os, "unlink", unlink)
    monkeypatch.setattr(os, "open", open_)
    assert run(["clean", "-r", str(tmp_path)]) == 6
    out, err = capfd.readouterr()
    assert err.splitlines() == [
        f"parpull: error: cannot remove {kept}: Permission denied",
        "parpull: error: cannot read closed: Permission denied",
        "removed 1 file, 1.0 MiB",
    ]
    assert out == f"   1.0 MiB  {also}\n"


def test_a_folder_that_breaks_off(tmp_path, monkeypatch, capfd):
    def scandir(where):
        raise OSError(errno.EIO, "Input/output error", where)

    monkeypatch.setattr(os, "scandir", scandir)
    assert run(["clean", str(tmp_path)]) == 6
    assert capfd.readouterr().err.startswith(f"parpull: error: cannot read {tmp_path}: Input/output error\n")


def test_no_such_folder(tmp_path):
    done = verb("clean", tmp_path / "nowhere")
    assert (done.code, done.out) == (2, b"")
    assert "hint: parpull clean [options] [DIR]" in done.err
    (tmp_path / "file").write_bytes(b"")
    assert verb("clean", tmp_path / "file").code == 2


def test_nobody_reads(tmp_path):
    part(tmp_path, "a")
    with open("/dev/full", "wb") as full:
        assert verb("clean", "-n", cwd=tmp_path, stdout=full).code == 6
    with started("clean", "-n", cwd=tmp_path) as process:
        process.stdout.close()
        assert process.wait(20) == 6
        assert process.stderr.read() == b""


def found(folder):
    """A Left for each, and the descriptor that they need."""
    top = os.open(folder, os.O_RDONLY)
    return top, clean.find(top, str(folder), recursive=False, onerror=pytest.fail)


def test_swapped_while_it_looks(tmp_path):
    """Between the listing and the removal, somebody lays a link, or a pipe."""
    path = part(tmp_path, "a")
    (tmp_path / "treasure").write_bytes(b"gold")
    top, lefts = found(tmp_path)
    left = next(lefts)
    path.unlink()
    path.symlink_to("treasure")
    with pytest.raises(OSError, match="symbolic"):
        left.remove()
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(FileNotFoundError):
        left.remove()
    path.unlink()
    with pytest.raises(FileNotFoundError):
        left.remove()
    lefts.close()
    os.close(top)
    assert os.listdir(tmp_path) == ["treasure"]


def test_on_a_shared_file_system_the_young_stay(tmp_path, monkeypatch):
    path = part(tmp_path, "a")
    monkeypatch.setattr(clean, "file_system", lambda fd: 0x6969)
    top, lefts = found(tmp_path)
    left = next(lefts)
    with pytest.raises(clean.InUse, match="shared with other machines"):
        left.remove()
    os.utime(path, (time.time() - 3600,) * 2)
    left.remove()
    lefts.close()
    os.close(top)
    assert not path.exists()
