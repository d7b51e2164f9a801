"""Options: each bad value is a BadOption that names the option, says what to do, and
keeps secrets to itself; nothing changes once it is made."""

from __future__ import annotations

import ast
import copy
import inspect
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parpull import options as module
from parpull.errors import BadOption
from parpull.options import Options, parse_size

SECRET = "s3cr3t-value"

BAD = [
    ("connections", [0, -1, 257, 1.5, True, "8", "Auto", None, [], 2**80]),
    ("host_connections", [0, -1, 257, 1.5, True, "8", "auto", []]),
    ("part_size", [0, -1, 1.5, "1M", True, [], 2**63, 2**80]),
    ("checksum", ["", "abc", "sha256=12", "nonsense=" + "a" * 64, 5, b"sha256=" + b"a" * 64]),
    ("overwrite", ["no"]),
    ("durable", ["no"]),
    ("steal", ["no"]),
    ("retries", [-1, 1.5, "3", None, True, 2**31, 2**80]),
    ("retry_for", [0, -1, float("nan"), "60", None, True]),
    ("connect_timeout", [0, -0.5, float("nan"), float("inf"), 1e300, "15", None, True]),
    ("stall_timeout", [0, -1, float("nan"), "15", None, True]),
    ("headers", [5, None, [5], "A: b", ["no colon"], [": value"], [" Name: v"], ["Name : v"], ["Na me: v"], ["Né: v"],
                 {"A": "b\nc"}, {"A": "b\rc"}, {"A\n": "b"}, {"A": "b\0"}, {5: "x"},
                 {"Range": "bytes=0-1"}, {"IF-MATCH": "x"}, {"if-range": "x"}, {"Accept-Encoding": "gzip"}]),
    ("auth", ["user:pw", "ab", 5, ("one",), ("a", "b", "c"), (1, 2), ("a", None), ("a:b", "c"), ("a\n", "b"),
              ("a", "b\0")]),
    ("cookies", [5, "a\nb", "a\0", b"a", Path("/no/such/file"), Path("/")]),
    ("netrc", [5, 1, "", "/no/such/file", "/", []]),
    ("proxy", [5, "http://h\n", b"http://h", ["http://h"], {"http": 5}, {"http": "http://h\n"}, {"ftp": "http://h"}]),
    ("noproxy", [5, ["a"], "a\nb"]),
    ("ca_file", ["/no/such/file", "/", "", 5]),
    ("cert", ["/no/such/file", 5]),
    ("key", ["/no/such/file", 5]),
    ("http_version", ["1.0", 2, None, "", []]),
    ("max_memory", [-1, 1.5, "1G", True]),
    ("size", [-1, 1.5, "1G", True]),
    ("curl", [5, None, [1], "x"]),
    ("on_event", [5, "print"]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD for value in values])
def test_a_bad_value_is_a_bad_option(name, value):
    with pytest.raises(BadOption) as caught:
        Options(**{name: value})
    error = caught.value
    assert error.name == name
    assert hasattr(error, "value")
    assert error.hint
    assert name in str(error)


GOOD = {
    "connections": [1, 256, "auto"],
    "part_size": [1, 1 << 40, None],
    "retries": [0, 10**6],
    "retry_for": [1, 0.5, float("inf"), 10**6],
    "stall_timeout": [0.001, float("inf")],
    "headers": [(), {}, {"A": "b"}, ["A: b", "A: c"], ("A:b",), {"A": "é"}, {"A": ""}],
    "auth": [None, ("user", "pa:ss"), ["user", ""], ("", "")],
    "cookies": [None, "a=b; c=d", Path(__file__)],
    "netrc": [True, False, __file__],
    "host_connections": [None, 1, 256],
    "http_version": ["1.1", "2", "3"],
    "max_memory": [None, 0, 1 << 60],
    "size": [None, 0],
    "ca_file": [None, __file__],
    "on_event": [None, print],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in GOOD.items() for value in values])
def test_a_good_value_is_kept(name, value):
    got = getattr(Options(**{name: value}), name)
    if name == "headers":
        lines = [f"{k}: {v}" for k, v in value.items()] if isinstance(value, dict) else value
        assert got == tuple(lines)
    elif name == "auth" and value:
        assert got == tuple(value)
    else:
        assert got == value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("headers", [f"Bearer {SECRET}"]),  # the colon was forgotten: the line is all secret
        ("headers", [f"Authorization {SECRET}"]),
        ("headers", {"Authorization": f"{SECRET}\n"}),
        ("headers", f"Authorization: {SECRET}"),
        ("auth", f"user:{SECRET}"),
        ("auth", ("user", SECRET + "\n")),
        ("auth", ("us:er", SECRET)),
        ("auth", (SECRET,)),
        ("cookies", f"a={SECRET}\n"),
        ("proxy", f"http://u:{SECRET}@h\n"),
    ],
)
def test_no_secret_is_told(name, value):
    with pytest.raises(BadOption) as caught:
        Options(**{name: value})
    error = caught.value
    assert SECRET not in f"{error!s} {error!r} {getattr(error, 'hint', '')} {getattr(error, 'value', '')}"


def test_no_secret_is_shown():
    shown = repr(
        Options(
            auth=("u", SECRET),
            cookies=SECRET,
            headers={"Authorization": SECRET},
            proxy=f"http://u:{SECRET}@h",
            retries=3,
        )
    )
    assert SECRET not in shown
    assert "retries=3" in shown


def test_an_unknown_option():
    with pytest.raises(TypeError, match=r"unknown option 'conections'; there are: auth, .*connections"):
        Options(conections=3)


def test_the_fields_of_every_verb_are_the_options():
    (fields,) = (
        node
        for node in ast.walk(ast.parse(inspect.getsource(module)))
        if isinstance(node, ast.ClassDef) and node.name == "OptionFields"
    )
    keys = [node.target.id for node in fields.body if isinstance(node, ast.AnnAssign)]
    assert keys == list(Options.__annotations__)
    assert all(f"{key}:" in Options.__doc__ or f"{key}, " in Options.__doc__ for key in keys), "documented"


# --- immutability ------------------------------------------------------------------------------


def test_options_do_not_change():
    options = Options(retries=3)
    with pytest.raises(AttributeError, match=r"use replace\(retries="):
        options.retries = 4
    with pytest.raises(AttributeError):
        del options.retries
    assert options.retries == 3


def test_defaults_are_shared_by_nobody():
    try:
        with pytest.raises(TypeError):
            Options().curl[1] = 2
    finally:
        if Options().curl:
            Options().curl.clear()


def test_what_was_given_may_change_afterwards():
    headers, curl = ["A: b"], {1: 2}
    options = Options(headers=headers, curl=curl)
    headers.append("C: d")
    curl[3] = 4
    assert options.headers == ("A: b",)
    assert dict(options.curl) == {1: 2}


def test_replace_makes_a_copy():
    options = Options(retries=3, connections=4)
    other = options.replace(retries=5)
    assert (options.retries, other.retries, other.connections) == (3, 5, 4)
    assert other.replace().retries == 5
    with pytest.raises(BadOption):
        options.replace(retries=-1)
    with pytest.raises(TypeError):
        options.replace(nonsense=1)


def test_copies_and_pickles():
    options = Options(retries=3, headers={"A": "b"}, auth=("u", "p"))
    for other in (copy.copy(options), copy.deepcopy(options), pickle.loads(pickle.dumps(options))):
        assert (other.retries, other.headers, other.auth, other.connections) == (3, ("A: b",), ("u", "p"), "auto")


def test_limit():
    assert Options().limit == 32
    assert Options(connections=3).limit == 3


# --- the environment -----------------------------------------------------------------------------


def test_the_environment():
    options = Options.from_env(
        {
            "PARPULL_CONNECTIONS": "8",
            "PARPULL_PART_SIZE": "16MiB",
            "PARPULL_RETRIES": "2",
            "PARPULL_RETRY_FOR": "1.5",
            "PARPULL_CONNECT_TIMEOUT": "3",
            "PARPULL_STALL_TIMEOUT": "4",
            "PARPULL_MAX_MEMORY": "1G",
            "PARPULL_CA_FILE": __file__,
            "PARPULL_PROXY": "http://p",
            "PARPULL_NOPROXY": "a,b",
            "https_proxy": "http://other",
            "PARPULL_HOST_CONNECTIONS": "9",
            "PARPULL_OVERWRITE": "yes",
            "PARPULL_DURABLE": "On",
            "PARPULL_STEAL": "0",
            "PARPULL_NETRC": __file__,
            "PARPULL_CERT": __file__,
            "PARPULL_KEY": __file__,
            "PARPULL_HTTP_VERSION": "2",
            "PARPULL_HEADERS": "X-Secret: not from here",
            "PARPULL_AUTH": "nor:this",
        }
    )
    assert (options.host_connections, options.overwrite, options.durable, options.steal) == (9, True, True, False)
    assert (options.netrc, options.cert, options.key, options.http_version) == (__file__, __file__, __file__, "2")
    assert (options.headers, options.auth) == ((), None)
    assert (options.connections, options.part_size, options.retries, options.retry_for) == (8, 16 << 20, 2, 1.5)
    assert (options.connect_timeout, options.stall_timeout, options.max_memory) == (3.0, 4.0, 10**9)
    assert (options.ca_file, options.proxy, options.noproxy) == (__file__, "http://p", "a,b")


@pytest.mark.parametrize(
    ("environ", "proxy", "noproxy"),
    [
        ({}, (None, None), None),
        ({"https_proxy": "a", "http_proxy": "b"}, ("b", "a"), None),
        ({"HTTPS_PROXY": "a"}, (None, "a"), None),
        ({"all_proxy": "a"}, ("a", "a"), None),
        ({"ALL_PROXY": "a", "https_proxy": "b"}, ("a", "b"), None),
        ({"http_proxy": "a"}, ("a", None), None),
        ({"HTTP_PROXY": "evil"}, (None, None), None),
        ({"NO_PROXY": "x", "no_proxy": "y"}, (None, None), "y"),
        ({"NO_PROXY": "x"}, (None, None), "x"),
    ],
)
def test_proxy_variables(environ, proxy, noproxy):
    options = Options.from_env(environ)
    assert (options.proxy["http"], options.proxy["https"], options.noproxy) == (*proxy, noproxy)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("connections", "many"), ("connections", "8.0"), ("connections", "0"), ("part_size", "big"),
        ("part_size", "1e400"), ("part_size", "-1"), ("part_size", "0"), ("retries", "x"), ("retries", "-1"),
        ("retry_for", "nan"), ("retry_for", "soon"),
        ("connect_timeout", "0"), ("connect_timeout", "inf"), ("max_memory", "1X"), ("max_memory", "-1M"),
        ("ca_file", "/no/such/file"), ("host_connections", "0"), ("host_connections", "auto"), ("overwrite", "maybe"),
        ("netrc", "/no/such/file"), ("cert", "/no/such/file"), ("http_version", "4"),
    ],
)  # fmt: skip
def test_a_bad_variable_is_named(name, text):
    with pytest.raises(BadOption) as caught:
        Options.from_env({"PARPULL_" + name.upper(): text})
    assert str(caught.value).startswith(f"PARPULL_{name.upper()}=")
    assert caught.value.hint


def test_a_bad_proxy_in_a_variable_is_not_shown():
    with pytest.raises(BadOption) as caught:
        Options.from_env({"PARPULL_PROXY": f"http://u:{SECRET}@h\n"})
    assert SECRET not in f"{caught.value} {caught.value.value} {caught.value.hint}"


@pytest.mark.parametrize(("text", "netrc"), [("yes", True), ("no", False), ("", False)])
def test_netrc_may_be_a_word(text, netrc):
    assert Options.from_env({"PARPULL_NETRC": text}).netrc is netrc


def test_netrc_names_the_file():
    assert Options.from_env({"NETRC": __file__}).netrc is False
    assert Options.from_env({"NETRC": __file__}, netrc=True).netrc == __file__
    assert Options.from_env({"NETRC": "/no/such", "PARPULL_NETRC": __file__}).netrc == __file__
    with pytest.raises(BadOption, match=r"^NETRC="):
        Options.from_env({"NETRC": "/no/such/file"}, netrc=True)


@pytest.mark.parametrize("name", ["https_proxy", "http_proxy", "all_proxy", "no_proxy"])
def test_the_usual_variables_are_named_too(name):
    with pytest.raises(BadOption, match=f"{name}.*=") as caught:
        Options.from_env({name: f"http://u:{SECRET}@h\n"})
    assert SECRET not in str(caught.value)


def test_arguments_come_first():
    options = Options.from_env({"PARPULL_RETRIES": "2", "https_proxy": "http://p"}, retries=3, proxy="http://q")
    assert (options.retries, options.proxy) == (3, "http://q")


def test_the_environment_is_read_only_when_asked(monkeypatch):
    monkeypatch.setenv("PARPULL_CONNECTIONS", "3")
    assert Options().connections == "auto"
    assert Options.from_env().connections == 3


def test_an_empty_variable_is_none():
    assert Options.from_env({"PARPULL_CONNECTIONS": "", "https_proxy": ""}).connections == "auto"


# --- sizes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0), ("512", 512), ("512b", 512), ("1k", 1000), ("1K", 1000), ("1kB", 1000), ("1KiB", 1024), ("1Ki", 1024),
        ("64M", 64_000_000), ("64MiB", 64 << 20), ("1.5G", 1_500_000_000), ("2GiB", 2 << 30), ("1T", 10**12),
        ("1TiB", 1 << 40), (" 3M ", 3_000_000), ("0.5KiB", 512), ("9007199254740993", 9007199254740993),
        ("9007199254740993k", 9007199254740993000),
    ],
)  # fmt: skip
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    ["", " ", "M", "MiB", "B", "i", "5i", "5iB", "5X", "5MM", "5 5", "1,5M", "0x10", "-5", "-1M", "nan", "nanM", "inf",
     "infM", "1e400", "1e400M", "1_000", "५", "5Mi B", "ki", "5bb", "--5", "5M5"],
)  # fmt: skip
def test_texts_that_are_no_size(text):
    with pytest.raises(ValueError, match=r"not a size|could not convert"):
        parse_size(text)


@given(st.text(max_size=12) | st.from_regex(r"[0-9.eE+-]{0,6}[kmgtKMGT]?i?[bB]?", fullmatch=True))
def test_any_text_is_a_size_or_a_value_error(text):
    try:
        size = parse_size(text)
    except ValueError:
        return
    assert isinstance(size, int)
    assert size >= 0


@given(st.integers(0, 1 << 62))
def test_whole_numbers_are_exact(number):
    assert parse_size(str(number)) == number
