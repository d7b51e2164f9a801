"""The verb image: what it prints, and its exit codes."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time

import pytest

from tests.oci.published import a_tar, base_layers, entry, plain, publish
from tests.servers.registries import Scripted


@pytest.fixture
def registry():
    with Scripted() as server:
        publish(server.store, base_layers(), "1")
        server.store.index({"linux/arm64": [a_tar(entry("a", b"a"))]}, "arm")
        yield server


def image(*arguments, home="/nonexistent"):
    """(exit code, stdout, stderr) of `parpull image`."""
    keep = {k: v for k, v in os.environ.items() if not k.startswith(("PARPULL_", "DOCKER_", "XDG_", "REGISTRY_"))}
    done = subprocess.run(
        [sys.executable, "-m", "parpull", "image", *map(str, arguments)],
        capture_output=True, text=True, timeout=60, check=False, env={**keep, "HOME": home},
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def name(server, tag="1"):
    return f"{server.host}/team/app:{tag}"


def test_pull(registry, tmp_path):
    code, out, err = image("pull", "--plain-http", name(registry), "--to", tmp_path / "root")
    assert (code, out) == (0, "")
    lines = err.splitlines()
    assert len([line for line in lines if line.startswith("layer ") and " done, through " in line]) == 3
    assert "through RAM" in err
    assert lines[-1].startswith(f"{tmp_path}/root: 9.")
    assert (tmp_path / "root/etc/hosts").read_text() == "two"


def test_what_is_here_is_said(registry, tmp_path):
    for _ in range(2):
        code, _, err = image("pull", "--plain-http", "--ram", "none", name(registry), "--to", f"oci:{tmp_path}/lay")
        assert code == 0, err
    assert err.count("is here already") == 3
    assert "were here" in err


def test_json(registry, tmp_path):
    code, out, err = image("pull", "--json", "--plain-http", name(registry), "--to", tmp_path / "root")
    assert (code, err) == (0, "")
    events = [json.loads(line) for line in out.splitlines()]
    assert events[-1]["event"] == "pulled"
    assert events[-1]["size"] == events[-1]["fetched"]
    states = [event["state"] for event in events if event["event"] == "layer" and event["index"] == 1]
    assert states[-1] == "done"
    assert {event["place"] for event in events if event["event"] == "layer"} == {"memory", "disk"}


def test_quiet(registry, tmp_path):
    assert image("pull", "-q", "--plain-http", name(registry), "--to", tmp_path / "root") == (0, "", "")


def test_plan(registry):
    code, out, _ = image("plan", "--plain-http", name(registry), "--to", "root", "-x", "8")
    assert code == 0
    lines = out.splitlines()
    assert lines[0].startswith("3 layers, 9.")
    assert len([line for line in lines if " RAM " in line]) == 1
    assert len([line for line in lines if " disk " in line]) == 2
    code, out, _ = image("plan", "--json", "--plain-http", "--ram", "none", name(registry))
    assert json.loads(out)["memory"] == 0
    assert sum(step["connections"] for step in json.loads(out)["steps"]) <= 16


def test_a_plan_within_a_budget(registry):
    code, out, _ = image("plan", "--json", "--plain-http", "--ram", "all", "--max-memory", "1MiB", name(registry))
    assert code == 0
    assert json.loads(out)["memory"] < 1 << 20


def test_inspect(registry):
    code, out, _ = image("inspect", "--plain-http", name(registry))
    assert code == 0
    assert "platform   linux/amd64" in out
    assert out.count("layer ") == 3
    code, out, _ = image("inspect", "--json", "--plain-http", name(registry))
    assert len(json.loads(out)["layers"]) == len(json.loads(out)["config"]["rootfs"]["diff_ids"]) == 3


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("pull", "x:1"), 2, "image pull wants a place"),
        (("push", "x:1"), 2, "image push is nothing to do"),
        (("pull", "--ram", "some", "x:1", "--to", "y"), 2, "--ram some is no choice"),
        (("inspect", "UPPER:1"), 2, "UPPER"),
        (("inspect", "--platform", "linux", "x:1"), 1, "a platform is os/architecture"),
        (("pull", "x:1", "--to", "oci:"), 2, "names no place"),
    ],
)
def test_mistakes(arguments, code, says):
    found, out, err = image(*arguments)
    assert (found, out) == (code, "")
    assert says in err
    assert "Traceback" not in err


def test_what_is_not_there(registry, tmp_path):
    code, _, err = image("pull", "--plain-http", name(registry, "none"), "--to", tmp_path / "root")
    assert code == 3
    assert "hint: check the name and the tag" in err
    code, _, err = image("inspect", "--plain-http", "--platform", "linux/amd64", name(registry, "arm"))
    assert code == 3
    assert "linux/arm64" in err


def test_wrong_bytes(registry, tmp_path):
    layers = json.loads(registry.store.manifests["1"][1])["layers"]
    registry.store.blobs[layers[0]["digest"]] = registry.store.blobs[layers[0]["digest"]][::-1]
    code, _, err = image("pull", "--plain-http", name(registry), "--to", tmp_path / "root")
    assert code == 5
    assert "sha256" in err
    assert os.listdir(tmp_path) == []


def control_group(limit):
    """A control group of so many bytes, v1 or v2; None where we may make none."""
    v1, v2 = "/sys/fs/cgroup/memory", "/sys/fs/cgroup"
    two = os.path.exists(f"{v2}/cgroup.controllers")
    folder = f"{v2 if two else v1}/parpull-test-{os.getpid()}"
    try:
        os.mkdir(folder)
        with open(f"{folder}/{'memory.max' if two else 'memory.limit_in_bytes'}", "w", encoding="ascii") as file:
            file.write(str(limit))
    except OSError:
        if os.path.isdir(folder):
            os.rmdir(folder)
        return None
    return folder


@pytest.mark.parametrize(("room", "place"), [(400, "disk"), (800, "memory")])
def test_the_budget_is_the_control_groups(tmp_path, room, place):
    group = control_group(room << 20)
    if group is None:
        pytest.skip("no right to make a control group with a limit of memory")
    try:
        with Scripted() as server:
            publish(server.store, [a_tar(entry("large", random.Random(5).randbytes(160 << 20)))], "1", packs=(plain,))
            command = [sys.executable, "-m", "parpull", "image", "pull", "--json", "--plain-http", name(server)]
            done = subprocess.run(
                ["sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh", *command, "--to", tmp_path / "root"],
                capture_output=True, text=True, timeout=100, check=False, env={**os.environ, "HOME": "/nonexistent"},
            )  # fmt: skip
        assert done.returncode == 0, done.stderr
        events = [json.loads(line) for line in done.stdout.splitlines()]
        assert {event["place"] for event in events if event["event"] == "layer"} == {place}
        assert (tmp_path / "root/large").stat().st_size == 160 << 20
    finally:
        for _ in range(50):
            try:
                os.rmdir(group)
                break
            except OSError:  # its last process is on its way out
                time.sleep(0.1)
