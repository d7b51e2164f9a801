"""Through proxies: squid, mitmproxy, SOCKS5, and what is no proxy at all. The bytes are right, the
proxy is asked for what it should be, refusals are told in words, and no password of a proxy is
shown anywhere."""

from __future__ import annotations

import pickle
from urllib.parse import urlsplit

import pytest

import parpull
from parpull import failures
from parpull.errors import AccessDenied, BadOption, BadStatus, ConnectFailed, RetriesExhausted, TLSFailed
from parpull.failures import failure_of
from parpull.options import Options
from tests.running import cli, environment, start, wait_for
from tests.servers.content import first_difference
from tests.servers.door import Door
from tests.servers.fixtures import real
from tests.servers.origin import Origin
from tests.servers.proxies import Mitmproxy, Squid

__all__ = ["cli", "start"]

MIB = 1 << 20
SIZE = 8 * MIB
USER = ("me", "geheim")


def fetch(url, **options):
    """The right bytes; the events that came."""
    events = []
    with parpull.fetch(url, on_event=events.append, **options) as blob, memoryview(blob) as view:
        assert len(view) == SIZE
        assert first_difference(view) is None
    return events


def refusal(url, kind, **options):
    """The error of a fetch, or what it was about when the tries ran out; the secret is in none of it."""
    events = []
    with pytest.raises(parpull.ParpullError) as caught:
        parpull.fetch(url, on_event=events.append, **{"retries": 1, **options})
    error = caught.value.last if isinstance(caught.value, RetriesExhausted) else caught.value
    assert isinstance(error, kind), repr(error)
    told = [
        str(caught.value),
        caught.value.hint,
        repr(caught.value),
        repr(vars(error)),
        repr(pickle.loads(pickle.dumps(error))),
    ]
    assert USER[1] not in " ".join(map(str, [*told, *events, *(getattr(e, "error", "") for e in events)]))
    return error


# --- squid -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def squid():
    with real(lambda: Squid(user=USER)) as running:
        yield running


def seen(squid, port):
    """What squid passed to that port."""
    return [each for each in squid.passed() if each.target.removeprefix("http://").startswith(f"127.0.0.1:{port}")]


def test_squid_passes_requests(squid, origin, name):
    fetch(origin.url(name, size=SIZE), proxy=squid.proxy(USER), part_size=MIB, connections=4)
    log = origin.log(name)
    assert len(log) == 8
    assert log.sent == SIZE
    assert all("via" in r.headers for r in log.requests)
    assert not log.with_header("proxy-authorization")
    passed = [each for each in seen(squid, origin.port) if f"/{name}" in each.target]
    assert [each.status for each in passed] == [206] * 8
    assert {each.user for each in passed} == {USER[0]}
    assert len({each.client_port for each in passed}) <= 4


def test_squid_passes_a_tunnel(squid, tls_origin, name):
    options = {"proxy": squid.proxy(USER), "ca_file": tls_origin.ca_file}
    fetch(tls_origin.url(name, size=SIZE), part_size=MIB, connections=4, **options)
    log = tls_origin.log(name)
    assert (len(log), log.sent) == (8, SIZE)
    assert not log.with_header("proxy-authorization")
    assert not log.with_header("via")
    assert log.connections <= 4


@pytest.mark.parametrize("user", [None, (USER[0], USER[1] + "?"), ("you", USER[1])])
def test_squid_wants_another_user(squid, origin, tls_origin, user, name):
    proxy = squid.proxy(user and (user[0], user[1].replace("?", "%3F")))
    for server in (origin, tls_origin):
        url = server.url(name, size=SIZE)
        error = refusal(url, AccessDenied, proxy=proxy, ca_file=tls_origin.ca_file)
        assert error.status == 407
        assert "proxy=http://user:password@host:port" in error.hint
        assert len(server.log(name)) == 0


def test_by_the_command_line(squid, origin, name, cli, tmp_path):
    """By argument, and by environment; the password is not shown, with -v either."""
    url, proxy = origin.url(name, size=SIZE), squid.proxy(USER)
    ways = (
        (["--proxy", proxy], {}),
        ([], {"http_proxy": proxy}),
        ([], {"all_proxy": proxy}),
        ([], {"PARPULL_PROXY": proxy}),
    )
    for number, (arguments, variables) in enumerate(ways):
        code, _, err = cli(url, "-v", "-o", f"got{number}", *arguments, env=environment(**variables))
        assert code == 0, err
        assert first_difference((tmp_path / f"got{number}").read_bytes()) is None
        assert USER[1] not in err
        assert all("via" in r.headers for r in origin.log(name).requests)
    code, _, err = cli(url, "-v", "--json", "-o", "none", "--proxy", squid.proxy((USER[0], USER[1] + "x")))
    assert code == 4
    assert "--proxy http://user:password@host:port" in err
    assert USER[1] not in err


def test_squid_takes_so_many_tunnels(tls_origin, name):
    """Those beyond are refused with 403, as in a company: the transfer goes on with what it has."""
    with real(lambda: Squid(user=USER, most=3)) as squid:
        options = {"proxy": squid.proxy(USER), "ca_file": tls_origin.ca_file}
        fetch(tls_origin.url(name, size=SIZE, pace=20_000_000), part_size=MIB, connections=8, **options)
        log = tls_origin.log(name)
        assert log.connections <= 3
        assert log.sent <= SIZE + MIB
        assert {each.status for each in squid.passed()} >= {403}


def test_squid_takes_so_many_connections(origin, name):
    """The same without a tunnel, where the refusal looks like that of a server."""
    with real(lambda: Squid(user=USER, most=3)) as squid:
        url = origin.url(name, size=SIZE, pace=20_000_000)
        fetch(url, proxy=squid.proxy(USER), part_size=MIB, connections=8, steal=False, hedge=False)
        log = origin.log(name)
        assert len(log.asked) == 8
        assert log.connections <= 8, "that is how squid reaches it"
        served = {each.client_port for each in squid.passed() if each.status == 206}
        assert 0 < len(served) <= 3


@pytest.mark.parametrize("lacking", [(), ("NTLM",), ("NTLM", "Negotiate")])
def test_the_schemes_that_squid_offers(lacking, origin, tls_origin, name, monkeypatch):
    """They are named, and those that this libcurl has not; and the refusal is final."""
    features = 1 << 4 | 1 << 8
    for each in lacking:
        features &= ~failures.SCHEMES[each][1]
    monkeypatch.setattr(failures, "libcurl_features", lambda: features)
    with real(lambda: Squid(user=USER, schemes=("basic", "ntlm", "negotiate"))) as squid:
        for server in (origin, tls_origin):
            error = refusal(server.url(name, size=SIZE), AccessDenied, proxy=squid.proxy(), retries=10)
            assert error.offered == ("Basic", "Negotiate", "NTLM")
            assert "the proxy takes Basic, Negotiate, NTLM" in error.hint
            without = ", ".join(each for each in error.offered if each in lacking)
            assert ("this libcurl has no" in error.hint) is bool(lacking)
            assert without in error.hint
        wait_for(lambda: len(squid.passed()) >= 2)
        assert [each.status for each in squid.passed()] == [407, 407]


@pytest.mark.parametrize("by", ["squid", "scenario"])
def test_a_proxy_drops_ranges(by, origin, tls_origin, name):
    """The whole object, once, over one connection. A tunnel is not read, and keeps them."""
    with real(lambda: Squid(config="request_header_access Range deny all\n")) as squid:
        if by == "scenario":
            fetch(origin.url(name, size=SIZE, scenario="proxy-strips-range"), proxy=squid.proxy(), connections=4)
        else:
            fetch(origin.url(name, size=SIZE), proxy=squid.proxy(), part_size=MIB, connections=4)
            assert not origin.log(name).with_header("range")
        log = origin.log(name)
        assert log.sent <= SIZE + MIB
        fetch(tls_origin.url(name, size=SIZE), proxy=squid.proxy(), part_size=MIB, ca_file=tls_origin.ca_file)
        assert len(tls_origin.log(name).asked) == 8


# --- mitmproxy: TLS is opened on the way -------------------------------------------------------


@pytest.fixture(scope="module")
def inspector(tls_origin):
    with real(lambda: Mitmproxy(trusts=tls_origin.ca_file)) as running:
        yield running


def test_an_unknown_authority(inspector, tls_origin, name, cli):
    url = tls_origin.url(name, size=SIZE)
    error = refusal(url, TLSFailed, proxy=inspector.proxy(), ca_file=tls_origin.ca_file)
    assert "ca_file= (--cacert)" in error.hint
    code, _, err = cli(url, "-o", "got", "--proxy", inspector.proxy())
    assert code == 1
    assert "--cacert" in err
    assert len(tls_origin.log(name)) == 0


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_known_authority(inspector, tls_origin, scheme, name):
    """Whole bodies are collected before they are passed on. With an https proxy, its own certificate
    is proven by the same file."""
    options = {"proxy": inspector.proxy(scheme), "ca_file": inspector.ca_file}
    fetch(tls_origin.url(name, size=SIZE), part_size=MIB, connections=4, **options)
    log = tls_origin.log(name)
    assert (len(log), log.sent) == (8, SIZE)


def test_bodies_that_pass_as_they_come(tls_origin, name):
    with real(lambda: Mitmproxy(trusts=tls_origin.ca_file, options=["stream_large_bodies=64k"])) as running:
        options = {"proxy": running.proxy(), "ca_file": running.ca_file}
        fetch(tls_origin.url(name, size=SIZE), part_size=MIB, connections=4, **options)
        assert tls_origin.log(name).sent == SIZE


# --- SOCKS ---------------------------------------------------------------------------------------


def test_socks(origin, name):
    with Door(user=":".join(USER)) as door:
        fetch(origin.url(name, size=SIZE), proxy=door.proxy("socks5", ":".join(USER)), part_size=MIB, connections=4)
        asked = door.asked()
        assert {(each.host, each.port, each.named) for each in asked} == {("127.0.0.1", origin.port, False)}
        assert len(asked) == origin.log(name).connections <= 4
        for wrong in (None, "me:wrong"):
            error = refusal(origin.url(name, size=SIZE), AccessDenied, proxy=door.proxy("socks5", wrong))
            assert "user:password" in error.hint
            assert error.attempts == 1
        assert len(door.asked()) == len(asked)


def test_a_name_that_only_the_proxy_knows(origin, name):
    url = origin.url(name, size=SIZE, host="inside.invalid")
    with Door() as door:
        fetch(url, proxy=door.proxy("socks5h"))
        assert {(each.host, each.named) for each in door.asked()} == {("inside.invalid", True)}
        before = len(door.asked())
        error = refusal(url, ConnectFailed, proxy=door.proxy("socks5"))
        assert "inside.invalid" in str(error)
        assert len(door.asked()) == before


def test_socks_cannot_reach_it(origin, name):
    with Door(reply=5) as door:
        error = refusal(origin.url(name, size=SIZE), ConnectFailed, proxy=door.proxy("socks5h"))
        assert "the proxy can't reach it" in error.hint


# --- who goes without --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def passing():
    """An origin as the proxy: what reaches it was not sent to the server itself."""
    with Origin() as running:
        yield running


@pytest.mark.parametrize(
    ("noproxy", "host", "without"),
    [
        (None, "127.0.0.1", False),
        ("127.0.0.1", "127.0.0.1", True),
        ("other,127.0.0.1", "127.0.0.1", True),
        ("other 127.0.0.1", "127.0.0.1", True),
        ("127.0.0.0/8", "127.0.0.1", True),
        ("10.0.0.0/8", "127.0.0.1", False),
        ("*", "127.0.0.1", True),
        ("localhost", "127.0.0.1", False),
        ("localhost", "localhost", True),
        ("LOCALHOST", "localhost", True),
        ("test", "a.test", True),
        (".test", "a.test", True),
        ("a.test", "a.test", True),
        ("est", "a.test", False),
        ("b.a.test", "a.test", False),
        # libcurl knows no ports there: such an entry is none.
        ("127.0.0.1:{port}", "127.0.0.1", False),
    ],
)
def test_who_goes_without(noproxy, host, without, origin, passing, name):
    url = origin.url(name, size=SIZE, host=host)
    options = {
        "proxy": f"http://127.0.0.1:{passing.port}",
        "noproxy": noproxy and noproxy.format(port=origin.port),
        "curl": {10203: [f"a.test:{origin.port}:127.0.0.1"]},  # RESOLVE
    }
    fetch(url, **options)
    assert bool(len(origin.log(name))) is without
    assert bool(len(passing.log(name))) is not without


def test_who_goes_without_by_the_environment(origin, passing, name, cli):
    url, proxy = origin.url(name, size=SIZE), f"http://127.0.0.1:{passing.port}"
    for variables in ({"no_proxy": "127.0.0.1"}, {"NO_PROXY": "127.0.0.0/8"}, {"PARPULL_NOPROXY": "127.0.0.1"}):
        assert cli(url, "--overwrite", "-o", "got", env=environment(http_proxy=proxy, **variables))[0] == 0
        assert len(passing.log(name)) == 0
    before = len(origin.log(name))
    assert (
        cli(url, "--overwrite", "-o", "got", "--noproxy", "other", env=environment(http_proxy=proxy, no_proxy="*"))[0]
        == 0
    )
    assert len(origin.log(name)) == before
    assert len(passing.log(name)) > 0


@pytest.mark.parametrize("through", ["http", "https"])
def test_a_redirect_to_the_other_scheme(through, origin, tls_origin, passing, name):
    """Each address by the proxy of its own scheme."""
    url = origin.url(name, size=SIZE, redirect="plain", to=tls_origin.url(name, size=SIZE))
    with Door() as door:
        proxies = {"http": f"http://127.0.0.1:{passing.port}", "https": door.proxy("http")}
        fetch(url, proxy={scheme: proxies[scheme] for scheme in [through]}, ca_file=tls_origin.ca_file)
        assert bool(len(passing.log(name))) is (through == "http")
        assert {each.port for each in door.asked()} == ({tls_origin.port} if through == "https" else set())
    assert len(tls_origin.log(name)) > 0


def test_a_library_does_not_look_at_the_environment(origin, name, monkeypatch):
    for variable in ("http_proxy", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    fetch(origin.url(name, size=SIZE))
    assert Options.from_env(retries=0).proxy["http"] == "http://127.0.0.1:9"


# --- what is no proxy, or says no ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind", "hint"),
    [
        (403, AccessDenied, "does not allow this host"),
        (407, AccessDenied, "wants credentials"),
        (405, BadStatus, "perhaps it is no proxy"),
        (501, BadStatus, "perhaps it is no proxy"),
        (502, BadStatus, "it can't reach the server"),
        (503, BadStatus, "it can't reach the server"),
    ],
)
def test_no_tunnel(status, kind, hint, tls_origin, name):
    with Door(status=status) as door:
        proxy = door.proxy("http", ":".join(USER))
        error = refusal(tls_origin.url(name, size=SIZE), kind, proxy=proxy, ca_file=tls_origin.ca_file)
        assert error.status == status
        assert hint in error.hint
        assert len(door.asked()) == (1 if status in (403, 405, 407) else 2)
        assert {each.user for each in door.asked()} == {":".join(USER)}
    assert len(tls_origin.log(name)) == 0


def test_a_web_server_is_no_proxy(origin, tls_origin, name):
    error = refusal(tls_origin.url(name, size=SIZE), BadStatus, proxy=f"http://127.0.0.1:{origin.port}")
    assert "perhaps it is no proxy" in error.hint


def test_a_proxy_that_is_away(origin, name):
    for scheme in ("http", "https", "socks5h", "socks4"):
        error = refusal(origin.url(name, size=SIZE), ConnectFailed, proxy=f"{scheme}://me:{USER[1]}@127.0.0.1:9")
        assert "check proxy= (--proxy), and whether the proxy runs" in error.hint
    error = refusal(origin.url(name, size=SIZE), ConnectFailed, proxy=f"http://me:{USER[1]}@nowhere.invalid:9")
    assert "check the proxy's name" in error.hint
    assert "nowhere.invalid" in str(error)


def test_a_server_that_is_away_is_not_taken_for_a_proxy():
    assert "whether the server runs" in refusal("http://127.0.0.1:9/x", ConnectFailed).hint
    assert "whether the server runs" in refusal("http://[::1]:9/x", ConnectFailed).hint


BAD = (
    ("ftp://me:geheim@h:1", "its scheme may be http, https, socks5h"),
    ("geheim://h", "its scheme may be"),
    ("http://me:geheim@h:99999", "a port from 1 to 65535"),
    ("http://me:geheim@h:0", "a port from 1 to 65535"),
    ("http://me:geheim@h:port", "a port from 1 to 65535"),
    ("http://me:geheim/x@h:1", "are written %40"),
    ("me:geheim@", "it names no host"),
    ("http://me:geheim@:3128", "it names no host"),
    ("http://", "it names no host"),
    ("http://[]:1", "it names no host"),
    ("http://me:geheim@[::1", "write http://host:port"),
    ("http://me:geheim@a b:1", "write http://host:port"),
)


@pytest.mark.parametrize(("proxy", "hint"), BAD)
def test_what_is_no_address_of_a_proxy(proxy, hint, cli):
    for given in (proxy, {"https": proxy}):
        with pytest.raises(BadOption) as caught:
            Options(proxy=given)
        assert hint in caught.value.hint
        assert USER[1] not in f"{caught.value} {caught.value!r} {vars(caught.value)}"
    code, _, err = cli("https://h.invalid/x", "--proxy", proxy)
    assert code == 2
    assert "hint: " in err
    assert USER[1] not in err
    assert cli("https://h.invalid/x", env=environment(https_proxy=proxy))[0] == 2


@pytest.mark.parametrize("proxy", ["h", "h:3128", "http://h", "HTTP://u:p%40@h:1/", "socks5h://[::1]:1080", "", None])
def test_what_is_one(proxy):
    assert Options(proxy=proxy).proxy == proxy


def test_no_secret_in_the_options():
    shown = repr(Options(proxy="http://me:geheim@h", curl={10228: ["X-Token: geheim"]}))  # PROXYHEADER
    assert "geheim" not in shown
    assert urlsplit("http://me:geheim@h").password == "geheim"


def test_what_libcurl_says_of_an_address_is_redacted():
    event = {"cause": "transport", "code": 5, "status": 0, "text": "Unsupported proxy syntax in 'http://u:geheim@'"}
    error = failure_of(event, url="http://h/x", before=None, stall_timeout=1.0, path=None)
    assert "geheim" not in str(error)
    assert "Unsupported proxy syntax in 'http://'" in str(error)
