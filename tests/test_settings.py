"""Settings: what of the options reaches libcurl, and that no pointer, function or option
that is ours gets through `curl=`."""

from __future__ import annotations

import pycurl
import pytest

from parpull import _job, _reactor
from parpull.errors import BadOption
from parpull.options import Options
from parpull.settings import ALLOWED, OURS, ca_file, settings_of

DANGEROUS = """
    VERBOSE FOLLOWLOCATION UNRESTRICTED_AUTH NETRC NETRC_FILE COOKIEFILE COOKIEJAR SSL_VERIFYPEER
    SSL_VERIFYHOST PROTOCOLS PROTOCOLS_STR REDIR_PROTOCOLS UPLOAD CUSTOMREQUEST HEADER FAILONERROR
    ACCEPT_ENCODING NOBODY TIMEOUT TIMEOUT_MS MAXFILESIZE BUFFERSIZE SSLENGINE DEFAULT_PROTOCOL PRE_PROXY
    CAPATH NOSIGNAL PATH_AS_IS REQUEST_TARGET IGNORE_CONTENT_LENGTH HTTP09_ALLOWED
"""


def value_of(name, options):
    """The value that libcurl gets for an option, by its name."""
    number = _reactor.option_number(name)
    found = [(kind, value) for option, kind, value in settings_of(options) if option == number]
    assert len(found) <= 1, f"{name} is set twice"
    return found[0] if found else None


def refusal(number, value=1):
    with pytest.raises(BadOption) as caught:
        settings_of(Options(curl={number: value}))
    assert caught.value.name == "curl"
    assert caught.value.value == number
    return f"{caught.value} {caught.value.hint}"


def test_defaults():
    options = Options(connect_timeout=1.5)
    assert value_of("CONNECTTIMEOUT_MS", options) == (_job.SETTING_LONG, 1500)
    assert value_of("HTTP_VERSION", options) == (_job.SETTING_LONG, 2)
    assert value_of("PROXY", options) == (_job.SETTING_STRING, ""), "libcurl would look at the environment"
    assert value_of("NOPROXY", options) == (_job.SETTING_STRING, "")
    assert value_of("SSLCERT", options) is None


def test_a_proxy_by_scheme():
    options = Options(proxy={"http": "http://p", "https": None})
    number = _reactor.option_number("PROXY")
    for only, proxy in ((_job.SETTING_HTTP, "http://p"), (_job.SETTING_HTTPS, "")):
        assert (number, _job.SETTING_STRING | only, proxy) in settings_of(options)


def test_what_is_given():
    options = Options(proxy="http://p", noproxy="a", http_version="2", ca_file=__file__, cert=__file__, key=__file__)
    assert value_of("PROXY", options) == (_job.SETTING_STRING, "http://p")
    assert value_of("NOPROXY", options) == (_job.SETTING_STRING, "a")
    assert value_of("CAINFO", options) == (_job.SETTING_STRING, __file__)
    assert value_of("CAPATH", options) == (_job.SETTING_STRING, None)
    private = _job.SETTING_STRING | _job.SETTING_PRIVATE
    assert value_of("SSLCERT", options) == value_of("SSLKEY", options) == (private, __file__)


@pytest.mark.parametrize("seconds", [1e-6, 0.0004, 1e6])
def test_a_timeout_is_never_none_at_all(seconds):
    assert value_of("CONNECTTIMEOUT_MS", Options(connect_timeout=seconds))[1] >= 1


def test_authorities(tmp_path, monkeypatch):
    for name in ("SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    pem = tmp_path / "ca.pem"
    pem.touch()
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    assert ca_file(None) == str(pem)
    assert ca_file(__file__) == __file__
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path))  # a folder is no file
    monkeypatch.setenv("CURL_CA_BUNDLE", str(pem))
    assert ca_file(None) == str(pem)
    monkeypatch.setenv("CURL_CA_BUNDLE", "/nowhere")  # named, so nothing else is trusted in its place
    assert ca_file(None) == "/nowhere"


@pytest.mark.parametrize(
    ("name", "value"),
    [("INTERFACE", "eth1"), ("IPRESOLVE", 1), ("RESOLVE", ["h:443:127.0.0.1"]), ("CONNECT_TO", ("a:1:b:2",)),
     ("TCP_NODELAY", 0), ("SSLVERSION", 7), ("UNIX_SOCKET_PATH", "/run/x"), ("DNS_CACHE_TIMEOUT", -1),
     ("PROXYHEADER", ["X: 1", "Y: 2"]), ("TLS13_CIPHERS", ""), ("LOCALPORT", 0), ("RESOLVE", [])],
)  # fmt: skip
def test_what_is_allowed(name, value):
    got = value_of(name, Options(curl={getattr(pycurl, name): value}))
    assert got[1] == ("\n".join(value) if isinstance(value, (list, tuple)) else value)


@pytest.mark.parametrize("name", sorted(OURS))
def test_what_has_an_option_of_our_own_is_named(name):
    assert OURS[name] in refusal(_reactor.option_number(name))


def test_every_name_on_the_lists_is_libcurls():
    for name in OURS:
        _reactor.option_number(name)
    known = []
    for name in ALLOWED:
        try:
            known.append(_reactor.option_number(name))
        except KeyError:  # newer than this libcurl
            continue
    assert len(known) > len(ALLOWED) // 2
    assert not ALLOWED & set(OURS)


@pytest.mark.parametrize(
    "name",
    ["WRITEFUNCTION", "WRITEDATA", "HEADERFUNCTION", "PROGRESSFUNCTION", "OPENSOCKETFUNCTION", "SSL_CTX_FUNCTION",
     "PRIVATE", "ERRORBUFFER", "SHARE", "POSTFIELDS", "COPYPOSTFIELDS", "STREAM_DEPENDS", "CURLU", "SSLKEY_BLOB",
     "CAINFO_BLOB",
     "XFERINFOFUNCTION", "MIMEPOST", "HTTPPOST", "STDERR", "DEBUGFUNCTION", "SOCKOPTFUNCTION", "INTERLEAVEDATA"],
)  # fmt: skip
def test_pointers_and_functions_are_refused(name):
    try:
        number = _reactor.option_number(name)
    except KeyError:
        pytest.skip(f"this libcurl has no {name}")
    assert "can't be set" in refusal(number)


def test_everything_that_is_not_on_the_list_is_refused():
    """All options that libcurl knows: only those of the list get through."""
    through = set()
    for number in range(1, 60_000):
        base = number % 10_000
        if base > 400 or _reactor.option_kind(number) is None:
            continue
        name, kind = _reactor.option_kind(number)
        value = {_job.SETTING_STRING: "x", _job.SETTING_SLIST: ["x"]}.get(kind, 1)
        try:
            settings_of(Options(curl={number: value}))
        except BadOption:
            continue
        through.add(name)
    assert through
    assert through <= ALLOWED
    assert not through & set(DANGEROUS.split())


@pytest.mark.parametrize("number", [0, -1, 999_999, 2**31, 2**70, "INTERFACE", None, 1.5, True, (1,)])
def test_what_is_no_option(number):
    assert "can't be set" in refusal(number)


@pytest.mark.parametrize(
    ("name", "value"),
    [("IPRESOLVE", "1"), ("IPRESOLVE", 1.0), ("IPRESOLVE", None), ("IPRESOLVE", 2**70), ("IPRESOLVE", -(2**63) - 1),
     ("INTERFACE", 1), ("INTERFACE", b"eth1"), ("INTERFACE", None), ("INTERFACE", ["eth1"]), ("INTERFACE", "a\0b"),
     ("RESOLVE", "h:443:127.0.0.1"), ("RESOLVE", [1]), ("RESOLVE", None), ("RESOLVE", 5), ("RESOLVE", ["a\0b"]),
     ("PROXYHEADER", ["X: 1\nProxy-Authorization: evil"])],
)  # fmt: skip
def test_values_of_the_wrong_kind(name, value):
    assert name in refusal(getattr(pycurl, name), value)
