"""Challenges and tokens: what registries send, what must not be followed, and no secret shown."""

from __future__ import annotations

import json
import re
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from parpull.errors import BadResponse
from parpull.oci.challenge import Bearer, Challenge, bearer_of, challenges, parse_token, scope_of
from parpull.oci.reference import Reference

URL = "https://registry.example/v2/"
REALM = "https://auth.example/token"
PULL = "repository:library/alpine:pull"


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([], []),
        (["", " , "], []),
        (["Basic"], [("basic", {})]),
        (['Basic realm="a"'], [("basic", {"realm": "a"})]),
        (["Negotiate", "NTLM"], [("negotiate", {}), ("ntlm", {})]),
        (["Negotiate a87421000492aa874209af8bc028==, Basic realm=x"], [("negotiate", {}), ("basic", {"realm": "x"})]),
        (['Basic realm="a, b", BEARER Realm="c" , Scope = "d e"'],
         [("basic", {"realm": "a, b"}), ("bearer", {"realm": "c", "scope": "d e"})]),
        (["Basic, Bearer realm=x"], [("basic", {}), ("bearer", {"realm": "x"})]),
        ([r'Bearer realm="a\"b\\c"'], [("bearer", {"realm": 'a"b\\c'})]),
        (['Bearer realm="a",realm="b"'], [("bearer", {"realm": "a"})]),
        (['Bearer realm="a'], [("bearer", {})]),
        (['"what"'], []),
    ],
)  # fmt: skip
def test_challenges(values, found):
    assert challenges(values) == tuple(Challenge(*one) for one in found)


def test_what_docker_asks():
    value = f'Bearer realm="{REALM}",service="registry.example",scope="repository:a/b:pull,push x:y:z"'
    assert bearer_of(["Basic realm=x", value], URL) == Bearer(
        REALM, "registry.example", ("repository:a/b:pull,push", "x:y:z")
    )
    again = f'Bearer realm="{REALM}",error="insufficient_scope"'
    assert bearer_of([again], URL).error == "insufficient_scope"
    assert bearer_of(["Basic realm=x"], URL) is None


@pytest.mark.parametrize(
    "realm",
    ["", "token", "/token", "ftp://h/x", "http://auth.example/token", "https://", "https://me:geheim@h/x",
     "https://h:port/x", "https://h/x y", "https://[h/x", "file:///etc/passwd", "https://h/x#y"],
)  # fmt: skip
def test_where_credentials_do_not_go(realm):
    with pytest.raises(BadResponse, match="asks for a token from") as caught:
        bearer_of([f'Bearer realm="{realm}"'], URL + "?sig=geheim")
    assert "geheim" not in str(caught.value) + caught.value.url
    assert caught.value.reason


def test_a_plain_registry_has_a_plain_realm():
    assert bearer_of(['Bearer realm="http://localhost:5001/token"'], "http://localhost:5000/v2/").realm


def test_how_a_token_is_asked_for():
    bearer = Bearer(f"{REALM}?region=eu", "a b", (PULL,))
    url = bearer.url([PULL, "x:y:pull"], account="me")
    assert url.startswith(f"{REALM}?")
    assert parse_qsl(urlsplit(url).query) == [
        ("region", "eu"), ("service", "a b"), ("scope", PULL), ("scope", "x:y:pull"), ("account", "me"),
    ]  # fmt: skip
    assert Bearer(REALM).url() == REALM


def test_how_it_is_asked_for_by_oauth():
    bearer = Bearer(REALM, "s", (PULL,))
    form = parse_qs(bearer.form(["x:y:pull"], username="me", password="ge&heim").decode())
    assert form == {
        "grant_type": ["password"], "username": ["me"], "password": ["ge&heim"], "service": ["s"],
        "client_id": ["parpull"], "scope": [f"{PULL} x:y:pull"], "access_type": ["offline"],
    }  # fmt: skip
    form = parse_qs(bearer.form(refresh="r").decode())
    assert (form["grant_type"], form["refresh_token"]) == (["refresh_token"], ["r"])
    assert "username" not in form


def test_scopes():
    assert scope_of(Reference.parse("alpine")) == PULL


@pytest.mark.parametrize(
    ("answer", "value", "seconds", "refresh"),
    [
        ({"token": "a"}, "a", 60, None),
        ({"access_token": "b", "expires_in": 300}, "b", 300, None),
        ({"token": "a", "access_token": "b", "refresh_token": "c"}, "a", 60, "c"),
        ({"token": "", "access_token": "b"}, "b", 60, None),
        ({"token": "a", "expires_in": 5}, "a", 60, None),
        ({"token": "a", "expires_in": "300"}, "a", 60, None),
        ({"token": "a", "expires_in": -1e300}, "a", 60, None),
        ({"token": "a", "expires_in": 1e300}, "a", 86400, None),
        ({"token": "a", "expires_in": float("nan"), "refresh_token": 7}, "a", 60, None),
    ],
)
def test_tokens(answer, value, seconds, refresh):
    token = parse_token(json.dumps(answer).encode(), REALM)
    assert (token.value, token.seconds, token.refresh) == (value, seconds, refresh)


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"null", b"<html>geheim", b"{}", b'{"token": 7}', b'{"token": "geheim\\r\\nX: y"}',
     b'{"token": "g h"}',
     b'{"token": ""}', b"[" * 100_000, b"\xff", b" " * (1 << 21)],
)  # fmt: skip
def test_an_answer_without_a_token(body):
    with pytest.raises(BadResponse) as caught:
        parse_token(body, f"{REALM}?account=geheim")
    assert "geheim" not in f"{caught.value} {caught.value.reason} {caught.value.url}"


def test_a_token_is_renewed_in_time_and_not_shown():
    token = parse_token(b'{"token": "geheim", "refresh_token": "geheim", "expires_in": 400}', REALM)
    assert "geheim" not in repr(token)
    assert not token.is_due(1000.0, 1299.0)
    assert token.is_due(1000.0, 1300.0)


PARAMS = st.dictionaries(
    st.from_regex(r"[a-z]{1,8}", fullmatch=True), st.text(st.characters(codec="latin-1", exclude_characters="\r\n"))
)


@given(st.lists(st.tuples(st.from_regex(r"[A-Za-z]{1,8}", fullmatch=True), PARAMS), max_size=4))
def test_the_round_trip(asked):
    def quote(text):
        return '"' + re.sub(r'(["\\])', r"\\\1", text) + '"'

    one = ", ".join(f"{s} {', '.join(f'{k}={quote(v)}' for k, v in params.items())}".strip() for s, params in asked)
    assert challenges([one]) == tuple(Challenge(scheme.lower(), params) for scheme, params in asked)


@given(st.text() | st.text('Bearer realm=",\\ \t/:a=', max_size=60))
@example('Bearer realm="' + "\\a" * 10_000)
def test_any_header_is_looked_at(value):
    found = challenges([value])
    assert all(one.scheme == one.scheme.lower() for one in found)
    try:
        bearer_of([value], URL)
    except BadResponse as error:
        assert error.url == URL


@given(st.binary(max_size=100) | st.recursive(
    st.none() | st.floats() | st.text(max_size=5) | st.integers(),
    lambda inner: st.dictionaries(st.sampled_from(["token", "access_token", "expires_in", "refresh_token"]), inner),
).map(lambda document: json.dumps(document).encode()))  # fmt: skip
def test_any_answer_is_a_token_or_refused(body):
    try:
        token = parse_token(body, REALM)
    except BadResponse:
        return
    assert token.value.isprintable()
    assert 60 <= token.seconds <= 86400
