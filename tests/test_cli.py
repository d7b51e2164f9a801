"""The command line as its users meet it: a process of its own, its exit code, what
stands on stdout and what on stderr, and what it leaves in the folder."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

import parpull
from parpull.cli import bar, display, outcome, text
from tests.running import cli, environment, start, wait_for
from tests.servers import content
from tests.terminal import Terminal

__all__ = ["cli", "start"]

MIB = 1 << 20
SIZE = 3 * MIB + 17


# --- what it fetches, and where that goes ---------------------------------------------


@pytest.mark.parametrize("verb", [(), ("get",)])
def test_a_url_becomes_a_file_of_its_name(cli, origin, name, tmp_path, verb):
    code, out, err = cli(*verb, origin.url(f"{name}/some file.bin", size=SIZE))
    assert (code, out) == (0, b"")
    assert os.listdir(tmp_path) == ["some file.bin"]
    assert content.first_difference((tmp_path / "some file.bin").read_bytes()) is None
    assert re.fullmatch(r"some file\.bin: 3\.0 MiB in [\d.]+ m?s \([\d.]+ [KMG]iB/s\), \d+ connections?\n", err)


def test_the_console_script_is_the_same(origin, name, tmp_path):
    script = os.path.join(os.path.dirname(sys.executable), "parpull")
    if not os.path.exists(script):
        pytest.skip("parpull is not installed beside this Python")
    ran = subprocess.run(
        [script, "-q", origin.url(f"{name}/x", size=SIZE)],
        check=False, cwd=tmp_path, env=environment(), capture_output=True,
    )  # fmt: skip
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, b"", b"")
    assert (tmp_path / "x").stat().st_size == SIZE


def test_output_and_directory(cli, origin, name, tmp_path):
    (tmp_path / "in").mkdir()
    url = origin.url(f"{name}/x", size=SIZE)
    assert cli("-o", "named", url)[0] == 0
    assert cli("-d", "in", url)[0] == 0
    assert cli("-d", "in", url, "-o", "named")[0] == 0
    found = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert found == ["in/named", "in/x", "named"]


def test_stdout_gets_the_bytes_and_nothing_else(cli, origin, name, tmp_path):
    code, out, err = cli("-v", "-o", "-", origin.url(name, size=SIZE, scenario="redirect-hops"))
    assert code == 0
    assert content.first_difference(out) is None
    assert len(out) == SIZE
    assert "redirected (302) to" in err
    assert "validator" in err
    assert os.listdir(tmp_path) == []


def test_nothing_unproven_goes_to_stdout(cli, origin, name):
    code, out, err = cli("-o", "-", "--checksum", "sha256=" + "0" * 64, origin.url(name, size=SIZE))
    assert (code, out) == (5, b"")
    assert "hint:" in err


def test_several_objects_share_one_run(cli, origin, name, tmp_path):
    urls = [origin.url(f"{name}/{i}", size=SIZE) for i in range(5)]
    code, out, err = cli("-x", "4", *urls)
    assert (code, out) == (0, b"")
    assert sorted(os.listdir(tmp_path)) == ["0", "1", "2", "3", "4"]
    for i in range(5):
        assert content.first_difference((tmp_path / str(i)).read_bytes()) is None
    assert len(err.splitlines()) == 6
    assert err.splitlines()[-1].startswith("5 of 5 objects: 15.0 MiB in ")
    assert origin.log(name).connections <= 4


def test_an_empty_object(cli, origin, name, tmp_path):
    assert cli(origin.url(f"{name}/nothing", size=0))[0] == 0
    assert (tmp_path / "nothing").read_bytes() == b""


def test_checksum_is_said(cli, origin, name):
    code, _, err = cli("--checksum", "sha256=" + content.sha256(SIZE), origin.url(f"{name}/x", size=SIZE))
    assert code == 0
    assert err.endswith(", sha256 ok\n")


def test_credentials_and_headers_are_sent(cli, origin, name, tmp_path):
    url = origin.url(f"{name}/x", size=SIZE, auth="me:it:is")
    assert cli(url)[0] == 4
    code, _, err = cli("-v", "-u", "me:it:is", "-H", "X-Secret: geheim", url)
    assert code == 0
    assert "geheim" not in err
    assert "it:is" not in err
    assert origin.log(name).with_header("x-secret")


def test_private_authority(cli, tls_origin, name):
    url = tls_origin.url(f"{name}/x", size=SIZE)
    code, _, err = cli(url)
    assert code == 1
    assert "--cacert" in err
    assert cli("--cacert", tls_origin.ca_file, url)[0] == 0


@pytest.mark.parametrize("flags", [("-L",), ("-LO",), ("-s", "3"), ("-x3",), ("-x", "auto"), ("--part-size", "1MiB")])
def test_fingers(cli, origin, name, tmp_path, flags):
    assert cli(origin.url(f"{name}/x", size=SIZE), *flags, "-q") == (0, b"", "")
    assert os.listdir(tmp_path) == ["x"]


# --- how it fails -----------------------------------------------------------------------


def test_an_existing_file_is_left_alone(cli, origin, name, tmp_path):
    (tmp_path / "x").write_bytes(b"mine")
    url = origin.url(f"{name}/x", size=SIZE)
    code, _, err = cli(url)
    assert code == 6
    assert "exists" in err
    assert "hint: --overwrite" in err
    assert (tmp_path / "x").read_bytes() == b"mine"
    assert len(origin.log(name)) == 0
    assert cli("--overwrite", url)[0] == 0
    assert (tmp_path / "x").stat().st_size == SIZE


@pytest.mark.parametrize(
    ("scenario", "code"),
    [
        ("not-found", 3),
        ("not-found-later", 3),
        ("forbidden", 4),
        ("unauthorized", 4),
        ("object-changes", 5),
        ("busy-503-always", 1),
        ("multipart", 1),
        ("redirect-loop", 1),
        ("redirect-to-file", 1),
    ],
)
def test_exit_codes(cli, origin, name, tmp_path, scenario, code):
    url = origin.url(f"{name}/x", size=8 * MIB, scenario=scenario)
    got, out, err = cli("--part-size", "1MiB", "-x", "4", "--retry", "1", url)
    assert (got, out) == (code, b""), err
    assert err.startswith("parpull: error: ")
    assert "?size=" not in err
    assert os.listdir(tmp_path) == []


def test_wrong_checksum(cli, origin, name, tmp_path):
    code, _, err = cli("--checksum", "sha256=" + "0" * 64, origin.url(name, size=SIZE))
    assert code == 5
    assert "sha256 is" in err
    assert os.listdir(tmp_path) == []


def test_nobody_answers(cli):
    code, _, err = cli("--retry", "0", "http://127.0.0.1:9/x")
    assert code == 1
    assert "hint: check the port" in err


def test_the_folder_is_made(cli, origin, name, tmp_path):
    url = origin.url(f"{name}/x", size=SIZE)
    assert cli("-d", "new/deep", url)[0] == 0
    assert (tmp_path / "new" / "deep" / "x").stat().st_size == SIZE
    code, _, err = cli("-o", "nowhere/x", url)
    assert code == 6
    assert "no folder" in err
    (tmp_path / "file").write_bytes(b"mine")
    for folder in ("file", "file/below"):
        code, _, err = cli("-d", folder, url)
        assert code == 6
        assert "a file is in the way" in err
        assert "hint: " in err


def test_no_memory(cli, origin, name):
    url = origin.url(name, size=SIZE)
    code, out, err = cli("-o", "-", url, env=environment(PARPULL_MAX_MEMORY="1MiB"))
    assert (code, out) == (6, b"")
    assert "hint: -o FILE" in err


def test_a_closed_stdout_is_told(start, origin, name):
    process = start("-o", "-", origin.url(name, size=SIZE), stdout=None, preexec_fn=lambda: os.close(1))
    err = process.communicate(timeout=20)[1].decode()
    assert process.returncode == 6
    assert "cannot write to standard output" in err


def test_one_failure_does_not_end_the_others(cli, origin, name, tmp_path):
    (tmp_path / "there").write_bytes(b"mine")
    urls = [
        origin.url(f"{name}/good", size=SIZE),
        origin.url(f"{name}/no", size=SIZE, scenario="forbidden"),
        origin.url(f"{name}/there", size=SIZE),
        origin.url(f"{name}/too", size=SIZE),
    ]
    code, _, err = cli(*urls)
    assert code == 4  # the first in the order given, though the third failed earlier
    assert sorted(os.listdir(tmp_path)) == ["good", "there", "too"]
    assert "parpull: error: no: access denied" in err
    assert "parpull: error: there: " in err
    assert "2 of 4 objects" in err


@pytest.mark.parametrize(
    ("args", "hint"),
    [
        ((), "parpull -h"),
        (("get",), "parpull -h"),
        (("-k", "http://h/x"), "--cacert"),
        (("--insecure", "http://h/x"), "--cacert"),
        (("-c", "jar", "http://h/x"), "--cookie FILE"),
        (("-C", "-", "http://h/x"), "leave it out"),
        (("--limit-rate", "fast", "http://h/x"), "8MiB"),
        (("--limit-rate", "100", "http://h/x"), "1024"),
        (("--mirror", "http://g/x", "http://h/x", "http://h/y"), "-i"),
        (("--trace", "-", "http://h/x"), "--trace FILE"),
        (("--trace", "http://h/x"), "--trace FILE"),
        (("--trace", "x", "-o", "x", "http://h/x"), "another"),
        (("--trace", "x.parpull", "http://h/x"), "another"),
        (("-x", "http://proxy:3128", "http://h/x"), "--proxy"),
        (("-x", "proxy:3128", "http://h/x"), "--proxy"),
        (("-x", "0", "http://h/x"), "1 to 256"),
        (("-x", "100000", "http://h/x"), "1 to 256"),
        (("-sL", "http://h/x"), "-q"),
        (("-fsSL", "http://h/x"), "leave it out"),
        (("--overwrit", "http://h/x"), "--overwrite"),
        (("--silent", "http://h/x"), "-q"),
        (("--gibberish", "http://h/x"), "parpull -h"),
        (("-o",), "parpull -h"),
        (("-qO-", "http://h/x"), "-o -"),
        (("-O", "file", "http://h/x"), "-o FILE"),
        (("-qz", "http://h/x"), "parpull -h"),
        (("--overwrite=yes", "http://h/x"), "parpull -h"),
        (("-o", "", "http://h/x"), "-o FILE"),
        (("-d", "", "http://h/x"), "-d DIR"),
        (("-qv", "http://h/x"), "one of them"),
        (("--max-time", "0", "http://h/x"), "seconds"),
        (("--max-time", "soon", "http://h/x"), "seconds"),
        (("--cookie", "nowhere", "http://h/x"), "no such file"),
        (("--checksum-file", "nowhere", "http://h/x"), ""),
        (("-i", "nowhere"), ""),
        (("-i", "-", "-o", "x"), "out=NAME"),
        (("-i", "-", "--checksum", "sha256=12"), "checksum="),
        (("--checksum", "sha256=12", "--checksum-file", "x", "http://h/x"), "one of them"),
        (("--cert", "nowhere", "http://h/x"), "no such file"),
        (("--key", "nowhere", "http://h/x"), "no such file"),
        (("-o", "a", "http://h/x", "http://h/y"), "-d DIR"),
        (("-o", "a/", "http://h/x"), "-d a/"),
        (("http://h/x", "http://g/x"), "-o FILE"),
        (("--checksum", "sha256=12", "http://h/x"), "64"),
        (("--checksum", "crc=12", "http://h/x"), "sha256"),
        (("-H", "no colon", "http://h/x"), "Name: value"),
        (("-H", "Range: bytes=1-2", "http://h/x"), ""),
        (("-u", "me", "http://h/x"), "USER:PASS"),
        (("--cacert", "/nowhere", "http://h/x"), "no such file"),
        (("--part-size", "big", "http://h/x"), "8MiB"),
        (("--retry", "-1", "http://h/x"), ""),
        (("host.example/x",), "https://host.example/x"),
        (("ftp://h/x",), "http"),
        (("get", "probe"), "parpull probe"),
        (("-q", "probe", "http://h/x"), "parpull probe"),
        (("pull", "image"), "https://"),
        (("http://h/x", "nonsense"), "https://"),
        (("http://[h/x",), ""),
    ],
)
def test_usage(cli, tmp_path, args, hint):
    code, out, err = cli(*args)
    assert (code, out) == (2, b"")
    assert "parpull: error: " in err
    if hint:
        assert hint in err.partition("hint: ")[2]
    assert os.listdir(tmp_path) == []


def test_a_proxys_password_is_not_shown(cli):
    for value in ("http://me:geheim@proxy:3128", "me:geheim@proxy:3128"):
        code, _, err = cli("-x", value, "http://h/x")
        assert code == 2
        assert "geheim" not in err


@pytest.mark.parametrize("verb", ["containerd"])
def test_help_promises_nothing_unbuilt(cli, verb):
    code, out, err = cli("-h")
    assert (code, err) == (0, "")
    assert not re.search(rf"\b{verb}\b", out.decode())
    assert b"--checksum" in out


def test_environment_is_heard_and_overruled(cli, origin, name):
    url = origin.url(name, size=SIZE)
    assert cli(url, env=environment(PARPULL_CONNECTIONS="none"))[0] == 2
    assert cli(url, "-x", "2", env=environment(PARPULL_CONNECTIONS="3"))[0] == 0
    assert origin.log(name).connections <= 2


# --- what it tells ----------------------------------------------------------------------


def test_json_lines(cli, origin, name, tmp_path):
    urls = [
        origin.url(f"{name}/x", size=4 * MIB, pace=MIB),
        origin.url(f"{name}/no", size=4 * MIB, scenario="not-found"),
    ]
    code, out, err = cli("--json", "-x", "4", *urls)
    assert code == 3
    assert err.startswith("parpull: error: no: ")
    lines = [json.loads(line) for line in out.splitlines()]
    mine = [line for line in lines if line["object"] == 1]
    assert [line["event"] for line in mine if line["event"] != "progress"] == ["started", "finished"]
    assert mine[-1]["path"] == str(tmp_path / "x")
    assert mine[-1]["error"] is None
    progress = [line for line in mine if line["event"] == "progress"]
    assert progress
    assert all({"url", "landed", "size", "connections"} <= set(line) for line in progress)
    assert all("size=" not in line["url"] for line in lines)
    (failed,) = [line for line in lines if line["object"] == 2 and line["event"] == "finished"]
    assert failed["error"].startswith("NotFound: ")


def test_json_gives_way_to_the_object(cli, origin, name):
    code, out, err = cli("--json", "-o", "-", origin.url(name, size=SIZE))
    assert (code, len(out)) == (0, SIZE)
    assert [json.loads(line)["event"] for line in err.splitlines()][-1] == "finished"


def test_json_tells_what_never_began(cli, origin, name, tmp_path):
    (tmp_path / "x").write_bytes(b"mine")
    code, out, _ = cli("--json", origin.url(f"{name}/x", size=SIZE))
    (line,) = map(json.loads, out.splitlines())
    assert (code, line["event"], line["hint"][:24]) == (6, "finished", "--overwrite replaces it;")


def test_verbose_tells_of_retries(cli, origin, name):
    code, _, err = cli("-v", origin.url(name, size=8 * MIB, scenario="error-500-once"))
    assert code == 0
    assert re.search(r"attempt 1 failed: the server answered 500: .*; again in \d+\.\d s", err)
    assert "1 retry" in err


def test_version_is_cheap():
    """Answered before anything heavy is imported: the whole of it must cost little
    more than a bare interpreter."""
    code = (
        "import sys; before = set(sys.modules); sys.argv = ['parpull', '--version'];"
        "import parpull.__main__ as m; assert m.main() == 0; print(*sorted(set(sys.modules) - before))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment())
    version, modules = ran.stdout.splitlines()
    assert version == f"parpull {parpull.__version__}"
    loaded = set(modules.split())  # an editable install's finder loads a few of its own
    assert {m for m in loaded if m.startswith("parpull")} == {"parpull", "parpull.__main__", "parpull._version"}
    assert not loaded & {
        "argparse",
        "re",
        "threading",
        "urllib.parse",
        "signal",
        "unicodedata",
        "json",
        "typing",
        "enum",
    }


def test_a_fetch_off_a_terminal_imports_no_bar():
    code = (
        "import sys; sys.argv = ['parpull', '--retry', '0', 'http://127.0.0.1:9/x'];"
        "import parpull.__main__ as m; m.main(); print(*sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment())
    unwanted = {"asyncio", "numpy", "dataclasses", "importlib.metadata", "parpull.cli.bar", "parpull.cli.screen"}
    assert not unwanted & set(ran.stdout.split())


@pytest.mark.parametrize("flags", [("--version",), ("-q", "--version"), ("-V",)])
def test_version(cli, flags):
    assert cli(*flags) == (0, f"parpull {parpull.__version__}\n".encode(), "")


# --- how it stops -----------------------------------------------------------------------


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
@pytest.mark.parametrize("extra", [(), ("--checksum", "sha256=" + "0" * 64), ("-o", "-")], ids=["file", "sum", "out"])
def test_signals(start, origin, name, tmp_path, number, code, extra):
    process = start("-x", "4", *extra, origin.url(f"{name}/x", size=1 << 30, pace=10 * MIB))
    wait_for(lambda: len(origin.log(name, 0)) >= 4)
    began = time.monotonic()
    process.send_signal(number)
    out, err = process.communicate(timeout=10)
    took = time.monotonic() - began
    assert (process.returncode, out) == (code, b"")
    assert err.decode().startswith(f"parpull: stopped by {number.name}")
    assert os.listdir(tmp_path) == []
    assert took < 1.0  # 0.2 is the aim; a busy machine may take longer


def test_a_second_signal_at_once_is_the_same(start, origin, name, tmp_path):
    process = start(origin.url(f"{name}/x", size=1 << 30, pace=10 * MIB))
    wait_for(lambda: len(origin.log(name, 0)) >= 2)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=10)
    assert process.returncode == 143
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("json_lines", [False, True])
def test_a_reader_that_leaves(start, origin, name, json_lines):
    url = origin.url(f"{name}/x", size=8 * MIB, pace=4 * MIB)
    process = start(*(["--json"] if json_lines else ["-o", "-"]), url)
    process.stdout.read(1)
    process.stdout.close()
    err = process.stderr.read()
    assert process.wait(20) == 6
    assert err == b""


def test_the_bar_on_a_terminal(origin, name, tmp_path):
    """The bar shows, the terminal is left with its cursor, and nothing but the last line."""
    import pty

    mine, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "parpull", "-x", "2", origin.url(f"{name}/x.bin", size=4 * MIB, pace=2 * MIB)],
        cwd=tmp_path, stdin=theirs, stdout=subprocess.PIPE, stderr=theirs,
        env=environment(TERM="xterm-256color", COLUMNS="80", LINES="24"),
    )  # fmt: skip
    os.close(theirs)
    seen = b""
    try:
        while piece := os.read(mine, 65536):
            seen += piece
    except OSError:  # the other end is closed
        pass
    os.close(mine)
    out, _ = process.communicate(timeout=10)
    assert (process.returncode, out) == (0, b"")
    shown = seen.decode()
    assert "━" in shown
    assert "MiB/s" in shown
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown)
    assert len(re.findall(r"x\.bin: 4\.0 MiB in \d\.\d s \(.* MiB/s\), \d connections?\r\n", plain)) == 1
    assert shown.endswith("\x1b[2K")  # what was drawn last is erased
    terminal = Terminal(80)
    terminal.feed(shown)
    line, rest = terminal.shown
    assert (line[:14], rest, terminal.cursor, terminal.wraps) == ("x.bin: 4.0 MiB", "", True, True)


# --- the parts that need no process -----------------------------------------------------


@pytest.mark.parametrize(
    ("n", "shown"),
    [
        (0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (MIB - 1, "1.0 MiB"), (MIB, "1.0 MiB"),
        (1288490189, "1.2 GiB"), (1 << 40, "1.0 TiB"), (1 << 62, "4096.0 PiB"),
    ],
)  # fmt: skip
def test_sizes(n, shown):
    assert text.human_size(n) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "1 ms"), (0.04, "40 ms"), (0.94, "0.9 s"), (59.99, "1:00"), (83, "1:23"), (3723, "1:02:03")],
)
def test_durations(seconds, shown):
    assert text.duration(seconds) == shown


@pytest.mark.parametrize("seconds", [float("inf"), float("nan"), 1e9])
def test_no_one_believes_that(seconds):
    assert text.eta(seconds) == ""


def test_what_a_server_sends_orders_no_terminal_about():
    assert text.clean("a\x1b[2Jb\nc\u202ed\udcff") == "a?[2Jb c?d?"


def test_speed_is_that_of_late():
    meter = display.Meter(3.0)
    assert meter.add(0.0, 0) == 0
    for second in range(1, 11):
        speed = meter.add(float(second), 1000 * second if second <= 5 else 5000)
    assert speed == 0


def test_speed_does_not_count_what_was_there_before(monkeypatch):
    """Neither that of a run, nor of an object; how far they are does."""
    fields = dict.fromkeys(parpull.Progress.__slots__, 0)
    now = fields | {"size": 9000, "received": 8000, "resumed": 8000, "connections": 1}
    item = outcome.Item(1, "http://h/x", name="x", path="x")
    item.download = SimpleNamespace(progress=lambda: parpull.Progress(**now))
    totals = display.Totals([item], 3.0)
    began = time.monotonic()
    totals.update(began)
    now["received"] = 8500
    totals.update(began + 1)
    assert (totals.landed, totals.fetched) == (8500, 500)
    assert 400 <= totals.speed <= 500
    assert totals.left() == "0:01"
    item.blob = SimpleNamespace(size=9000, digests={"sha256": ""})
    item.ended = SimpleNamespace(up_to_date=False, seconds=2.0, connections=1, retries=0)
    assert display.ending(item) == "x: 8.8 KiB in 2.0 s (500 B/s), 7.8 KiB were there, 1 connection, sha256 ok"
    item.ended.up_to_date = True
    totals.update(began + 2)
    assert (totals.landed, totals.fetched) == (9000, 0)


@pytest.mark.parametrize("width", [1, 5, 12, 20, 39, 79, 119, 200])
@pytest.mark.parametrize("shards", [1, 3, 30])
@pytest.mark.parametrize("size", [None, 50_000_000_000])
def test_the_bar_fits(width, shards, size):
    from rich.cells import cell_len

    names = [f"模型-{i:05}-of-00030.safetensors" for i in range(shards)]
    items = [outcome.Item(i, "http://h/x", name=n, path=n) for i, n in enumerate(names)]
    shown = bar.Bar(items, verbose=False)
    rows = [
        bar.Row.of(item.name, landed=123_456_789, size=size, speed=1.3e9, connections=16, retries=i % 3)
        for i, item in enumerate(items)
    ]
    lines = ["".join(run for run, _ in line) for line in shown._draw(rows, width, 1.0, plain=False)]
    assert len(lines) == shards
    assert max(cell_len(line) for line in lines) <= width
    if width >= 79:
        assert all("1.2 GiB/s" in line for line in lines)
        assert len({line.split()[0] for line in lines}) == shards  # shards can be told apart


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (None, 0),
        (parpull.errors.NotFound("x"), 3),
        (parpull.errors.RetriesExhausted("x", last=parpull.errors.NotFound("y")), 3),
        (parpull.errors.RetriesExhausted("x", last=parpull.errors.ObjectChanged("y")), 5),
        (parpull.errors.RetriesExhausted("x", last=parpull.errors.Stalled("y")), 1),
        (parpull.errors.TLSFailed("x"), 1),
        (parpull.errors.SizeMismatch("x"), 5),
        (parpull.errors.NoSpace("x"), 6),
        (parpull.errors.MemoryBudget("x"), 6),
        (MemoryError(), 6),
        (parpull.errors.BadURL("x"), 2),
        (RuntimeError("a bug"), 1),
    ],
)
def test_codes(error, code):
    assert outcome.exit_code(error) == code
