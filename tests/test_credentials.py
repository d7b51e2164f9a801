"""Secrets stay home: whatever a user gives for one origin, by whichever verb, no other origin sees
it. The second origin is a process of its own, or the same one under another name, and its log is read.
And addresses that expire while parts are in flight: who asks again, how often."""

from __future__ import annotations

import base64
import math
from pathlib import Path

import pytest

import parpull
from parpull.errors import AccessDenied, RedirectRefused
from tests.running import cli, environment, start
from tests.servers.ca import client_certificate
from tests.servers.content import first_difference
from tests.servers.origin import Origin

__all__ = ["cli", "start"]

MIB = 1 << 20
SIZE = 6 * MIB
SECRET = "s3cr3t"
BASIC = base64.b64encode(f"me:{SECRET}".encode()).decode()


# --- the ways to give a secret, and to ask ---------------------------------------------------


def netrc(folder):
    """For every host there is: a hop must not look up one of its own."""
    path = folder / ".netrc"
    path.write_text("".join(f"machine {host} login me password {SECRET}\n" for host in ("127.0.0.1", "localhost")))
    path.chmod(0o600)
    return path


def jar(folder):
    path = folder / "cookies.txt"
    path.write_text("".join(f"{host}\tFALSE\t/\tFALSE\t0\tid\t{SECRET}\n" for host in ("127.0.0.1", "localhost")))
    return path


# name -> (options, the command line's arguments), by a folder for files
WAYS = {
    "auth": lambda folder: ({"auth": ("me", SECRET)}, ["-u", f"me:{SECRET}"]),
    "header": lambda folder: ({"headers": {"Authorization": SECRET}}, ["-H", f"Authorization: {SECRET}"]),
    "own-header": lambda folder: ({"headers": {"X-Token": SECRET}}, ["-H", f"X-Token: {SECRET}"]),
    "cookies": lambda folder: ({"cookies": f"id={SECRET}"}, ["-H", f"Cookie: id={SECRET}"]),
    "cookie-file": lambda folder: ({"cookies": jar(folder)}, ["--cookie", jar(folder)]),
    "netrc": lambda folder: ({"netrc": str(netrc(folder))}, ["--netrc"]),
    "userinfo": lambda folder: ({}, []),
}  # fmt: skip


@pytest.fixture(params=WAYS)
def way(request, tmp_path):
    """(options, arguments, spell): spell(url) is how the user writes it."""
    options, arguments = WAYS[request.param](tmp_path)
    inside = request.param == "userinfo"
    return options, arguments, lambda url: url.replace("://", f"://me:{SECRET}@") if inside else url


def fetch(url, options):
    with parpull.fetch(url, part_size=MIB, connections=4, **options) as blob, memoryview(blob) as view:
        assert first_difference(view) is None


def seek(url, options):
    with parpull.open(url, **options) as reader:
        for at in (5 * MIB, 100, 3 * MIB):
            reader.seek(at)
            assert first_difference(reader.read(1000), at) is None


def ranges(url, options):
    begins = (0, 5 * MIB)
    for blob, at in zip(parpull.fetch_ranges(url, [(at, at + 10) for at in begins], **options), begins, strict=True):
        with blob, memoryview(blob) as view:
            assert first_difference(view, at) is None


def probe(url, options):
    assert parpull.probe(url, **options).size == SIZE


VERBS = (fetch, seek, ranges, probe)


def carries(record):
    """Whether a request holds the secret anywhere: in a header, its path, or its query."""
    text = repr((record.headers, record.path, record.query))
    return SECRET in text or BASIC in text


# --- no other origin sees them ----------------------------------------------------------------


@pytest.fixture(scope="module")
def away():
    with Origin() as running:
        yield running


@pytest.fixture(params=["name", "port", "scheme"])
def elsewhere(request, origin, away, tls_origin):
    """(origin, host) of what is not the origin at home, in one respect."""
    return {"name": (origin, "localhost"), "port": (away, None), "scheme": (tls_origin, None)}[request.param]


def split(home, server, host, name):
    """The requests of a name at home, and those elsewhere."""
    if server is home:
        found = home.log(name).requests
        there = [r for r in found if r.headers["host"].startswith(host)]
        return [r for r in found if r not in there], there
    return list(home.log(name).requests), list(server.log(name).requests)


@pytest.mark.parametrize("verb", VERBS)
def test_a_redirect_elsewhere(verb, way, elsewhere, origin, tls_origin, name):
    options, _, spell = way
    server, host = elsewhere
    url = origin.url(name, size=SIZE, redirect="plain", to=server.url(name, size=SIZE, host=host))
    verb(spell(url), {**options, "ca_file": tls_origin.ca_file})
    home, there = split(origin, server, host, name)
    assert home
    assert there
    assert all(carries(r) for r in home)
    assert not any(carries(r) for r in there)
    assert not any("referer" in r.headers for r in there)


def test_a_redirect_elsewhere_by_the_command_line(way, elsewhere, origin, tls_origin, name, cli, tmp_path):
    _, arguments, spell = way
    server, host = elsewhere
    url = spell(origin.url(name, size=SIZE, redirect="plain", to=server.url(name, size=SIZE, host=host)))
    env = environment(HOME=str(tmp_path))
    code, _, err = cli(url, "-o", "got", "--cacert", tls_origin.ca_file, *arguments, env=env)
    assert code == 0, err
    assert SECRET not in err
    home, there = split(origin, server, host, name)
    assert all(carries(r) for r in home)
    assert there
    assert not any(carries(r) for r in there)


@pytest.mark.parametrize("verb", VERBS)
def test_three_hops_and_back(verb, way, origin, away, name):
    """Home, another port, another name of that, and home again, where they are wanted."""
    options, _, spell = way
    end = origin.url(name, size=SIZE)
    third = away.url(name, size=SIZE, redirect="plain", to=end, host="localhost")
    second = away.url(name, size=SIZE, redirect="plain", to=third)
    verb(spell(origin.url(name, size=SIZE, redirect="plain", to=second)), options)
    between = away.log(name).requests
    assert len(between) == 2
    assert not any(carries(r) for r in between)
    assert all(carries(r) for r in origin.log(name).requests)


@pytest.mark.parametrize("verb", VERBS)
def test_an_address_that_expires(verb, way, origin, away, name):
    """The second and third resolution go home with the secrets, and what they lead to without."""
    options, _, spell = way
    target = away.url(name, size=SIZE, signed=True, uses=2, etag="strong")
    verb(spell(origin.url(name, size=SIZE, redirect="signed", to=target)), options)
    home, there = origin.log(name), away.log(name)
    assert home.resolutions == len(home) >= (1 if verb in (probe, ranges) else 2)
    assert all(carries(r) for r in home.requests)
    assert not any(carries(r) for r in there.requests)


def test_an_elsewhere_that_wants_them(origin, away, name):
    """It answers 401: they are not offered."""
    target = away.url(name, size=SIZE, auth="me:another")
    with pytest.raises(AccessDenied):
        parpull.fetch(origin.url(name, size=SIZE, redirect="plain", to=target), auth=("me", SECRET))
    assert not any(carries(r) for r in away.log(name).requests)


# --- certificates ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certified(tmp_path_factory):
    """Two origins with TLS that ask for a certificate, and the options of a client that has one."""
    folder = tmp_path_factory.mktemp("certified")
    made = client_certificate(folder)
    with Origin(tls=True, client_ca=str(made.ca_file)) as home, Origin(tls=True, client_ca=str(made.ca_file)) as away:
        trusted = folder / "trusted.pem"
        trusted.write_text(Path(home.ca_file).read_text() + Path(away.ca_file).read_text())
        yield home, away, {"ca_file": str(trusted), "cert": str(made.cert_file), "key": str(made.key_file)}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("other", ["name", "port"])
def test_the_clients_certificate(verb, other, certified, name):
    home, away, options = certified
    server, host = (home, "localhost") if other == "name" else (away, None)
    and_back = {"redirect": "plain", "to": home.url(name, size=SIZE)}
    for params in ({}, and_back):
        target = server.url(name, size=SIZE, host=host, **params)
        verb(home.url(name, size=SIZE, redirect="plain", to=target), options)
    at_home, there = split(home, server, host, name)
    assert there
    assert all(r.certificate for r in at_home)
    assert not any(r.certificate for r in there)


def test_the_clients_certificate_by_the_command_line(certified, name, cli):
    home, away, options = certified
    url = home.url(name, size=SIZE, redirect="plain", to=away.url(name, size=SIZE))
    files = ["--cacert", options["ca_file"], "--cert", options["cert"], "--key", options["key"]]
    code, _, err = cli(url, "-o", "got", *files)
    assert code == 0, err
    assert all(r.certificate for r in home.log(name).requests)
    assert not any(r.certificate for r in away.log(name).requests)


# --- from https to http --------------------------------------------------------------------------


def chain(schemes, origin, tls_origin, name):
    """The URL of a chain of redirects that ends at an object: "https http" are two origins."""
    url = None
    for scheme in reversed(schemes.split()):
        server = origin if scheme == "http" else tls_origin
        url = server.url(name, size=SIZE, **({"redirect": "plain", "to": url} if url else {}))
    return url


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("more", ["http", "https http", "https https http", "http https https"])
def test_from_https_to_http(verb, more, origin, tls_origin, name):
    with pytest.raises(RedirectRefused, match="https to http"):
        verb(chain("https " + more, origin, tls_origin, name), {"ca_file": tls_origin.ca_file, "auth": ("me", SECRET)})
    assert len(origin.log(name)) == 0


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(("schemes", "plain"), [("http https http", 1), ("http http https http", 2)])
def test_from_http_to_https_and_back(verb, schemes, plain, origin, tls_origin, name):
    with pytest.raises(RedirectRefused, match="https to http"):
        verb(chain(schemes, origin, tls_origin, name), {"ca_file": tls_origin.ca_file})
    assert len(origin.log(name)) == plain


def test_from_http_to_https(origin, tls_origin, name):
    fetch(chain("http http https https", origin, tls_origin, name), {"ca_file": tls_origin.ca_file})


def test_from_https_to_http_by_the_command_line(origin, tls_origin, name, cli):
    code, _, err = cli(chain("https http", origin, tls_origin, name), "-o", "got", "--cacert", tls_origin.ca_file)
    assert code == 1
    assert "https to http" in err
    assert len(origin.log(name)) == 0


# --- addresses that expire -------------------------------------------------------------------------


@pytest.mark.slow
def test_an_address_that_is_good_for_two_seconds(origin, away, name):
    """A download of some 20 s over 4 connections: each expiry costs one resolution, and at
    most one refused request for each connection."""
    size, valid, connections = 80 * MIB, 2.0, 4
    target = away.url(name, size=size, signed=True, ttl=valid, pace=1_050_000)
    url = origin.url(name, size=size, redirect="signed", to=target)
    with parpull.submit(url, connections=connections, part_size=MIB, auth=("me", SECRET)) as download:
        with download.result(120) as blob, memoryview(blob) as view:
            assert first_difference(view) is None
        seconds = download.progress().seconds
    home, there = origin.log(name), away.log(name)
    refused = len(there.with_status(403))
    print(f"{seconds:.1f} s, {home.resolutions} resolutions, {refused} refused, {len(there)} requests")
    assert 10 < seconds < 60
    # A good address is found out only by the next request, up to a second and a hop later.
    assert math.ceil(seconds / (valid + 1.5)) - 1 <= home.resolutions <= math.ceil(seconds / valid) + 1
    assert refused <= connections * (home.resolutions - 1)
    assert there.sent <= size + MIB
    assert not any(carries(r) for r in there.requests)
