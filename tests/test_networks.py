"""Networks as they are: servers that want a certificate of their client, IPv6 that leads nowhere, names
that move, links that go down. Real nginx and Caddy; the last two in namespaces of their own."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

import parpull
from parpull.errors import BadOption, BadStatus, TLSFailed
from tests.apart import SIZE as BIG
from tests.running import cli, environment, start
from tests.servers.ca import client_certificate
from tests.servers.content import content, first_difference
from tests.servers.fixtures import real
from tests.servers.origin import Origin
from tests.servers.real import Caddy, Nginx

__all__ = ["cli", "start"]

MIB = 1 << 20
SIZE = 8 * MIB
RESOLVE, KEYPASSWD = 10203, 10026
FORMS = ("PKCS8", "TraditionalOpenSSL")
PASSWORD = "geheim"


# --- a certificate of the client's -------------------------------------------------------------


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    """{condition: Certificate} of clients, and `folder`: there, the valid one's key with a pass phrase, by FORMS."""
    folder = tmp_path_factory.mktemp("ours")
    made = {each: client_certificate(folder / each, each) for each in ("valid", "expired", "untrusted")}
    key = serialization.load_pem_private_key(made["valid"].key_file.read_bytes(), None)
    for form in FORMS:
        secret = serialization.BestAvailableEncryption(PASSWORD.encode())
        kind = getattr(serialization.PrivateFormat, form)
        (folder / form).write_bytes(key.private_bytes(serialization.Encoding.PEM, kind, secret))
    return made | {"folder": folder}


@pytest.fixture(scope="module")
def strict(tmp_path_factory, ours):
    """nginx that wants a certificate."""
    root = tmp_path_factory.mktemp("strict")
    (root / "object").write_bytes(content(0, SIZE))
    with real(lambda: Nginx(root, tls=True, client_ca=ours["valid"].ca_file)) as server:
        yield server


def options(server, cert=None, key=None):
    pair = {"cert": cert and str(cert), "key": key and str(key)}
    return {"ca_file": server.ca_file, "retries": 1, **{k: v for k, v in pair.items() if v}}


def test_a_certificate_that_is_accepted(strict, ours, tmp_path):
    """From two files, and from one that holds both."""
    valid, before = ours["valid"], len(strict.seen())
    both = tmp_path / "both.pem"
    both.write_bytes(valid.cert_file.read_bytes() + valid.key_file.read_bytes())
    for pair in ((valid.cert_file, valid.key_file), (both,)):
        given = options(strict, *pair)
        with parpull.fetch(strict.url("object"), part_size=MIB, connections=4, **given) as blob:
            assert first_difference(memoryview(blob)) is None
    seen = strict.seen()[before:]
    assert len(seen) == 16
    assert len({row[0] for row in seen}) <= 8
    assert {row[1] for row in seen} == {"206"}
    assert all("trustme" in row[4] for row in seen)


@pytest.mark.parametrize("condition", [None, "expired", "untrusted"])
def test_one_that_is_not(condition, strict, ours):
    """nginx says 400 to it, by HTTP."""
    made = ours[condition] if condition else None
    given = options(strict, made.cert_file, made.key_file) if made else options(strict)
    before = len(strict.seen())
    with pytest.raises(BadStatus) as caught:
        parpull.fetch(strict.url("object"), **given)
    assert caught.value.status == 400
    assert "a client's certificate" in caught.value.hint
    assert len(strict.seen()) - before <= 2


@pytest.mark.parametrize(
    ("condition", "hint"), [(None, "wants a client's certificate"), ("expired", "has expired"), ("untrusted", "cert=")]
)
def test_one_that_is_refused_in_tls(condition, hint, tmp_path, ours):
    """Caddy ends the connection with an alert."""
    (tmp_path / "object").write_bytes(content(0, SIZE))
    with real(lambda: Caddy(tmp_path, tls=True, client_ca=ours["valid"].ca_file)) as server:
        valid = ours["valid"]
        with parpull.fetch(server.url("object"), **options(server, valid.cert_file, valid.key_file)) as blob:
            assert first_difference(memoryview(blob)) is None
        made = ours[condition] if condition else None
        given = options(server, made.cert_file, made.key_file) if made else options(server)
        with pytest.raises(TLSFailed) as caught:
            parpull.fetch(server.url("object"), **given)
        assert hint in caught.value.hint
        assert caught.value.attempts == 1


def test_keys_that_do_not_fit(strict, ours, tmp_path):
    """Nothing is asked of the server."""
    valid, before = ours["valid"], len(strict.seen())
    text = tmp_path / "text"
    text.write_text("no PEM at all")
    for pair in (
        (valid.cert_file, ours["expired"].key_file),
        (valid.cert_file,),
        (text, valid.key_file),
        (valid.cert_file, text),
    ):
        with pytest.raises(TLSFailed) as caught:
            parpull.fetch(strict.url("object"), **options(strict, *pair))
        assert caught.value.code == 58
        assert "belong together" in caught.value.hint
    assert len(strict.seen()) == before


@pytest.mark.parametrize("form", FORMS)
def test_a_key_with_a_pass_phrase(form, strict, ours, cli):
    """It is said, and never asked for on the terminal: the reactor would wait for it."""
    cert, key = ours["valid"].cert_file, ours["folder"] / form
    with pytest.raises(BadOption, match="pass phrase") as caught:
        parpull.fetch(strict.url("object"), **options(strict, cert, key))
    assert caught.value.name == "key"
    assert "openssl pkey" in caught.value.hint
    with pytest.raises(TLSFailed) as refused:
        parpull.fetch(strict.url("object"), **options(strict, cert, key), curl={KEYPASSWD: PASSWORD + "x"})
    assert PASSWORD not in f"{refused.value} {refused.value.hint}"
    with parpull.fetch(strict.url("object"), **options(strict, cert, key), curl={KEYPASSWD: PASSWORD}) as blob:
        assert first_difference(memoryview(blob)) is None
    code, _, err = cli(strict.url("object"), "--cacert", strict.ca_file, "--cert", cert, "--key", key)
    assert code == 2
    assert "hint: without it: openssl pkey" in err


def test_files_that_are_missing(strict, ours, tmp_path, cli):
    for name in ("cert", "key"):
        with pytest.raises(BadOption, match=name) as caught:
            parpull.fetch(strict.url("object"), **{name: tmp_path / "nowhere"})
        assert caught.value.hint == "there is no such file"
        assert cli(strict.url("object"), f"--{name}", "nowhere")[0] == 2


def test_it_is_not_shown_elsewhere(strict, ours, name, tmp_path):
    """A redirect from home, which sees it, to nginx, which wants one of the same authority, and gets none."""
    valid, before = ours["valid"], len(strict.seen())
    with Origin(tls=True, client_ca=str(valid.ca_file)) as home:
        trusted = tmp_path / "trusted.pem"
        trusted.write_text(Path(home.ca_file).read_text() + Path(strict.ca_file).read_text())
        given = options(strict, valid.cert_file, valid.key_file) | {"ca_file": str(trusted)}
        with pytest.raises(BadStatus):
            parpull.fetch(home.url(name, size=SIZE, redirect="plain", to=strict.url("object")), **given)
        assert all(r.certificate for r in home.log(name).requests)
    there = strict.seen()[before:]
    assert there
    assert {row[4] for row in there} == {"-"}


# --- IPv6 that leads nowhere -----------------------------------------------------------------------


@contextmanager
def nowhere(port):
    """[::1]:port takes no connection and refuses none: its queue is full."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_INET6))
        try:
            listener.bind(("::1", port))
        except OSError as reason:
            pytest.skip(f"no IPv6 here: {reason}")
        listener.listen(0)
        for _ in range(8):
            filler = stack.enter_context(socket.socket(socket.AF_INET6))
            filler.setblocking(False)
            filler.connect_ex(("::1", port))
        with pytest.raises(TimeoutError):
            socket.create_connection(("::1", port), 0.2)
        yield


@pytest.mark.parametrize("how", ["refused", "silent"])
def test_ipv6_that_leads_nowhere(how, origin, name):
    """The other address is tried beside it: a connect timeout of a minute is not waited for."""
    host = "both.test"
    events = []
    given = {
        "curl": {RESOLVE: [f"{host}:{origin.port}:[::1],127.0.0.1"]},
        "connect_timeout": 60.0,
        "on_event": events.append,
    }
    with nowhere(origin.port) if how == "silent" else ExitStack():
        url = origin.url(name, size=SIZE, host=host)
        with parpull.submit(url, part_size=MIB, connections=4, **given) as download:
            with download.result(20) as blob:
                assert first_difference(memoryview(blob)) is None
            assert download.progress().retries == 0
    log = origin.log(name)
    assert (len(log), log.sent) == (8, SIZE)
    assert not [e for e in events if e.kind == "retrying"]


# --- in a network of its own -------------------------------------------------------------------------


def apart(*arguments):
    """What tests/apart.py prints, in namespaces of its own."""
    why = None
    if os.geteuid() != 0:
        why = "only root makes namespaces"
    elif shutil.which("unshare") is None or shutil.which("ip") is None:
        why = "no unshare or no ip here"
    else:
        tried = subprocess.run(["unshare", "-n", "-m", "ip", "link", "set", "lo", "up"], capture_output=True, text=True)
        why = tried.stderr.strip() or None
    if why:
        pytest.fail(why) if os.environ.get("PARPULL_REQUIRE") == "all" else pytest.skip(why)
    command = ["unshare", "-n", "-m", sys.executable, "-m", "tests.apart", *map(str, arguments)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=1000)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


AWAY = float(os.environ.get("PARPULL_AWAY", "5"))


@pytest.mark.slow
@pytest.mark.timeout(1000)
@pytest.mark.parametrize("stall_timeout", [1.5, 30.0])
def test_the_network_is_away_for_a_while(stall_timeout):
    """It goes on by itself: on the connections it had, or on new ones if it was away for longer than
    `stall_timeout`. What has landed is not fetched again."""
    told = apart("away", "--seconds", AWAY, "--options", json.dumps({"stall_timeout": stall_timeout}))
    assert told["difference"] is None
    assert BIG // 4 <= told["landed"] <= told["during"] < BIG // 2
    # What the origin's kernel had taken for connections that were lost; and at most a block of a thief's victim.
    assert told["wasted"] <= 4 * MIB
    assert told["sent"] <= BIG + 4 * (6 * MIB)
    if stall_timeout > AWAY:
        assert told["causes"] == []
        assert told["connections"] <= 8  # those that the link wakes last count as silent beside the first
    else:
        assert "Stalled" in told["causes"]
        assert told["connections"] <= 8


@pytest.mark.slow
def test_a_name_that_moves(tmp_path):
    """The server is gone, and its name leads to another one: the rest comes from there."""
    told = apart("moved", "--hosts", tmp_path / "hosts")
    assert told["difference"] is None
    assert told["seconds"] < 50, "the old address was kept for as long as libcurl would"
    assert told["asked"] > 0
    assert told["sent"] < BIG
