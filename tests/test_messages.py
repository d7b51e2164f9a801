"""Every error and its hint, as a user reads them: a change of one shows as a change of
tests/snapshots/messages.txt. PARPULL_SNAPSHOT=write writes it anew."""

from __future__ import annotations

import errno
import fcntl
import os
import re
from pathlib import Path

import pytest

from parpull import cli as command_line
from parpull import errors, failures
from parpull._response import FLAWS
from parpull.cli import outcome
from parpull.files import sink_error
from parpull.options import Options
from parpull.sources import follow, resolve
from tests.running import environment

SNAPSHOT = Path(__file__).with_name("snapshots") / "messages.txt"
WRITE = os.environ.get("PARPULL_SNAPSHOT") == "write"
MIB = 1 << 20
URL = "https://h/x"

# (arguments, what stands in the way). {SCENARIO} is the address of such an object.
USAGE = [
    "",
    "probe",
    "completion",
    "completion fish",
    "-k URL",
    "-c jar URL",
    "--limit-rate 10 URL",
    "--limit-rate fast URL",
    "--mirror URL URL URL",
    "--trace - URL",
    "--trace URL",
    "--trace a -o a URL",
    "-x http://me:geheim@proxy:3128 URL",
    "-x 0 URL",
    "-sL URL",
    "-fsSL URL",
    "--overwrit URL",
    "--gibberish URL",
    "-Z URL",
    "--silent URL",
    "-b a=b URL",
    "-qO- URL",
    "-O name URL",
    "-qz URL",
    "-o",
    "-x",
    "--overwrite=yes URL",
    "-o a URL URL2",
    "-o a/ URL",
    "-o  URL",
    "-d  URL",
    "-q -v URL",
    "URL URL",
    "--checksum sha256=12 URL",
    "--checksum crc=12 URL",
    "--checksum sha256=12 URL URL2",
    "--checksum sha256=12 --checksum-file sums URL",
    "--checksum-file nowhere URL",
    "--checksum-file nosums URL",
    "--checksum-file sums URL",
    "-H geheim URL",
    "-H Range:0-1 URL",
    "-u me URL",
    "--cookie nowhere URL",
    "--cookie nosums URL",
    "--cacert nowhere URL",
    "--cert nowhere URL",
    "--key nowhere URL",
    "--part-size big URL",
    "--part-size 0 URL",
    "--retry some URL",
    "--max-time 0 URL",
    "host.example/x",
    "ftp://h/x",
    "https:///x",
    "https://me:geheim@h:port/x",
    "nonsense",
    "get probe",
    "probe URL URL",
    "-i nowhere",
    "-i nosums",
    "-i broken",
    "-i outside",
    "-i empty",
    "-i list -o x",
    "-i list --checksum sha256=12",
]
RUNS = [
    ("{not-found}", 3),
    ("{forbidden}", 4),
    ("{unauthorized}", 4),
    ("--retry 1 {busy-503-always}", 1),
    ("--retry 0 {busy-503-always}", 1),
    ("--retry 1 {multipart}", 1),
    ("{redirect-loop}", 1),
    ("{redirect-to-file}", 1),
    ("-x 4 --part-size 1MiB --retry 1 {object-changes}", 5),
    ("--checksum sha256=" + "0" * 64 + " {plain}", 5),
    ("--retry 0 http://127.0.0.1:9/x", 1),
    ("-o there {plain}", 6),
    ("-o . {plain}", 6),
    ("-o nowhere/x {plain}", 6),
    ("-o /dev/null {plain}", 6),
    ("-d there {plain}", 6),
    ("--trace there {plain}", 6),
    ("--trace . {plain}", 6),
    ("--trace nowhere/x {plain}", 6),
    ("--trace /dev/full {plain}", 6),
    ("-o held {plain}", 6),
    ("--max-time 0.4 {plain}&pace", 1),
]


def named(error):
    return "UsageError" if isinstance(error, outcome.UsageError) else type(error).__name__


@pytest.fixture
def said(capfd, monkeypatch, tmp_path):
    """said(call) -> the snapshot's lines of what it printed, without what differs from
    run to run."""
    monkeypatch.chdir(tmp_path)
    for key in set(os.environ) - set(environment()):
        monkeypatch.delenv(key)
    monkeypatch.setenv("PARPULL_CONFIG", "")
    kinds = []
    plain = outcome.message_of
    monkeypatch.setattr(outcome, "message_of", lambda error: kinds.append(named(error)) or plain(error))

    def run(title, call, *hidden):
        kinds.clear()
        code = call()
        text = capfd.readouterr().err
        assert "Traceback" not in text
        assert "geheim" not in text
        assert kinds, title
        for given, shown in (*hidden, (str(tmp_path), "DIR")):
            text = text.replace(given, shown)
        text = re.sub(r"[\d,]+ are available", "N are available", text)
        text = re.sub(r"Failed to connect to .*", "what libcurl says", text)
        return [f"== {title}", f"exit {code}, {kinds[-1]}", *text.rstrip().splitlines(), ""]

    return run


def from_usage(said, tmp_path):
    (tmp_path / "sums").write_text("0" * 64 + "  other\n")
    (tmp_path / "nosums").write_text("geheim\n")
    (tmp_path / "broken").write_text(f"{URL}\n  chekcsum=geheim\n")
    (tmp_path / "outside").write_text(f"{URL}\n  out=../geheim\n")
    (tmp_path / "empty").write_text("# nothing\n")
    (tmp_path / "list").write_text(f"{URL}\n")
    for text in USAGE:
        args = text.replace("URL2", "https://h/y").replace("URL", URL).split(" ") if text else []
        yield from said(f"parpull {text}".strip(), lambda args=args: command_line.run(args))


def pace(word):
    return {"pace": 1000} if word.endswith("&pace") else {}


def from_runs(said, tmp_path, origin, name):
    (tmp_path / "there").write_bytes(b"mine")
    with open(tmp_path / "held.parpull-part", "wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        for number, (text, code) in enumerate(RUNS):
            own = f"{name}-{number}"  # what a scenario does may depend on what was asked before
            args = [
                origin.url(f"{own}/x", size=8 * MIB, scenario=word.partition("}")[0][1:], **pace(word))
                if word.startswith("{")
                else word
                for word in text.split(" ")
            ]
            lines = said(
                f"parpull {text}", lambda args=args: command_line.run(["-q", *args]),
                (f"{origin.host}:{origin.port}", "HOST"), (own, "NAME"),
            )  # fmt: skip
            assert lines[1].startswith(f"exit {code},"), lines
            yield from lines
    for variable, value in (("PARPULL_MAX_MEMORY", "1MiB"), ("PARPULL_CONNECTIONS", "many")):
        os.environ[variable] = value
        args = ["-q", "-o", "-", origin.url(f"{name}/x", size=8 * MIB)]
        yield from said(f"{variable}={value} parpull -o - URL", lambda args=args: command_line.run(args))
        del os.environ[variable]
    for config in ("conections = 8", "connections = 800", "connections = ", "auth = ['me', 'geheim']"):
        (tmp_path / "config.toml").write_text(config)
        os.environ["PARPULL_CONFIG"] = str(tmp_path / "config.toml")
        yield from said(f"config.toml: {config.replace('geheim', '…')}", lambda: command_line.run([URL]))
    os.environ["PARPULL_CONFIG"] = ""


def event(cause, *, code=0, status=0, text=None, number=3, exhausted=False):
    return {"cause": cause, "code": code, "status": status, "text": text, "number": number, "exhausted": exhausted}


def constructed():
    """(title, error) of what is dear, or impossible, to bring about."""
    about = {"url": URL, "before": '"1"', "stall_timeout": 30.0, "path": "/data/x"}
    for code in (1, 3, 5, 6, 7, 16, 27, 28, 35, 56, 58, 60, 77):
        given = event("transport", code=code, text="what libcurl says")  # which differs by its version
        yield f"libcurl's {code}", failures.failure_of(given, **about)
    given = event("transport", code=60, text="what libcurl says")
    yield "libcurl's 60, without any authority", failures.failure_of(given, **about, trusting=False)
    for status in (401, 403, 404, 407, 410, 416, 418, 500, 503):
        yield f"status {status}", failures.failure_of(event("status", status=status), **about)
    for code in range(1, len(FLAWS)):
        yield f"flaw {code}", failures.failure_of(event("flawed", code=code), **about)
    for cause in ("too_large", "surplus", "other_object", "different", "range_ignored", "silent", "nonsense"):
        yield cause, failures.failure_of(event(cause), **about)
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EFBIG, errno.EIO):
        yield errno.errorcode[number], sink_error(number, "/data/x")
    yield "retries", failures.failure(event("silent", exhausted=True), retries=3, started=True, **about)
    yield "a size that was asked for", errors.SizeMismatch("the object has 5 bytes, not 6", expected=6, actual=5)
    yield "a buffer", errors.BufferTooSmall("the buffer holds 5 bytes, the object has 6", needed=6, given=5)
    yield "memory", MemoryError()
    yield "a bug", RuntimeError("something")
    request = resolve(URL, Options())
    for status, location in (
        (302, None),
        (302, "http://h/y"),
        (302, "ftp://h/y"),
        (300, "https://h/y"),
        (302, "https://h:p/"),
    ):
        with pytest.raises(errors.RedirectRefused) as caught:
            follow(request, status, location)
        yield f"{status} to {location}", caught.value


def complained(error):
    outcome.complain(error)
    return outcome.exit_code(error)


def test_messages(said, tmp_path, origin, name):
    lines = ["What parpull says when something is wrong. Made by tests/test_messages.py.", ""]
    lines += ["# The command line", "", *from_usage(said, tmp_path)]
    lines += ["# Runs", "", *from_runs(said, tmp_path, origin, name)]
    lines.append("# Constructed\n")
    for title, error in constructed():
        lines += said(title, lambda error=error: complained(error))
    text = "\n".join(lines)
    if WRITE:
        SNAPSHOT.write_text(text, encoding="utf-8")
    assert text == SNAPSHOT.read_text(encoding="utf-8"), "PARPULL_SNAPSHOT=write writes it anew"


def test_every_error_has_its_message():
    shown = set(re.findall(r"^exit \d+, (\w+)$", SNAPSHOT.read_text(encoding="utf-8"), re.MULTILINE))
    roots = {"ParpullError", "SourceError", "IntegrityError", "SinkError"}
    assert set(errors.__all__) - {"redact"} - roots <= shown
    assert {"UsageError", "MemoryError", "RuntimeError"} <= shown


def test_messages_are_one_line_and_say_what_to_do():
    """Each usage error has a hint; nothing ends in a full stop or has Python's quotes of a type."""
    for block in SNAPSHOT.read_text(encoding="utf-8").split("== ")[1:]:
        lines = block.split("#")[0].strip().splitlines()
        (message,) = [line for line in lines if line.startswith("parpull: error: ")]
        assert not message.endswith(".")
        assert "<" not in message
        assert " object at " not in message
