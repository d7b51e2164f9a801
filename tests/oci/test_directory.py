"""A plain folder as destination: the whole image, or nothing."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from parpull.errors import InUse, SinkError, TargetExists
from parpull.oci import BadManifest
from parpull.oci.destination import Image, Staging
from parpull.oci.directory import Directory
from tests.oci.small import bring, small
from tests.running import environment
from tests.servers.control import ROOT


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("memory", [(), (0, 1)])
@pytest.mark.parametrize("there", [True, False])
def test_an_image(tmp_path, memory, there):
    root = tmp_path / "root"
    if there:
        root.mkdir()
    with Directory(root) as directory:
        made = small(layers=[{"etc/a": b"1", "etc/b": b"2"}, {"etc/a": b"3"}])
        assert bring(made, directory, memory=memory) == str(root)
    assert (root / "etc/a").read_bytes() == b"3"
    assert (root / "etc/b").read_bytes() == b"2"
    assert names(tmp_path) == ["root"]
    assert root.stat().st_mode & 0o777 == 0o755


def test_nothing_is_seen_before_the_end(tmp_path):
    made = small()
    directory = Directory(tmp_path / "root")
    directory.begin(made.image)
    (tmp_path / directory.outlet(0).folder / "x").write_text("x")
    assert names(tmp_path) == [".root.parpull"]
    directory.abort()
    directory.abort()
    assert names(tmp_path) == []


def test_an_error_leaves_nothing(tmp_path):
    made = small()
    with pytest.raises(ZeroDivisionError), Directory(tmp_path / "root") as directory:
        directory.begin(made.image)
        inner = os.path.join(directory.outlet(0).folder, "shut", "in")
        os.makedirs(inner)
        for folder in (inner, os.path.dirname(inner)):
            os.chmod(folder, 0o500)  # an image has folders that nobody may write in
        os.symlink("/etc", os.path.join(directory.outlet(0).folder, "link"))
        raise ZeroDivisionError
    assert names(tmp_path) == []
    assert os.path.exists("/etc/passwd")


def test_blobs_can_be_kept_and_files_never(tmp_path):
    made = small()
    with Directory(tmp_path / "root") as directory:
        directory.begin(made.image)
        with open(directory.locate(made.layers[0]).path, "wb") as file:
            file.write(made.blobs[made.layers[0].digest])
        (tmp_path / directory.outlet(0).folder / "x").write_text("x")
        directory.abort(keep=True)
    assert names(tmp_path / ".root.parpull") == ["blobs"]
    seen = []
    with Directory(tmp_path / "root") as directory:
        bring(made, directory, seen=seen)
    assert seen == [1]
    assert names(tmp_path) == ["root"]


@pytest.mark.parametrize("what", ["file", "full", "link to a full one"])
def test_something_is_there(tmp_path, what):
    root = tmp_path / "root"
    full = tmp_path / "other"
    full.mkdir()
    (full / "mine").write_text("mine")
    if what == "file":
        root.write_text("mine")
    elif what == "full":
        full.rename(root)
    else:
        root.symlink_to(full)
    before = names(tmp_path)
    with Directory(root) as directory, pytest.raises(TargetExists, match="not an empty folder"):
        directory.begin(small().image)
    assert names(tmp_path) == before


def test_somebody_was_faster(tmp_path):
    root = tmp_path / "root"
    with Directory(root) as directory:
        directory.begin(small().image)
        root.mkdir()
        (root / "mine").write_text("mine")
        with pytest.raises(TargetExists):
            directory.finish()
    assert names(tmp_path) == ["root"]
    assert names(root) == ["mine"]


def test_a_second_pull_is_told(tmp_path):
    with Directory(tmp_path / "root") as first, Directory(tmp_path / "root") as second:
        first.begin(small().image)
        with pytest.raises(InUse, match="another pull") as caught:
            second.begin(small().image)
        assert caught.value.owner in ("this process", None)
        second.abort()
        bring(small(), first, begun=True)
    assert names(tmp_path) == ["root"]


def test_what_is_no_image_and_where_there_is_no_folder(tmp_path):
    image = small().image
    artifact = Image(image.reference, image.descriptor, image.manifest, image.manifest_body, b"{}", None)
    with Directory(tmp_path / "root") as directory, pytest.raises(BadManifest, match="no image"):
        directory.begin(artifact)
    with Directory(tmp_path / "a" / "b") as directory, pytest.raises(SinkError, match="no folder"):
        directory.begin(image)
    with Directory("/proc") as directory, pytest.raises(TargetExists):
        directory.begin(image)
    assert names(tmp_path) == []


def test_what_a_killed_pull_has_left_is_removed_by_the_next(tmp_path):
    code = (
        "import os, signal, sys; from parpull.oci.directory import Directory; from tests.oci.small import small\n"
        "d = Directory(sys.argv[1]); d.begin(small().image)\n"
        "os.mkdir(os.path.join(d.outlet(0).folder, 'half')); os.kill(os.getpid(), signal.SIGKILL)"
    )
    root = tmp_path / "root"
    done = subprocess.run([sys.executable, "-c", code, str(root)], cwd=ROOT, env=environment(), check=False, timeout=60)
    assert done.returncode == -9
    assert names(tmp_path) == [".root.parpull"]
    with Directory(root) as directory:
        bring(small(), directory)
    assert names(tmp_path) == ["root"]
    assert names(root) == ["bin", "etc"]


def test_a_hidden_folder_that_is_a_link_is_not_followed(tmp_path):
    (tmp_path / "treasure").mkdir()
    (tmp_path / "treasure" / "work").mkdir()
    (tmp_path / ".root.parpull").symlink_to(tmp_path / "treasure")
    with pytest.raises(SinkError):
        Staging(tmp_path / "root").open()
    assert names(tmp_path / "treasure") == ["work"]
