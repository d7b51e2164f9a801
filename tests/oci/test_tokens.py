"""Tokens: how one is asked for, how often, by whose credentials, and what is never shown."""

from __future__ import annotations

import threading

import pytest

from parpull import Options, errors
from parpull.oci.answers import quota_of, wait_of
from parpull.oci.errors import RateLimited
from parpull.oci.keychain import Credentials
from parpull.oci.tokens import Access
from parpull.oci.wire import Wire, request_of
from tests.servers.registries import Scripted, basic

SCOPE = "repository:team/app:pull"
ME = Credentials("me", "geheim")


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def server():
    with Scripted() as running:
        running.tokens = True
        running.store.image([b"x"], "1")
        yield running


@pytest.fixture
def wire():
    made = Wire(Options())
    yield made
    made.close()


@pytest.fixture
def access(server, wire):
    """Of these credentials; `ask()` is what a registry's door does."""

    def make(found=None, clock=None):
        made = Access(f"http://{server.host}/v2", wire, lambda: found, clock or Clock())
        made.ask = lambda scope=SCOPE: ask(server, wire, made, scope)
        return made

    return make


def ask(server, wire, access, scope):
    url = f"http://{server.host}/v2/{scope.split(':')[1]}/manifests/1"
    header = access.header(scope)
    for _ in range(3):
        shown = [f"Authorization: {header}"] if header else []
        answer = wire.ask("GET", request_of(url, *shown), limit=1 << 20)
        if answer.status not in (401, 403):
            break
        before, header = header, access.challenged(scope, answer, header)
        if header is None or header == before:
            break
    return answer.status


def test_nobody_gets_a_token_by_get(server, access):
    assert access().ask() == 200
    (seen,) = server.asked("/token")
    assert (seen.method, seen.authorization) == ("GET", None)
    assert seen.query == {"service": ["tests"], "scope": [SCOPE]}


def test_credentials_go_by_post_in_the_body(server, access):
    server.users = {"me": "geheim"}
    assert access(ME).ask() == 200
    (seen,) = server.asked("/token")
    assert (seen.method, seen.authorization, seen.query) == ("POST", None, {})
    assert seen.form["grant_type"] == ["password"]
    assert (seen.form["username"], seen.form["password"], seen.form["scope"]) == (["me"], ["geheim"], [SCOPE])
    assert {each.authorization for each in server.asked("/v2")} == {None, "Bearer token-1"}


@pytest.mark.parametrize("status", [400, 401, 404, 405])
def test_where_post_is_not_the_way_get_is(server, access, status):
    server.users, server.post = {"me": "geheim"}, status
    made = access(ME)
    assert made.ask() == 200
    assert [(each.method, each.authorization) for each in server.asked("/token")] == [("POST", None), ("GET", basic())]
    assert server.asked("/token")[1].query["account"] == ["me"]
    server.revoke()
    assert made.ask() == 200  # and it is remembered
    assert [each.method for each in server.asked("/token")] == ["POST", "GET", "GET"]


def test_a_login_that_left_a_token(server, access):
    server.refresh, server.users = "r3fresh", {}
    assert access(Credentials(refresh="r3fresh")).ask() == 200
    (seen,) = server.asked("/token")
    assert (seen.form["grant_type"], seen.form["refresh_token"]) == (["refresh_token"], ["r3fresh"])
    with pytest.raises(errors.AccessDenied):
        access(Credentials(refresh="0ld")).ask()


def test_one_token_by_host_and_scope_until_it_is_due(server, access):
    clock = Clock()
    made = access(clock=clock)
    for _ in range(3):
        assert made.ask() == 200
    assert made.ask("repository:team/other:pull") == 200
    assert [each.query["scope"] for each in server.asked("/token")] == [[SCOPE], ["repository:team/other:pull"]]
    clock.now += 224
    assert made.ask() == 200
    assert len(server.asked("/token")) == 2
    clock.now += 2  # three quarters of 300 s
    before = len(server.asked("/v2"))
    assert made.ask() == 200
    assert len(server.asked("/token")) == 3
    assert len(server.asked("/v2")) == before + 1  # without a 401 in between


def test_a_token_of_which_nobody_says_how_long_it_lasts(server, access):
    server.expires = None
    clock = Clock()
    made = access(clock=clock)
    made.ask()
    clock.now += 46  # of 60
    made.ask()
    assert len(server.asked("/token")) == 2


def test_many_threads_ask_for_one_token(server, access):
    made = access()
    assert made.ask() == 200
    server.revoke()
    threads = [threading.Thread(target=made.header, args=(SCOPE, "Bearer token-1")) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(server.asked("/token")) == 2


def test_insufficient_scope_asks_for_both(server, access):
    made = access()
    assert made.ask() == 200
    server.needs = "repository:team/base:pull"
    assert made.ask() == 200
    assert set(server.asked("/token")[-1].query["scope"]) == {server.needs, SCOPE}
    server.revoke()
    assert made.ask() == 200
    assert set(server.asked("/token")[-1].query["scope"]) == {server.needs, SCOPE}


def test_a_server_that_is_never_content_is_not_asked_for_ever(server, access):
    made = access()
    made.ask()
    server.status["/manifests/1"] = 401
    server.extra = {"WWW-Authenticate": f'Bearer realm="http://{server.host}/token"'}
    assert made.ask() == 401
    assert len(server.asked("/token")) <= 4


def test_basic(server, access):
    server.tokens, server.basic = False, True
    assert access(ME).ask() == 200
    assert access().ask() == 401
    assert access(Credentials("me", "falsch")).ask() == 401
    assert not server.asked("/token")


def test_wrong_credentials_are_named_without_their_secret(server, access):
    server.users = {"me": "other"}
    with pytest.raises(errors.AccessDenied, match="gives no token to me") as caught:
        access(ME).ask()
    assert "geheim" not in f"{caught.value!r} {caught.value.hint} {caught.value.__dict__}"
    assert "docker login" in str(caught.value.hint)


def test_nothing_secret_in_a_repr(server, access):
    made = access(ME)
    made.ask()
    assert "token-1" not in repr(made._memory)
    assert "geheim" not in repr(made._memory)


def test_the_token_server_may_want_fewer_requests(server, access):
    server.get = 429
    with pytest.raises(RateLimited) as caught:
        access().ask()
    assert caught.value.retry_after == 7


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "30"}, 30),
        ({"retry-after": "Thu, 01 Jan 1970 00:33:20 GMT"}, 1000),
        ({"x-retry-after": "2000000000"}, 2_000_000_000 - 1000),
        ({"ratelimit-reset": "9"}, 9),
        ({"retry-after": "soon"}, None),
        ({}, None),
    ],
)
def test_when_to_retry(headers, seconds):
    assert wait_of(headers, now=1000.0) == seconds


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ({"ratelimit-limit": "100;w=21600", "ratelimit-remaining": "76;w=21600"}, (100, 76, 21600)),
        ({"ratelimit-limit": "200, 200;window=60"}, (200, None, None)),
        ({"ratelimit-remaining": "0"}, (None, 0, None)),
        ({"ratelimit-limit": "many"}, None),
        ({}, None),
    ],
)
def test_quota(headers, found):
    quota = quota_of(headers)
    assert (quota and (quota.limit, quota.remaining, quota.window)) == found
