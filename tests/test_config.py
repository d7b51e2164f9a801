"""The configuration file: heard where nobody says otherwise, and whatever is wrong
with it is told with file and key, but without a secret."""

from __future__ import annotations

import os
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parpull import config
from parpull.checks import CHECKS, FROM_TEXT
from parpull.errors import BadOption
from parpull.options import FIELDS, Options
from tests.running import cli, environment, start

__all__ = ["cli", "start"]

SECRET = "s3cr3t-value"


@pytest.fixture
def written(tmp_path):
    """written(text) -> the environment that names a file with it."""

    def write(text, **more):
        path = tmp_path / "config.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return {"PARPULL_CONFIG": str(path)} | more

    return write


EVERYTHING = """
connections = 8
host_connections = 12
part_size = "16MiB"
max_memory = 1000000
overwrite = true
durable = true
resume = false
verify = "none"
steal = false
hedge = false
limit_rate = "10M"
retries = 3
retry_for = 1.5
connect_timeout = 2
stall_timeout = 4
headers = ["X-A: b", "X-B: c"]
netrc = true
noproxy = "a,b"
http_version = "2"
ca_file = "ca.pem"
cert = "ca.pem"
key = "ca.pem"
proxy = {http = "http://p", https = "http://q"}
"""


def test_every_key(written, tmp_path):
    (tmp_path / "ca.pem").write_text("")
    options = Options.from_env(written(EVERYTHING))
    assert (options.connections, options.host_connections, options.part_size) == (8, 12, 16 << 20)
    assert (options.max_memory, options.overwrite, options.durable, options.steal) == (10**6, True, True, False)
    assert (options.hedge, options.limit_rate) == (False, 10**7)
    assert (options.retries, options.retry_for, options.connect_timeout, options.stall_timeout) == (3, 1.5, 2.0, 4.0)
    assert (options.headers, options.netrc, options.noproxy) == (("X-A: b", "X-B: c"), True, "a,b")
    assert (options.http_version, options.resume, options.verify) == ("2", False, "none")
    assert options.ca_file == options.cert == options.key == str(tmp_path / "ca.pem")
    assert dict(options.proxy) == {"http": "http://p", "https": "http://q"}
    assert all(f"\n{key} = " in EVERYTHING for key in config.KEYS)


def test_every_option_is_for_the_file_or_it_is_said_why_not():
    assert set(config.KEYS) | set(config.ELSEWHERE) == set(CHECKS) == FIELDS
    assert not set(config.KEYS) & set(config.ELSEWHERE)
    assert set(FROM_TEXT) <= set(config.KEYS)


def test_who_comes_first(written):
    text = 'connections = 3\nproxy = "http://file"\nretries = 4\n'
    options = Options.from_env(written(text, PARPULL_RETRIES="5", https_proxy="http://usual"))
    assert (options.connections, options.retries, options.proxy) == (3, 5, "http://file")
    options = Options.from_env(written(text, PARPULL_RETRIES="5"), retries=6, proxy="http://mine")
    assert (options.retries, options.proxy) == (6, "http://mine")
    assert Options.from_env(written("headers = {A = 'b'}")).headers == ("A: b",)


def test_an_empty_name_names_none(written, tmp_path, monkeypatch):
    folder = tmp_path / "parpull"
    folder.mkdir()
    (folder / "config.toml").write_text("connections = 3")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("PARPULL_CONFIG", raising=False)
    if sys.platform == "linux":
        assert Options.from_env().connections == 3
    monkeypatch.setenv("PARPULL_CONFIG", "")
    assert Options.from_env().connections == "auto"
    assert Options().connections == "auto"
    assert Options.from_env({}).connections == "auto"  # an environment of the caller's own names no file


@pytest.mark.parametrize(
    ("system", "home", "xdg", "path"),
    [
        ("linux", "/home/me", None, "/home/me/.config/parpull/config.toml"),
        ("linux", "/home/me", "", "/home/me/.config/parpull/config.toml"),
        ("linux", "/home/me", "here", "/home/me/.config/parpull/config.toml"),
        ("linux", "/home/me", "/etc/mine", "/etc/mine/parpull/config.toml"),
        ("linux", "here", None, ""),  # a folder that others may write to names no options
        ("darwin", "/Users/me", None, "/Users/me/Library/Application Support/parpull/config.toml"),
        ("darwin", "/Users/me", "/etc/mine", "/etc/mine/parpull/config.toml"),
    ],
)
def test_where_it_lies(system, home, xdg, path, monkeypatch):
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setenv("HOME", home)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    if xdg is not None:
        monkeypatch.setenv("XDG_CONFIG_HOME", xdg)
    assert config.default_path() == path


def test_no_file_is_no_mistake_unless_it_was_named(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("PARPULL_CONFIG", raising=False)
    assert Options.from_env().connections == "auto"
    with pytest.raises(BadOption, match="no such file"):
        Options.from_env({"PARPULL_CONFIG": str(tmp_path / "no")})


@pytest.mark.parametrize("home", ["/dev/null", "/no/such/home"])
def test_a_home_that_is_none(monkeypatch, home):
    monkeypatch.setenv("HOME", home)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.delenv("PARPULL_CONFIG", raising=False)
    assert Options.from_env().connections == "auto"


@pytest.mark.parametrize(
    ("text", "told", "hint"),
    [
        ("conections = 3", "conections", "did you mean connections ?"),
        ("nonsense = 3", "nonsense", "there are: ca_file"),
        ("[network]\nproxy = 'x'", "network", ""),
        ("auth = ['a', 'b']", "auth", "netrc"),
        ("cookies = 'a=b'", "cookies", "--cookie"),
        ("checksum = 'x'", "checksum", "--checksum"),
        ("curl = {}", "curl", "programs"),
        ("connections = 0", "connections", "1 to 256"),
        ("connections = '8'", "connections", "1 to 256"),
        ("host_connections = 'auto'", "host_connections", "1 to 256"),
        ("overwrite = 'yes'", "overwrite", "true or false"),
        ("part_size = 'big'", "part_size", "64MiB"),
        ("part_size = 1.5", "part_size", "bytes"),
        ("retries = -1", "retries", "whole number"),
        ("ca_file = 'nowhere'", "ca_file", "no such file"),
        ("headers = 'X: y'", "headers", "Name: value"),
        ("http_version = 2", "http_version", '"1.1"'),
        ("netrc = 5", "netrc", "path"),
        ("netrc = 'nowhere'", "netrc", "no such file"),
        ("connections = \nretries = 2", "line 1", "name = value"),
        ("x = " + "[" * 9000, "TOML", "name = value"),
        ("retries = " + "1" * 5000, "TOML", "name = value"),
        ("connections", "TOML", "name = value"),
        (b"\xff\xfe", "UTF-8", ""),
    ],
)
def test_what_is_wrong_is_named(written, text, told, hint):
    environ = written(text)
    with pytest.raises(BadOption) as caught:
        Options.from_env(environ)
    error = caught.value
    assert environ["PARPULL_CONFIG"] in str(error)
    assert told in str(error)
    assert hint in (error.hint or "")


@pytest.mark.parametrize(
    "text",
    [
        f"headers = ['Authorization {SECRET}']",
        f'headers = {{Authorization = "{SECRET}\\n"}}',
        f'proxy = "http://u:{SECRET}@h\\n"',
        f"auth = ['u', '{SECRET}']",
        f"cookies = '{SECRET}'",
        f"headers = ['Authorization: {SECRET}'",
        f"{SECRET} = x y",
        f"proxy = http://u:{SECRET}@h",
        f"headers = 'Authorization: {SECRET}'",
    ],
)
def test_no_secret_is_told(written, text):
    with pytest.raises(BadOption) as caught:
        Options.from_env(written(text))
    error = caught.value
    assert SECRET not in f"{error!s} {error!r} {error.hint} {error.value} {error.name}"


def test_a_file_that_can_not_be_read(tmp_path):
    with pytest.raises(BadOption, match="can't be read"):
        Options.from_env({"PARPULL_CONFIG": str(tmp_path)})


@given(st.text(max_size=60) | st.from_regex(r"[a-z_]{1,12} ?= ?['\"0-9a-z.\[\]]{0,10}\n?", fullmatch=True))
def test_any_text_is_options_or_a_bad_option(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        Options.from_env({"PARPULL_CONFIG": str(path)})
    except BadOption as error:
        assert str(path) in str(error)


def test_the_command_line_hears_it(cli, origin, name, tmp_path, written):
    url = origin.url(f"{name}/x", size=3_000_000)
    named = environment(**written("headers = ['X-Mine: yes']\noverwrite = true\nconnections = 1"))
    assert cli(url, env=named)[0] == cli(url, env=named)[0] == 0
    log = origin.log(name)
    assert len(log.with_header("x-mine")) == len(log)
    code, _, err = cli(url, env=environment(**written("conections = 1")))
    assert code == 2
    assert err == (
        f"parpull: error: {tmp_path}/config.toml: conections is no option\nhint: did you mean connections ?\n"
    )
    code, _, err = cli(url, env=environment(PARPULL_CONNECTIONS="0"))
    assert (code, "PARPULL_CONNECTIONS=0 is not possible" in err) == (2, True)
    assert "-h" not in os.listdir(tmp_path)
