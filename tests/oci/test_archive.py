"""An archive for `docker load`: as others write it, and as others read it."""

from __future__ import annotations

import gzip
import hashlib
import json
import sys
import tarfile

import pytest

from parpull.errors import InUse, TargetExists
from parpull.oci import BadManifest
from parpull.oci.archive import Archive
from parpull.oci.destination import Image
from tests.oci.small import bring, small, tool

SHARED = {"a": b"1" * 2000}


def members(path):
    with tarfile.open(path, "r:") as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("memory", [(), (0,), (0, 1, 2)])
def test_an_image(tmp_path, compressed, memory):
    made = small(layers=[SHARED, {"b": b"2"}, SHARED])
    path = tmp_path / "image.tar"
    with Archive(path, compressed=compressed) as archive:
        assert bring(made, archive, memory=memory) == str(path)
    found = members(path)
    (entry,) = json.loads(found["manifest.json"])
    assert entry["RepoTags"] == ["registry.example/team/app:v1"]
    assert found[entry["Config"]] == made.image.config_body
    layers = [found[name] for name in entry["Layers"]]
    assert layers == ([made.blobs[layer.digest] for layer in made.layers] if compressed else made.tars)
    assert len(found) == 4  # the shared layer is there once
    assert [one.name for one in tmp_path.iterdir()] == ["image.tar"]


@pytest.mark.parametrize(
    ("name", "tags"),
    [
        ("alpine", ["alpine:latest"]),
        ("docker.io/team/app:1", ["team/app:1"]),
        (f"h.example/x:1@sha256:{'1' * 64}", ["h.example/x:1"]),
        (f"h.example/x@sha256:{'1' * 64}", []),
    ],
)
def test_its_names(tmp_path, name, tags):
    with Archive(tmp_path / "image.tar") as archive:
        bring(small(name), archive)
    assert json.loads(members(tmp_path / "image.tar")["manifest.json"])[0]["RepoTags"] == tags


def test_the_same_image_is_the_same_archive(tmp_path):
    made = small()
    for name in ("a", "b"):
        with Archive(tmp_path / name) as archive:
            bring(made, archive, memory=(0,) if name == "a" else ())
    assert len({hashlib.sha256((tmp_path / name).read_bytes()).digest() for name in "ab"}) == 1


def test_skopeo_reads_it(tmp_path):
    made = small(layers=[SHARED, {"b": b"2"}, SHARED])
    skopeo = tool("skopeo")
    for compressed in (True, False):
        path = tmp_path / f"{compressed}.tar"
        with Archive(path, compressed=compressed) as archive:
            bring(made, archive)
        code, said = skopeo("inspect", f"docker-archive:{path}")
        assert code == 0, said
        assert json.loads(said)["Architecture"] == "amd64"
        code, said = skopeo("--insecure-policy", "copy", f"docker-archive:{path}", f"dir:{tmp_path}/{compressed}")
        assert code == 0, said
        manifest = json.loads((tmp_path / f"{compressed}" / "manifest.json").read_bytes())
        tars = [
            (tmp_path / f"{compressed}" / one["digest"].partition(":")[2]).read_bytes() for one in manifest["layers"]
        ]
        assert [gzip.decompress(tar) if tar[:2] == b"\x1f\x8b" else tar for tar in tars] == made.tars


def test_ours_has_what_skopeos_has(tmp_path):
    """The same image by both: the same config, the same layers, in the same order."""
    from parpull.oci.layout import Layout

    made = small()
    with Layout(tmp_path / "layout") as layout:
        bring(made, layout)
    with Archive(tmp_path / "ours") as archive:
        bring(made, archive)
    code, said = tool("skopeo")(
        "--insecure-policy", "copy", f"oci:{tmp_path}/layout:v1",
        f"docker-archive:{tmp_path}/theirs:registry.example/team/app:v1",
    )  # fmt: skip
    assert code == 0, said
    ours, theirs = members(tmp_path / "ours"), members(tmp_path / "theirs")
    assert json.loads(ours["manifest.json"])[0] == json.loads(theirs["manifest.json"])[0]


def test_a_zstd_layer_becomes_a_tar(tmp_path):
    zstd = pytest.importorskip("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
    made = small(pack=zstd.compress, suffix="+zstd")
    with Archive(tmp_path / "image.tar") as archive:
        bring(made, archive)
    code, said = tool("skopeo")("inspect", f"docker-archive:{tmp_path}/image.tar")
    assert code == 0, said


def test_what_stands_in_the_way(tmp_path):
    image = small().image
    (tmp_path / "there").write_text("mine")
    with Archive(tmp_path / "there") as archive, pytest.raises(TargetExists):
        archive.begin(image)
    artifact = Image(image.reference, image.descriptor, image.manifest, image.manifest_body, b"{}", None)
    with Archive(tmp_path / "x") as archive, pytest.raises(BadManifest, match="no image"):
        archive.begin(artifact)
    with Archive(tmp_path / "x") as first, Archive(tmp_path / "x") as second:
        first.begin(image)
        with pytest.raises(InUse):
            second.begin(image)
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_somebody_was_faster(tmp_path):
    made = small()
    with Archive(tmp_path / "x") as archive:
        archive.begin(made.image)
        (tmp_path / "x").write_text("mine")
        with pytest.raises(TargetExists):
            bring(made, archive, begun=True)
    assert (tmp_path / "x").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_pull_that_fails_leaves_nothing(tmp_path):
    made = small()
    with pytest.raises(ZeroDivisionError), Archive(tmp_path / "x") as archive:
        archive.begin(made.image)
        archive.outlet(0)
        archive.outlet(1)
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
