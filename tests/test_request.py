"""Requests: what a URL becomes, and where credentials may go. No redirect, however it
is written, carries a secret to another origin, or leads from https to http."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parpull.errors import BadOption, BadURL, ParpullError, RedirectRefused, UnknownScheme
from parpull.options import Options
from parpull.sources import follow, origin_of, resolve
from parpull.sources.cookies import matching
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


# --- netrc and cookies ---------------------------------------------------------------------------


@pytest.fixture
def kept(tmp_path):
    """kept(text) -> the path of a file with it, as text."""

    def write(text, mode=0o600):
        path = tmp_path / "kept"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        path.chmod(mode)
        return str(path)

    return write


NETRC = f"machine home.example login me password {SECRET}\n"


def test_netrc(kept):
    path = kept(NETRC + "machine other.example\n  login you\n  password pw\n")
    options = Options(netrc=path)
    assert header(resolve("https://home.example/x", options), "authorization") == [basic(f"me:{SECRET}")]
    assert header(resolve("https://HOME.example:8443/x", options), "authorization") == [basic(f"me:{SECRET}")]
    assert header(resolve("https://other.example/x", options), "authorization") == [basic("you:pw")]
    assert header(resolve("https://a.home.example/x", options), "authorization") == []
    assert header(resolve("https://home.example/x", Options()), "authorization") == []


def test_netrc_comes_last(kept):
    options = Options(netrc=kept(NETRC))
    url = "https://home.example/x"
    assert header(resolve("https://a:b@home.example/x", options), "authorization") == [basic("a:b")]
    assert header(resolve(url, options.replace(auth=("c", "d"))), "authorization") == [basic("c:d")]
    assert header(resolve(url, options.replace(headers=["Authorization: x"])), "authorization") == ["x"]


def test_netrc_is_for_the_origin_that_was_named(kept):
    request = resolve("https://home.example/x", Options(netrc=kept(NETRC + NETRC.replace("home", "other"))))
    hop = follow(request, 302, "https://other.example/x")
    assert header(hop, "authorization") == []
    assert header(follow(hop, 302, "https://home.example/y"), "authorization") == [basic(f"me:{SECRET}")]


def test_the_default_netrc(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    options, url = Options(netrc=True), "https://home.example/x"
    assert header(resolve(url, options), "authorization") == []  # there is none
    path = tmp_path / ".netrc"
    path.write_text(NETRC)
    path.chmod(0o600)
    assert header(resolve(url, options), "authorization") == [basic(f"me:{SECRET}")]
    path.chmod(0o644)
    with pytest.raises(BadOption, match="others") as caught:
        resolve(url, options)
    assert "chmod 600" in caught.value.hint


@pytest.mark.parametrize(
    "text", [f"machine h login me pasword {SECRET}\n", f"{SECRET}\n", f"\nmachine h {SECRET} x", b"\xff\xfe machine"]
)
def test_a_broken_netrc_is_told_without_its_content(kept, text):
    path = kept(text)
    with pytest.raises(BadOption) as caught:
        resolve("https://home.example/x", Options(netrc=path))
    error = caught.value
    assert path in str(error)
    assert SECRET not in f"{error} {error!r} {error.hint} {error.value} {error.__cause__}"
    assert error.__suppress_context__


JAR = f"""# Netscape HTTP Cookie File

home.example\tFALSE\t/\tFALSE\t0\tsession\t{SECRET}
.home.example\tTRUE\t/a/b\tFALSE\t4102444800\tdeep\t1
#HttpOnly_home.example\tFALSE\t/a\tTRUE\t4102444800\tsecure\t2
home.example\tFALSE\t/\tFALSE\t1000\texpired\t3
other.example\tTRUE\t/\tFALSE\t0\tother\t4
127.0.0.1\tFALSE\t/\tFALSE\t0\tlocal\t
"""


@pytest.mark.parametrize(
    ("url", "sent"),
    [
        ("https://home.example/", [f"session={SECRET}"]),
        ("https://home.example", [f"session={SECRET}"]),
        ("https://home.example/a/b/c", [f"deep=1; secure=2; session={SECRET}"]),
        ("http://home.example/a/b", [f"deep=1; session={SECRET}"]),
        ("https://home.example/abc", [f"session={SECRET}"]),
        ("https://www.home.example/a/b/", ["deep=1"]),
        ("https://evilhome.example/a/b/", []),
        ("https://sub.other.example/x", ["other=4"]),
        ("http://127.0.0.1:8080/x", ["local="]),
        ("https://example/", []),
    ],
)
def test_cookies_of_a_file(kept, url, sent):
    for text in (JAR, JAR.replace("\n", "\r\n")):
        assert header(resolve(url, Options(cookies=Path(kept(text)))), "cookie") == sent


def test_cookies_are_for_the_origin_that_was_named(kept):
    request = resolve("https://home.example/x", Options(cookies=Path(kept(JAR))))
    assert header(follow(request, 302, "https://other.example/x"), "cookie") == []
    explicit = Options(cookies=Path(kept(JAR)), headers=["Cookie: mine"])
    assert header(resolve("https://home.example/x", explicit), "cookie") == ["mine"]


@pytest.mark.parametrize(
    "text",
    [f"{SECRET}\n", f"home.example\tFALSE\t/\tFALSE\tsoon\ta\t{SECRET}", b"\xff\xfe\t",
     f"home.example\tFALSE\t/\tFALSE\t0\ta\t{SECRET}\x1b", f"home.example\tFALSE\t/\tFALSE\t0\ta\t{SECRET}; b=c"],
)  # fmt: skip
def test_a_broken_file_of_cookies_is_told_without_its_content(kept, text):
    path = kept(text)
    with pytest.raises(BadOption) as caught:
        resolve("https://home.example/x", Options(cookies=Path(path)))
    error = caught.value
    assert path in str(error)
    assert SECRET not in f"{error} {error!r} {error.hint} {error.value}"


@given(
    st.text(max_size=60) | st.from_regex(r"(h|\.h)\t(TRUE|FALSE)\t/?\tFALSE\t[0-9.]{0,3}\t.?\t.{0,3}", fullmatch=True)
)
def test_any_file_of_cookies_gives_a_header_or_nothing(text):
    try:
        found = "; ".join(matching(text.split("\n"), "https://a.h/x", 100.0))
    except ValueError:
        return
    assert found.isprintable()
