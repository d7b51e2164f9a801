"""An OCI layout as destination: valid at every moment, whoever writes to it, and to others' eyes."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from jsonschema import Draft4Validator
from referencing import Registry, Resource

import parpull
from parpull.errors import SinkError
from parpull.oci import media
from parpull.oci.digest import Digest
from parpull.oci.layout import FULL, REF, Layout
from parpull.oci.manifest import Descriptor, parse_manifest
from tests.oci.small import LAYER, bring, small, tool
from tests.oci.test_vectors import SPEC, unpacked
from tests.running import environment
from tests.servers.control import ROOT

MIB = 1 << 20


def index_of(folder):
    return json.loads((folder / "index.json").read_bytes())


def blobs_of(folder):
    return {path.name for path in (folder / "blobs" / "sha256").iterdir()}


def check(folder):
    """That it is a layout: each blob is what its name says, and the index names what is there."""
    assert json.loads((folder / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    for path in (folder / "blobs" / "sha256").iterdir():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name
    for entry in index_of(folder)["manifests"]:
        manifest = json.loads((folder / "blobs" / entry["digest"].replace(":", "/")).read_bytes())
        for one in (manifest["config"], *manifest["layers"]):
            assert (folder / "blobs" / one["digest"].replace(":", "/")).stat().st_size == one["size"]


def hidden(folder):
    return {path.name for path in (folder / ".parpull").rglob("*")} - {"index.lock", "blobs"}


@pytest.mark.parametrize("memory", [(), (0,), (0, 1)])
def test_an_image(tmp_path, memory):
    made = small()
    folder = tmp_path / "layout"
    with Layout(folder) as layout:
        assert bring(made, layout, memory=memory) == str(folder)
    check(folder)
    (entry,) = index_of(folder)["manifests"]
    assert entry["digest"] == str(made.image.descriptor.digest)
    assert entry["annotations"] == {REF: "v1", FULL: "registry.example/team/app:v1"}
    assert entry["platform"] == {"architecture": "amd64", "os": "linux"}
    assert len(blobs_of(folder)) == 4
    assert hidden(folder) == set()


def test_what_is_there_is_not_fetched_again(tmp_path):
    base = {"usr/lib/big": os.urandom(40000)}
    first, second = small("a.example/x:1", [base, {"a": b"1"}]), small("a.example/x:2", [base, {"a": b"2"}])
    seen = []
    for made in (first, second, second):
        with Layout(tmp_path / "layout") as layout:
            bring(made, layout, seen=seen)
    assert seen == [0, 1, 1]
    check(tmp_path / "layout")
    assert [entry["annotations"][REF] for entry in index_of(tmp_path / "layout")["manifests"]] == ["1", "2"]


def test_one_layer_twice(tmp_path):
    seen = []
    with Layout(tmp_path / "layout") as layout:
        bring(small(layers=[{"a": b"1"}, {"a": b"1"}]), layout, seen=seen)
    assert seen == [0]
    check(tmp_path / "layout")


def test_a_tag_that_moved_leaves_the_others(tmp_path):
    folder = tmp_path / "layout"
    for made, name in ((small(), None), (small(), "other"), (small(), None)):
        with Layout(folder, name) as layout:
            bring(made, layout)
    strange = {"mediaType": "a/b", "digest": "sha256:" + "0" * 64, "size": 3, "x": [1]}
    index = index_of(folder)
    (folder / "index.json").write_text(json.dumps(index | {"manifests": [strange, *index["manifests"]], "more": 1}))
    last = small()
    with Layout(folder) as layout:
        bring(last, layout)
    entries = index_of(folder)["manifests"]
    assert index_of(folder)["more"] == 1
    assert entries[0] == strange
    assert [entry["annotations"][REF] for entry in entries[1:]] == ["other", "v1"]
    assert entries[-1]["digest"] == str(last.image.descriptor.digest)


def test_without_a_tag_it_has_no_name(tmp_path):
    made = small(f"a.example/x@sha256:{'1' * 64}")
    for _ in range(2):
        with Layout(tmp_path / "layout") as layout:
            bring(made, layout)
    (entry,) = index_of(tmp_path / "layout")["manifests"]
    assert "annotations" not in entry


def test_a_blob_that_rotted_is_fetched_again(tmp_path):
    made = small()
    with Layout(tmp_path / "layout") as layout:
        bring(made, layout)
    path = tmp_path / "layout" / "blobs" / "sha256" / made.layers[1].digest.hex
    body = path.read_bytes()
    path.write_bytes(body[:-1] + bytes([body[-1] ^ 1]))
    seen = []
    with Layout(tmp_path / "layout") as layout:
        bring(made, layout, seen=seen)
    assert seen == [1]
    check(tmp_path / "layout")


def test_what_is_no_layout_is_left_alone(tmp_path):
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(SinkError, match="no OCI layout"):
        Layout(tmp_path).begin(small().image)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    with pytest.raises(SinkError, match="no folder"):
        Layout(tmp_path / "a" / "b").begin(small().image)


def test_an_index_that_is_none(tmp_path):
    with Layout(tmp_path / "layout") as layout:
        bring(small(), layout)
    (tmp_path / "layout" / "index.json").write_text("[]")
    with Layout(tmp_path / "layout") as layout, pytest.raises(SinkError, match="index"):
        layout.begin(small().image)


def test_a_pull_that_fails_leaves_nothing(tmp_path):
    made = small()
    with pytest.raises(ZeroDivisionError), Layout(tmp_path / "layout") as layout:
        layout.begin(made.image)
        found = layout.locate(made.layers[0])
        for suffix in ("", ".parpull-part", ".parpull"):
            (tmp_path / (found.path + suffix)).write_bytes(b"x")
        raise ZeroDivisionError
    check(tmp_path / "layout")
    assert hidden(tmp_path / "layout") == blobs_of(tmp_path / "layout") == set()


def test_two_at_once_fetch_to_places_of_their_own(tmp_path):
    made = small()
    with Layout(tmp_path / "layout", "one") as one, Layout(tmp_path / "layout", "two") as two:
        one.begin(made.image)
        two.begin(made.image)
        places = {layout.locate(made.layers[0]).path for layout in (one, two)}
        assert len(places) == 2
        bring(made, one, begun=True)
        assert two.locate(made.layers[1]).complete  # the other has brought it meanwhile
        bring(made, two, begun=True)
    check(tmp_path / "layout")
    assert {entry["annotations"][REF] for entry in index_of(tmp_path / "layout")["manifests"]} == {"one", "two"}
    assert hidden(tmp_path / "layout") == set()


# --- with real downloads ------------------------------------------------------------------------


def test_a_partial_blob_goes_on(origin, name, tmp_path):
    """Kept by one pull, gone on with by the next: over HTTP, as FileSink's journal has it."""
    url = origin.url(f"{name}/x", size=24 * MIB, pace=6 * MIB)
    with parpull.fetch(url) as blob:
        digest, body = Digest.of(bytes(blob)), bytes(blob)
    made = small()
    layer = Descriptor("application/octet-stream", digest, len(body))
    with Layout(tmp_path / "layout") as layout:
        layout.begin(made.image)
        found = layout.locate(layer)
        assert (found.landed, found.complete) == (0, False)
        with parpull.submit(url, found.path, connections=4) as download:
            while download.progress().received < 6 * MIB:
                time.sleep(0.01)
            download.cancel()
        layout.abort(keep=True)
    check(tmp_path / "layout")
    with Layout(tmp_path / "layout") as layout:
        layout.begin(made.image)
        again = layout.locate(layer)
        assert again.path == found.path
        assert 0 < again.landed < len(body)
        with parpull.submit(url, again.path, connections=4) as download:
            download.result()
            assert download.progress().resumed >= MIB
        layout.abort(keep=True)
    with Layout(tmp_path / "layout") as layout:  # complete, but its pull ended before it had its name
        layout.begin(made.image)
        assert layout.locate(layer).complete


# --- many processes -----------------------------------------------------------------------------

PULL = """
import random, sys, time
from tests.oci.layouts import images
from tests.oci.small import bring
from parpull.oci.layout import Layout
folder, number, pulls = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
made = images()
print("go", flush=True)
for turn in range(pulls):
    index = (turn + number) % len(made)
    with Layout(folder, f"{number}-{index}") as layout:
        bring(made[index], layout, memory=(turn % 2,))
"""


def pulling(folder, number, pulls):
    command = [sys.executable, "-c", PULL, str(folder), str(number), str(pulls)]
    return subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_processes_write_to_one_layout_at_once(tmp_path):
    folder = tmp_path / "layout"
    running = [pulling(folder, number, 9) for number in range(3)]
    for process in running:
        _, said = process.communicate(timeout=60)
        assert process.returncode == 0, said.decode()
    check(folder)
    names = sorted(entry["annotations"][REF] for entry in index_of(folder)["manifests"])
    assert names == [f"{number}-{index}" for number in range(3) for index in range(3)]
    assert hidden(folder) == set()


def test_killed_at_any_moment_it_is_a_layout(tmp_path):
    """At random ones, also of a second pull's."""
    folder = tmp_path / "layout"
    for turn in range(3):
        process = pulling(folder, turn % 2, 10_000)
        assert process.stdout.readline() == b"go\n"
        time.sleep(random.Random(turn).uniform(0.005, 0.15))
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=10)
        if (folder / "oci-layout").exists():
            check(folder)
    process = pulling(folder, 5, 3)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said.decode()
    check(folder)
    assert not [name for name in hidden(folder) if name.startswith("own-")]


# Dies right before, or right after, the n-th call that changes a folder or asks for the disk.
KILLED = """
import itertools, os, shutil, signal, sys
from tests.oci.layouts import images
from tests.oci.small import bring
from tests.oci.test_layout import check
from pathlib import Path
from parpull.oci.layout import Layout
CALLS = ("rename", "fsync", "unlink", "mkdir", "rmdir")
made, folder = images()[:2], Path(sys.argv[1])
def attempt(calls, after):
    count = itertools.count(1)
    def dying(call):
        def instead(*args, **options):
            now = next(count) == calls
            if now and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            try:
                return call(*args, **options)
            finally:
                if now:
                    os.kill(os.getpid(), signal.SIGKILL)
        return instead
    for name in CALLS:
        setattr(os, name, dying(getattr(os, name)))
    for number, one in enumerate(made):
        with Layout(folder, str(number)) as layout:
            bring(one, layout, memory=(number,))
    os._exit(0)
for after in (False, True):
    for calls in itertools.count(1):
        shutil.rmtree(folder, ignore_errors=True)
        pid = os.fork()
        if not pid:
            attempt(calls, after)
        status = os.waitpid(pid, 0)[1]
        if status == 0:
            break
        assert os.WIFSIGNALED(status), status
        if (folder / "oci-layout").exists():
            check(folder)
        with Layout(folder, "0") as layout:  # the next one goes on as if nothing had been
            bring(made[0], layout)
        check(folder)
        left = {path.name for path in (folder / ".parpull").rglob("*")}
        assert not any(name.startswith("own-") for name in left), left
    print(calls)
"""


def test_killed_before_and_after_each_step_it_is_a_layout(tmp_path):
    command = [sys.executable, "-c", KILLED, str(tmp_path / "layout")]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False, timeout=120
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [int(calls) > 40 for calls in done.stdout.split()] == [True, True]


# --- to others' eyes ----------------------------------------------------------------------------


@pytest.fixture
def layout(tmp_path):
    folder = tmp_path / "layout"
    for name in ("v1", "v2"):
        with Layout(folder) as layout:
            bring(small(f"registry.example/team/app:{name}"), layout)
    return folder


def test_skopeo_reads_it(layout, tmp_path):
    skopeo = tool("skopeo")
    code, said = skopeo("inspect", f"oci:{layout}:v1")
    assert code == 0, said
    assert len(json.loads(said)["Layers"]) == 2
    policy = ("--insecure-policy",)
    code, said = skopeo(*policy, "copy", f"oci:{layout}:v2", f"docker-archive:{tmp_path}/out.tar:a/b:v2")
    assert code == 0, said
    code, said = skopeo(*policy, "copy", f"docker-archive:{tmp_path}/out.tar", f"oci:{layout}:from-skopeo")
    assert code == 0, said
    check(layout)  # and writes into it
    with Layout(layout) as again:
        bring(small(), again)
    assert {entry["annotations"][REF] for entry in index_of(layout)["manifests"]} == {"v1", "v2", "from-skopeo"}


def in_dockers_format(made):
    body = made.image.manifest_body.decode()
    for ours, theirs in (
        (media.MANIFEST, media.DOCKER_MANIFEST),
        (media.CONFIG, media.DOCKER_CONFIG),
        (f"{LAYER}+gzip", "application/vnd.docker.image.rootfs.diff.tar.gzip"),
    ):
        body = body.replace(ours, theirs)
    data = body.encode()
    found = Descriptor(media.DOCKER_MANIFEST, Digest.of(data), len(data))
    image = replace(made.image, descriptor=found, manifest=parse_manifest(data), manifest_body=data)
    return replace(made, image=image)


def test_dockers_format_is_said_in_ocis(tmp_path):
    ours, folder = small(), tmp_path / "layout"
    theirs = in_dockers_format(ours)
    with Layout(folder) as layout:
        bring(theirs, layout)
    check(folder)
    (entry,) = index_of(folder)["manifests"]
    document = json.loads((folder / "blobs" / entry["digest"].replace(":", "/")).read_bytes())
    assert document == json.loads(ours.image.manifest_body)
    code, said = tool("skopeo")("inspect", f"oci:{folder}:v1")
    assert code == 0, said
    code, said = tool("oci-image-tool")("validate", "--type", "image", "--ref", "name=v1", folder)
    assert code == 0, said
    with Layout(folder, "original", as_served=True) as layout:
        bring(theirs, layout)
    check(folder)
    assert index_of(folder)["manifests"][1]["digest"] == str(theirs.image.descriptor.digest)


def test_oci_image_tool_and_umoci_accept_it(layout, tmp_path):
    code, said = tool("oci-image-tool")("validate", "--type", "image", "--ref", "name=v1", layout)
    assert code == 0, said
    umoci = tool("umoci")
    code, said = umoci("stat", "--image", f"{layout}:v2", "--json")
    assert code == 0, said
    code, said = umoci("unpack", "--rootless", "--image", f"{layout}:v1", tmp_path / "bundle")
    assert code == 0, said
    assert (tmp_path / "bundle" / "rootfs" / "etc" / "a").read_bytes() == b"a" * 3000


def test_the_specifications_schemas_hold(layout):
    folder = unpacked(*SPEC)
    schemas = {path.name: json.loads(path.read_text()) for path in folder.glob("*.json")}
    resources = [Resource.from_contents(one, default_specification=_draft4()) for one in schemas.values()]
    registry = Registry().with_resources([
        *((one.id(), one) for one in resources if one.id()),
        *(
            (f"{where}{name}", resource)
            for name, resource in zip(schemas, resources, strict=True)
            for where in ("", "https://opencontainers.org/schema/", "https://opencontainers.org/schema/image/",
                          "https://opencontainers.org/schema/descriptor/",
                          "https://opencontainers.org/schema/image/index/",
                          "https://opencontainers.org/schema/image/manifest/")
        ),
    ])  # fmt: skip
    index = index_of(layout)
    documents = {
        "image-layout-schema.json": json.loads((layout / "oci-layout").read_bytes()),
        "image-index-schema.json": index,
        "image-manifest-schema.json": json.loads(
            (layout / "blobs" / index["manifests"][0]["digest"].replace(":", "/")).read_bytes()
        ),
    }
    for name, document in documents.items():
        Draft4Validator(schemas[name], registry=registry).validate(document)
    with pytest.raises(Exception, match="required"):
        Draft4Validator(schemas["image-layout-schema.json"], registry=registry).validate({})


def _draft4():
    from referencing.jsonschema import DRAFT4

    return DRAFT4
