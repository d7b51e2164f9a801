"""The image specification's own vectors, from a Debian package of it: what it accepts and refuses,
so do we, but for what is named here."""

from __future__ import annotations

import os
import re

import pytest

from parpull.oci.errors import BadManifest
from parpull.oci.manifest import parse_config, parse_manifest
from tests.servers import fetch

PACKAGE = "golang-github-opencontainers-image-spec-dev"
FOLDER = "usr/share/gocode/src/github.com/opencontainers/image-spec"
VECTOR = re.compile(r"//\s*([^\n]*)\n\s*\{\s*\w+: `([^`]*)`,\s*fail:\s*(true|false)", re.DOTALL)


@pytest.fixture(scope="module")
def spec():
    root = fetch.CACHE / PACKAGE
    try:
        with fetch._alone(PACKAGE):
            if not (root / FOLDER).is_dir():
                fetch._unpack(PACKAGE, root)
    except fetch.Unavailable as error:
        if os.environ.get("PARPULL_REQUIRE") == "all":
            pytest.fail(str(error))
        pytest.skip(str(error))
    return root / FOLDER


def index_of(descriptor):
    return f'{{"schemaVersion": 2, "manifests": [{descriptor}]}}'


# What we read all the same, and why.
LENIENT = {
    "empty layer, expected at least one": "an image of nothing is one, and Docker makes them",
    "in the optional field platform platform.architecture is missing": "its config says it; the others are good",
    'field "config.': "what a container runs with is its runtime's",
    "Env ": "the same",
}


READ = {
    "manifest_test.go": lambda text: parse_manifest(text.encode()),
    "imageindex_test.go": lambda text: parse_manifest(text.encode()),
    "config_test.go": lambda text: parse_config(text.encode()),
    "descriptor_test.go": lambda text: parse_manifest(index_of(text).encode()),
}


@pytest.mark.parametrize("name", sorted(READ))
def test_what_the_specification_accepts_and_refuses(spec, name):
    vectors = VECTOR.findall((spec / "schema" / name).read_text(encoding="utf-8"))
    assert len(vectors) >= 3
    differ = []
    for said, text, fails in vectors:
        try:
            READ[name](text)
            refused = ""
        except BadManifest as error:
            refused = error.reason
        lenient = fails == "true" and any(about in said for about in LENIENT)
        if not lenient and bool(refused) != (fails == "true"):
            differ.append((said, refused))
    assert differ == []
