"""The judge: every row of the catalogue of hostile servers that one response can show,
the validators' table, and a fuzzer. A LAND that isn't proven is silent corruption."""

from __future__ import annotations

import calendar
import re
from email.utils import formatdate, parsedate_to_datetime

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from parpull._response import FLAWS, KINDS, verdict_of

TOTAL = 1000
DATE, LATER = b"Wed, 21 Oct 2015 07:28:00 GMT", b"Thu, 22 Oct 2015 07:28:00 GMT"
FIRST = {"start": 0, "stop": 100}
NEXT = {"start": 100, "stop": 200, "total": TOTAL, "first": False}


def headers(*, content_range=b"bytes 100-199/1000", **more):
    named = {"content-range": content_range}
    named |= {name.replace("_", "-"): value for name, value in more.items()}
    return {name: value for name, value in named.items() if value is not None}


def later(status=206, have=(None, None), **named):
    """The verdict on an answer to bytes 100-199 of a target with this (ETag, date)."""
    return verdict_of(status, headers(**named), **NEXT, etag=have[0], last_modified=have[1])


def first(status=206, *, content_range=b"bytes 0-99/1000", **named):
    """The verdict on the very first answer."""
    return verdict_of(status, headers(content_range=content_range, **named), **FIRST)


# --- the catalogue: (headers, kind to a later request, kind to the first, flaw) -------------

GOOD = {"content_length": b"100"}
FLAWED = [
    ("another offset", {"content_range": b"bytes 200-299/1000"}, "Content-Range starts elsewhere"),
    ("one byte off", {"content_range": b"bytes 99-198/1000"}, "Content-Range starts elsewhere"),
    ("the whole in a 206", {"content_range": b"bytes 0-999/1000"}, "Content-Range starts elsewhere"),
    ("no Content-Range", {"content_range": None}, "no Content-Range"),
    ("longer than asked", {"content_range": b"bytes 100-200/1000"}, "Content-Range ends beyond the part"),
    ("Content-Length too long", {"content_length": b"101"}, "Content-Length contradicts Content-Range"),
    ("Content-Length too short", {"content_length": b"99"}, "Content-Length contradicts Content-Range"),
    ("Content-Length negative", {"content_length": b"-100"}, "Content-Length contradicts Content-Range"),
    ("Content-Length twice", {"content_length": b"100, 100"}, "Content-Length contradicts Content-Range"),
    ("Content-Length with a tail", {"content_length": b"100x"}, "Content-Length contradicts Content-Range"),
    ("Content-Length empty", {"content_length": b""}, "Content-Length contradicts Content-Range"),
    ("gzip", {"content_encoding": b"gzip"}, "the content is encoded"),
    ("br", {"content_encoding": b"br"}, "the content is encoded"),
    ("gzip after identity", {"content_encoding": b"identity, gzip"}, "the content is encoded"),
    ("a coding named alike", {"content_encoding": b"identityx"}, "the content is encoded"),
    ("multipart", {"content_type": b"multipart/byteranges; boundary=x"}, "multipart/byteranges"),
    ("MULTIPART", {"content_type": b"Multipart/Byteranges; boundary=x"}, "multipart/byteranges"),
]
MALFORMED = [
    b"", b"bytes", b"bytes ", b"bytes 100", b"bytes 100-", b"bytes 100-199", b"bytes 100-199/", b"bytes -199/1000",
    b"bytes 199-100/1000", b"bytes 100-199/199", b"bytes 100-199/150", b"bytes 100-199/1000x", b"bytes 100-199/1000, x",
    b"bytes 100-199/-1", b"bytes 0x64-199/1000", b"bytes +100-199/1000", b"items 100-199/1000", b"100-199/1000",
    b"bytes 100-18446744073709551715/18446744073709552616", b"bytes 18446744073709551716-18446744073709551815/*",
    b"bytes 100--199/1000", b"bytes 100-199//1000", b"bytes 100 - 199/1000", b"bytes 1e2-199/1000", b"*/1000",
    b"bytes 100-199/1000\x00 x"[:18] + b";",
]  # fmt: skip


@pytest.mark.parametrize(("named", "flaw"), [row[1:] for row in FLAWED], ids=[row[0] for row in FLAWED])
def test_a_206_that_cannot_be_trusted(named, flaw):
    got = later(**{**GOOD, **named})
    assert (got["kind"], got["flaw"]) == ("broken", flaw)


@pytest.mark.parametrize(("named", "flaw"), [row[1:] for row in FLAWED], ids=[row[0] for row in FLAWED])
def test_to_the_first_request_it_asks_once_without_a_range(named, flaw):
    got = verdict_of(206, headers(**{**GOOD, **named}), start=100, stop=200)
    assert (got["kind"], got["flaw"]) == ("plain", flaw)


@pytest.mark.parametrize("value", MALFORMED)
def test_a_malformed_content_range(value):
    got = later(content_range=value)
    assert (got["kind"], got["flaw"]) == ("broken", "malformed Content-Range")


@pytest.mark.parametrize(
    "value",
    [b"bytes 100-199/1000", b"BYTES 100-199/1000", b"  bytes\t100-199/1000  ", b"bytes=100-199/1000",
     b"bytes: 100-199/1000", b"bytes 100-199/*", b"bytes 100-199 / 1000"],
)  # fmt: skip
def test_spellings_seen_in_the_wild(value):
    assert later(content_range=value)["kind"] == "land"


def test_a_good_206_lands_where_it_was_asked_for():
    got = later(content_length=b"100")
    assert {k: got[k] for k in ("kind", "start", "stop", "total", "measured")} == {
        "kind": "land", "start": 100, "stop": 200, "total": 1000, "measured": True,
    }  # fmt: skip


def test_without_content_length_the_end_of_the_body_has_to_prove_it():
    got = later()
    assert (got["kind"], got["measured"], got["stop"]) == ("land", False, 200)


def test_a_legal_shorter_206_lands_as_far_as_it_goes():
    got = later(content_range=b"bytes 100-149/1000", content_length=b"50")
    assert (got["kind"], got["start"], got["stop"]) == ("land", 100, 150)


def test_one_byte():
    got = later(content_range=b"bytes 100-100/1000", content_length=b"1")
    assert (got["kind"], got["stop"]) == ("land", 101)


@pytest.mark.parametrize("value", [b"identity", b"Identity", b"", b"  ", b" identity"])
def test_identity_is_no_coding(value):
    assert later(content_encoding=value)["kind"] == "land"


def test_another_total_is_another_object():
    assert later(content_range=b"bytes 100-199/1001")["kind"] == "changed"


def test_the_first_answer_has_to_say_the_total():
    got = first(content_range=b"bytes 0-99/*")
    assert (got["kind"], got["flaw"]) == ("plain", "the total size is not said")


def test_a_206_without_having_asked_for_a_range():
    got = verdict_of(206, headers(content_range=b"bytes 0-99/1000"))
    assert (got["kind"], got["flaw"]) == ("broken", "Content-Range starts elsewhere")


# --- other statuses ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "to_first", "to_later"),
    [
        (200, "stream", "ignored"), (203, "stream", "ignored"), (204, "empty", "again"),
        (400, "plain", "refused"), (401, "expired", "expired"), (403, "plain", "expired"), (410, "expired", "expired"),
        (404, "missing", "missing"), (405, "refused", "refused"), (407, "refused", "refused"), (408, "again", "again"),
        (412, "match_failed", "match_failed"), (416, "plain", "again"), (418, "refused", "refused"),
        (421, "again", "again"), (425, "again", "again"), (429, "again", "again"), (451, "refused", "refused"),
        (500, "again", "again"), (501, "plain", "refused"), (502, "again", "again"), (503, "again", "again"),
        (504, "again", "again"), (505, "refused", "refused"), (520, "again", "again"), (599, "again", "again"),
        (100, "refused", "refused"), (0, "refused", "refused"), (302, "moved", "moved"),
        (304, "moved", "moved"),
        (600, "refused", "refused"), (-1, "refused", "refused"), (202, "refused", "refused"),
    ],
)  # fmt: skip
def test_statuses(status, to_first, to_later):
    assert verdict_of(status, {}, **FIRST)["kind"] == to_first
    assert verdict_of(status, {}, **NEXT)["kind"] == to_later


def test_one_version_has_one_total():
    got = later(have=(STRONG, None), etag=STRONG, content_range=b"bytes 100-199/1001")
    assert (got["kind"], got["flaw"]) == ("broken", "another total under the same validator")


@pytest.mark.parametrize("status", [400, 403, 416, 501])
def test_a_request_without_range_is_never_told_to_go_without_range(status):
    """Else it would be asked again for ever."""
    got = verdict_of(status, {}, first=True)
    assert got["kind"] not in {"plain", "land", "stream"}


def test_a_200_to_the_first_request_is_one_stream():
    got = verdict_of(200, {"content-length": b"1000"}, **FIRST)
    assert {k: got[k] for k in ("kind", "start", "stop", "total", "measured")} == {
        "kind": "stream", "start": 0, "stop": 1000, "total": 1000, "measured": True,
    }  # fmt: skip
    got = verdict_of(200, {}, **FIRST)
    assert (got["kind"], got["stop"], got["total"], got["measured"]) == ("stream", -1, -1, False)


@pytest.mark.parametrize("value", [b"", b"-1", b"x", b"99999999999999999999", b"10x", b"10, 10"])
def test_a_200_with_a_malformed_length(value):
    got = verdict_of(200, {"content-length": value}, **FIRST)
    assert (got["kind"], got["flaw"]) == ("broken", "malformed Content-Length")


def test_a_200_that_is_encoded():
    got = verdict_of(200, {"content-encoding": b"gzip"}, **FIRST)
    assert (got["kind"], got["flaw"]) == ("broken", "the content is encoded")


def test_a_repeated_stream_is_compared_too():
    asked = {"total": TOTAL, "first": False, "etag": b'"a"'}
    assert verdict_of(200, {"etag": b'"a"', "content-length": b"1000"}, **asked)["kind"] == "stream"
    assert verdict_of(200, {"etag": b'"b"', "content-length": b"1000"}, **asked)["kind"] == "changed"
    assert verdict_of(200, {"etag": b'"b"', "content-length": b"999"}, **asked)["kind"] == "changed"


def test_empty_objects():
    assert verdict_of(200, {"content-length": b"0"}, **FIRST)["kind"] == "empty"
    assert verdict_of(416, {"content-range": b"bytes */0"}, **FIRST)["kind"] == "empty"


def test_unsatisfiable_ranges():
    beyond = verdict_of(416, {"content-range": b"bytes */50"}, start=100, stop=200)
    assert (beyond["kind"], beyond["total"]) == ("empty", 50)
    assert verdict_of(416, {"content-range": b"bytes */1000"}, start=100, stop=200)["kind"] == "plain"
    assert verdict_of(416, {"content-range": b"bytes */999"}, **NEXT)["kind"] == "changed"
    assert verdict_of(416, {"content-range": b"bytes */1000"}, **NEXT)["kind"] == "again"
    assert verdict_of(416, {"content-range": b"bytes */0"}, **NEXT)["kind"] == "changed"


# --- validators ---------------------------------------------------------------------------------

STRONG, OTHER, WEAK, WEAK_OTHER = b'"a"', b'"b"', b'W/"a"', b'W/"b"'


@pytest.mark.parametrize(
    ("have", "got", "kind"),
    [
        # target's (etag, date), response's (etag, date)
        ((STRONG, None), (STRONG, None), "land"),
        ((STRONG, None), (OTHER, None), "changed"),
        ((STRONG, DATE), (STRONG, LATER), "land"),  # a strong ETag is enough
        ((STRONG, DATE), (OTHER, DATE), "edge"),
        ((STRONG, DATE), (OTHER, LATER), "changed"),
        ((STRONG, DATE), (OTHER, None), "changed"),
        ((STRONG, DATE), (None, DATE), "land"),
        ((STRONG, DATE), (None, LATER), "changed"),
        ((STRONG, DATE), (None, None), "broken"),
        ((STRONG, None), (None, DATE), "broken"),
        ((STRONG, None), (None, None), "broken"),
        ((STRONG, DATE), (WEAK, DATE), "edge"),  # weak proves nothing about a strong one
        ((STRONG, None), (WEAK, None), "changed"),
        ((WEAK, None), (WEAK, None), "land"),
        ((WEAK, DATE), (WEAK, DATE), "land"),
        ((WEAK, DATE), (WEAK, LATER), "changed"),
        ((WEAK, DATE), (WEAK, None), "changed"),
        ((WEAK, DATE), (WEAK_OTHER, DATE), "edge"),
        ((WEAK, None), (WEAK_OTHER, None), "changed"),
        ((WEAK, DATE), (STRONG, DATE), "land"),  # the opaque parts agree
        ((WEAK, DATE), (OTHER, DATE), "edge"),
        ((None, DATE), (None, DATE), "land"),
        ((None, DATE), (STRONG, DATE), "land"),
        ((None, DATE), (None, LATER), "changed"),
        ((None, DATE), (None, None), "broken"),
        ((None, None), (None, None), "land"),
        ((None, None), (STRONG, DATE), "land"),
    ],
)
def test_validators(have, got, kind):
    named = dict(zip(("etag", "last_modified"), got, strict=True))
    verdict = later(have=have, **named)
    assert verdict["kind"] == kind
    if kind == "broken":
        assert verdict["flaw"] == "no validator to compare"


def test_an_edge_with_another_total_is_another_object():
    got = later(have=(STRONG, DATE), etag=OTHER, last_modified=DATE, content_range=b"bytes 100-199/1001")
    assert got["kind"] == "changed"


# --- Retry-After ----------------------------------------------------------------------------------


@given(st.integers(0, 10**9))
def test_retry_after_in_seconds(seconds):
    got = verdict_of(503, {"retry-after": b" %d " % seconds}, **NEXT)
    assert (got["retry_after"], got["retry_at"]) == (seconds, None)


@given(st.integers(0, 4102444800 * 3))
@example(951782400)  # 29 February 2000
@example(4107542399)  # the last second of February 2100, which has 28 days
@example(0)
def test_retry_after_as_a_date(when):
    got = verdict_of(429, {"retry-after": formatdate(when, usegmt=True).encode()}, **NEXT)
    assert (got["retry_after"], got["retry_at"]) == (None, when)


@pytest.mark.parametrize(
    "value",
    [b"", b"soon", b"-5", b"1.5", b"5s", b"99999999999999999999999", b",", b"x,", b"Wed, ", b"Wed, 21 Oct",
     b"Wed, 21 Oct 2015",
     b"Wed, 21 Oct 2015 07:28", b"Wed, 21 Okt 2015 07:28:00 GMT", b"Wed, 32 Oct 2015 07:28:00 GMT",
     b"Wed, 21 Oct 2015 24:28:00 GMT", b"Wed, 21 Oct 2015 07:60:00 GMT", b"Wed, 21 Oct 2015 07:28:61 GMT",
     b"Wed, 21 Oct 99999 07:28:00 GMT", b"Wed, 21 ctO 2015 07:28:00 GMT", b"Wed, xx Oct 2015 07:28:00 GMT",
     b"Wed, 00 Oct 2015 07:28:00 GMT", b"Wed, 21 Oct 2015 07:28:00 +0200"],
)  # fmt: skip
def test_a_retry_after_that_says_nothing(value):
    got = verdict_of(503, {"retry-after": value}, **NEXT)
    assert (got["kind"], got["retry_after"], got["retry_at"]) == ("again", None, None)


@pytest.mark.parametrize("value", [b"Sunday, 06-Nov-94 08:49:37 GMT", b"Sun Nov  6 08:49:37 1994"])
def test_obsolete_dates_are_understood_or_ignored(value):
    """RFC 9110 wants a recipient to take all three; never a wrong time."""
    got = verdict_of(503, {"retry-after": value}, **NEXT)
    assert got["retry_at"] in (None, calendar.timegm((1994, 11, 6, 8, 49, 37, 0, 0, 0)))


@given(st.binary(max_size=60).filter(lambda raw: b"\0" not in raw))
@example(b", 1 Jan 1970 00:00:00 GMT")
def test_retry_after_never_crashes(raw):
    got = verdict_of(503, {"retry-after": raw}, **NEXT)
    assert got["retry_after"] is None or got["retry_at"] is None
    if got["retry_at"] is not None:
        assert parsedate_to_datetime("Mon," + raw.partition(b",")[2].decode("latin-1"))


# --- the fuzzer -------------------------------------------------------------------------------------

NAMES = ["content-range", "content-length", "content-encoding", "content-type", "etag", "last-modified",
         "retry-after", "location"]  # fmt: skip
SMALL = st.integers(0, 12)
TEXT = st.binary(max_size=20).filter(lambda raw: b"\0" not in raw)
RANGE = st.builds(
    lambda a, b, t, gap: b"bytes%s%d-%d/%s" % (gap, a, b, t),
    SMALL,
    SMALL,
    st.one_of(SMALL.map(lambda n: b"%d" % n), st.just(b"*"), TEXT),
    st.sampled_from([b" ", b"=", b"  ", b"", b":"]),
)
VALUES = {
    "content-range": RANGE | TEXT,
    "content-length": SMALL.map(lambda n: b"%d" % n) | TEXT,
    "content-encoding": st.sampled_from([b"identity", b"gzip", b"", b"identity, br", b"identity-gzip", b" IDENTITY "])
    | TEXT,
    "content-type": st.sampled_from([b"text/html", b"multipart/byteranges"]) | TEXT,
    "etag": st.sampled_from([STRONG, OTHER, WEAK, WEAK_OTHER]) | TEXT,
    "last-modified": st.sampled_from([DATE, LATER]) | TEXT,
    "retry-after": st.just(b"3") | TEXT,
    "location": TEXT,
}
SAID = re.compile(rb"(?i)[ \t]*bytes[ \t]*[=:]?[ \t]*(\d+)-(\d+)[ \t]*/[ \t]*(\d+|\*)[ \t]*")


@st.composite
def answers(draw):
    """An answer that is good but for up to three headers, and what was asked."""
    start, length, total = draw(st.integers(-1, 10)), draw(st.integers(1, 10)), draw(st.integers(-1, 20))
    stop = start + length if start >= 0 else -1
    etag, date = draw(st.none() | VALUES["etag"]), draw(st.none() | VALUES["last-modified"])
    named = {"content-range": b"bytes %d-%d/%d" % (start, stop - 1, total if total >= 0 else 30)}
    named |= {name: value for name, value in (("etag", etag), ("last-modified", date)) if value is not None}
    for name in draw(st.sets(st.sampled_from(sorted(VALUES)), max_size=3)):
        named[name] = draw(VALUES[name])
    for name in draw(st.sets(st.sampled_from(sorted(VALUES)), max_size=1)):
        named.pop(name, None)
    status = draw(
        st.sampled_from([206] * 6 + [200, 200, 203, 204, 302, 403, 412, 416, 429, 503]) | st.integers(-5, 1000)
    )
    asked = {"start": start, "stop": stop, "total": total, "etag": etag, "last_modified": date}
    return status, named, asked | {"first": draw(st.booleans())}


@settings(max_examples=2500, deadline=None)
@given(answers())
def test_what_lands_is_proven(answer):
    status, given_, asked = answer
    start, stop, total = asked["start"], asked["stop"], asked["total"]
    is_first, etag, date = asked["first"], asked["etag"], asked["last_modified"]
    got = verdict_of(status, given_, **asked)
    assert got["kind"] in KINDS
    assert got["flaw"] in FLAWS
    if got["kind"] == "land":
        assert status == 206
        assert start >= 0
        assert got["start"] == start
        assert start < got["stop"] <= stop
        assert got["total"] == -1 or got["total"] >= got["stop"]
        assert total == -1 or got["total"] in (-1, total)
        assert not is_first or total >= 0 or got["total"] >= 0
        said = re.fullmatch(
            rb"(?i)[ \t]*bytes[ \t]*[=:]?[ \t]*(\d+)-(\d+)[ \t]*/[ \t]*(\d+|\*)[ \t]*", given_["content-range"]
        )
        assert said
        assert (int(said[1]), int(said[2]) + 1) == (got["start"], got["stop"])
        if "content-length" in given_:
            assert got["measured"]
            assert int(given_["content-length"]) == got["stop"] - got["start"]
    if got["kind"] == "stream":
        assert status in (200, 203)
        assert is_first or start < 0
        assert got["start"] == 0
    if got["kind"] in ("land", "stream"):
        assert given_.get("content-encoding", b"").strip(b" \t").lower() in (b"", b"identity")
        if etag is not None and "etag" in given_:
            assert given_["etag"].removeprefix(b"W/") == etag.removeprefix(b"W/")
        elif date is not None:
            assert given_.get("last-modified") == date
        elif etag is not None:
            pytest.fail("landed without a validator to compare")
    if got["kind"] == "plain":
        assert is_first
        assert start >= 0, "would be asked without Range again and again"


@given(start=st.integers(0, 2**60 - 1), length=st.integers(1, 2**40), rest=st.integers(0, 2**40), star=st.booleans())
def test_content_range_round_trip(start, length, rest, star):
    stop = min(start + length, 2**60)
    total = min(stop + rest, 2**60)
    said = b"bytes %d-%d/%s" % (start, stop - 1, b"*" if star else b"%d" % total)
    got = verdict_of(206, {"content-range": said}, start=start, stop=stop, total=total, first=False)
    assert (got["kind"], got["start"], got["stop"]) == ("land", start, stop)
    assert got["total"] == (-1 if star else total)


@given(st.integers(2**60 + 1, 2**80))
def test_numbers_too_large_to_be_true(number):
    got = verdict_of(206, {"content-range": b"bytes 0-99/%d" % number}, **FIRST)
    assert (got["kind"], got["flaw"]) == ("plain", "malformed Content-Range")
