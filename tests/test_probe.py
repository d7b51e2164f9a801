"""The verb probe: one request, what the server offers, and the plan with its reason."""

from __future__ import annotations

import json
import signal

import pytest

from parpull.cli.probe import plan_of
from parpull.options import Options
from parpull.sources import Target
from tests.running import cli, start, wait_for

__all__ = ["cli", "start"]

MIB = 1 << 20


def told(out):
    return dict(line.split(maxsplit=1) for line in out.decode().splitlines())


def test_what_a_good_server_offers(cli, origin, name, tmp_path):
    url = origin.url(f"{name}/x", size=64 * MIB, digest="right", scenario="redirect-hops")
    code, out, err = cli("probe", url)
    assert (code, err) == (0, "")
    lines = told(out)
    assert lines["address"].endswith("/x?…")
    assert "redirect" in lines
    assert lines["server"] == "127.0.0.1"
    assert lines["size"] == "64.0 MiB (67,108,864 bytes)"
    assert lines["ranges"] == "yes"
    assert lines["etag"].endswith('" (strong)')
    assert lines["last-modified"].endswith("GMT")
    assert lines["digest"].startswith("repr-digest: sha-256=:")
    assert lines["connections"] == "32"
    assert lines["parts"].startswith("4.0 MiB first, then ")
    assert lines["requests"].startswith("about ")
    assert "up to 32 connections" in lines["why"]
    assert list(tmp_path.iterdir()) == []
    asked = [record for record in origin.log(name).requests if record.status == 206]
    assert [record.asked for record in asked] == [(0, 1)]


@pytest.mark.parametrize(
    ("about", "options", "shown", "why"),
    [
        ({"size": 100 * MIB, "ranges": False}, (), {"ranges": "no", "connections": "1", "requests": "1"}, "no ranges"),
        ({"size": 1000}, (), {"connections": "1", "requests": "1"}, "first part"),
        ({"size": 0}, (), {"size": "0 B (0 bytes)", "connections": "1"}, "empty"),
        ({"size": 64 * MIB, "etag": "weak"}, ("-x", "3"), {"connections": "3"}, "up to 3"),
        ({"size": 64 * MIB, "etag": "none", "last_modified": False}, ("-x", "1"),
         {"etag": "none", "last-modified": "none", "connections": "1", "digest": "none stated"}, "one connection"),
        ({"size": 64 * MIB}, ("--part-size", "8MiB"), {"requests": "about 8"}, "up to 32"),
        ({"size": 9 * MIB, "ranges": False, "length": "chunked"}, (), {"size": "unknown"}, "how long"),
    ],
)  # fmt: skip
def test_plans(cli, origin, name, about, options, shown, why):
    code, out, _ = cli("probe", *options, origin.url(f"{name}/x", **about))
    assert code == 0
    lines = told(out)
    assert {key: lines[key] for key in shown} == shown
    assert why in lines["why"]


def test_json(cli, origin, name):
    code, out, err = cli("probe", "--json", origin.url(f"{name}/x", size=64 * MIB, etag="weak"))
    assert (code, err) == (0, "")
    facts = json.loads(out)
    assert set(facts) == {
        "url", "redirects", "address", "size", "ranges", "etag", "etag_kind", "last_modified", "digests", "plan",
    }  # fmt: skip
    assert (facts["size"], facts["ranges"], facts["etag_kind"], facts["redirects"]) == (64 * MIB, True, "weak", [])
    assert set(facts["plan"]) == {"connections", "first_part", "part_size", "requests", "why"}
    assert "size=" not in facts["url"]


@pytest.mark.parametrize(("scenario", "code"), [("not-found", 3), ("forbidden", 4), ("redirect-loop", 1)])
def test_failures_have_the_codes_of_get(cli, origin, name, scenario, code):
    got, out, err = cli("probe", "--retry", "0", origin.url(name, size=MIB, scenario=scenario))
    assert (got, out) == (code, b"")
    assert err.startswith("parpull: error: ")


@pytest.mark.parametrize(
    ("args", "hint"),
    [
        ((), "parpull probe -h"),
        (("http://h/x", "http://h/y"), "parpull probe -h"),
        (("-o", "x", "http://h/x"), "parpull probe -h"),
        (("--cookies", "x", "http://h/x"), "--cookie"),
        (("--silent", "http://h/x"), "parpull probe -h"),  # probe has no -q to hint at
        (("-k", "http://h/x"), "--cacert"),
        (("h.example/x",), "https://"),
    ],
)
def test_usage(cli, args, hint):
    code, out, err = cli("probe", *args)
    assert (code, out) == (2, b"")
    assert hint in err.partition("hint: ")[2]


def test_what_a_server_says_orders_no_terminal_about(cli, origin, name):
    code, out, _ = cli("probe", origin.url(f"{name}/%1b[2J", size=MIB))
    assert code == 0
    assert b"\x1b" not in out


def test_stopping(start, origin, name):
    process = start("probe", origin.url(name, size=MIB, latency=30))
    wait_for(lambda: len(origin.log(name, 0)) >= 1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 143


def target(**about):
    given = {"size": None, "etag": None, "last_modified": None, "ranges": True, "headers": {}} | about
    return Target("http://h/x", **given)


@pytest.mark.parametrize("size", [None, 0, 1, 4 * MIB, 4 * MIB + 1, 5 * MIB, 1 << 30, 10 << 40])
@pytest.mark.parametrize("connections", [1, 16, 256])
@pytest.mark.parametrize("part_size", [None, 1 << 30])
def test_plans_add_up(size, connections, part_size):
    plan = plan_of(target(size=size), Options(connections=connections, part_size=part_size))
    assert 1 <= plan["connections"] <= min(connections, plan["requests"])
    assert plan["why"]
    if plan["part_size"] is not None:
        assert plan["first_part"] + (plan["requests"] - 1) * plan["part_size"] >= size


def test_a_cap_of_the_host_is_planned_with():
    assert plan_of(target(size=1 << 30), Options(host_connections=5))["connections"] == 5
