"""Pulls: images from a registry into folders and layouts; what goes wrong is not to be seen there."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import threading

import pytest

import parpull
from parpull.errors import ChecksumMismatch, NotFound, SizeMismatch
from parpull.oci import BadLayer, BadManifest, UnsafeLayer, pull
from parpull.oci.keychain import Keychain
from parpull.oci.pulling import Pull
from parpull.oci.reference import Reference
from parpull.oci.registry import Registry
from parpull.oci.verbs import destination_of
from parpull.options import Options
from tests.oci.published import MIB, PACKS, a_tar, base_layers, entry, folder, gz, hard_layers, plain, publish, zstd
from tests.oci.small import tool
from tests.oci.tars import tree
from tests.servers.fetch import Unavailable
from tests.servers.fixtures import real
from tests.servers.registries import LAYER, MANIFEST, Crane, DockerRegistry, Scripted, Store, digest_of

NOBODY = Keychain(environ={"HOME": "/nonexistent"})
ROOT = os.geteuid() == 0


def run(server, to, name="team/app:1", *, ram="largest", max_memory=None, tick=None, **options):
    """A pull that knows no credentials and no mirrors."""
    with (
        Registry(keychain=NOBODY, plain_http=True) as registry,
        parpull.Client(Options(connections=8, **options)) as bringing,
    ):
        image = registry.resolve(Reference.parse(f"{server.host}/{name}"))
        pulling = Pull(image, destination_of(to), client=bringing, registry=registry, ram=ram, max_memory=max_memory)
        if tick is not None:
            pulling.tick = lambda: tick(pulling)
        return pulling.run(), pulling


def nothing_left(tmp_path, *names):
    """Neither the destination nor what is hidden beside it."""
    return sorted(os.listdir(tmp_path)) == sorted(names)


@pytest.fixture
def scripted():
    with Scripted() as server:
        yield server


# --- what a pull makes -------------------------------------------------------------------------


@pytest.mark.parametrize("packs", [(gz,), (zstd, plain, gz)])
@pytest.mark.parametrize("ram", ["none", "largest", "all"])
def test_a_folder(scripted, tmp_path, packs, ram):
    tars = base_layers()
    layers = publish(scripted.store, tars, "1", packs=packs)
    pulled, pulling = run(scripted, tmp_path / "root", ram=ram)
    root = tmp_path / "root"
    assert pulled.path == str(root)
    assert (root / "etc/hosts").read_bytes() == b"two"
    assert not (root / "etc/gone").exists()
    assert sorted(os.listdir(root / "opt")) == ["new"]
    assert (root / "large").stat().st_ino == (root / "twin").stat().st_ino
    assert (root / "sh2").stat().st_ino == (root / "bin-su").stat().st_ino
    assert os.readlink(root / "sh") == "/bin/sh"
    assert pulled.size == pulled.fetched == sum(layer["size"] for layer in layers)
    assert pulled.unpacked == sum(map(len, tars))
    assert [layer.state for layer in pulling.layers] == ["done"] * 3
    memory = [layer.place for layer in pulling.layers].count("memory")
    assert memory == {"none": 0, "largest": 1, "all": 3}[ram]
    assert nothing_left(tmp_path, "root")


@pytest.mark.skipif(not ROOT, reason="owners are kept as root only")
@pytest.mark.parametrize("layers", [base_layers, hard_layers])
def test_the_tree_is_umocis(tmp_path, layers):
    store = Store()
    publish(store, layers(), "1", packs=(gz, zstd))
    publish(store, layers(), "gz")
    (tmp_path / "registry").mkdir()
    with real(lambda: DockerRegistry(tmp_path / "registry")) as server:
        store.push(server.base, "team/app")
        run(server, tmp_path / "ours")
        skopeo, umoci = tool("skopeo"), tool("umoci")
        code, said = skopeo(
            "--insecure-policy", "copy", "--src-tls-verify=false",
            f"docker://{server.host}/team/app:gz", f"oci:{tmp_path}/theirs:1",
        )  # fmt: skip
        assert code == 0, said
    code, said = umoci("unpack", "--image", f"{tmp_path}/theirs:1", tmp_path / "bundle")
    assert code == 0, said
    ours, links = tree(tmp_path / "ours")
    theirs, their_links = tree(tmp_path / "bundle" / "rootfs")
    assert ours.keys() == theirs.keys()
    for name in ours:  # but for the times of folders that both had to touch
        assert ours[name][:2] + ours[name][3:] == theirs[name][:2] + theirs[name][3:], name
    assert links == their_links


def test_a_layout_is_skopeos_and_what_it_has_is_not_fetched_again(tmp_path):
    store = Store()
    publish(store, base_layers(), "1")
    publish(store, [*base_layers(), a_tar(entry("more", b"more"))], "2")
    (tmp_path / "registry").mkdir()
    with real(lambda: DockerRegistry(tmp_path / "registry")) as server:
        store.push(server.base, "team/app")
        first, _ = run(server, f"oci:{tmp_path}/layout")
        before = len(server.seen())
        second, pulling = run(server, f"oci:{tmp_path}/layout", "team/app:2")
        blobs = [line for line in server.seen()[before:] if "/blobs/" in line]
    assert len(blobs) == 2  # the new layer, the config
    assert [layer.state for layer in pulling.layers] == ["here", "here", "here", "done"]
    assert second.fetched < 1000 < first.fetched
    code, said = tool("skopeo")("inspect", f"oci:{tmp_path}/layout:2")
    assert code == 0, said
    assert len(json.loads(said)["Layers"]) == 4


def test_an_archive(scripted, tmp_path):
    publish(scripted.store, base_layers(), "1")
    run(scripted, f"docker-archive:{tmp_path}/image.tar")
    code, said = tool("skopeo")("inspect", f"docker-archive:{tmp_path}/image.tar")
    assert code == 0, said
    assert nothing_left(tmp_path, "image.tar")


def test_many_layers_share_the_connections(scripted, tmp_path):
    tars = [a_tar(entry(f"file-{n}", b"%d" % n * 100)) for n in range(128)]
    publish(scripted.store, tars, "1")
    run(scripted, tmp_path / "root")
    assert len(os.listdir(tmp_path / "root")) == 128
    assert len({each.path for each in scripted.asked("/v2/team/app/blobs")}) == 129


def test_one_layer_twice_travels_once(scripted, tmp_path):
    twice = a_tar(entry("a", b"a" * 100_000))
    layers = publish(scripted.store, [twice, a_tar(entry(".wh.a")), twice], "1")
    pulled, _ = run(scripted, tmp_path / "root")
    assert (tmp_path / "root" / "a").stat().st_size == 100_000
    assert pulled.fetched == layers[0]["size"] + layers[1]["size"]


def test_inline_data_needs_no_request(scripted, tmp_path):
    import base64

    tar = a_tar(entry("inline", b"here"))
    body = gz(tar)
    publish(scripted.store, [tar], "1", data=base64.b64encode(body).decode())
    del scripted.store.blobs[digest_of(body)]
    run(scripted, tmp_path / "root")
    assert (tmp_path / "root" / "inline").read_bytes() == b"here"


@pytest.mark.parametrize("gone", [False, True])
def test_foreign_layers_come_from_their_own_address(scripted, tmp_path, gone):
    tar = a_tar(entry("foreign", b"f" * 50_000))
    body = gz(tar)
    with Scripted() as other:
        other.store.blob(body)
        url = f"http://{other.host}/v2/x/blobs/{digest_of(body) if not gone else 'sha256:' + '0' * 64}"
        publish(
            scripted.store,
            [tar],
            "1",
            urls=[url],
            mediaType="application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        )
        scripted.tokens = True
        if not gone:
            del scripted.store.blobs[digest_of(body)]
        run(scripted, tmp_path / "root")
        assert all(each.authorization is None for each in other.asked())
    assert (tmp_path / "root" / "foreign").stat().st_size == 50_000


def test_signed_addresses_that_expire(scripted, tmp_path):
    noise = random.Random(1).randbytes(24 * MIB)
    publish(scripted.store, [a_tar(entry("large", noise))], "1")
    scripted.tokens, scripted.signed = True, 4
    run(scripted, tmp_path / "root", ram="none", part_size=MIB)
    assert (tmp_path / "root" / "large").read_bytes() == noise
    assert all(each.authorization is None for each in scripted.asked("/storage"))
    resolved = [each for each in scripted.asked("/v2/team/app/blobs") if each.status == 307]
    assert 1 < len(resolved) < 24
    assert len(scripted.asked("/token")) <= 2


def test_memory_that_is_gone_meanwhile_is_no_failure(scripted, tmp_path):
    publish(scripted.store, base_layers(), "1")
    with (
        Registry(keychain=NOBODY, plain_http=True) as registry,
        parpull.Client(Options(connections=8, max_memory=MIB)) as client,  # the plan believes that there is more
    ):
        image = registry.resolve(Reference.parse(f"{scripted.host}/team/app:1"))
        pulling = Pull(image, destination_of(tmp_path / "root"), client=client, registry=registry, ram="all")
        pulling.run()
    assert {layer.place for layer in pulling.layers} == {"disk", "memory"}
    assert (tmp_path / "root" / "large").stat().st_size == 9 * MIB


def test_no_more_memory_than_it_is_given(scripted, tmp_path):
    layers = publish(scripted.store, base_layers(), "1")
    _, pulling = run(scripted, tmp_path / "root", ram="all", max_memory=layers[1]["size"] - 1)
    assert [layer.place for layer in pulling.layers] == ["memory", "disk", "memory"]


# --- what goes wrong ----------------------------------------------------------------------------


def corrupt(store, layers):
    body = bytearray(store.blobs[layers[1]["digest"]])
    body[len(body) // 2] ^= 1
    store.blobs[layers[1]["digest"]] = bytes(body)


def cut(store, layers):
    store.blobs[layers[1]["digest"]] = store.blobs[layers[1]["digest"]][:-100]


@pytest.mark.parametrize("ram", ["none", "all"])
@pytest.mark.parametrize(("spoil", "error"), [(corrupt, ChecksumMismatch), (cut, SizeMismatch)])
@pytest.mark.parametrize("to", ["root", "oci:layout", "docker-archive:x.tar"])
def test_wrong_bytes_are_not_to_be_seen(scripted, tmp_path, spoil, error, to, ram, monkeypatch):
    monkeypatch.chdir(tmp_path)
    layers = publish(scripted.store, base_layers(), "1")
    spoil(scripted.store, layers)
    with pytest.raises(error):
        run(scripted, to, ram=ram)
    if to == "oci:layout":
        assert json.loads((tmp_path / "layout/index.json").read_text())["manifests"] == []
        assert layers[1]["digest"].partition(":")[2] not in os.listdir(tmp_path / "layout/blobs/sha256")
    else:
        assert nothing_left(tmp_path)
    assert [t.name for t in threading.enumerate() if t.name.startswith("parpull-unpack")] == []


def test_a_wrong_diff_id(scripted, tmp_path):
    tars = base_layers()
    ids = [digest_of(tar) for tar in tars]
    ids[2] = digest_of(b"another")
    publish(scripted.store, tars, "1", diff_ids=ids)
    with pytest.raises(ChecksumMismatch, match="tar"):
        run(scripted, tmp_path / "root")
    assert nothing_left(tmp_path)


def test_a_layer_that_is_cut_though_its_digest_holds(scripted, tmp_path):
    def half(data):
        return gz(data)[:-50]

    PACKS[half] = "+gzip"
    publish(scripted.store, base_layers(), "1", packs=(half,))
    with pytest.raises(BadLayer):
        run(scripted, tmp_path / "root")
    assert nothing_left(tmp_path)


def test_a_layer_that_is_not_safe(scripted, tmp_path):
    publish(scripted.store, [a_tar(entry("../out", b"x")), *base_layers()], "1")
    with pytest.raises(UnsafeLayer):
        run(scripted, tmp_path / "root")
    assert nothing_left(tmp_path)


def test_a_layer_that_is_missing_keeps_the_others(scripted, tmp_path):
    layers = publish(scripted.store, base_layers(), "1")
    scripted.status[layers[2]["digest"]] = 404
    with pytest.raises(NotFound):
        run(scripted, tmp_path / "root")
    assert not (tmp_path / "root").exists()
    scripted.status.clear()
    run(scripted, tmp_path / "root")
    assert (tmp_path / "root/etc/hosts").read_bytes() == b"two"
    assert nothing_left(tmp_path, "root")


class Stop(Exception):
    pass


def stopped_halfway(scripted, tmp_path):
    """A pull of 40 MiB that ends with more than 16 of them here; their content, the layers."""
    noise = random.Random(3).randbytes(40 * MIB)
    layers = publish(scripted.store, [a_tar(entry("large", noise))], "1", packs=(plain,))

    def stop(pulling):
        if any(layer.landed > 16 * MIB for layer in pulling.layers):
            raise Stop

    with pytest.raises(Stop):
        run(scripted, tmp_path / "root", ram="none", limit_rate=60 * MIB, tick=stop)
    return noise, layers


def test_a_deep_tree_that_was_wrong_is_removed(scripted, tmp_path):
    names = ["/".join("d" * n) for n in range(1, 1500)]
    tar = a_tar(*[folder(name) for name in names])
    publish(scripted.store, [tar], "1", diff_ids=[digest_of(b"another")])
    with pytest.raises(ChecksumMismatch):
        run(scripted, tmp_path / "root")
    assert nothing_left(tmp_path)


def test_a_pull_that_is_stopped_can_be_gone_on_from(scripted, tmp_path):
    noise, layers = stopped_halfway(scripted, tmp_path)
    assert os.listdir(tmp_path) == [".root.parpull"]
    pulled, _ = run(scripted, tmp_path / "root", ram="none")
    assert pulled.fetched < layers[0]["size"] - 8 * MIB
    assert (tmp_path / "root/large").read_bytes() == noise
    assert nothing_left(tmp_path, "root")


def test_an_artifact_is_stored_and_not_unpacked(scripted, tmp_path):
    store = scripted.store
    layer = store.blob(b"weights" * 1000, "application/vnd.example.weights")
    config = store.blob(b"{}", "application/vnd.oci.empty.v1+json")
    document = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]}
    store.document(document | {"artifactType": "application/vnd.example"}, "1")
    with pytest.raises(BadManifest, match="no image"):
        run(scripted, tmp_path / "root")
    run(scripted, f"oci:{tmp_path}/layout")
    assert (tmp_path / "layout/blobs/sha256" / layer["digest"].partition(":")[2]).read_bytes() == b"weights" * 1000


def test_a_folder_that_is_not_empty(scripted, tmp_path):
    publish(scripted.store, base_layers(), "1")
    (tmp_path / "root").mkdir()
    (tmp_path / "root/mine").write_bytes(b"mine")
    with pytest.raises(parpull.errors.TargetExists):
        run(scripted, tmp_path / "root")
    assert os.listdir(tmp_path / "root") == ["mine"]
    assert scripted.asked("/v2/team/app/blobs/" + "sha256:") != []  # the config alone
    assert len(scripted.asked("/v2/team/app/blobs")) == 1


def test_one_call(scripted, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("DOCKER_CONFIG", raising=False)
    publish(scripted.store, base_layers(), "1")
    pulled = pull(f"{scripted.host}/team/app:1", tmp_path / "root", plain_http=True, platform="linux/amd64")
    assert pulled.digest == digest_of(scripted.store.manifests["1"][1])


# --- what a second reader found --------------------------------------------------------------------


def artifact(store, *bodies):
    layers = [store.blob(body, "application/vnd.example.thing") for body in bodies]
    config = store.blob(b"{}", "application/vnd.oci.empty.v1+json")
    store.document({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers}, "1")
    return layers


def test_a_layer_without_bytes(scripted, tmp_path):
    artifact(scripted.store, b"", b"something")
    run(scripted, f"oci:{tmp_path}/layout")
    assert (tmp_path / "layout/blobs/sha256" / digest_of(b"").partition(":")[2]).read_bytes() == b""


def test_an_image_without_layers(scripted, tmp_path):
    artifact(scripted.store)
    run(scripted, f"oci:{tmp_path}/layout")


def test_a_config_that_is_too_large(scripted, tmp_path):
    store = scripted.store
    config = store.blob(bytes(9 << 20), "application/vnd.example.config")
    store.document({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": []}, "1")
    with pytest.raises(BadManifest):
        run(scripted, f"oci:{tmp_path}/layout")


def test_memory_that_is_gone_while_another_layer_has_all_connections(scripted, tmp_path):
    noise = random.Random(2)
    tars = [a_tar(entry("a", noise.randbytes(3 * MIB))), a_tar(entry("b", noise.randbytes(40 * MIB)))]
    publish(scripted.store, tars, "1", packs=(plain,))
    with (
        Registry(keychain=NOBODY, plain_http=True) as registry,
        parpull.Client(Options(connections=8, max_memory=2 * MIB)) as client,
    ):
        image = registry.resolve(Reference.parse(f"{scripted.host}/team/app:1"))
        for _ in range(3):
            Pull(image, destination_of(tmp_path / "root"), client=client, registry=registry, ram="all").run()
            assert (tmp_path / "root/b").stat().st_size == 40 * MIB
            shutil.rmtree(tmp_path / "root")


def test_a_foreign_address_that_has_something_else(scripted, tmp_path):
    tar = a_tar(entry("foreign", b"f" * 50_000))
    with Scripted() as other:
        junk = other.store.blob(b"<html>parked</html>")
        url = f"http://{other.host}/v2/x/blobs/{junk['digest']}"
        kind = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
        publish(scripted.store, [tar, *base_layers()], "1", urls=[url], mediaType=kind)
        run(scripted, tmp_path / "root")
    assert (tmp_path / "root" / "foreign").stat().st_size == 50_000


def test_small_layers_use_connections_again(scripted, tmp_path):
    publish(scripted.store, [a_tar(entry(f"file-{n}", b"%d" % n)) for n in range(60)], "1")
    before = scripted.connections
    run(scripted, f"oci:{tmp_path}/layout")
    assert scripted.connections - before < 30


def test_what_died_here_says_nothing_against_the_layers(scripted, tmp_path, monkeypatch):
    layers = publish(scripted.store, base_layers(), "1")
    from parpull.oci import quarantine

    def dies(self):
        raise parpull.oci.ImageError("the process that unpacks has died (-9)")

    with monkeypatch.context() as patched:
        patched.setattr(quarantine.Unpacking, "result", dies)
        with pytest.raises(parpull.oci.ImageError, match="died"):
            run(scripted, tmp_path / "root", ram="none")
    assert os.listdir(tmp_path) == [".root.parpull"]
    pulled, _ = run(scripted, tmp_path / "root", ram="none")
    assert pulled.fetched < sum(layer["size"] for layer in layers)


def test_an_error_before_anything_began_keeps_what_was_kept(scripted, tmp_path):
    _, layers = stopped_halfway(scripted, tmp_path)
    with pytest.raises(parpull.errors.BadOption):
        run(scripted, tmp_path / "root", ram="larges")
    pulled, _ = run(scripted, tmp_path / "root", ram="none")
    assert pulled.fetched < layers[0]["size"] - 8 * MIB


def test_the_same_layer_twice_through_memory_into_an_archive(scripted, tmp_path):
    twice = a_tar(entry("a", b"a" * 100_000))
    publish(scripted.store, [twice, a_tar(entry("b", b"b")), twice], "1")
    run(scripted, f"docker-archive:{tmp_path}/image.tar", ram="all")
    code, said = tool("skopeo")("inspect", f"docker-archive:{tmp_path}/image.tar")
    assert code == 0, said


def test_a_host_whose_connections_are_counted(scripted, tmp_path):
    publish(scripted.store, base_layers(), "1")
    run(scripted, tmp_path / "root", host_connections=2)
    assert (tmp_path / "root/large").stat().st_size == 9 * MIB


@pytest.mark.parametrize("ram", ["none", "all"])
def test_a_registry_without_ranges_has_one_stream_a_layer(scripted, tmp_path, ram):
    scripted.ranges = False
    layers = publish(scripted.store, base_layers(), "1")
    run(scripted, tmp_path / "root", ram=ram)
    assert (tmp_path / "root/large").stat().st_size == 9 * MIB
    for layer in layers:
        assert len([each for each in scripted.asked("/v2/team/app/blobs") if each.path.endswith(layer["digest"])]) == 1


def test_a_tag_that_moves_meanwhile(scripted, tmp_path):
    publish(scripted.store, base_layers(), "1")
    meant = digest_of(scripted.store.manifests["1"][1])

    def move(pulling):
        publish(scripted.store, [a_tar(entry("another", b"image"))], "1")

    pulled, _ = run(scripted, tmp_path / "root", tick=move)
    assert pulled.digest == meant != digest_of(scripted.store.manifests["1"][1])
    assert (tmp_path / "root/etc/hosts").exists()


def test_a_manifest_that_is_not_what_its_digest_says(scripted, tmp_path):
    publish(scripted.store, base_layers(), "1")
    digest = digest_of(scripted.store.manifests["1"][1])
    kind, body = scripted.store.manifests[digest]
    scripted.store.manifests[digest] = (kind, body + b" ")
    with pytest.raises((ChecksumMismatch, SizeMismatch)):
        run(scripted, tmp_path / "root", f"team/app@{digest}")
    assert nothing_left(tmp_path)


def test_a_registry_of_crane(tmp_path):
    store = Store()
    publish(store, base_layers(), "1", packs=(gz, zstd, plain))
    (tmp_path / "registry").mkdir()
    try:
        server = Crane(tmp_path / "registry")
    except Unavailable as reason:  # Go and its modules are not everywhere
        pytest.skip(str(reason))
    with server:
        store.push(server.base, "team/app")
        run(server, tmp_path / "root", ram="all")
        run(server, f"oci:{tmp_path}/layout")
    assert (tmp_path / "root/etc/hosts").read_bytes() == b"two"


def test_a_layer_with_another_label(scripted, tmp_path):
    """Docker has written gzip under a tar's label."""
    publish(scripted.store, base_layers(), "1", mediaType=LAYER)
    run(scripted, tmp_path / "root")
    assert (tmp_path / "root/etc/hosts").read_bytes() == b"two"


@pytest.mark.parametrize(("size", "ram"), [("4m", "none"), ("12m", "largest")])
def test_a_full_disk(scripted, tmp_path, size, ram):
    publish(scripted.store, base_layers(), "1")
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", small], capture_output=True).returncode:
        pytest.skip("no mounting here")
    try:
        if ram == "largest":
            (small / "filler").write_bytes(bytes(6 * MIB))
        with pytest.raises(parpull.errors.NoSpace):
            run(scripted, small / "root", ram=ram)
        assert "root" not in os.listdir(small)
    finally:
        subprocess.run(["umount", small], check=True)
