"""The vectors of the image specification and of Docker's references, from Debian packages of them:
what they accept and refuse, so do we, but for what is named here."""

from __future__ import annotations

import os
import re

import pytest

from parpull.oci.errors import BadManifest, BadReference
from parpull.oci.manifest import parse_config, parse_manifest
from parpull.oci.reference import Reference
from tests.servers import fetch

SOURCES = "usr/share/gocode/src/github.com"
SPEC = ("golang-github-opencontainers-image-spec-dev", "opencontainers/image-spec/schema")
DOCKER = ("golang-github-docker-distribution-dev", "docker/distribution/reference")
LISTS = re.compile(r"(valid|invalid)(?:Repo|Repository)Names := \[\]string\{(.*?)\n\t\}", re.DOTALL)
FIELDS = r'\s*(\w+):\s*"([^"]*)",'
CASES = re.compile(rf"\{{((?:{FIELDS}){{4,5}})\s*\}}")
VECTOR = re.compile(r"//\s*([^\n]*)\n\s*\{\s*\w+: `([^`]*)`,\s*fail:\s*(true|false)", re.DOTALL)


def unpacked(package, folder):
    """The folder of a package's sources. Nothing of it is built or run."""
    root = fetch.CACHE / package
    try:
        with fetch._alone(package):
            if not (root / SOURCES / folder).is_dir():
                fetch._unpack(package, root)
    except fetch.Unavailable as error:
        if os.environ.get("PARPULL_REQUIRE") == "all":
            pytest.fail(str(error))
        pytest.skip(str(error))
    return root / SOURCES / folder


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
def test_what_the_specification_accepts_and_refuses(name):
    vectors = VECTOR.findall((unpacked(*SPEC) / name).read_text(encoding="utf-8"))
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


def test_names_that_docker_accepts_and_refuses():
    text = (unpacked(*DOCKER) / "normalize_test.go").read_text(encoding="utf-8")
    names = [
        (kind, name) for kind, body in LISTS.findall(text) for name in re.findall(r'^\s*"(.*)",', body, re.MULTILINE)
    ]
    assert len(names) >= 40
    differ = []
    for kind, name in names:
        try:
            Reference.parse(name)
            found = "valid"
        except BadReference:
            found = "invalid"
        if found != kind:
            differ.append((kind, name))
    assert differ == []


def test_what_docker_understands_by_a_name():
    text = (unpacked(*DOCKER) / "normalize_test.go").read_text(encoding="utf-8")
    cases = [dict(re.findall(FIELDS, match[1])) for match in CASES.finditer(text)]
    cases = [case for case in cases if {"Domain", "RemoteName", "FullName", "FamiliarName"} <= case.keys()]
    assert len(cases) >= 10
    for case in cases:
        names = [case[key] for key in ("FamiliarName", "FullName", "AmbiguousName") if case.get(key)]
        for reference in map(Reference.parse, names):
            assert (reference.registry, reference.repository) == (case["Domain"], case["RemoteName"])
            assert reference.name == case["FullName"]
            assert reference.short == case["FamiliarName"]
