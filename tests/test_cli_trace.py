"""`parpull --trace`: what is written, what is refused, and the picture of it in the guide."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import stat
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

import pytest

import parpull
from parpull.cli.display import Json, Lines, readable
from parpull.cli.outcome import Item
from parpull.events import Adapted
from parpull.trace import Trace
from tests.running import cli, environment, start, wait_for
from tests.traced import URL, check, instants, record, run, spread, traced

__all__ = ["cli", "start"]

ROOT = Path(__file__).resolve().parents[1]
MIB = 1 << 20


@pytest.fixture
def path(tmp_path):
    return tmp_path / "t.json"


def test_what_v_and_json_show(capfd):
    item = Item(1, URL, name="weights.bin", path="weights.bin")
    step = Adapted(URL, before=8, after=16, rate=412 * MIB, why="grow")
    for display in (Lines([item], verbose=True), Json([item], fd=1)):
        display.event(item, traced("sent"))
        display.event(item, step)
    out, err = capfd.readouterr()
    assert err == "weights.bin: connections 8 -> 16: 412.0 MiB/s, do more bring more?\n"
    line = json.loads(out)
    assert (line["event"], line["before"], line["after"], line["why"]) == ("adapted", 8, 16, "grow")
    from jsonschema import Draft202012Validator

    schema = json.loads((ROOT / "docs" / "events.schema.json").read_text())
    Draft202012Validator(schema).validate(line)
    why = re.findall(r'"([a-z ]+)"', Adapted.__doc__.partition("why`:")[2])
    assert schema["$defs"]["adapted"]["properties"]["why"]["enum"] == why
    assert readable(Adapted(URL, before=0, after=8, rate=0.0, why="start")) == "connections 0 -> 8: start"
    Lines([item], verbose=False).event(item, step)
    assert capfd.readouterr().err == ""


def test_get_writes_one(cli, origin, name, tmp_path):
    urls = [origin.url(f"{name}-{i}/x{i}", size=4 * MIB) for i in range(2)]
    urls = [url.replace("//", "//me:geheim@") for url in urls]
    code, out, err = cli("--trace", "t.json", "-d", "got", "--json", *urls)
    assert code == 0, err
    text = (tmp_path / "t.json").read_text()
    assert "geheim" not in text
    entries = json.loads(text)
    slices, left = check(entries)
    assert not left
    assert [e["pid"] for e in slices if e["name"] == "transfer"] in ([1, 2], [2, 1])
    assert [name for name, lane, _ in instants(entries) if lane == -1].count("finished") == 2
    assert "traced" not in {json.loads(line)["event"] for line in out.splitlines()}


def test_get_goes_on_without(cli, origin, name, tmp_path):
    """The disk of the trace is full from the first event on: /dev/full but for the beginning."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        "import os, parpull.trace as trace\n"
        "plain = trace._write\n"
        "def write(fd, data):\n"
        "    if data != b'[\\n': raise OSError(28, 'No space left on device')\n"
        "    return plain(fd, data)\n"
        "trace._write = write\n"
    )
    env = environment(PYTHONPATH=f"{site}:{os.getcwd()}")
    code, _, err = cli("--trace", "t.json", "-o", "x", origin.url(f"{name}/x", size=4 * MIB), env=env)
    assert code == 0, err
    assert (tmp_path / "x").stat().st_size == 4 * MIB
    assert err.count("parpull: warning: the trace t.json is not complete: No space left on device") == 1


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("--trace", "-"), 2, "standard output"),
        (("--trace", ""), 2, "names no file"),
        (("--trace", "x", "-o", "x"), 2, "where the object goes"),
        (("--trace", "./x.parpull-part", "-o", "x"), 2, "where the object goes"),
        (("--trace", "nowhere/t"), 6, "make the folder first"),
        (("--trace", "."), 6, "directory"),
        (("--trace", "mine"), 6, "is no trace"),
        (("--trace", "/dev/full"), 6, "No space left"),
    ],
)
def test_bad_input_is_told_before_any_request(cli, origin, name, tmp_path, args, code, said):
    (tmp_path / "mine").write_text("mine")
    url = origin.url(f"{name}/x", size=MIB)
    got, out, err = cli(*args, url)
    assert (got, out) == (code, b""), err
    assert said in err
    assert "hint: " in err
    assert len(origin.log(name)) == 0
    assert os.listdir(tmp_path) == ["mine"]


def test_an_interrupted_run_is_told_as_cancelled(start, origin, name, path):
    process = start("--trace", path, "-o", "x", origin.url(f"{name}/x", size=1 << 30, pace=MIB))
    wait_for(lambda: path.exists() and "started" in path.read_text())
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    entries = json.loads(path.read_text())
    _, left = check(entries)
    assert not left
    assert instants(entries)[-1][0] == "cancelled"


def test_a_run_that_is_killed_leaves_one(start, origin, name, path):
    process = start("--trace", path, "-o", "x", origin.url(f"{name}/x", size=1 << 30, pace=MIB))
    wait_for(lambda: path.exists() and "started" in path.read_text())
    process.kill()
    process.wait(20)
    entries = json.loads(path.read_text() + "]")
    _, left = check(entries)
    assert left
    assert stat.S_IMODE(path.stat().st_mode) & 0o111 == 0


def test_the_core_tells_its_steps(origin, name, path):
    told = []
    with Trace(path) as trace:

        def hear(event):
            told.append(event)
            trace.hear(event)

        parpull.fetch(
            origin.url(f"{name}/x", size=32 * MIB), connections=4, part_size=MIB, on_event=hear, trace=True
        ).close()
    entries = json.loads(path.read_text())
    slices, left = check(entries)
    assert not left
    requests = [e for e in slices if e.get("cat") == "request"]
    assert len(requests) == len(origin.log(name))
    assert sum(e["args"]["landed"] for e in requests) == 32 * MIB
    assert 1 < len({e["tid"] for e in requests}) <= 4
    assert spread(entries, 100) == pytest.approx(32 * MIB, rel=1e-2)
    counted = [e["args"]["at work"] for e in entries if e["name"] == "connections"]
    assert max(counted) == told[-1].connections
    assert counted[-1] == 0


@pytest.mark.parametrize("scenario", ["cut-often", "one-crawls", "limit-503", "redirect-hops", "range-ignored"])
def test_what_landed_is_told_however_it_came(origin, name, path, scenario):
    """What a request that broke off has landed counts as well, and nothing counts twice."""
    size = 8 * MIB
    url = origin.url(f"{name}/x", size=size, scenario=scenario)
    with Trace(path) as trace:
        parpull.fetch(url, connections=4, part_size=MIB, on_event=trace.hear, trace=True).close()
    entries = json.loads(path.read_text())
    requests = [e for e in check(entries)[0] if e.get("cat") == "request"]
    assert len(requests) == len(origin.log(name))
    assert sum(e["args"]["landed"] for e in requests) == size
    told = Counter(what for what, lane, _ in instants(entries) if lane >= 0)
    ended = Counter(e["args"]["outcome"] for e in requests)
    assert all(ended[what] == told[what] for what in ("failed", "refused", "stalled", "hedged"))


def test_nothing_is_told_unasked(origin, name):
    kinds = set()
    parpull.fetch(origin.url(f"{name}/x", size=MIB), on_event=lambda event: kinds.add(event.kind)).close()
    assert "traced" not in kinds


def test_get_asks_for_the_steps(cli, origin, name, tmp_path):
    code, _, err = cli("-v", "--trace", "t.json", "-o", "x", "-x", "4", origin.url(f"{name}/x", size=32 * MIB))
    assert code == 0, err
    assert "traced" not in err
    slices, _ = check(json.loads((tmp_path / "t.json").read_text()))
    assert sum(e["args"]["landed"] for e in slices if e.get("cat") == "request") == 32 * MIB


# --- the picture ----------------------------------------------------------------------------


@pytest.fixture
def make_trace():
    """docs/make_trace.py, which is no module of a package."""
    spec = importlib.util.spec_from_file_location("make_trace", ROOT / "docs" / "make_trace.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_picture_draws_what_was(make_trace, path):
    entries = record(path, run())
    image = ET.fromstring(make_trace.picture(entries))
    kinds = Counter(each.get("class") for each in image.iter("{http://www.w3.org/2000/svg}rect"))
    legend = 1
    for name in ("wait", "body", "hedged", "stalled"):
        drawn = sum(e["ph"] == "X" and make_trace._state(e["name"]) == name for e in entries)
        assert kinds[name] == drawn + legend, name
    words = {each.text for each in image.iter("{http://www.w3.org/2000/svg}text")}
    assert {URL, "connection 7", "goodput", "4 → 8 (grow)", "redirected", "s", "h", "!", "×"} <= words
    assert "prefers-color-scheme" in make_trace.picture(entries)


def test_the_picture_of_a_killed_run(make_trace, path):
    text = record(path, run()) and path.read_text()
    for cut in range(len(text) // 2, len(text), len(text) // 11):
        image = make_trace.picture(make_trace.read(text[:cut]))
        ET.fromstring(image)
    assert 'class="cut"' in make_trace.picture(make_trace.read(text[: len(text) // 2]))


def test_the_guides_picture_is_there():
    page = (ROOT / "docs" / "tracing.md").read_text()
    assert re.search(r"!\[[^\]]{30,}\]\(trace\.svg\)", page)
    ET.parse(ROOT / "docs" / "trace.svg")
