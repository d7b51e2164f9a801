"""Requests: what a URL becomes, and where credentials may go. No redirect, however it
is written, carries a secret to another origin, or leads from https to http."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parpull.errors import BadURL, ParpullError, RedirectRefused, UnknownScheme
from parpull.options import Options
from parpull.sources import follow, origin_of, resolve
from parpull.sources.request import MAX_HOPS

NONE = Options()
SECRET = "s3cr3t"
OPTIONS = Options(headers={"Authorization": f"Bearer {SECRET}", "X-Key": SECRET}, cookies=f"id={SECRET}")


def start(url="https://home.example/x", options=OPTIONS):
    return resolve(url, options)


# --- resolve --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_", "sent"),
    [
        ("https://host/a", "https://host/a"),
        ("  https://host/a \n", "https://host/a"),
        ("HTTPS://Host/A", "https://Host/A"),
        ("http://host", "http://host"),
        ("http://host:8080/", "http://host:8080/"),
        ("http://[::1]:8080/a", "http://[::1]:8080/a"),
        ("https://host/a b", "https://host/a%20b"),
        ("https://host/a%20b", "https://host/a%20b"),
        ("https://host/ä", "https://host/%C3%A4"),
        ("https://host/日本", "https://host/%E6%97%A5%E6%9C%AC"),
        ("https://host/a%2Fb?x=%2F&y=a+b", "https://host/a%2Fb?x=%2F&y=a+b"),
        ("https://host/a?sig=a/b+c==&x={y}", "https://host/a?sig=a/b+c==&x=%7By%7D"),
        ("https://host/a?x=1#part", "https://host/a?x=1"),
        ("https://host?x=1", "https://host?x=1"),
        ("https://user:pw@host/a", "https://host/a"),
        ("https://user@host:1/a", "https://host:1/a"),
        ("https://host/@scope/a:b;c,d", "https://host/@scope/a:b;c,d"),
        ("https://host/a'b(c)*!~", "https://host/a'b(c)*!~"),
        ('https://host/"<>\\^`|', "https://host/%22%3C%3E%5C%5E%60|"),
        ("https://host//double//slash", "https://host//double//slash"),
        ("https://host/../up", "https://host/../up"),
    ],
)
def test_what_is_sent(given_, sent):
    assert resolve(given_, NONE).url == sent


@pytest.mark.parametrize(
    "url",
    ["", " ", "host/a", "localhost:8080/a", "//host/a", "/a", "https:/host", "https:host", "https://", "https:///a", "://host",
     "https://host:port/", "https://host:99999/", "https://host:-1/", "https://[::1/", "https://[zz]/", "https://ho\nst/",
     "https://host/a\tb", "https://host/\0", "https://host/a\x7f", "https://host/\udc80", "https://@/", "https://:80/",
     "mailto:a@b", None, 5, b"https://host/"],
)  # fmt: skip
def test_what_is_no_url(url):
    with pytest.raises(BadURL) as caught:
        resolve(url, NONE)
    assert caught.value.url is not None


@pytest.mark.parametrize(
    "url", ["ftp://host/a", "file:///etc/passwd", "s3://b/k", "gopher://h/", "ws://h/", "FTP://h/"]
)
def test_schemes_that_nobody_serves(url):
    with pytest.raises(UnknownScheme) as caught:
        resolve(url, NONE)
    assert caught.value.scheme == url.partition(":")[0].lower()
    assert "https" in caught.value.hint


@given(
    st.text(max_size=30) | st.text(max_size=30).map("https://".__add__) | st.text(max_size=30).map("https://h/".__add__)
)
def test_any_text_is_a_request_or_a_parpull_error(url):
    try:
        request = resolve(url, NONE)
    except ParpullError:
        return
    assert request.url.isascii()
    assert request.url.isprintable()
    assert " " not in request.url
    scheme, host, port = origin_of(request.url)
    assert scheme in ("http", "https")
    assert host
    assert 0 < port < 65536
    assert request.private


@pytest.mark.parametrize(
    "url",
    [
        f"user:{SECRET}@host/x",
        f"//user:{SECRET}@host/x",
        f"https:/user:{SECRET}@host/x",
        f"https://user:{SECRET}/x@host/x",  # a slash in the password: it looks like a port
        f"https://user:{SECRET}?x@host/x",
        f"https://user:{SECRET}@host:port/x",
        f"https://user:{SECRET}@/x",
        f"ftp://user:{SECRET}@host/x",
        f"https://host/x\n?sig={SECRET}",
        f"host/x?sig={SECRET}",
    ],
)
def test_no_error_tells_a_password(url):
    with pytest.raises(ParpullError) as caught:
        resolve(url, NONE)
    error = caught.value
    assert SECRET not in f"{error} {error!r} {error.hint} {error.url}"


def header(request, name):
    return [line.partition(": ")[2] for line in request.headers if line.lower().startswith(name + ":")]


def basic(text):
    return "Basic " + base64.b64encode(text.encode()).decode()


def test_userinfo_becomes_a_header():
    assert header(resolve("https://us%40er:p%3Aw%20@host/", NONE), "authorization") == [basic("us@er:p:w ")]
    assert header(resolve("https://user@host/", NONE), "authorization") == [basic("user:")]
    assert header(resolve("https://ü:ñ@host/", NONE), "authorization") == [basic("ü:ñ")]
    assert header(resolve("https://host/", NONE), "authorization") == []


def test_what_comes_first():
    """A header, then auth=, then the URL."""
    url = "https://a:b@host/"
    assert header(resolve(url, Options(auth=("c", "d"))), "authorization") == [basic("c:d")]
    chosen = Options(auth=("c", "d"), headers={"AUTHORIZATION": "mine"}, cookies="x=1")
    assert header(resolve(url, chosen), "authorization") == ["mine"]
    assert header(resolve(url, chosen), "cookie") == ["x=1"]
    assert header(resolve(url, Options(headers={"cookie": "y"}, cookies="x")), "cookie") == ["y"]


def test_the_user_agent_goes_everywhere():
    assert header(resolve("https://host/", NONE), "user-agent")[0].startswith("parpull/")
    request = resolve("https://host/", Options(headers={"User-Agent": "me"}))
    assert header(request, "user-agent") == ["me"]
    assert header(follow(request, 302, "https://other/"), "user-agent") == ["me"]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("https://host/", "https://host:443/x", True),
        ("http://host/", "http://HOST.:80/x", True),
        ("https://host/", "http://host/", False),
        ("https://host/", "https://host:444/", False),
        ("https://host/", "https://sub.host/", False),
        ("https://host/", "https://host.evil/", False),
        ("https://host/", "https://host@evil/", False),
        ("https://host/", "https://evil#@host/", False),
        ("https://host/", "https://evil?@host/", False),
        ("https://host/", "https://evil\\@host/", True),  # libcurl, too, takes what follows the @
        ("http://host/", "http://host:0/", False),
    ],
)
def test_origins(one, other, same):
    assert (origin_of(one) == origin_of(other)) == same


# --- follow ------------------------------------------------------------------------------------


def test_a_hop():
    first = start()
    second = follow(first, 302, "https://cdn.example/y?sig=1")
    assert (second.url, second.hops, second.secure, second.private) == ("https://cdn.example/y?sig=1", 1, True, False)
    assert SECRET not in str(second.headers)
    assert first.hops == 0
    back = follow(second, 307, "https://home.example:443/z")
    assert back.private
    assert SECRET in str(back.headers)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_that_are_followed(status):
    assert follow(start(), status, "https://other/").url == "https://other/"


@pytest.mark.parametrize("status", [300, 304, 305, 306, 200, 399])
def test_statuses_that_are_not(status):
    with pytest.raises(RedirectRefused, match="no redirect"):
        follow(start(), status, "https://other/")


@pytest.mark.parametrize(
    "location",
    [None, "", "/relative", "relative", "//host/x", "ftp://host/", "file:///etc/passwd", "javascript:alert(1)", "https:///x",
     "https://", "https://[::1", "https://h:x/", "data:,x", "http://other/", "ht\ttp://other/", "\nhttp://other/",
     "htt\tps://other/", "https://ho\nst/"],
)  # fmt: skip
def test_locations_that_are_not_followed(location):
    with pytest.raises(RedirectRefused) as caught:
        follow(start(), 302, location)
    assert caught.value.reason
    assert caught.value.url == "https://home.example/x"


def test_http_once_https_was_seen():
    request = resolve("http://home.example/", NONE)
    assert not request.secure
    request = follow(request, 302, "http://b/")
    request = follow(request, 302, "https://c/")
    request = follow(request, 302, "https://d/")
    with pytest.raises(RedirectRefused, match="from https to http"):
        follow(request, 302, "http://home.example/")


def test_hops_are_counted():
    request = start()
    for n in range(MAX_HOPS):
        request = follow(request, 302, f"https://h{n}/")
    with pytest.raises(RedirectRefused, match="more than 10"):
        follow(request, 302, "https://one.more/")


def test_a_refusal_tells_no_secret():
    request = resolve(f"https://u:{SECRET}@home.example/?sig={SECRET}", OPTIONS)
    with pytest.raises(RedirectRefused) as caught:
        follow(request, 302, f"http://u:{SECRET}@h/?sig={SECRET}")
    error = caught.value
    assert SECRET not in f"{error} {error!r} {error.url} {error.location} {error.hint}"
    assert SECRET not in repr(request)


NASTY = st.text("htps:/@#?\\.%[]\t\n 0:8homevil", max_size=24)
PLACES = st.sampled_from(
    ["https://home.example", "https://home.example:443", "https://home.example:8443", "http://home.example", "https://evil.example",
     "https://home.example@evil.example", "https://evil.example#@home.example", "https://evil.example\\@home.example",
     "HTTPS://HOME.EXAMPLE.", "https://home.example.evil.example", "https://u:p@home.example"]
)  # fmt: skip
LOCATIONS = NASTY | st.builds(str.__add__, PLACES, NASTY) | PLACES | st.text(max_size=20)


@settings(max_examples=400)
@given(st.sampled_from(["https://home.example/x", "http://home.example/x"]), st.lists(LOCATIONS, max_size=12))
def test_credentials_never_leave_the_origin(url, locations):
    request = start(url)
    secure = request.secure
    for location in locations:
        try:
            request = follow(request, 302, location)
        except RedirectRefused:
            continue
        scheme, host, port = origin_of(request.url)
        assert request.url.isascii()
        assert request.url.isprintable()
        assert " " not in request.url
        assert scheme in ("http", "https")
        assert host
        assert scheme == "https" or not secure, "https -> http"
        secure = secure or scheme == "https"
        if (scheme, host, port) != origin_of(url):
            assert not request.private
            assert SECRET not in " ".join(request.headers)
        assert request.hops <= MAX_HOPS
