"""Platforms: one form for each name, and what runs what, as containerd has it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parpull.oci.errors import ImageError
from parpull.oci.platforms import Platform, rank


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("linux/x86_64", "linux/amd64"),
        ("Linux/AMD64/v1", "linux/amd64"),
        ("linux/amd64/v3", "linux/amd64/v3"),
        ("linux/aarch64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm64/8", "linux/arm64"),
        ("linux/arm64/v9.0", "linux/arm64/v9"),
        ("linux/arm", "linux/arm"),
        ("linux/arm/7", "linux/arm"),
        ("linux/arm/v6", "linux/arm/v6"),
        ("linux/armhf", "linux/arm"),
        ("linux/armel", "linux/arm/v6"),
        ("linux/i386", "linux/386"),
        ("macos/arm64", "darwin/arm64"),
    ],
)
def test_one_form(text, normal):
    assert str(Platform.parse(text)) == normal


@pytest.mark.parametrize("text", ["", "linux", "linux/", "/amd64", "a/b/c/d", "linux/am d64", "linux/\x1b[m"])
def test_what_is_no_platform(text):
    with pytest.raises(ImageError) as caught:
        Platform.parse(text)
    assert "linux/arm64" in caught.value.hint
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("machine", "takes"),
    [
        ("linux/arm/v7", ["linux/arm", "linux/arm/v6", "linux/arm/v5"]),
        ("linux/arm/v6", ["linux/arm/v6", "linux/arm/v5"]),
        ("linux/arm64", ["linux/arm64", "linux/arm/v8", "linux/arm", "linux/arm/v6", "linux/arm/v5"]),
        ("linux/amd64", ["linux/amd64", "linux/386"]),
        ("linux/amd64/v3", ["linux/amd64/v3", "linux/amd64/v2", "linux/amd64", "linux/386"]),
        ("linux/386", ["linux/386"]),
        ("linux/s390x", ["linux/s390x"]),
        ("linux/riscv64", ["linux/riscv64"]),
        ("linux/arm/odd", ["linux/arm/odd"]),
    ],
)
def test_what_a_machine_runs(machine, takes):
    assert [str(platform) for platform in Platform.parse(machine).takes()] == takes


def choose(machine, *offered):
    return rank(Platform.parse(machine), [(Platform.parse(text), n) for n, text in enumerate(offered)])


def test_the_best_comes_first():
    assert choose("linux/arm/v7", "linux/amd64", "linux/arm/v5", "linux/arm/v6") == [2, 1]
    assert choose("linux/arm/v6", "linux/arm/v7", "linux/arm64") == []
    assert choose("linux/arm64", "linux/arm/v7", "linux/arm64/v8") == [1, 0]
    assert choose("linux/amd64", "linux/amd64/v2", "linux/386", "linux/amd64") == [2, 1]
    assert choose("linux/amd64", "linux/amd64", "linux/amd64/v1") == [0, 1]
    assert choose("linux/amd64", "windows/amd64") == []


def test_a_version_of_windows_counts_where_one_is_asked_for():
    offered = [(Platform("windows", "amd64", "", version), version) for version in ("10.0.17763.1", "10.0.20348.2")]
    assert rank(Platform("windows", "amd64", "", "10.0.20348"), offered) == ["10.0.20348.2"]
    assert rank(Platform("windows", "amd64", "", "10.0.2034"), offered) == []
    assert len(rank(Platform("windows", "amd64"), offered)) == 2


PART = st.from_regex(r"[A-Za-z0-9_.-]{1,12}", fullmatch=True)
KNOWN = st.sampled_from(["amd64", "arm", "arm64", "386", "x86_64", "armhf", "armel"])
PLATFORMS = st.builds(
    Platform, st.just("linux") | PART, KNOWN | PART, st.from_regex(r"(v?[0-9]{0,3})?", fullmatch=True)
)


@given(PLATFORMS)
def test_every_machine_runs_its_own(platform):
    normal = platform.normal()
    assert normal.normal() == normal
    assert Platform.parse(str(normal)) == normal
    assert normal.takes()[0] == normal
    assert len(set(normal.takes())) == len(normal.takes())
    assert platform.runs(platform)


@given(PLATFORMS, PLATFORMS, PLATFORMS)
def test_what_runs_is_transitive(one, two, three):
    if one.runs(two) and two.runs(three):
        assert one.runs(three)
