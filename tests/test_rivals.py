"""The rivals of the bench: what each is told to do, and that those which are here bring the right bytes."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import replace

import pytest

from bench import fetching
from bench.clients import Task, sample_offsets
from bench.measure import ROOT, Failed
from bench.rivals import DISK, MEMORY, NULL, RIVALS, TMPFS, Job, check, digest
from bench.rivals.__main__ import trial

MIB = 1 << 20
HERE = {"parpull", "forked-curl", "forked-curl-joined", "curl", "curl-parallel", "recv-into"}
"""Those that need nothing from outside; recv-into's interpreter is ours, if it has to be made anew."""


def named(name):
    return next(rival for rival in RIVALS if rival.name == name)


@pytest.fixture
def job(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    return Job("http://127.0.0.1:1/object", 10 * MIB + 3, 3, out, TMPFS)


@pytest.fixture
def curl(monkeypatch):
    monkeypatch.setattr("bench.rivals.tools.packaged", lambda package, program: (program.rpartition("/")[2],))


# --- what there is ---------------------------------------------------------------------------


def test_names_are_one_each():
    names = [rival.name for rival in RIVALS]
    assert len(names) == len(set(names))
    assert {"parpull", "pycurl", "aria2", "forked-curl"} <= set(names)  # targets name them


def test_each_has_a_place_that_is_known():
    for rival in RIVALS:
        assert rival.destinations
        assert rival.destinations <= {MEMORY, TMPFS, DISK, NULL}
        assert (TMPFS in rival.destinations) == (DISK in rival.destinations)
        assert rival.server in {"http", "gcs", "s3"}


def test_what_is_installed_is_pinned():
    lines = [line for line in fetching.REQUIREMENTS.read_text().splitlines() if not line.startswith("#")]
    assert all(line.count("==") == 1 for line in lines)
    assert fetching._pinned("obstore").startswith("obstore==")


# --- what they are told ----------------------------------------------------------------------


def test_parts_are_the_object(job):
    parts = job.parts(3)
    assert parts[0][0] == 0
    assert parts[-1][1] == job.size
    assert all(one[1] == two[0] for one, two in zip(parts, parts[1:], strict=False))


@pytest.mark.parametrize("largest", [None, MIB])
@pytest.mark.parametrize("size", [1, 5, MIB, 10 * MIB + 3])
def test_a_client_s_parts_are_the_object(size, largest):
    parts = Task("", size, 4, None, None, ()).parts(largest)
    assert [0, *(stop for _, stop in parts)] == [*(start for start, _ in parts), size]
    assert all(0 < stop - start <= (largest or size) for start, stop in parts)


def test_a_shell_asks_for_every_part_and_joins_them(job, curl):
    script = named("forked-curl-joined").command(job)[-1]
    assert script.count(" -r ") == 3
    assert f"-{job.size - 1} " in script
    assert "cat " in script
    assert "cat " not in named("forked-curl").command(job)[-1]


@pytest.mark.parametrize("name", ["aria2", "axel", "lftp-pget", "wget2"])
def test_a_default_is_the_tool_s_own(job, curl, name):
    def words(connections):
        return " ".join(map(str, named(name).command(replace(job, connections=connections))))

    assert "7" in words(7).replace(str(job.out), "").replace("127.0.0.1", "")
    assert len(words(None)) < len(words(7))


@pytest.mark.parametrize("name", ["aria2", "lftp-pget", "wget2", "curl", "forked-curl"])
def test_the_authority_is_named(job, curl, name):
    number = 1 if name == "curl" else 3
    command = named(name).command(replace(job, connections=number, ca_file="/x/ca.pem"))
    assert "/x/ca.pem" in " ".join(command)


def test_what_cannot_be_done_is_said(job, curl):
    for name, asked in (("forked-curl", {"connections": None}), ("curl", {}), ("curl-parallel", {})):
        with pytest.raises(Failed):
            named(name).command(replace(job, **asked))
    with pytest.raises(Failed, match="16"):
        named("aria2").command(replace(job, connections=64))


def test_a_reason_has_no_address_in_it():
    with pytest.raises(Failed, match=r"^ERROR: nothing at …$"):
        fetching.said(["sh", "-c", "echo ERROR: nothing at https://host/x >&2; echo note >&2; exit 1"])


# --- what is checked ----------------------------------------------------------------------------


def test_parts_count_in_the_order_of_their_names(job):
    data = bytes(range(256)) * (job.size // 256 + 1)
    data = data[: job.size]
    expected = bytes(data[at] for at in sample_offsets(job.size))
    (job.out / "object.001").write_bytes(data[5 * MIB :])
    (job.out / "object.000").write_bytes(data[: 5 * MIB])
    check(job, "", expected)
    assert digest(job, "") == hashlib.sha256(data).hexdigest()
    (job.out / "object.001").write_bytes(data[5 * MIB : -1])
    with pytest.raises(Failed, match="of 10485763 bytes"):
        check(job, "", expected)


def test_each_of_many_is_looked_at(job):
    small = replace(job, size=64, urls=("http://h/a", "http://h/b?q"))
    (job.out / "a").write_bytes(b"x" * 64)
    with pytest.raises(Failed, match=r"^b: 0 of 64"):
        check(small, "", b"x" * 64)
    (job.out / "b").write_bytes(b"x" * 64)
    check(small, "", b"x" * 64)


def test_a_number_is_enough_of_what_is_thrown_away(job):
    check(replace(job, destination=NULL), f"{job.size}\n", b"")
    check(replace(job, destination=NULL), "", b"")
    with pytest.raises(Failed):
        check(replace(job, destination=NULL), "5", b"")


@pytest.mark.parametrize("cuts", [[], [5], [0, 64, 65]])
def test_pieces_are_reported_as_one(cuts):
    data = bytes(range(200))
    edges = [0, *cuts, len(data)]
    code = f"import bench.clients as c; d = memoryview({data!r}); e = {edges}; "
    code += "print(c.report(*(d[a:b] for a, b in zip(e, e[1:]))))"
    said = subprocess.run(
        [sys.executable, "-c", code], env={"BENCH_HASH": "1"}, cwd=ROOT, capture_output=True, check=True
    )
    assert json.loads(said.stdout) == {
        "bytes": 200,
        "sample": bytes(data[at] for at in sample_offsets(200)).hex(),
        "sha256": hashlib.sha256(data).hexdigest(),
    }


# --- a real run -------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "tls"])
def tried(request):
    with trial(8 * MIB + 3, tls=request.param) as made:
        yield made


@pytest.mark.parametrize("name", sorted(HERE))
def test_those_that_are_here_bring_the_right_bytes(tried, name, monkeypatch):
    monkeypatch.setenv("BENCH_HASH", "1")
    rival = named(name)
    rival.version()
    number = 1 if name == "curl" else 3
    if name != "curl-parallel":
        for destination in sorted(rival.destinations - {DISK}):
            tried.once(rival, destination, number)
    if rival.many:
        tried.once(rival, TMPFS, number, many=True)


def test_each_sdk_finds_its_store(tried):
    """What S3's and GCS's clients ask for, by hand: a HEAD of the bucket, the size, a range."""
    trust = ["--cacert", tried.store.ca_file] if tried.store.ca_file else []

    def curl(path, *options):
        return subprocess.run(
            ["curl", "-sSf", *trust, *options, tried.store.url(path)], capture_output=True, check=True
        ).stdout

    assert b" 200 " in curl("bucket", "--head")
    assert f"Content-Length: {8 * MIB + 3}".encode() in curl("bucket/object", "--head")
    about = json.loads(curl("storage/v1/b/bucket/o/object?projection=noAcl"))
    assert (about["name"], about["size"], about["generation"]) == ("object", str(8 * MIB + 3), "1")
    for path in ("bucket/object", "download/storage/v1/b/bucket/o/object?alt=media",
                 "storage/v1/b/bucket/o/object?alt=media"):  # fmt: skip
        assert len(curl(path, "-r", "7-106")) == 100
