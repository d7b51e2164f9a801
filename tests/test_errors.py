"""Errors: the tree of the docstring is the tree of the classes, each is caught by the
built-in that people know, survives a pickle, and prints no secret."""

from __future__ import annotations

import builtins
import concurrent.futures.process
import copy
import inspect
import pickle
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from parpull import errors
from parpull.errors import ParpullError, redact

LINE = re.compile(r"^[\s│├└─]*(?P<name>\w+)(?: \((?P<base>\w+)\))?(?:\s+(?P<data>.+))?$")


def tree():
    """(name, parent, built-in base, attributes) of each line of the docstring's tree."""
    doc = inspect.cleandoc(errors.__doc__)
    block = [line for line in doc.splitlines() if line.startswith(" ")]
    above: list[tuple[int, str, tuple[str, ...]]] = []
    for line in block:
        found = LINE.match(line)
        assert found, line
        depth = found.start("name")
        while above and above[-1][0] >= depth:
            above.pop()
        inherited = above[-1][2] if above else ()
        data = tuple(part.strip() for part in found["data"].split(",")) if found["data"] else ()
        yield found["name"], above[-1][1] if above else None, found["base"], data + inherited
        above.append((depth, found["name"], data + inherited))


TREE = list(tree())
KINDS = {name: getattr(errors, name) for name, *_ in TREE}
SAMPLES = {
    "name": "retries", "value": -1, "url": "https://host/x", "scheme": "gopher", "status": 404, "code": 7,
    "seconds": 1.5, "reason": "no", "location": "https://h/", "before": '"a"', "after": None, "attempts": 3,
    "algorithm": "md5", "expected": "aa", "actual": "bb", "path": "/tmp/x", "errno": 28, "owner": "me",
    "offered": ("Basic",),
    "needed": 10, "given": 5, "available": 4, "last": errors.NotFound("gone", url="https://host/x", status=404),
}  # fmt: skip


def sample(name):
    (keys,) = (row[3] for row in TREE if row[0] == name)
    data = {key: SAMPLES[key] for key in keys}
    return KINDS[name]("it went wrong", hint="try again", **data), data


def same(one, other):
    return type(one) is type(other) and str(one) == str(other) if isinstance(one, ParpullError) else one == other


def test_the_docstring_shows_every_class():
    classes = {
        name for name, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, ParpullError)
    }
    assert classes == set(KINDS)
    assert set(errors.__all__) == classes | {"redact"}


@pytest.mark.parametrize(("name", "parent", "base"), [row[:3] for row in TREE], ids=[row[0] for row in TREE])
def test_the_tree_is_true(name, parent, base):
    kind = KINDS[name]
    assert kind.__doc__
    assert issubclass(kind, Exception)
    if parent:
        assert KINDS[parent] in kind.__bases__
    if base:
        assert getattr(builtins, base) in kind.__mro__


@pytest.mark.parametrize("name", KINDS)
def test_it_is_caught_by_each_of_its_kinds(name):
    error, data = sample(name)
    for kind in type(error).__mro__[:-1]:
        with pytest.raises(kind):
            raise error
    assert str(error) == error.message == "it went wrong"
    assert error.hint == "try again"
    for key, value in data.items():
        assert getattr(error, key) == value


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(
    "again",
    [copy.copy, lambda error: pickle.loads(pickle.dumps(error)), lambda error: error.again()],
    ids=["copy", "pickle", "again"],
)
def test_it_survives_with_its_data(name, again):
    error, data = sample(name)
    other = again(error)
    assert other is not error
    assert type(other) is type(error)
    assert (str(other), other.hint) == (str(error), error.hint)
    for key, value in data.items():
        assert same(getattr(other, key), value), key


def test_each_raise_has_a_traceback_and_the_cause():
    error = errors.RetriesExhausted("gave up", attempts=3, last=SAMPLES["last"])
    error.__cause__ = SAMPLES["last"]
    error.add_note("seen on Monday")
    other = error.again()
    assert other.__traceback__ is None
    assert other.__cause__ is SAMPLES["last"]
    assert other.__notes__ == ["seen on Monday"]


def test_errors_cross_a_process_pool_the_way_futures_send_them():
    wrapped = concurrent.futures.process._ExceptionWithTraceback(sample("NoSpace")[0], None)
    rebuild, arguments = wrapped.__reduce__()
    assert rebuild(*pickle.loads(pickle.dumps(arguments))).errno == 28


def test_hints_are_none_where_there_is_nothing_to_do():
    assert ParpullError("x").hint is None
    assert ParpullError("x").url is None


# --- redact ------------------------------------------------------------------------------------------

SAFE = st.text("abcdefghijklmnopqrstuvwxyz0123456789.-", min_size=1, max_size=10)
SECRETS = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ%+=&;:~!$*", min_size=3, max_size=20)
ROUGH = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ%+=&;:~!$*/?#@\\", min_size=3, max_size=20).map(lambda s: "Q" + s + "Z")


@given(host=SAFE, path=SAFE, user=SECRETS, password=SECRETS, query=SECRETS, fragment=SECRETS)
def test_neither_userinfo_nor_query_is_printed(host, path, user, password, query, fragment):
    shown = redact(f"https://{user}:{password}@{host}:8080/{path}?{query}#{fragment}")
    assert shown == f"https://{host}:8080/{path}?…"


@given(host=SAFE, path=SAFE, query=ROUGH, fragment=ROUGH)
@example(host="h", path="p", query="a?b", fragment="c?d")
def test_whatever_is_in_the_query(host, path, query, fragment):
    for url in (f"https://{host}/{path}?{query}", f"https://{host}/{path}#{fragment}", f"https://{host}?{query}"):
        shown = redact(url)
        assert query not in shown
        assert fragment not in shown
        assert host in shown


@pytest.mark.parametrize(
    "url",
    [
        "https://user:SECRET@host/x",
        "https://user:SE/CRET@host/x",
        "https://user:SE?CRET@host/x",
        "https://user:SE#CRET@host/x",
        "https://user:SE@CRET@host/x",
        "https://SECRET@host",
        "https://:SECRET@host",
        "user:SECRET@host/x",
        "//user:SECRET@host/x",
        "https:/user:SECRET@host/x",
        "https:user:SECRET@host/x",
        "HTTPS://user:SECRET@host/x",
        " https://user:SECRET@host/x",
        "https://host?sig=SECRET",
        "https://host/x?a=b?SECRET",
        "https://host/x#access_token=SECRET",
        "https://host/x#a?SECRET",
        "?SECRET",
        "#SECRET",
    ],
)
def test_passwords_as_people_type_them(url):
    shown = redact(url)
    assert "SECRET" not in shown
    assert "CRET" not in shown, "a part of it is told"
    assert not re.search(r"\bSE\b", shown), "a part of it is told"


@pytest.mark.parametrize(
    "url", ["https://host/x", "http://[::1]:80/a/@scope/b", "https://host:8443", "s3://bucket/key@v1", "", "not a url"]
)
def test_what_is_no_secret_stays(url):
    assert redact(url) == url
