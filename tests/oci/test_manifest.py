"""Index, manifest, config: what is read, what is refused, and that no bytes do anything else."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parpull.errors import ChecksumMismatch, SizeMismatch
from parpull.oci import media
from parpull.oci.digest import Digest
from parpull.oci.errors import BadManifest, UnknownPlatform
from parpull.oci.manifest import (
    CONFIG_LIMIT,
    DEPTH,
    MANIFEST_LIMIT,
    MOST,
    Index,
    Manifest,
    parse_config,
    parse_manifest,
)
from parpull.oci.platforms import Platform

GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
AMD64, ARM = Platform("linux", "amd64"), Platform("linux", "arm", "v7")


def blob(media_type=GZIP, data=b"x", **more):
    return {"mediaType": media_type, "digest": str(Digest.of(data)), "size": len(data), **more}


def an_image(**more):
    return {
        "schemaVersion": 2, "mediaType": media.MANIFEST, "config": blob(media.CONFIG), "layers": [blob(), blob()],
        **more,
    }  # fmt: skip


def an_index(*platforms, **more):
    entries = []
    for n, text in enumerate(platforms):
        os, architecture, *variant = text.split("/")
        platform = {"os": os, "architecture": architecture, **({"variant": variant[0]} if variant else {})}
        entries.append(blob(media.MANIFEST, str(n).encode(), platform=platform))
    return {"schemaVersion": 2, "mediaType": media.INDEX, "manifests": entries, **more}


def read(document, content_type=None, **known):
    return parse_manifest(json.dumps(document).encode(), content_type, **known)


@pytest.mark.parametrize(
    ("manifest", "config"), [(media.MANIFEST, media.CONFIG), (media.DOCKER_MANIFEST, media.DOCKER_CONFIG)]
)
def test_an_image(manifest, config):
    found = read(an_image(mediaType=manifest, config=blob(config)), f"{manifest}; charset=utf-8")
    assert isinstance(found, Manifest)
    assert found.is_image
    assert found.size == 2
    assert [layer.layering.compression for layer in found.layers] == ["gzip", "gzip"]


@pytest.mark.parametrize("kind", [media.INDEX, media.DOCKER_LIST])
def test_an_index(kind):
    found = read(an_index("linux/amd64", "linux/arm/v6", "linux/arm/v7", mediaType=kind), kind)
    assert isinstance(found, Index)
    assert found.platforms == ("linux/amd64", "linux/arm/v6", "linux/arm")
    assert found.choose(ARM) == found.manifests[2]
    assert found.candidates(ARM) == (found.manifests[2], found.manifests[1])
    with pytest.raises(UnknownPlatform, match="not made for linux/s390x") as caught:
        found.choose(Platform("linux", "s390x"))
    assert caught.value.available == found.platforms
    assert "linux/arm/v6" in caught.value.hint


@pytest.mark.parametrize("served", [None, "", "application/json", "application/octet-stream", "text/plain"])
def test_a_type_that_only_one_side_states(served):
    image, index = an_image(), an_index("linux/amd64")
    assert isinstance(read(image, served), Manifest)
    del image["mediaType"], index["mediaType"]
    assert isinstance(read(image, served), Manifest)
    assert isinstance(read(index, served), Index)
    assert read(image, media.DOCKER_MANIFEST).media_type == media.DOCKER_MANIFEST


def test_attestations_signatures_and_strangers_are_passed_over():
    index = an_index("unknown/unknown", "linux/amd64")
    index["manifests"] += [
        blob(media.MANIFEST, annotations={"vnd.docker.reference.type": "attestation-manifest"}),
        blob(media.MANIFEST, artifactType="application/vnd.example.sbom"),
        blob("application/vnd.future.v9+json", platform={"os": "linux", "architecture": "amd64"}),
        blob(media.MANIFEST, b"silent", platform={"os": "linux"}),
    ]
    found = read(index)
    assert found.platforms == ("linux/amd64",)
    assert found.candidates(AMD64) == (found.manifests[1], found.manifests[5])  # the last does not say
    empty = read({**index, "manifests": index["manifests"][:1]})
    with pytest.raises(UnknownPlatform) as caught:
        empty.choose(AMD64)
    assert "no images" in caught.value.hint


def test_an_index_leads_to_an_index_but_not_for_ever():
    inner = blob(media.INDEX, platform={"os": "linux", "architecture": "amd64"})
    index = {"schemaVersion": 2, "manifests": [inner]}
    assert read(index, depth=DEPTH - 1).choose(AMD64).is_index
    with pytest.raises(BadManifest, match="within each other"):
        read(index, depth=DEPTH)
    assert isinstance(read(an_image(), depth=DEPTH), Manifest)


@pytest.mark.parametrize(
    "more", [{"artifactType": "application/vnd.example"}, {"config": blob("application/vnd.oci.empty.v1+json", b"{}")}]
)
def test_artifacts_are_not_images(more):
    found = read(an_image(**more, subject=blob(media.MANIFEST)))
    assert not found.is_image
    assert found.subject.media_type == media.MANIFEST


def test_foreign_layers_and_inline_data():
    foreign = blob("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", urls=["https://h.example/x"])
    inline = blob(data=b"hello", data_=None)
    inline["data"] = base64.b64encode(b"hello").decode()
    found = read(an_image(layers=[foreign, inline]))
    assert found.layers[0].layering.foreign
    assert found.layers[0].urls == ("https://h.example/x",)
    assert found.layers[1].data == b"hello"


def test_what_is_null_is_not_there():
    nothing = dict.fromkeys(["annotations", "subject", "artifactType", "manifests"])
    layer = {**blob(), **dict.fromkeys(["urls", "data", "platform", "annotations"])}
    assert read(an_image(**nothing, layers=[layer])).is_image


DEEP = b"[" * 100_000
BAD = [
    (b"", "not JSON"),
    (b"\xff{}", "not JSON"),
    (b"[]", "not a JSON object"),
    (b'{"schemaVersion": 2, "schemaVersion": 2}', "schemaVersion twice"),
    (b'{"a": NaN}', "not JSON"),
    (b'{"a": ' + b"1" * 5000 + b"}", "not JSON"),
    (DEEP, "not JSON"),
    (b" " * (MANIFEST_LIMIT + 1), "bytes, of at most"),
    ({"schemaVersion": 3}, "schemaVersion"),
    ({"schemaVersion": True}, "first format|schemaVersion"),
    ({"schemaVersion": 2.0, "layers": []}, "schemaVersion"),
    ({"schemaVersion": 1, "fsLayers": []}, "first format"),
    (an_image(mediaType="application/vnd.docker.distribution.manifest.v1+prettyjws"), "first format"),
    (an_image(mediaType="text/html"), "neither"),
    (an_image(mediaType=7), "mediaType is not a text"),
    (an_image(mediaType="\ud800"), "mediaType is not Unicode"),
    (an_image(mediaType="a\nb"), "neither"),
    (an_image(manifests=[]), "at once"),
    (an_image(mediaType=media.INDEX), "at once"),
    (an_index(layers=[]), "at once"),
    ({"schemaVersion": 2, "mediaType": media.INDEX}, "manifests is not a list"),
    (an_image(layers=[blob("tar")]), "not a media type"),
    (an_image(layers=[blob("a b/c")]), "not a media type"),
    (an_image(layers=None), "layers is not a list"),
    (an_image(layers={}), "layers is not a list"),
    (an_image(layers=[None]), r"layers\[0\] is not a descriptor"),
    (an_image(layers=[blob()] * (MOST + 1)), "of at most 8,192"),
    (an_image(config=None), "config is not a descriptor"),
    (an_image(config=blob(None)), "config.mediaType is not a text"),
    (an_image(layers=[{**blob(), "size": -1}]), "no size"),
    (an_image(layers=[{**blob(), "size": True}]), "no size"),
    (an_image(layers=[{**blob(), "size": 1.0}]), "no size"),
    (an_image(layers=[{**blob(), "size": 1 << 63}]), "no size"),
    (an_image(layers=[{**blob(), "digest": "sha256:ab"}]), "64 digits, not 2"),
    (an_image(layers=[{**blob(), "digest": "../../etc"}]), "algorithm:hex"),
    (an_image(layers=[{**blob(), "digest": 7}]), "not a text"),
    (an_image(layers=[{**blob(), "urls": "https://x"}]), "urls is not a list"),
    (an_image(layers=[{**blob(), "data": "!"}]), "not base64"),
    (an_image(layers=[{**blob(), "data": "eHg="}]), "not what its digest"),
    (an_image(layers=[{**blob(), "data": "eQ=="}]), "not what its digest"),
    (an_image(annotations={"a": 1}), "a is not a text|annotations is not a text"),
    (an_image(annotations=[]), "annotations is not"),
    (an_image(subject=[]), "subject is not a descriptor"),
    (an_index() | {"manifests": [blob(media.MANIFEST, platform=[1])]}, "platform is not"),
]


@pytest.mark.parametrize(("document", "why"), BAD)
def test_what_is_refused(document, why):
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    with pytest.raises(BadManifest, match=why) as caught:
        parse_manifest(body)
    assert str(caught.value).isprintable()
    assert not str(caught.value).endswith(".")
    assert caught.value.reason


def test_server_and_document_have_to_agree():
    with pytest.raises(BadManifest, match="but was served as"):
        read(an_image(), media.INDEX)
    with pytest.raises(BadManifest, match="neither"):
        parse_manifest(b'{"schemaVersion": 2}', "text/html")


def test_bytes_are_those_that_were_named():
    body = json.dumps(an_image()).encode()
    digest = Digest.of(body)
    assert parse_manifest(body, digest=digest, size=len(body)).is_image
    with pytest.raises(ChecksumMismatch) as caught:
        parse_manifest(body + b" ", digest=digest)
    assert caught.value.expected == digest.hex
    with pytest.raises(SizeMismatch):
        parse_manifest(body, size=len(body) + 1)


def a_config(*layers, **more):
    diff_ids = [str(Digest.of(layer)) for layer in layers]
    return {"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": diff_ids}, **more}


def test_a_config():
    config = parse_config(json.dumps(a_config(b"a", b"b", config={"Env": ["A=b"]})).encode())
    assert config.platform == AMD64
    assert config.document["config"] == {"Env": ["A=b"]}
    assert read(an_image()).check(config) is None
    with pytest.raises(BadManifest, match="1 layers and its config 2"):
        read(an_image(layers=[blob()])).check(config)
    assert parse_config(json.dumps(a_config(rootfs={"type": "layers"})).encode()).diff_ids == ()


def test_chains():
    config = parse_config(json.dumps(a_config(b"a", b"b", b"c")).encode())
    one, two, three = config.diff_ids
    chained = Digest.of(f"{one} {two}".encode())
    assert config.chain_ids == (one, chained, Digest.of(f"{chained} {three}".encode()))


@pytest.mark.parametrize(
    ("document", "why"),
    [
        (a_config(rootfs=None), "no rootfs"),
        (a_config(rootfs={"type": "squash", "diff_ids": []}), "no rootfs"),
        (a_config(rootfs={"type": "layers", "diff_ids": "x"}), "not a list"),
        (a_config(rootfs={"type": "layers", "diff_ids": ["x"]}), "algorithm:hex"),
        (a_config(os=""), "without os"),
        (a_config(os="\x1b[31m"), "odd letters"),
        (a_config(architecture=7), "architecture is not a text"),
    ],
)
def test_a_config_that_is_refused(document, why):
    with pytest.raises(BadManifest, match=why):
        parse_config(json.dumps(document).encode())


def test_a_config_has_a_limit_and_a_descriptor():
    with pytest.raises(BadManifest, match="of at most"):
        parse_config(b" " * (CONFIG_LIMIT + 1))
    body = json.dumps(a_config()).encode()
    descriptor = read(an_image(config=blob(media.CONFIG, body))).config
    assert parse_config(body, descriptor).platform == AMD64
    with pytest.raises(ChecksumMismatch):
        parse_config(body.replace(b"amd64", b"arm64"), descriptor)


# Garbage in the shape of the real thing: keys that are looked at, with values of any kind.
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    | st.sampled_from([media.INDEX, media.MANIFEST, GZIP, str(Digest.of(b"x")), "eA==", 1, 2])
)  # fmt: skip
KEYS = st.sampled_from(
    "schemaVersion mediaType manifests layers config digest size platform os architecture variant urls data "
    "annotations subject artifactType rootfs type diff_ids".split()
)
GARBAGE = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | st.text(max_size=3), inner, max_size=8)
)
WHOLE = [an_image(), an_index("linux/amd64", "linux/arm/v7"), a_config(b"a")]


@st.composite
def spoilt(draw):
    """A good document with something else in one place."""
    document = json.loads(json.dumps(draw(st.sampled_from(WHOLE))))
    place = document
    while True:
        key = draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        if not isinstance(place[key], (dict, list)) or not place[key] or draw(st.booleans()):
            place[key] = draw(GARBAGE)
            return document
        place = place[key]


def look(body, content_type):
    for parse in (lambda: parse_manifest(body, content_type), lambda: parse_config(body)):
        try:
            found = parse()
        except BadManifest as error:
            assert str(error).isprintable()
            continue
        if isinstance(found, Index):
            try:
                found.choose(AMD64)
            except UnknownPlatform as error:
                assert error.available == found.platforms
                assert error.hint.isprintable()
        elif isinstance(found, Manifest):
            assert found.size >= 0
            assert all(layer.layering or True for layer in found.layers)
        else:
            assert len(found.chain_ids) == len(found.diff_ids)


@given(st.binary(max_size=200), st.none() | st.text(max_size=20))
def test_any_bytes_are_read_or_refused(body, content_type):
    look(body, content_type)


@given(GARBAGE | spoilt(), st.sampled_from([None, media.INDEX, media.MANIFEST, media.DOCKER_LIST]))
def test_any_json_is_read_or_refused(document, content_type):
    look(json.dumps(document).encode(), content_type)
