"""References: what users may leave out, the round trip, and what is refused, with what a
hint and without a secret."""

from __future__ import annotations

import dataclasses
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parpull.oci.digest import LENGTHS, Digest
from parpull.oci.errors import BadReference
from parpull.oci.reference import Reference

SHA = "sha256:" + "0a" * 32
LONG = "a" * 255

# (text, registry, repository, tag, whether a digest)
GOOD = [
    ("alpine", "docker.io", "library/alpine", "latest", False),
    ("alpine:3.20", "docker.io", "library/alpine", "3.20", False),
    ("owner/name", "docker.io", "owner/name", "latest", False),
    ("docker.io/alpine", "docker.io", "library/alpine", "latest", False),
    ("index.docker.io/alpine:x", "docker.io", "library/alpine", "x", False),
    ("docker.io/a/b/c:x", "docker.io", "a/b/c", "x", False),
    (f"alpine@{SHA}", "docker.io", "library/alpine", None, True),
    (f"ghcr.io/o/n:v1@{SHA}", "ghcr.io", "o/n", "v1", True),
    ("localhost/x", "localhost", "x", "latest", False),
    ("localhost:5000/x:y", "localhost:5000", "x", "y", False),
    ("host:5000/x", "host:5000", "x", "latest", False),
    ("127.0.0.1/x", "127.0.0.1", "x", "latest", False),
    ("[::1]:5000/x/y:t", "[::1]:5000", "x/y", "t", False),
    ("[fd00::1]/x", "[fd00::1]", "x", "latest", False),
    ("GHCR.io/x", "GHCR.io", "x", "latest", False),
    ("host:443/a__b/c.d-e--f", "host:443", "a__b/c.d-e--f", "latest", False),
    ("sha256:abc", "docker.io", "library/sha256", "abc", False),
    (f"h.example/{LONG}", "h.example", LONG, "latest", False),
    (f"x:{'T' * 128}", "docker.io", "library/x", "T" * 128, False),
    ("x@sha512:" + "ab" * 64, "docker.io", "library/x", None, True),
]

# (text, a piece of the message, a piece of the hint)
BAD = [
    ("", "nothing", "alpine"),
    ("https://ghcr.io/x", "begins with https://", "leave out https://"),
    ("docker://alpine", "begins with docker://", "leave out"),
    ("Alpine", "lower case", "library/alpine"),
    ("ghcr.io/Owner/name", "lower case", "owner/name"),
    ("Owner/name", "lower case", "owner/name, or Owner:443/name"),
    ("a b", "spaces", None),
    ("a\n", "spaces", None),
    ("bücher", "ASCII", None),
    ("a:", "tag is empty", "leave out"),
    ("a:.x", "does not begin", None),
    (f"a:{'t' * 129}", "at most 128 characters, not 129", None),
    ("a@", "algorithm:hex", "sha256"),
    ("a@sha256:abc", "64 digits, not 3", "64 digits"),
    ("a@SHA256:" + "0" * 64, "algorithm", "sha256"),
    ("a@sha256:" + "A" * 64, "0-9 and a-f", None),
    ("a@md5:" + "0" * 32, "algorithm", None),
    ("0a" * 32, "id", "NAME@sha256:0a0a0a0a…"),
    ("a//b", "empty", "single slashes"),
    ("/a", "empty", None),
    ("h.example/", "empty", None),
    ("a/", "empty", None),
    ("a..b/c", "host", None),
    ("h.example/a..b", "single", None),
    ("h.example/-a", "single", None),
    ("h:0/x", "port", None),
    ("h:65536/x", "port", None),
    ("h:/x", "port", None),
    ("h:5x/x", "port", None),
    ("::1/x", "brackets", "[::1]:5000/name"),
    ("[::1/x", "brackets", "[::1]:5000/name"),
    ("[::1]5000/x", "brackets", None),
    ("[nonsense]/x", "IPv6", None),
    ("[fe80::1%25eth0]/x", "brackets", None),
    ("h.example/a:b/c", "at the end", None),
    ("-h.example/x", "host", None),
    (f"{'a' * 64}.example/x", "host", None),
    (f"h.example/{LONG}a", "at most 255 characters, not 256", None),
    ("h.example/x?token=geheim", "query", None),
    ("me:geheim@h.example/x", "user", "docker login"),
    ("https://me:geheim@h.example/x", "https://", None),
    ("me:geheim@h.example", "digest", None),
    (f"me:geheim@h/x@{SHA}", "user", None),
]


@pytest.mark.parametrize(("text", "registry", "repository", "tag", "pinned"), GOOD)
def test_what_users_leave_out(text, registry, repository, tag, pinned):
    reference = Reference.parse(text)
    assert (reference.registry, reference.repository, reference.tag) == (registry, repository, tag)
    assert (reference.digest is not None) == pinned
    assert Reference.parse(str(reference)) == reference
    assert Reference.parse(reference.short) == reference


@pytest.mark.parametrize(("text", "why", "hint"), BAD)
def test_what_is_refused(text, why, hint):
    with pytest.raises(BadReference) as caught:
        Reference.parse(text)
    assert why in str(caught.value)
    assert hint is None or hint in caught.value.hint
    assert str(caught.value).isprintable()
    assert not str(caught.value).endswith(".")
    assert "geheim" not in f"{caught.value} {caught.value.hint} {caught.value.reference}"
    assert len(caught.value.reference) <= 80


def test_the_digest_decides():
    reference = Reference.parse(f"alpine:3@{SHA}")
    assert reference.locator == SHA
    assert Reference.parse("alpine:3").locator == "3"
    assert str(Reference.parse("alpine:3").at(Digest.parse(SHA))) == f"docker.io/library/alpine:3@{SHA}"
    assert Reference("h.example", "x").locator == "latest"


@pytest.mark.parametrize("name", ["localhost/x", "a.b/c", "library/a/b", "library/localhost", "library/" + "0a" * 32])
def test_a_short_name_means_the_same(name):
    reference = Reference("docker.io", name, "latest")
    assert Reference.parse(reference.short) == reference
    assert Reference.parse("alpine").short == "alpine"
    assert Reference.parse("owner/name:x").short == "owner/name:x"


def test_endpoints():
    assert Reference.parse("alpine").endpoint == "registry-1.docker.io"
    assert Reference.parse("localhost:5000/x").endpoint == "localhost:5000"


def test_it_is_a_value():
    one, other = Reference.parse("alpine"), Reference.parse("docker.io/library/alpine:latest")
    assert one == other
    assert len({one, other}) == 1
    assert pickle.loads(pickle.dumps(one)) == one
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.tag = "x"
    with pytest.raises(BadReference):
        Reference("h.example", "Upper")
    with pytest.raises(BadReference, match="not a host"):
        Reference("word", "x")
    with pytest.raises(BadReference):
        dataclasses.replace(one, tag="")


COMPONENT = st.from_regex(r"[a-z0-9]+((\.|_|__|-{1,3})[a-z0-9]+){0,3}", fullmatch=True)
REGISTRY = st.one_of(
    st.just("docker.io"),
    st.from_regex(r"([a-z0-9]{1,20}\.){1,3}[a-z]{2,5}(:[1-9][0-9]{0,3})?", fullmatch=True),
    st.ip_addresses(v=6).map(lambda address: f"[{address}]:5000"),
    st.ip_addresses(v=4).map(str),
)
DIGEST = st.sampled_from(sorted(LENGTHS)).flatmap(
    lambda name: st.text("0123456789abcdef", min_size=LENGTHS[name], max_size=LENGTHS[name]).map(
        lambda digits: Digest(name, digits)
    )
)
PATHS = st.lists(COMPONENT, min_size=1, max_size=4).map("/".join).filter(lambda path: len(path) < 200)
TAGS = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", fullmatch=True)


@given(REGISTRY, PATHS, st.none() | TAGS, st.none() | DIGEST)
def test_the_round_trip(registry, path, tag, digest):
    if tag is None and digest is None:
        tag = "latest"
    if registry == "docker.io" and "/" not in path:
        path = f"library/{path}"
    reference = Reference(registry, path, tag, digest)
    assert Reference.parse(str(reference)) == reference
    assert Reference.parse(reference.short) == reference


@given(st.text() | st.text("aA0.:/@[]_-%?#sha256", max_size=40))
def test_any_text_is_a_reference_or_refused(text):
    try:
        reference = Reference.parse(text)
    except BadReference as error:
        assert error.reference.isprintable()
        assert str(error).isprintable()
    else:
        assert Reference.parse(str(reference)) == reference


@given(st.text(min_size=1).filter(lambda word: word not in "h.example/x"), st.sampled_from(["", "https://", "//"]))
def test_what_stands_before_a_host_is_never_shown(word, prefix):
    secret = f"geheim{word}"
    with pytest.raises(BadReference) as caught:
        Reference.parse(f"{prefix}me:{secret}@h.example/x")
    assert "geheim" not in f"{caught.value} {caught.value.hint} {caught.value.reference}"


@given(st.binary(), st.sampled_from(sorted(LENGTHS)))
def test_digests(data, algorithm):
    digest = Digest.of(data, algorithm)
    assert Digest.parse(str(digest)) == digest
    assert digest.holds(data)
    assert not digest.holds(data + b"x")
