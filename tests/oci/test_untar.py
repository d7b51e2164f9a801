"""What becomes of a layer: as GNU tar would have it, in both styles; and what no layer may."""

from __future__ import annotations

import io
import os
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from parpull.oci import UnsafeLayer
from parpull.oci.quarantine import Limits, Quarantine
from tests.oci.tars import block, end, member, padded, pax, tree

if sys.platform == "linux":
    from parpull._untar import Unsafe, Untar

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="images are unpacked on Linux")
ROOT = os.geteuid() == 0
as_root = pytest.mark.skipif(not ROOT, reason="only root keeps owners and makes devices")


@pytest.fixture
def quarantine(tmp_path):
    with Quarantine(tmp_path) as made:
        yield made


def unpack(quarantine, data, **options):
    with quarantine.unpack(**options) as unpacking:
        unpacking.write(data)
        return unpacking.result()


def look(quarantine, name):
    return os.lstat(os.path.join(quarantine.tree, name))


def text(quarantine, name):
    with open(os.path.join(quarantine.tree, name), "rb") as file:
        return file.read()


def refused(quarantine, data, **options):
    with pytest.raises(UnsafeLayer) as caught:
        unpack(quarantine, data, **options)
    return caught.value


@pytest.fixture
def original(tmp_path):
    """A tree with all that a layer may hold, but devices."""
    top = tmp_path / "original"
    (top / "deep" / ("d" * 120) / ("e" * 120)).mkdir(parents=True)
    (top / "deep" / ("d" * 120) / ("e" * 120) / ("f" * 200)).write_bytes(b"long")
    (top / "empty").mkdir(mode=0o1777)
    os.chmod(top / "empty", 0o1777)
    (top / "a").write_bytes(bytes(range(256)) * 5000)
    (top / "setuid").write_bytes(b"s")
    os.chmod(top / "setuid", 0o6755)
    os.link(top / "a", top / "deep" / "link")
    os.symlink("/absolute/and/dangling", top / "symlink")
    os.symlink("a", top / "deep" / ("s" * 150))
    os.symlink("t" * 300, top / "long target")
    os.link(top / "symlink", top / "symlink too", follow_symlinks=False)
    os.mkfifo(top / "fifo", 0o620)
    (top / "new\nline").write_bytes(b"n")
    (top / b"\xff\xfe".decode("utf-8", "surrogateescape")).write_bytes(b"not UTF-8")
    with open(top / "sparse", "wb") as file:
        for at in (1 << 20, 5 << 20, 9 << 20):
            file.seek(at)
            file.write(b"island" * 1000)
        file.truncate(12 << 20)
    with open(top / "many islands", "wb") as file:
        for at in range(0, 4 << 20, 64 << 10):
            file.seek(at + 32768)
            file.write(b"i" * 8192)
    (top / "closed").mkdir()
    (top / "closed" / "in").write_bytes(b"in")
    if ROOT:
        os.chown(top / "a", 12345, 2**31 + 5)
        os.chown(top / "symlink", 7, 8, follow_symlinks=False)
        os.chown(top / "deep", 9, 10)
    for number, (folder, folders, files) in enumerate(os.walk(top, topdown=False)):
        for name in folders + files:
            os.utime(os.path.join(folder, name), ns=(1, 1_500_000_000_123_456_789 - number), follow_symlinks=False)
    os.chmod(top / "closed", 0o500)
    os.utime(top / "closed", ns=(1, -987_654_321))
    os.utime(top, ns=(1, 1_400_000_000_000_000_001))
    yield top
    os.chmod(top / "closed", 0o700)


FORMATS = ["--format=gnu", "--format=posix", "--format=gnu --sparse", *(
    f"--format=posix --sparse --sparse-version={version}" for version in ("0.0", "0.1", "1.0")
)]  # fmt: skip


@pytest.mark.parametrize("style", ["plain", "overlay"])
@pytest.mark.parametrize("flags", FORMATS)
def test_as_gnu_tar_extracts_it(quarantine, original, tmp_path, flags, style):
    if shutil.which("tar") is None or b"GNU" not in subprocess.run(["tar", "--version"], capture_output=True).stdout:
        pytest.skip("no GNU tar here")
    command = ["tar", "-C", original, *flags.split(), "-c", "."]
    if "posix" in flags:
        command[3:3] = ["--xattrs", "--pax-option=delete=atime,delete=ctime"]
    data = subprocess.run(command, capture_output=True, check=True).stdout
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    subprocess.run(["tar", "-xp", "--numeric-owner", "--xattrs", "-C", theirs], input=data, check=True)
    done = unpack(quarantine, data, style=style)
    mine, groups = tree(quarantine.tree)
    other, their_groups = tree(theirs)
    assert mine == other
    assert groups == their_groups
    assert done.skipped == 0
    assert done.read == len(data)
    for name in ("sparse", "many islands"):
        if "sparse" in flags:
            assert look(quarantine, name).st_blocks == os.lstat(theirs / name).st_blocks
    os.chmod(theirs / "closed", 0o700)


def test_as_python_writes_it(quarantine):
    for format_ in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT):
        raw = io.BytesIO()
        with tarfile.open(fileobj=raw, mode="w", format=format_) as tar:
            info = tarfile.TarInfo("d" * 90 + "/" + "f" * 90)
            info.size, info.mode, info.mtime = 4, 0o640, 1234567890
            tar.addfile(info, io.BytesIO(b"four"))
        assert unpack(quarantine, raw.getvalue()).implied == (("d" * 90,) if format_ == tarfile.GNU_FORMAT else ())
        assert text(quarantine, info.name) == b"four"
        assert stat.S_IMODE(look(quarantine, info.name).st_mode) == 0o640
        assert look(quarantine, info.name).st_mtime == 1234567890


def test_attributes(quarantine):
    capability = bytes.fromhex("0100000200200000000000000000000000000000")
    pairs = [(b"SCHILY.xattr.user.one", b"a\n=\0b"), (b"SCHILY.xattr.user.overlay.opaque", b"y"),
             (b"SCHILY.xattr.trusted.overlay.redirect", b"/etc")]  # fmt: skip
    if ROOT:
        pairs.append((b"SCHILY.xattr.security.capability", capability))
    done = unpack(quarantine, pax(*pairs) + member(b"f", b"data", uid=1, mode=0o4755) + pax(pairs[0])
                  + member(b"d", kind=b"5") + pax(pairs[0]) + member(b"l", kind=b"2", link=b"f") + end)  # fmt: skip
    path = os.path.join(quarantine.tree, "f")
    assert os.getxattr(path, "user.one") == b"a\n=\0b"
    assert os.getxattr(os.path.join(quarantine.tree, "d"), "user.one") == b"a\n=\0b"
    assert {name for _, name in done.warnings} == {"f", "l"}, "a symlink has none of a user's"
    assert done.skipped == 3
    assert not [name for name in os.listxattr(path) if "overlay" in name]
    assert stat.S_IMODE(look(quarantine, "f").st_mode) == 0o4755
    if ROOT:
        assert os.getxattr(path, "security.capability") == capability


def test_owners_noted_for_those_who_have_no_root(quarantine):
    unpack(quarantine, member(b"f", b"", uid=300, gid=5) + member(b"g") + end, owners="record")
    assert os.getxattr(os.path.join(quarantine.tree, "f"), "user.rootlesscontainers") == b"\x08\xac\x02\x10\x05"
    assert not os.listxattr(os.path.join(quarantine.tree, "g"))
    assert look(quarantine, "f").st_uid == os.geteuid()


@as_root
def test_devices(quarantine):
    data = member(b"null", kind=b"3", major=1, minor=3, mode=0o666) + member(b"disk", kind=b"4", major=259, minor=70000)
    assert unpack(quarantine, data + end).skipped == 0
    assert look(quarantine, "null").st_rdev == os.makedev(1, 3)
    assert stat.filemode(look(quarantine, "null").st_mode) == "crw-rw-rw-"
    assert look(quarantine, "disk").st_rdev == os.makedev(259, 70000)
    assert unpack(quarantine, member(b"skipped", kind=b"3") + end, devices="skip").warnings == (
        ("it is a device", "skipped"),
    )
    assert "device" in refused(quarantine, data + end, devices="refuse").reason
    assert "number" in refused(quarantine, member(b"x", kind=b"3", major=1 << 13)).reason


def test_what_replaces_what(quarantine):
    """File, folder and symlink, each by each; the last one holds, and nothing is written through."""
    shapes = {
        "file": member(b"n", b"new"),
        "folder": member(b"n", kind=b"5"),
        "link": member(b"n", kind=b"2", link=b"t"),
    }
    for first in shapes.values():
        for name, second in shapes.items():
            unpack(quarantine, member(b"t", b"target") + first + end)
            unpack(quarantine, second + end)
            made = look(quarantine, "n").st_mode
            assert {"file": stat.S_ISREG, "folder": stat.S_ISDIR, "link": stat.S_ISLNK}[name](made)
            assert text(quarantine, "t") == b"target"
    unpack(quarantine, member(b"t2", kind=b"1", link=b"t") + member(b"t2", b"other") + end)
    assert text(quarantine, "t") == b"target", "written through a hard link"
    unpack(quarantine, member(b"n", kind=b"5") + member(b"n/in/deep", b"1") + member(b"n", b"file") + end)
    assert text(quarantine, "n") == b"file"


def test_symlinks_are_resolved_as_in_the_image(quarantine):
    """`/lib` is `/usr/lib`, absolute or not: members go there, as in a container."""
    data = member(b"usr/lib", kind=b"5") + member(b"lib", kind=b"2", link=b"/usr/lib") + member(b"lib/one", b"1")
    unpack(quarantine, data + member(b"up", kind=b"2", link=b"../../..") + member(b"up/two", b"2") + end)
    assert text(quarantine, "usr/lib/one") == b"1"
    assert text(quarantine, "two") == b"2"


def test_a_hard_link_to_itself_to_a_symlink_and_to_a_layer_below(quarantine):
    unpack(quarantine, member(b"below", b"b") + end)
    links = [(b"below", b"below"), (b"again", b"/below"), (b"s2", b"s"), (b"d/again", b"./below"), (b"d/again", b"s")]
    data = member(b"s", kind=b"2", link=b"/etc/passwd") + member(b"d", kind=b"5")
    unpack(quarantine, data + b"".join(member(name, kind=b"1", link=link) for name, link in links) + end)
    assert look(quarantine, "below").st_nlink == 2
    assert text(quarantine, "below") == b"b"
    assert os.readlink(os.path.join(quarantine.tree, "s2")) == "/etc/passwd"
    assert look(quarantine, "d/again").st_ino == look(quarantine, "s").st_ino


BELOW = (member(b"keep", b"1") + member(b"d", kind=b"5", mode=0o750, mtime=1000) + member(b"d/old", b"1")
         + member(b"d/sub", kind=b"5")
         + member(b"d/sub/old", b"1") + member(b"e", kind=b"5") + member(b"e/old", b"1") + end)  # fmt: skip


def names(quarantine):
    return sorted(os.fsdecode(name)[1:] for name in tree(quarantine.tree)[0] if name != b"/.")


@pytest.mark.parametrize("early", [True, False])
def test_plain_whiteouts(quarantine, early):
    """They remove what is below, and never what the layer itself has put there, in any order."""
    unpack(quarantine, BELOW)
    marks = member(b"d/.wh..wh..opq") + member(b".wh.e") + member(b".wh.absent") + member(b"no/where/.wh.x")
    brought = member(b"d/sub/new", b"2") + member(b"d/new", b"2") + member(b"e", kind=b"5") + member(b"e/new", b"2")
    unpack(quarantine, (marks + brought if early else brought + marks) + end)
    assert names(quarantine) == ["d", "d/new", "d/sub", "d/sub/new", "e", "e/new", "keep", "no", "no/where"]


def test_what_lies_below_keeps_mode_and_time(quarantine):
    unpack(quarantine, BELOW)
    unpack(quarantine, member(b"d/new", b"2") + end)
    assert look(quarantine, "d").st_mtime == 1000
    assert stat.S_IMODE(look(quarantine, "d").st_mode) == 0o750


@pytest.mark.parametrize("early", [True, False])
def test_overlay_whiteouts(quarantine, early):
    attribute = f"{'trusted' if ROOT else 'user'}.overlay.opaque"
    marks = member(b"d/.wh..wh..opq") + member(b".wh.e") + member(b"a/b/.wh.gone") + member(b".wh..wh.plnk/1.2", b"x")
    brought = member(b"d/new", b"2") + member(b"e", kind=b"5") + member(b"e/new", b"2")
    done = unpack(quarantine, (marks + brought if early else brought + marks) + end, style="overlay")
    assert names(quarantine) == ["a", "a/b", "a/b/gone", "d", "d/new", "e", "e/new"]
    gone = look(quarantine, "a/b/gone")
    assert stat.S_ISCHR(gone.st_mode)
    assert gone.st_rdev == 0
    for name in ("d", "e"):
        assert os.getxattr(os.path.join(quarantine.tree, name), attribute) == b"y", "what is below would show"
    assert sorted(done.implied) == ["a", "a/b", "d"]


NAMES = [b"a", b"b", b"a/c", b"a/c/d", b"b/e"]
MARKS = [b".wh.a", b".wh.b", b"a/.wh.c", b"a/c/.wh.d", b"a/.wh..wh..opq", b"b/.wh..wh..opq", b"a/c/.wh..wh..opq"]
MEMBERS = st.one_of(
    st.tuples(st.sampled_from(NAMES), st.sampled_from([b"0", b"5"])), st.tuples(st.sampled_from(MARKS), st.just(b"0")),
    st.tuples(st.just(b"link"), st.sampled_from([b"0", b"2", b"5"])),
)  # fmt: skip


def inside(root, data, *, overlay):
    """As the process does it, but in this one."""
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.seek(0)
        folder = os.open(root, os.O_RDONLY)
        options = {"private": False, "owners": "keep", "devices": "make", "entries": 1000, "size": 1 << 30}
        try:
            Untar(file.fileno(), folder, overlay=overlay, **options).run()
        finally:
            os.close(folder)


@as_root
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(MEMBERS, max_size=7), st.lists(MEMBERS, max_size=7))
def test_the_kernel_makes_of_an_overlay_what_plain_is(tmp_path, first, second):
    """The oracle is overlayfs: lower and upper, merged, are the layers over each other. But for marks
    below what is marked itself: whether that folder was ever there, is nowhere said."""
    marks = {name: name.replace(b"/.wh..wh..opq", b"").replace(b".wh.", b"") for name, _ in second if b".wh." in name}
    assume(not any(one != two and (marks[one] + b"/").startswith(marks[two] + b"/") for one in marks for two in marks))

    def layer(number, members):
        contents = [
            (name, b"%d %d" % (number, at) if kind == b"0" else b"", kind) for at, (name, kind) in enumerate(members)
        ]
        return b"".join(member(name, data, kind=kind, link=b"a") for name, data, kind in contents) + end

    with tempfile.TemporaryDirectory(dir=tmp_path) as box:
        lower, upper, work, merged, plain = (os.path.join(box, name) for name in ("l", "u", "w", "m", "p"))
        for path in (lower, upper, work, merged, plain):
            os.mkdir(path)
        try:
            for root in (lower, plain):
                inside(root, layer(1, first), overlay=False)
            inside(plain, layer(2, second), overlay=False)
            inside(upper, layer(2, second), overlay=True)
        except Unsafe:  # a file where a folder is implied: only one of the two can know
            assume(False)
        mount = ["mount", "-t", "overlay", "-o", f"lowerdir={lower},upperdir={upper},workdir={work}", "none", merged]
        if subprocess.run(mount, capture_output=True).returncode:
            pytest.skip("no overlays here")
        try:
            kernel, mine = ({name: what[4] for name, what in tree(root)[0].items()} for root in (merged, plain))
        finally:
            subprocess.run(["umount", merged], check=True)
        assert kernel == mine


def test_headers_of_old(quarantine):
    """V7, signed checksums, base 256, names without an end, times before 1970."""
    high = block(b"\xe4" * 100, mode=0o600, magic=bytes(8))
    signed = sum(b - 256 if b > 127 else b for b in high[:148] + high[156:]) + 256
    base = b"\x80" + (0).to_bytes(3, "big") + (3_000_000_000).to_bytes(8, "big")
    before = b"\xff" * 8 + (-5).to_bytes(4, "big", signed=True)
    data = block(b"\xe4" * 100, mode=0o600, magic=bytes(8), checksum=b"%06o\0 " % signed)
    data += member(b"folder/", kind=b"\0", magic=bytes(8), mode=0o700)
    data += member(b"big", mtime=base) + member(b"old", mtime=before)
    unpack(quarantine, data)
    assert stat.S_ISDIR(look(quarantine, "folder").st_mode)
    assert look(quarantine, "big").st_mtime == 3_000_000_000
    assert look(quarantine, "old").st_mtime == -5
    assert os.path.lexists(os.path.join(os.fsencode(quarantine.tree), b"\xe4" * 100))


def test_a_long_name_that_is_cut_behind_a_slash(quarantine):
    """Where its header's hundred bytes end says nothing of what it is."""
    name = b"d" * 99 + b"/file"
    for number, long in enumerate([pax((b"path", name + b"0")), member(b"L", name + b"1\0", kind=b"L")]):
        unpack(quarantine, long + member(name[:100], b"data" * 200, kind=b"\0") + member(b"after") + end)
        assert text(quarantine, os.fsdecode(name) + str(number)) == b"data" * 200


def test_an_empty_tar_and_what_follows_the_end(quarantine):
    assert unpack(quarantine, b"").entries == 0
    assert unpack(quarantine, end).read == 1024
    assert unpack(quarantine, member(b"f") + end + b"rest" * 1_000_000).read == 512 + 1024 + 4_000_000


HOSTILE = {
    "absolute": (member(b"/etc/x"), "absolute"),
    "dots": (member(b"../x"), "'..'"),
    "dots within": (member(b"a/../../x"), "'..'"),
    "dots by pax": (pax((b"path", b"a/b/../../../x")) + member(b"good"), "'..'"),
    "dots by gnu": (member(b"L", b"../x\0", kind=b"L") + member(b"good"), "'..'"),
    "whiteout of dots": (member(b"d/.wh..."), "whiteout of nothing"),
    "whiteout of a dot": (member(b"d/.wh.."), "whiteout of nothing"),
    "whiteout of nothing": (member(b"d/.wh."), "whiteout of nothing"),
    "in a whiteout": (member(b".wh.a/b"), "whiteout"),
    "whiteout out": (member(b"../.wh.x"), "'..'"),
    "hard link out": (member(b"x", kind=b"1", link=b"../outside"), "'..'"),
    "hard link to the machine": (member(b"x", kind=b"1", link=b"/etc/passwd"), "not in the tree"),
    "hard link through a symlink": (
        member(b"s", kind=b"2", link=b"/etc") + member(b"x", kind=b"1", link=b"s/passwd"), "not in the tree"),
    "hard link to a folder": (member(b"d", kind=b"5") + member(b"x", kind=b"1", link=b"d"), "folder"),
    "through a dangling symlink": (member(b"s", kind=b"2", link=b"/outside") + member(b"s/x", b"1"), "no folder"),
    "through a loop": (member(b"s", kind=b"2", link=b"s") + member(b"s/x", b"1"), "loop"),
    "through a file": (member(b"f", b"1") + member(b"f/x", b"1"), "no folder"),
    "root is no folder": (member(b"./", b"", kind=b"2", link=b"/etc"), "root"),
    "NUL": (pax((b"path", b"a\0b")) + member(), "NUL"),
    "NUL in a link": (pax((b"linkpath", b"a\0b")) + member(kind=b"2"), "links to nothing"),
    "endless name": (pax((b"path", b"a/" * 3000 + b"x")) + member(), "too long"),
    "long part": (pax((b"path", b"a" * 300)) + member(), "too long"),
    "endless target": (pax((b"linkpath", b"a" * 5000)) + member(kind=b"2"), "too long"),
    "checksum": (block(checksum=b"0000000\0"), "checksum"),
    "octal": (block(size=b"0000000009\0\0"), "number"),
    "negative": (block(size=b"\xff" * 12), "negative"),
    "huge": (block(size=b"\x80" + b"\x7f" * 11), "number"),
    "larger than the tar": (block(size=b"\x80" + bytes(4) + b"\x7f" + bytes(6)), "cut off"),
    "owner": (block(uid=b"\x80\0\0\0\xff\xff\xff\xff"), "owner"),
    "owner by pax": (pax((b"uid", b"4294967296")) + member(), "owner"),
    "negative owner": (block(uid=b"\xff" * 8), "owner"),
    "cut in a header": (block()[:300], "cut off"),
    "cut in content": (block(size=600) + bytes(512), "cut off"),
    "cut in padding": (block(size=600) + bytes(600), "cut off"),
    "cut in pax": (block(kind=b"x", size=600) + bytes(100), "cut off"),
    "pax bomb": (block(kind=b"x", size=b"\x80" + (1 << 40).to_bytes(11, "big")), "longer"),
    "global pax bomb": (block(kind=b"g", size=1 << 30), "longer"),
    "name bomb": (block(kind=b"L", size=1 << 30), "longer"),
    "pax length": (member(kind=b"x", data=b"999 path=x\n"), "malformed"),
    "pax without =": (member(kind=b"x", data=b"7 path\n"), "malformed"),
    "pax of zero": (member(kind=b"x", data=b"0 path=x\n"), "malformed"),
    "pax size": (pax((b"size", b"-1")) + member(), "number"),
    "pax size of all": (pax((b"size", b"9" * 19)) + member(), "number"),
    "pax time": (pax((b"mtime", b"NaN")) + member(), "number"),
    "no kind": (member(kind=b"Z"), "kind"),
    "volumes": (member(kind=b"M"), "kind"),
    "sparse overlap": (pax((b"GNU.sparse.map", b"0,10,5,10"), (b"GNU.sparse.size", b"99")) + member(data=b"x" * 20), "map"),  # noqa: E501
    "sparse outside": (pax((b"GNU.sparse.map", b"90,10"), (b"GNU.sparse.size", b"95")) + member(data=b"x" * 10), "map"),
    "sparse odd": (pax((b"GNU.sparse.map", b"90,10,3"), (b"GNU.sparse.size", b"95")) + member(data=b"x" * 10), "map"),
    "sparse short": (pax((b"GNU.sparse.map", b"0,5"), (b"GNU.sparse.size", b"95")) + member(data=b"x" * 10), "map"),
    "sparse count": (
        pax((b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.realsize", b"9"))
        + member(data=padded(b"99999999999\n")), "map"),
    "sparse without end": (
        pax((b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.realsize", b"9"))
        + member(data=b"1" * 4096), "map"),
    "sparse of all": (
        pax((b"GNU.sparse.map", b"0,1"), (b"GNU.sparse.size", b"9223372036854775807")) + member(data=b"x"), "larger"),
    "old sparse extents": (
        block(kind=b"S", magic=b"ustar  \0", raw={386: b"\xff" * 96, 482: b"\1" + b"00000000777\0"}), "map"),
    "old sparse without gnu": (block(kind=b"S"), "map"),
}  # fmt: skip


@pytest.mark.parametrize("style", ["plain", "overlay"])
@pytest.mark.parametrize("case", HOSTILE)
def test_hostile(quarantine, tmp_path, case, style):
    data, why = HOSTILE[case]
    (tmp_path / "outside").mkdir()
    error = refused(quarantine, data if "cut" in case else data + end, style=style)
    assert why.lower() in error.reason.lower()
    assert not os.listdir(tmp_path / "outside")
    assert sorted(os.listdir(tmp_path)) == sorted(["outside", os.path.basename(os.path.dirname(quarantine.tree))])
    quarantine.remove()
    assert os.listdir(tmp_path) == ["outside"]


def test_a_name_is_told_without_its_control_characters(quarantine):
    error = refused(quarantine, pax((b"path", b"\x1b[2J\nx\xff/../y")) + member() + end)
    assert error.name == r"\x1b[2J\nx\udcff/../y"
    assert "\x1b" not in str(error)


def test_limits(quarantine):
    many = b"".join(member(b"%d" % number) for number in range(1001))
    assert "1000 members" in refused(quarantine, many + end, limits=Limits(entries=1000)).reason
    assert "1000 members" in refused(quarantine, member(b"same") * 1001, limits=Limits(entries=1000)).reason
    assert "1000 members" in refused(quarantine, pax() * 1001, limits=Limits(entries=1000)).reason
    deep = b"".join(pax((b"path", b"deep%d" % n + b"/d" * 600 + b"/f")) + member() for n in range(3))
    assert "1000 members" in refused(quarantine, deep, limits=Limits(entries=1000)).reason, "folders count"
    assert "100000 bytes" in refused(quarantine, member(b"f", bytes(200000)), limits=Limits(bytes=100000)).reason
    assert "100000 bytes" in refused(quarantine, end + bytes(200000), limits=Limits(bytes=100000)).reason
