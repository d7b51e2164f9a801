"""The private folder and the confined process: what they keep in, and that nothing stays behind."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
import tarfile
import threading

import pytest

from parpull.errors import BadOption, NoSpace, SinkError, TargetExists
from parpull.oci import ImageError, UnsafeLayer
from parpull.oci.quarantine import Limits, Quarantine, limits_for, shown
from tests.oci.tars import end, member, pax, tree

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="images are unpacked on Linux")
ROOT = os.geteuid() == 0
as_root = pytest.mark.skipif(not ROOT, reason="only root can be somebody else")
FILE = member(b"f", b"data") + end


def test_released_it_has_its_name_and_nothing_is_left(tmp_path):
    with Quarantine(tmp_path) as quarantine:
        assert stat.S_IMODE(os.stat(os.path.dirname(quarantine.tree)).st_mode) == 0o700
        with quarantine.unpack() as unpacking:
            unpacking.write(FILE[:700])
            unpacking.write(bytearray(FILE[700:]))
            done = unpacking.result()
            assert unpacking.result() == done, "may be asked again"
        quarantine.release(tmp_path / "layer")
    assert (done.files, done.bytes, done.read) == (1, 4, len(FILE))
    assert os.listdir(tmp_path) == ["layer"]
    assert (tmp_path / "layer" / "f").read_bytes() == b"data"


def test_from_a_descriptor(tmp_path):
    (tmp_path / "layer.tar").write_bytes(FILE)
    with Quarantine(tmp_path) as quarantine, open(tmp_path / "layer.tar", "rb") as file:
        with quarantine.unpack(file.fileno()) as unpacking:
            assert unpacking.result().files == 1
        assert not file.closed


def test_a_name_that_is_taken(tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine").touch()
    with Quarantine(tmp_path) as quarantine:
        with pytest.raises(TargetExists):
            quarantine.release(tmp_path / "taken")
        with pytest.raises(SinkError):
            quarantine.release(tmp_path / "no" / "where")
    assert os.listdir(tmp_path) == ["taken"]
    assert os.listdir(tmp_path / "taken") == ["mine"]


def test_without_release_all_is_removed(tmp_path):
    """Also folders that forbid it, and those within each other deeper than any path."""
    locked = member(b"a", kind=b"5", mode=0) + member(b"a/b", kind=b"5", mode=0o500) + member(b"a/b/c", b"x", mode=0)
    with Quarantine(tmp_path) as quarantine:
        with quarantine.unpack() as unpacking:
            unpacking.write(locked + end)
            unpacking.result()
        folder = os.open(quarantine.tree, os.O_RDONLY)
        for _ in range(3000):
            os.mkdir("deeper", dir_fd=folder)
            inner = os.open("deeper", os.O_RDONLY, dir_fd=folder)
            os.close(folder)
            folder = inner
        os.close(folder)
    assert os.listdir(tmp_path) == []


def test_a_writer_is_told_what_was_wrong(tmp_path):
    with Quarantine(tmp_path) as quarantine, quarantine.unpack() as unpacking:
        with pytest.raises(UnsafeLayer) as caught:
            unpacking.write(member(b"../x") + bytes(16 << 20))
        assert (caught.value.reason, caught.value.name) == ("its name leads out, by '..'", "../x")
        with pytest.raises(UnsafeLayer, match="leads out"):
            unpacking.result()
    assert os.listdir(tmp_path) == []


def test_stopped_halfway(tmp_path):
    with Quarantine(tmp_path) as quarantine:
        with quarantine.unpack() as unpacking:
            unpacking.write(member(b"f", b"data") + member(b"g", b"x" * 10)[:512])
            process = unpacking._process
        assert process.returncode is not None
    assert os.listdir(tmp_path) == []


def test_a_process_that_dies(tmp_path):
    with Quarantine(tmp_path) as quarantine, quarantine.unpack() as unpacking:
        unpacking._process.kill()
        with pytest.raises(ImageError, match=r"has died \(-9\)"):
            unpacking.result()


def test_several_at_once(tmp_path):
    """One pipe's end is not inherited by the other's process, or neither would see its end."""
    with Quarantine(tmp_path) as one, Quarantine(tmp_path) as two:
        with one.unpack() as first, two.unpack(style="overlay") as second:
            results = []
            threads = [
                threading.Thread(target=lambda u=u: (u.write(FILE), results.append(u.result())))
                for u in (first, second)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(20)
            assert [done.files for done in results] == [1, 1]


def test_options():
    assert limits_for(0).bytes == 1 << 30
    assert limits_for(1 << 30).bytes == 200 << 30
    for bad in ({"entries": 0}, {"bytes": -1}, {"bytes": 1 << 63}):
        with pytest.raises(BadOption):
            Limits(**bad)


@pytest.mark.parametrize("bad", [{"style": "flat"}, {"owners": "mine"}, {"devices": "all"}])
def test_bad_options(tmp_path, bad):
    with Quarantine(tmp_path) as quarantine, pytest.raises(BadOption) as caught:
        quarantine.unpack(**bad)
    assert caught.value.name == next(iter(bad))


def test_no_folder_to_be_beside(tmp_path):
    with pytest.raises(SinkError) as caught:
        Quarantine(tmp_path / "missing")
    assert caught.value.errno == errno.ENOENT


def test_names_for_a_terminal():
    assert shown("a\x1b[1m\x7f\u202e\udcff") == r"a\x1b[1m\x7f\u202e\udcff"
    assert shown("ü" * 400) == "ü" * 300 + "…"


TRIES = """
import json, os, socket, sys
from parpull._untar import confine
root = os.open(sys.argv[1], os.O_RDONLY)
outside = os.open(sys.argv[2], os.O_RDONLY)
inside = os.open("f", os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=root)
def tried(do):
    try:
        do()
    except OSError as error:
        return error.errno
    return 0
steps = confine(root, 0)
said = {
    "steps": steps,
    "write inside": tried(lambda: os.write(inside, b"x")),
    "make inside": tried(lambda: os.close(os.open("g", os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=root))),
    "make outside": tried(lambda: os.open("g", os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=outside)),
    "write outside": tried(lambda: os.open("mine", os.O_WRONLY, dir_fd=outside)),
    "read outside": tried(lambda: os.open("mine", os.O_RDONLY, dir_fd=outside)),
    "list outside": tried(lambda: os.open(".", os.O_RDONLY, dir_fd=outside)),
    "remove outside": tried(lambda: os.unlink("mine", dir_fd=outside)),
    "link outside": tried(lambda: os.link("mine", "h", src_dir_fd=outside, dst_dir_fd=root)),
    "read inside": tried(lambda: os.open("f", os.O_RDONLY, dir_fd=root)),
    "socket": tried(lambda: socket.socket(socket.AF_UNIX)),
    "network": tried(lambda: socket.socket(socket.AF_INET)),
    "fork": tried(os.fork),
    "exec": tried(lambda: os.execv("/bin/true", ["true"])),
    "signal": tried(lambda: os.kill(os.getppid(), 0)),
    "owner": tried(lambda: os.fchown(inside, 12, 34)),
}
os.write(1, json.dumps(said).encode())
os._exit(0)
"""


def test_what_the_process_can_no_longer_do(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_bytes(b"mine")
    command = [sys.executable, "-c", TRIES, tmp_path / "in", tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, check=True, timeout=60, cwd="/")
    said = json.loads(done.stdout)
    steps = set(said.pop("steps"))
    if not {"landlock", "calls"} <= steps:
        pytest.skip(f"this kernel has only {', '.join(sorted(steps)) or 'nothing'}")
    assert "capabilities" in steps
    assert ("root" in steps) == ROOT
    allowed = {key for key, number in said.items() if number == 0}
    assert allowed == {"write inside", "make inside"}, said
    assert (tmp_path / "out" / "mine").read_bytes() == b"mine"
    assert os.listdir(tmp_path / "out") == ["mine"]


def test_unpacking_takes_all_the_steps_there_are(tmp_path):
    with Quarantine(tmp_path) as quarantine, quarantine.unpack() as unpacking:
        unpacking.write(FILE)
        steps = set(unpacking.result().confined)
    assert steps >= ({"root", "capabilities"} if ROOT else {"capabilities"})


ROOTLESS = """
import json, os, sys
from parpull.oci.quarantine import Quarantine
from tests.oci.tars import tree
with Quarantine(sys.argv[1]) as quarantine:
    for name in sys.argv[3:]:
        with open(name, "rb") as file, quarantine.unpack(file.fileno(), style=sys.argv[2]) as unpacking:
            done = unpacking.result()
            print(json.dumps([done.confined, done.skipped, done.warnings]), flush=True)
    os.rename(quarantine.tree, sys.argv[1] + "/made")
"""


def as_nobody(command, **options):
    """Run it without root; skipped where nobody else may read the interpreter."""
    probe = [sys.executable, "-c", "import parpull"]
    who = {"user": 65534, "group": 65534, "extra_groups": []} if ROOT else {}
    try:
        subprocess.run(probe, check=True, capture_output=True, timeout=60, cwd="/", **who)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("nobody but root may read this interpreter")
    return subprocess.run(command, check=True, capture_output=True, timeout=120, **who, **options)


@pytest.fixture
def open_folder():
    """A folder that others can reach; pytest's own are private."""
    import tempfile

    with tempfile.TemporaryDirectory() as made:
        os.chmod(made, 0o755)
        os.mkdir(os.path.join(made, "out"))
        if ROOT:
            os.chown(os.path.join(made, "out"), 65534, 65534)
        yield made
        subprocess.run(["chmod", "-R", "u+rwx", made], check=False)


@pytest.mark.parametrize("style", ["plain", "overlay"])
def test_without_root(open_folder, style):
    """Owners and devices are let be, whiteouts are made all the same, and folders that forbid
    writing are written to."""
    first = (member(b"d", kind=b"5", mode=0o500, uid=3)
             + pax((b"SCHILY.xattr.user.a", b"b")) + member(b"d/f", b"1", mode=0o4400, uid=5)
             + member(b"d/e", kind=b"5", mode=0) + member(b"d/e/g", b"2") + member(b"dev", kind=b"3", major=1, minor=3)
             + member(b"fifo", kind=b"6") + member(b".wh.gone") + member(b"o/.wh..wh..opq") + end)  # fmt: skip
    second = (
        member(b"d/new", b"3")
        + member(b"d/e/.wh.g")
        + member(b"d/e/h", b"4")
        + member(b"link", kind=b"1", link=b"d/f")
        + end
    )
    layers = [first, second] if style == "plain" else [first]
    paths = []
    for number, data in enumerate(layers):
        paths.append(os.path.join(open_folder, f"{number}.tar"))
        with open(paths[-1], "wb") as file:
            file.write(data)
    done = as_nobody([sys.executable, "-c", ROOTLESS, os.path.join(open_folder, "out"), style, *paths], cwd=os.getcwd())
    said = [json.loads(line) for line in done.stdout.splitlines()]
    assert said[0][1:] == [1, [["it is a device", "dev"]]]
    assert "root" not in said[0][0]
    made = tree(os.path.join(open_folder, "out", "made"))[0]
    assert made[b"/d"][0] == "dr-x------"
    assert made[b"/d/e"][0] == "d---------"
    assert made[b"/d/f"][0] == "-r-S------"
    assert made[b"/d/f"][5] == {"user.a": b"b"}
    assert b"/dev" not in made
    if style == "plain":
        assert {b"/d/new", b"/d/e/h", b"/link"} < set(made)
        assert b"/d/e/g" not in made
    else:
        assert made[b"/gone"][0][0] == "c"
        assert made[b"/o"][5] == {"user.overlay.opaque": b"y"}


def test_without_root_as_gnu_tar(open_folder):
    """The standard library's own folder, by both."""
    source = os.path.join(open_folder, "layer.tar")
    with tarfile.open(source, "w", format=tarfile.PAX_FORMAT) as tar:
        tar.add(os.path.dirname(json.__file__), "lib", filter=lambda info: info.replace(uid=1, gid=2, deep=False))
    out = os.path.join(open_folder, "out")
    as_nobody([sys.executable, "-c", ROOTLESS, out, "plain", source], cwd=os.getcwd())
    theirs = os.path.join(out, "theirs")
    as_nobody(["sh", "-c", 'mkdir "$0" && tar -xpf "$1" -C "$0"', theirs, source])
    mine, other = (tree(os.path.join(out, name))[0] for name in ("made", "theirs"))
    mine.pop(b"/.")
    other.pop(b"/.")
    assert mine == other
    assert b"/lib/__init__.py" in mine


@as_root
def test_a_full_disk(tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", small], capture_output=True).returncode:
        pytest.skip("no mounting here")
    try:
        with Quarantine(small) as quarantine, quarantine.unpack() as unpacking:
            with pytest.raises(NoSpace) as caught:
                unpacking.write(member(b"big", bytes(4 << 20)) + end)
                unpacking.result()
            assert caught.value.errno == errno.ENOSPC
            assert caught.value.path.endswith("tree/big")
        assert os.listdir(small) == []
    finally:
        subprocess.run(["umount", small], check=True)
