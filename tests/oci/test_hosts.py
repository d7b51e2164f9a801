"""Where an image may be had: hosts.toml and registries.conf, as containerd and podman read them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parpull.errors import BadOption
from parpull.oci.hosts import Files, Host, folders_of, parse_hosts, parse_registries, rule_of
from parpull.oci.reference import Reference

HUB = Reference.parse("alpine:3")
IMAGE = Reference.parse("registry.example:5000/team/models/llm:1")
PINNED = Reference.parse("registry.example:5000/team/models/llm@sha256:" + "0" * 64)


def places(hosts):
    return [f"{host.url}/{host.repository}" for host in hosts]


# --- hosts.toml ---------------------------------------------------------------------------


def test_mirrors_in_the_files_order_and_the_server_last():
    hosts = parse_hosts(
        """
        server = "https://registry-1.docker.io"
        [host."https://z.example"]
        [host."http://a.example:5000"]
          capabilities = ["pull"]
        """,
        HUB,
    )
    assert places(hosts) == [
        "https://z.example/v2/library/alpine",
        "http://a.example:5000/v2/library/alpine",
        "https://registry-1.docker.io/v2/library/alpine",
    ]
    assert [host.ns for host in hosts] == ["docker.io", "docker.io", None]
    assert [host.mirror for host in hosts] == [True, True, False]
    assert [(host.resolves, host.pulls) for host in hosts] == [(True, True), (False, True), (True, True)]


def test_without_a_server_the_registry_itself_is_last():
    hosts = parse_hosts('[host."https://m.example"]\n', IMAGE)
    assert hosts[-1] == Host("https://registry.example:5000/v2", "team/models/llm")


@pytest.mark.parametrize(
    ("url", "more", "api"),
    [
        ("https://m.example", "", "https://m.example/v2"),
        ("m.example", "", "https://m.example/v2"),
        ("https://m.example/v2/", "", "https://m.example/v2"),
        ("https://m.example/proxy", "", "https://m.example/proxy/v2"),
        ("https://m.example/v2/hub", "override_path = true", "https://m.example/v2/hub"),
        ("http://[::1]:5000", "", "http://[::1]:5000/v2"),
    ],
)
def test_the_api_of_a_host(url, more, api):
    assert parse_hosts(f'[host."{url}"]\n{more}', IMAGE)[0].url == api


def test_authorities_certificates_and_headers():
    text = """
        ca = "own.pem"
        [host."https://m.example"]
          ca = ["/a.pem", "b.pem"]
          client = [["c.cert", "c.key"]]
          [host."https://m.example".header]
            x-one = "1"
            x-two = ["2", "3"]
    """
    mirror, own = parse_hosts(text, IMAGE, folder="/certs")
    assert (mirror.ca, mirror.cert, mirror.key) == (("/a.pem", "/certs/b.pem"), "/certs/c.cert", "/certs/c.key")
    assert mirror.headers == ("x-one: 1", "x-two: 2", "x-two: 3")
    assert own.ca == ("/certs/own.pem",)


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ("skip_verify = true", "skip_verify"),
        ('client = ["a.pem", "b.pem"]', "several client certificates"),
    ],
)
def test_what_can_not_be_honoured_is_said(more, why):
    assert why in str(parse_hosts(f'[host."https://m.example"]\n{more}', IMAGE)[0].unusable)


def test_skip_verify_means_nothing_without_tls():
    assert parse_hosts('[host."http://m.example"]\nskip_verify = true', IMAGE)[0].unusable is None


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        "host = 1",
        "host = {x = 1}",
        "server = 1",
        '[host."ftp://m"]',
        '[host."https://u:geheim@m"]',
        '[host."https://m:99999"]',
        '[host."https://m?token=geheim"]',
        '[host."https://m"]\nunknown = "geheim"',
        '[host."https://m"]\ncapabilities = 1',
        '[host."https://m"]\nclient = 1',
        '[host."https://m"]\nclient = [["a", "b", "c"]]',
        '[host."https://m"]\nheader = {x = "a\\nb"}',
    ],
)
def test_what_makes_no_sense_is_refused_without_secrets(text):
    with pytest.raises(BadOption, match=r"the file of mirrors hosts\.toml") as caught:
        parse_hosts(text, IMAGE)
    assert "geheim" not in str(caught.value)


def test_folders_of_a_registry():
    assert folders_of("registry.example:5000") == ("registry.example_5000_", "registry.example:5000", "_default")
    assert folders_of("docker.io") == ("docker.io", "_default")
    assert folders_of("[::1]:5000")[0] == "[::1]_5000_"


# --- registries.conf ----------------------------------------------------------------------


CONF = """
unqualified-search-registries = ["docker.io"]
[[registry]]
prefix = "docker.io"
location = "docker.io"
  [[registry.mirror]]
  location = "hub.example/cache"
[[registry]]
location = "registry.example:5000"
insecure = true
[[registry]]
prefix = "registry.example:5000/team/models"
location = "models.example/all"
  [[registry.mirror]]
  location = "near.example"
  insecure = true
  [[registry.mirror]]
  location = "digests.example"
  pull-from-mirror = "digest-only"
  [[registry.mirror]]
  location = "tags.example"
  pull-from-mirror = "tag-only"
[[registry]]
prefix = "*.corp.example"
blocked = true
"""


def conf_hosts(reference, text=CONF, **more):
    return rule_of(parse_registries(text), reference).hosts(reference, **more)


def test_the_longest_prefix_wins_and_is_replaced():
    near = ["https://near.example/v2/llm", "http://near.example/v2/llm"]
    assert places(conf_hosts(IMAGE)) == [
        *near, "https://tags.example/v2/llm", "https://models.example/v2/all/llm"
    ]  # fmt: skip
    assert places(conf_hosts(PINNED)) == [
        *near, "https://digests.example/v2/llm", "https://models.example/v2/all/llm"
    ]  # fmt: skip
    assert all(host.mirror and host.ns is None for host in conf_hosts(IMAGE))


def test_a_mirror_of_docker_hub():
    hosts = conf_hosts(HUB)
    assert places(hosts) == [
        "https://hub.example/v2/cache/library/alpine",
        "https://registry-1.docker.io/v2/library/alpine",
    ]
    assert [host.mirror for host in hosts] == [True, False]


def test_insecure_is_both_ways_in_with_tls_first():
    other = Reference.parse("registry.example:5000/teams/x:1")
    assert [host.url.partition(":")[0] for host in conf_hosts(other)] == ["https", "http"]
    assert [host.url.partition(":")[0] for host in conf_hosts(other, plain_http=True)] == ["http"]


@pytest.mark.parametrize("name", ["registry.example:5000/team/modelsx/y", "registry.example:50001/x", "x.example/y"])
def test_a_prefix_ends_where_a_part_ends(name):
    rule = rule_of(parse_registries(CONF), Reference.parse(name))
    assert rule is None or rule.prefix == "registry.example:5000"


def test_a_prefix_of_hosts():
    rules = parse_registries('[[registry]]\nprefix = "*.corp.example"\nlocation = "all.example/in"\n')
    rule = rule_of(rules, Reference.parse("a.b.corp.example:5000/x/y:1"))
    assert places(rule.hosts(Reference.parse("a.b.corp.example:5000/x/y:1"))) == ["https://all.example/v2/in/x/y"]
    assert rule_of(rules, Reference.parse("corp.example/x:1")) is None
    same = parse_registries('[[registry]]\nprefix = "*.corp.example"\n')[0]
    assert places(same.hosts(Reference.parse("a.corp.example/x:1"))) == ["https://a.corp.example/v2/x"]


@pytest.mark.parametrize(
    "text",
    [
        "registry = 1",
        "[registries.search]\nregistries = []",
        "[[registry]]\n",
        '[[registry]]\nlocation = "https://x"',
        '[[registry]]\nlocation = "x"\n[[registry.mirror]]\n',
        '[[registry]]\nlocation = "x"\n[[registry.mirror]]\nlocation = "y"\npull-from-mirror = "some"',
        '[[registry]]\nlocation = "me:geheim@x"',
    ],
)
def test_what_makes_no_sense_in_registries_conf(text):
    with pytest.raises(BadOption) as caught:
        parse_registries(text)
    assert "geheim" not in str(caught.value)


@given(st.text(max_size=200))
def test_any_text_is_understood_or_refused(text):
    for parse in (lambda: parse_hosts(text, IMAGE), lambda: parse_registries(text)):
        try:
            parse()
        except BadOption:
            pass


# --- files --------------------------------------------------------------------------------


def test_files_are_read_when_there(tmp_path):
    conf = tmp_path / "registries.conf"
    conf.write_text(CONF)
    files = Files([str(tmp_path / "certs.d")], [str(conf), str(tmp_path / "none")])
    assert places(files.hosts(HUB))[0] == "https://hub.example/v2/cache/library/alpine"
    with pytest.raises(BadOption, match="blocked"):
        files.hosts(Reference.parse("a.corp.example/x:1"))
    folder = tmp_path / "certs.d" / "docker.io"
    folder.mkdir(parents=True)
    (folder / "hosts.toml").write_text('[host."https://m.example"]\n')
    assert places(files.hosts(HUB))[0] == "https://m.example/v2/library/alpine"  # certs.d comes first


def test_a_later_file_replaces_a_prefix(tmp_path):
    for name, where in (("1", "one.example"), ("2", "two.example")):
        (tmp_path / name).write_text(f'[[registry]]\nprefix = "docker.io"\nlocation = "{where}"\n')
    files = Files(registries=[str(tmp_path / "1"), str(tmp_path / "2")])
    assert places(files.hosts(HUB)) == ["https://two.example/v2/library/alpine"]


def test_a_folder_as_dockers(tmp_path):
    folder = tmp_path / "registry.example_5000_"
    folder.mkdir()
    for name in ("ca.crt", "me.cert", "me.key"):
        (folder / name).touch()
    (host,) = Files([str(tmp_path)]).hosts(IMAGE)
    assert host.ca == (str(folder / "ca.crt"),)
    assert (host.cert, host.key) == (str(folder / "me.cert"), str(folder / "me.key"))


def test_the_default_folder_is_for_all(tmp_path):
    (tmp_path / "_default").mkdir()
    (tmp_path / "_default" / "hosts.toml").write_text('[host."https://m.example"]\n')
    hosts = Files([str(tmp_path)]).hosts(IMAGE)
    assert [host.ns for host in hosts] == ["registry.example:5000", None]


def test_plain_http_is_the_registrys_alone(tmp_path):
    (tmp_path / "_default").mkdir()
    (tmp_path / "_default" / "hosts.toml").write_text('[host."https://m.example"]\n')
    assert [each.url[:5] for each in Files([str(tmp_path)]).hosts(IMAGE, plain_http=True)] == ["https", "http:"]
    assert Files().hosts(IMAGE)[0].url.startswith("https:")
    assert Files().hosts(IMAGE, plain_http=True)[0].url.startswith("http:")


def test_of_system(tmp_path):
    own = tmp_path / ".config" / "containers"
    (own / "registries.conf.d").mkdir(parents=True)
    (own / "registries.conf").write_text('[[registry]]\nlocation = "docker.io"\n')
    (own / "registries.conf.d" / "9.conf").write_text('[[registry]]\nprefix = "docker.io"\nlocation = "m.example"\n')
    files = Files.of_system({"HOME": str(tmp_path)})
    assert files._registries[0] == str(own / "registries.conf")
    assert places(Files(registries=files._registries).hosts(HUB)) == ["https://m.example/v2/library/alpine"]
