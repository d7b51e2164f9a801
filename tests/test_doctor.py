"""`parpull doctor`: the facts are there, problems are told, nothing secret is shown, and
no machine is odd enough to break it."""

from __future__ import annotations

import json
import os
import resource
import sys
import time

import pytest

import parpull
from parpull import _reactor
from parpull.cli import doctor
from tests.verbs import environment, started, verb

NAMES = [
    "parpull", "build", "python", "system", "cpus", "libcurl", "authorities", "huge pages", "memory", "/dev/shm",
    "open files", "folder here", "TMPDIR", "proxies", "config", "terminal", "packages",
]  # fmt: skip
NOTHING = {"PARPULL_CONFIG": ""}


def told(environ=None, root="/"):
    """The facts by name."""
    return {fact.name: fact for fact in doctor.facts(NOTHING if environ is None else environ, root=str(root))}


@pytest.fixture
def machine(tmp_path):
    """machine(path, text): a system's file, below a root of its own."""

    def write(path, text):
        path = tmp_path / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return tmp_path

    return write


# --- as its users see it ----------------------------------------------------------------


def test_a_line_for_each_fact(tmp_path):
    done = verb("doctor", cwd=tmp_path)
    assert (done.code, done.err) == (0, "")
    lines = [line for line in done.out.decode().splitlines() if not line.lstrip().startswith("! ")]
    width = max(map(len, NAMES))
    assert [line[:width].rstrip() for line in lines] == NAMES
    text = done.out.decode()
    assert f"{parpull.__version__} in " in text
    assert _reactor.libcurl_version() in text
    assert "(needs 7.85)" in text
    assert sys.version.split()[0] in text
    assert str(tmp_path) in text
    assert os.listdir(tmp_path) == []


def test_json(tmp_path):
    done = verb("doctor", "--json", env=environment(PARPULL_RETRIES="many"))
    assert (done.code, done.err) == (0, "")
    facts = [json.loads(line) for line in done.out.splitlines()]
    assert all(set(fact) == {"name", "value", "problem"} for fact in facts)
    assert [fact["name"] for fact in facts if fact["name"] != "PARPULL_RETRIES"] == NAMES
    (retries,) = [fact for fact in facts if fact["name"] == "PARPULL_RETRIES"]
    assert retries["value"] == "many"
    assert retries["problem"] == "nothing will be fetched: it is not possible; give a number"


def test_problems_stand_below_their_fact():
    facts = [doctor.Fact("one", "fine"), doctor.Fact("longer", "bad\nvalue", "costs\x1b this"), doctor.Fact("c", "")]
    assert doctor.lines(facts) == ["one     fine", "longer  bad value", "        ! costs? this", "c       "]
    assert doctor.lines([]) == []


def test_nothing_goes_over_the_network():
    code = (
        "import sys\n"
        "def hook(event, args):\n"
        "    assert not event.startswith(('socket.', 'subprocess.', 'os.exec', 'os.fork', 'os.posix_spawn')), event\n"
        "sys.addaudithook(hook)\n"
        "from parpull.cli import run\n"
        "sys.exit(run(['doctor']))\n"
    )
    import subprocess

    ran = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, check=False, timeout=60)
    assert (ran.returncode, ran.stderr) == (0, b"")
    assert b"unknown (" not in ran.stdout


def test_nobody_reads():
    with started("doctor") as process:
        process.stdout.close()
        assert process.wait(30) == 6
        assert process.stderr.read() == b""
    with open("/dev/full", "wb") as full:
        assert verb("doctor", stdout=full).code == 6


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_without_streams(closed):
    import subprocess

    command = ["sh", "-c", f'"$0" -m parpull doctor {closed}', sys.executable]
    ran = subprocess.run(command, env=environment(), capture_output=True, check=False, timeout=60)
    assert ran.returncode == (6 if ">&-" in closed.replace("2>&-", "") else 0)
    assert b"Traceback" not in ran.stderr


def test_an_environment_that_is_broken(tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    odd = environment(
        TMPDIR="/nowhere", HOME="", TERM="", PARPULL_CA_FILE="/nowhere", PARPULL_CONFIG="/nowhere",
        PARPULL_="", PARPULL_PART_SIZE="\x1b[2J", COLUMNS="many", SSL_CERT_FILE="/nowhere", http_proxy="http://[",
    )  # fmt: skip
    import subprocess

    command = ["sh", "-c", f'rmdir "{gone}"; exec "$0" -m parpull doctor', sys.executable]
    ran = subprocess.run(command, env=odd, cwd=gone, capture_output=True, check=False, timeout=60)
    assert (ran.returncode, ran.stderr.decode()) == (0, "")
    text = ran.stdout.decode()
    assert "folder here        unknown (FileNotFoundError: " in text
    assert "TMPDIR             unknown (FileNotFoundError: " in text
    assert "\x1b" not in text


# --- problems ------------------------------------------------------------------------------


def test_a_machine_without_proc_and_sys(tmp_path):
    facts = told(root=tmp_path)
    assert set(NAMES) <= set(facts)
    assert facts["huge pages"].value.startswith("unknown (")
    assert facts["memory"].value == "unknown"
    assert facts["/dev/shm"].value == "none"


@pytest.mark.parametrize(
    ("text", "value", "is_problem"),
    [("always [madvise] never\n", "madvise", False), ("[always] madvise never", "always", False),
     ("always madvise [never]\n", "never", True), ("odd", "odd", False)],
)  # fmt: skip
def test_huge_pages(machine, text, value, is_problem):
    fact = told(root=machine("sys/kernel/mm/transparent_hugepage/enabled", text))["huge pages"]
    assert (fact.value, fact.problem is not None) == (value, is_problem)


@pytest.mark.parametrize(
    ("text", "shown", "is_problem"),
    [("max 100000\n", None, False), ("250000 100000\n", "2.5 by its control group", False),
     ("50000 100000\n", "0.5 by its control group", True), ("what\n", None, False), ("1 0", None, False)],
)  # fmt: skip
def test_cpus(machine, text, shown, is_problem):
    fact = told(root=machine("sys/fs/cgroup/cpu.max", text))["cpus"]
    assert ("control group" in fact.value) is (shown is not None)
    assert shown is None or shown in fact.value
    assert (fact.problem is not None) is is_problem


def test_memory(machine):
    root = machine("proc/meminfo", "MemAvailable: 204800 kB\n")
    assert told(root=root)["memory"].value == "200.0 MiB available"
    assert "-o FILE" in told(root=root)["memory"].problem
    machine("proc/meminfo", "MemAvailable: 20480000 kB\n")
    assert told(root=root)["memory"].problem is None


def test_a_tiny_shared_memory(machine, monkeypatch):
    root = machine("dev/shm/x", "").resolve()
    real = os.statvfs

    def statvfs(path):
        about = list(real(path))
        about[1], about[2], about[4] = 4096, 16384, 16384  # frsize, blocks, available
        return os.statvfs_result(about)

    monkeypatch.setattr(os, "statvfs", statvfs)
    fact = told(root=root)["/dev/shm"]
    assert fact.value == "64.0 MiB, 64.0 MiB free"
    assert "--shm-size" in fact.problem


@pytest.mark.parametrize(("soft", "is_problem"), [(256, True), (1024, False), (resource.RLIM_INFINITY, False)])
def test_open_files(monkeypatch, soft, is_problem):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, resource.RLIM_INFINITY))
    fact = told()["open files"]
    assert fact.value.endswith("at most unlimited")
    assert (fact.problem is not None) is is_problem


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("libcurl/7.88.1 OpenSSL/3.0.1 zlib/1.2", None),
        ("libcurl/8.10.0-DEV (SecureTransport) GnuTLS/3.7", None),
        ("libcurl/7.84.0 OpenSSL/3.0.1", "too old"),
        ("libcurl/8.5.0 zlib/1.2", "no TLS"),
    ],
)
def test_libcurl(monkeypatch, line, words):
    monkeypatch.setattr(_reactor, "libcurl_version", lambda: line)
    fact = told()["libcurl"]
    assert fact.value == f"{line} (needs 7.85)"
    assert fact.problem is None if words is None else words in fact.problem


def test_a_libcurl_that_names_itself_oddly(monkeypatch):
    monkeypatch.setattr(_reactor, "libcurl_version", lambda: "curl?")
    assert told()["libcurl"].value.startswith("unknown (ValueError")


def test_authorities(tmp_path, monkeypatch):
    bundle = tmp_path / "ca.pem"
    bundle.write_text("# two\n-----BEGIN CERTIFICATE-----\n-----BEGIN CERTIFICATE-----\n")
    environ = NOTHING | {"PARPULL_CA_FILE": str(bundle)}
    assert (told(environ)["authorities"].value, told(environ)["authorities"].problem) == (
        f"{bundle}, 0 days old, 2 certificates", None,
    )  # fmt: skip
    os.utime(bundle, (time.time() - 1000 * 86400,) * 2)
    assert "1000 days old" in told(environ)["authorities"].value
    assert "update ca-certificates" in told(environ)["authorities"].problem
    bundle.write_text("nothing")
    assert "https:// can't be fetched" in told(environ)["authorities"].problem
    monkeypatch.setattr("parpull.settings.ca_file", lambda given: None)
    assert told()["authorities"].value == "none"
    assert "--cacert" in told()["authorities"].problem


def test_the_authorities_of_the_configuration(tmp_path):
    (tmp_path / "mine.pem").write_text("-----BEGIN CERTIFICATE-----\n")
    (tmp_path / "config.toml").write_text('ca_file = "mine.pem"\n')
    facts = told({"PARPULL_CONFIG": str(tmp_path / "config.toml")})
    assert facts["authorities"].value.startswith(f"{tmp_path}/mine.pem, ")
    assert facts["config"].value == f"{tmp_path}/config.toml, sets ca_file"


def test_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fact = told()["folder here"]
    assert fact.value.startswith(f"{tmp_path}: ")
    assert "O_DIRECT" in fact.value
    assert "free" in fact.value
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert "it can't be written to: give another one with -d DIR" in told()["folder here"].problem
    assert told(NOTHING | {"TMPDIR": str(tmp_path)})["TMPDIR"].value.startswith(f"{tmp_path}: ")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("number", "shown"), [(0xEF53, "ext4"), (-0x6EDC97C2, "btrfs"), (0x01021994, "tmpfs"), (0x12345, "0x12345")]
)
def test_file_systems(number, shown):
    assert doctor.file_system_name(number) == shown


# --- what is set -----------------------------------------------------------------------------


def test_secrets_stay_home(tmp_path):
    config = tmp_path / "config.toml"
    config.write_text('proxy = "http://me:geheim@proxy:1\\n"\n')
    environ = {
        "PARPULL_PROXY": "http://me:geheim@proxy:3128", "PARPULL_TOKEN": "geheim", "PARPULL_AUTH": "me:geheim",
        "https_proxy": "http://me:geheim@proxy:3128/?geheim", "ALL_PROXY": "me:geheim@proxy:1",
        "no_proxy": "localhost", "PARPULL_CONFIG": str(config), "PARPULL_CONNECTIONS": "32",
    }  # fmt: skip
    facts = doctor.facts(environ)
    text = "\n".join(doctor.lines(facts))
    assert "geheim" not in text
    by_name = {fact.name: fact for fact in facts}
    assert by_name["PARPULL_PROXY"].value == "http://proxy:3128"
    assert by_name["PARPULL_CONNECTIONS"].value == "32"
    assert by_name["PARPULL_CONNECTIONS"].problem is None
    assert "not heard" in by_name["PARPULL_TOKEN"].problem
    assert "https_proxy=http://proxy:3128/" in by_name["proxies"].value
    assert "no_proxy=localhost" in by_name["proxies"].value
    assert by_name["config"].problem.startswith("nothing will be fetched")


def test_a_proxy_that_is_not_heard():
    assert "write http_proxy" in told(NOTHING | {"HTTP_PROXY": "http://p:1"})["proxies"].problem
    assert told(NOTHING | {"HTTP_PROXY": "http://p:1", "http_proxy": "http://p:1"})["proxies"].problem is None
    assert told()["proxies"].value == "none"


def test_values_that_are_not_possible():
    facts = told(NOTHING | {"PARPULL_CONNECTIONS": "1000", "PARPULL_MAX_MEMORY": "", "PARPULL_RETRIES": "1e999"})
    assert "1 to 256" in facts["PARPULL_CONNECTIONS"].problem
    assert facts["PARPULL_MAX_MEMORY"].value == "(empty)"
    assert facts["PARPULL_RETRIES"].problem.startswith("nothing will be fetched")


def test_configuration(tmp_path):
    config = tmp_path / "config.toml"
    environ = {"PARPULL_CONFIG": str(config)}
    assert "no such file" in told(environ)["config"].problem
    config.write_text("connections = 8\nretries = 3\n")
    assert (told(environ)["config"].value, told(environ)["config"].problem) == (
        f"{config}, sets connections, retries", None,
    )  # fmt: skip
    config.write_text("connectoins = 8\n")
    assert "did you mean connections" in told(environ)["config"].problem
    config.write_text("what is this")
    assert "no proper TOML" in told(environ)["config"].problem
    assert told()["config"].value == "none, PARPULL_CONFIG is empty"


def test_packages(monkeypatch):
    import importlib.metadata

    real = importlib.metadata.version

    def version(name):
        if name == "shtab":
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    fact = told()["packages"]
    assert f"numpy {real('numpy')}" in fact.value
    assert "pip install shtab" in fact.problem


def test_a_terminal():
    import pty

    mine, theirs = pty.openpty()
    done = verb("doctor", stderr=theirs, env=environment(TERM="dumb", NO_COLOR="1", COLUMNS="99"))
    os.close(theirs)
    os.close(mine)
    text = done.out.decode()
    assert "stderr is a terminal, TERM=dumb, " in text
    assert "COLUMNS=99, NO_COLOR set" in text
    assert "! lines are shown in place of the bar: set TERM" in text
