"""Targets: what the first good response says, from the text of its headers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parpull.sources import Target, target_of

ABOUT = {"total": 10, "ranges": True, "address": "192.0.2.1"}


def test_what_a_response_says():
    text = 'ETag:"a"\nLast-Modified: Wed, 21 Oct 2015 07:28:00 GMT \nX-Odd: a:b:c'
    target = target_of("https://u:p@host/x?sig=1", text, **ABOUT)
    assert target.url == "https://host/x?…"
    assert (target.size, target.ranges, target.address) == (10, True, "192.0.2.1")
    assert target.etag == target.validator == '"a"'
    assert target.last_modified == "Wed, 21 Oct 2015 07:28:00 GMT"
    assert target.headers["x-odd"] == "a:b:c"


@pytest.mark.parametrize(
    ("text", "validator"),
    [
        ("", None),
        ("ETag:", None),
        ("Last-Modified: x", "x"),
        ("etag: W/\"a\"\nlast-modified: x", 'W/"a"'),
        ("ETAG:\r\nLAST-MODIFIED: y\r\n", "y"),
    ],
)  # fmt: skip
def test_validators(text, validator):
    assert target_of("https://h/", text, **ABOUT).validator == validator


def test_an_unknown_size_and_an_empty_one():
    assert target_of("https://h/", "", total=-1, ranges=False, address=None).size is None
    assert target_of("https://h/", "", total=0, ranges=False, address=None).size == 0


def test_of_several_headers_of_a_name_the_last_counts():
    assert target_of("https://h/", "A: 1\nB: 2\na: 3", **ABOUT).headers == {"a": "3", "b": "2"}


def test_it_shows_itself_without_secrets():
    target = target_of("https://h/x?sig=SECRET", "Set-Cookie: SECRET", **ABOUT)
    assert "SECRET" not in repr(target)
    assert "size=10" in repr(target)


def test_it_has_no_other_fields():
    with pytest.raises(AttributeError):
        target_of("https://h/", "", **ABOUT).extra = 1
    assert isinstance(target_of("https://h/", "", **ABOUT), Target)


@given(st.text())
def test_any_text_is_a_target(text):
    target = target_of("https://h/", text, **ABOUT)
    assert all(name == name.lower() for name in target.headers if name.isascii())


@given(
    name=st.text("abcXYZ-", min_size=1),
    value=st.characters(min_codepoint=32, max_codepoint=255).filter(lambda c: c != "\x7f"),
)
def test_a_header_line_is_one_line_whatever_bytes_it_holds(name, value):
    """Values come as latin-1: 0x85 and 0x1C..0x1E are no ends of lines in HTTP."""
    target = target_of("https://h/", f'{name}:a{value}b\netag:"x"', **ABOUT)
    if name.lower() != "etag":
        assert target.headers[name.strip().lower()] == f"a{value}b"
