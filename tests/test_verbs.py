"""What the verbs share: dispatch, help, options of the network, completion, the manual
page, and standard streams that are closed."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parpull.cli import VERBS, outcome, parser_of
from parpull.cli.completion import SHELLS, everything
from parpull.cli.parser import ELSEWHERE, Refuse
from tests.running import cli, environment, start, wait_for
from tests.servers import content

__all__ = ["cli", "start"]

ROOT = Path(__file__).resolve().parents[1]
MIB = 1 << 20
SIZE = 3 * MIB + 17


# --- dispatch and help ------------------------------------------------------------------


@pytest.mark.parametrize("verb", VERBS)
def test_help_fits(verb, monkeypatch):
    for columns in ("80", "200"):
        monkeypatch.setenv("COLUMNS", columns)
        text = parser_of(verb).format_help()
        assert max(map(len, text.splitlines())) <= 80
    assert text.startswith(f"usage: parpull{'' if verb == 'get' else ' ' + verb} ")
    assert text.count("--help") == 1
    assert "--version" in text


@pytest.mark.parametrize("verb", VERBS)
def test_help_is_asked_for(cli, verb):
    for args in ((verb, "-h"), (verb, "--nonsense", "x", "--help"), (verb, "--help", "--nonsense")):
        code, out, err = cli(*args, env=environment(COLUMNS="80"))
        assert (code, err) == (0, "")
        assert out.startswith(b"usage: parpull ")


def test_the_help_of_all_lists_the_others(cli):
    code, out, _ = cli("-h")
    assert code == 0
    for verb in VERBS:
        listed = re.search(rf"^  {verb} +\w.*", out.decode(), re.MULTILINE)
        assert bool(listed) == (verb != "get")
    assert out.decode().index("other commands") < out.decode().index("examples:")
    assert out == cli("get", "-h")[1]


@pytest.mark.parametrize("verb", VERBS)
def test_what_stands_like_a_verb_is_reachable(cli, verb):
    """`parpull get cat` is an address that is none, not a call of `cat`."""
    code, _, err = cli("get", verb)
    assert code == 2
    assert f"error: {verb} is no URL" in err


@pytest.mark.parametrize("verb", VERBS)
def test_version_of_any_verb(cli, verb):
    assert cli(verb, "-V")[:2] == cli("--version")[:2]


@pytest.mark.parametrize("verb", VERBS)
def test_unknown_options_have_hints_everywhere(cli, verb):
    code, out, err = cli(verb, "--versoin")
    assert (code, out) == (2, b"")
    assert "there is no option --versoin" in err
    assert "did you mean --version ?" in err
    for theirs in ELSEWHERE:
        parser = parser_of(verb)
        hint = parser._unknown(theirs).hint
        named = set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", hint)) - {"-h", "-n"}
        assert named <= set(parser.flags), "a hint names an option that this verb has"


def test_a_verb_imports_only_itself():
    code = (
        "import sys; sys.argv = ['parpull', '--retry', '0', 'http://127.0.0.1:9/x'];"
        "import parpull.__main__ as m; m.main(); print(*sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment())
    others = {f"parpull.cli.{verb}" for verb in VERBS if verb != "get"}
    unwanted = others | {"shtab", "tomllib", "netrc", "http.cookiejar", "parpull.sources.cookies", "json", "difflib"}
    assert not unwanted & set(ran.stdout.split())


def flags():
    for verb in VERBS:
        for action in parser_of(verb)._actions:
            yield from ((verb, flag) for flag in action.option_strings)


WORDS = st.sampled_from(sorted({flag for _, flag in flags()})) | st.sampled_from(["--", "-", "", "5", "http://h/x"])


@given(st.sampled_from(VERBS), st.lists(WORDS | st.text(max_size=6) | st.text(max_size=4).map("-".__add__), max_size=5))
def test_any_arguments_are_read_or_a_usage_error(verb, argv):
    argv = [arg for arg in argv if arg not in ("-h", "--help", "-V", "--version") and not re.match("-[^-]*[hV]", arg)]
    try:
        assert parser_of(verb).read(argv) is not None
    except outcome.UsageError as error:
        assert str(error)
        assert error.hint


def test_every_flag_is_tested():
    """As a text of its own in some test: quoted in a call, or in a list of arguments."""
    said = set()
    for path in (ROOT / "tests").glob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value) < 200:
                said |= {word.partition("=")[0] for word in node.value.split()}
    missing = {(verb, flag) for verb, flag in flags() if flag not in said}
    assert not missing


ALIASES = (
    ("--output", "there"), ("--directory", "in"), ("--connections", "2"), ("--header", "X-A: b"), ("--user", "me:pw"),
    ("--location",), ("--remote-name",), ("-L",), ("-O",), ("--quiet",), ("--verbose",), ("-s", "2"),
    ("--noproxy", "*"), ("--max-time", "60"),
)  # fmt: skip


@pytest.mark.parametrize("args", ALIASES, ids=lambda args: args[0])
def test_long_and_short(cli, origin, name, tmp_path, args):
    code, out, err = cli(*args, origin.url(f"{name}/x", size=1000))
    assert (code, out) == (0, b""), err
    (found,) = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert found.stat().st_size == 1000


def test_every_exit_code_is_tested():
    """0 to 6 in test_cli's lists and here; 130 and 143 by signals."""
    text = "".join((ROOT / "tests" / f"{name}.py").read_text(encoding="utf-8") for name in ("test_cli", "test_verbs"))
    codes = (outcome.OK, outcome.FAILED, outcome.USAGE, outcome.NOT_FOUND, outcome.DENIED, outcome.WRONG_BYTES,
             outcome.CANNOT_WRITE)  # fmt: skip
    assert codes == tuple(range(7))
    for code in codes:
        assert re.search(rf"(?:code == |\[0\] == |, |\(){code}\b", text)
    assert "(signal.SIGINT, 130), (signal.SIGTERM, 143)" in text
    documented = re.findall(r"\b(\d+) [a-zA-Z]", parser_of("get").epilog.partition("exit codes:")[2])
    assert {int(code) for code in documented} == {*codes, 130, 143}


# --- options of get ---------------------------------------------------------------------


def test_max_time(cli, origin, name, tmp_path):
    urls = [origin.url(f"{name}/slow", size=1 << 30, pace=MIB), origin.url(f"{name}/quick", size=1000)]
    code, out, err = cli("--max-time", "1.5", *urls)
    assert (code, out) == (1, b"")
    assert "parpull: error: slow: not done after 1.5 s" in err
    assert "hint: a larger --max-time" in err
    assert sorted(os.listdir(tmp_path)) == ["quick", "slow.parpull", "slow.parpull-part"]
    assert cli("--max-time", "1.5", "--continue", urls[0])[0] == 1, "the next run goes on"


def test_max_time_of_a_reader_that_does_not_read(start, origin, name):
    process = start("--max-time", "1.5", "-o", "-", origin.url(name, size=8 * MIB))
    assert process.wait(20) == 1
    assert "not done after 1.5 s" in process.stderr.read().decode()


def test_max_time_of_a_list_of_checksums(cli, origin, name):
    sums = origin.url(f"{name}/sums", size=1000, latency=60)
    code, _, err = cli("--max-time", "1", "--checksum-file", sums, origin.url(f"{name}/x", size=1000))
    assert (code, "not done after 1 s" in err) == (1, True)


def test_stopping_while_checksums_are_fetched(start, origin, name):
    sums = origin.url(f"{name}/sums", size=1000, latency=60)
    process = start("--checksum-file", sums, origin.url(f"{name}/x", size=1000))
    wait_for(lambda: len(origin.log(name, 0)) >= 1)
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 130


@pytest.mark.parametrize("named", [False, True])
def test_netrc(cli, origin, name, tmp_path, named):
    url = origin.url(f"{name}/x", size=1000, auth="me:geheim")
    path = tmp_path / ("login" if named else ".netrc")
    path.write_text(f"machine {origin.host} login me password geheim\n")
    path.chmod(0o600)
    env = environment(HOME=str(tmp_path), **({"NETRC": str(path)} if named else {}))
    assert cli(url, env=env)[0] == 4
    code, _, err = cli("--netrc", url, env=env)
    assert (code, "geheim" in err) == (0, False)
    path.write_text("machine h login a pasword geheim")
    code, _, err = cli("--netrc", "--overwrite", url, env=env)
    assert (code, "geheim" in err) == (2, False)
    assert "hint: " in err


def test_cookies(cli, origin, name, tmp_path):
    url = origin.url(f"{name}/x", size=1000, cookie="id=geheim")
    (tmp_path / "jar").write_text(f"{origin.host}\tFALSE\t/\tFALSE\t0\tid\tgeheim\n")
    assert cli(url)[0] == 4
    assert cli("--cookie", "jar", url)[0] == 0
    assert cli("--cookie", "a=b; id=geheim", "--overwrite", url)[0] == 0
    (tmp_path / "jar").write_text("geheim")
    code, _, err = cli("--cookie", "jar", url)
    assert (code, "geheim" in err) == (2, False)
    assert "line 1" in err


def test_a_proxy_that_is_not_there(cli):
    code, _, err = cli("--proxy", "http://127.0.0.1:9", "--retry", "0", "http://h.invalid/x")
    assert code == 1
    assert "hint: " in err


# --- completion and the manual page -------------------------------------------------------


@pytest.mark.parametrize("shell", SHELLS)
def test_completion(cli, shell):
    code, out, err = cli("completion", shell)
    assert (code, err) == (0, "")
    text = out.decode()
    for verb in VERBS:
        assert verb in text
    assert "checksum-file" in text
    if shutil.which(shell):
        done = subprocess.run([shell, "-n"], input=out, capture_output=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("words", "found"),
    [("pro", "probe"), ("--checksum-f", "--checksum-file"), ("probe --js", "--json"),
     ("http://h/x --overw", "--overwrite"), ("completion zs", "zsh"), ("-d fol", "folder"), ("-o fil", "file"),
     ("get --part", "--part-size")],
)  # fmt: skip
def test_completion_in_bash(cli, tmp_path, words, found):
    if not shutil.which("bash"):
        pytest.skip("there is no bash")
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "script").write_bytes(cli("completion", "bash")[1])
    ask = f"source ./script; COMP_WORDS=(parpull {words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); "
    ask += 'eval "$(complete -p parpull | sed "s/.*-F \\([^ ]*\\).*/\\1/")"; printf "%s\\n" "${COMPREPLY[@]}"'
    done = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, check=False, cwd=tmp_path, timeout=60)
    assert found in done.stdout.split(), done.stderr


def test_a_shell_that_has_none(cli):
    for args in (("fish",), ()):
        code, out, err = cli("completion", *args)
        assert (code, out) == (2, b"")
        assert "hint: " in err


def test_all_verbs_are_in_one_parser():
    text = everything().format_help()
    assert all(verb in text for verb in VERBS)


def test_the_manual_page_is_fresh():
    spec = importlib.util.spec_from_file_location("make_man", ROOT / "docs" / "make_man.py")
    make_man = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_man)
    text = make_man.page()
    assert make_man.PAGE.read_text(encoding="utf-8") == text, "run python docs/make_man.py"
    for verb in VERBS:
        for action in parser_of(verb)._actions:
            hidden = isinstance(action, Refuse) or action.help == "==SUPPRESS=="
            assert hidden or all(flag.replace("-", "\\-") in text for flag in action.option_strings)


def test_the_manual_page_is_roff():
    if not shutil.which("groff"):
        pytest.skip("there is no groff")
    page = ROOT / "docs" / "parpull.1"
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww", "-z", str(page)], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


# --- streams ------------------------------------------------------------------------------


READ = [("-h",), ("--version",), ("completion", "bash"), ("completion", "zsh"), ("probe", "-h")]


@pytest.mark.parametrize("args", READ, ids=" ".join)
def test_a_reader_that_leaves(start, args):
    """A pipe whose reader has gone before anything was written: no word of it."""
    mine, theirs = os.pipe()
    os.close(mine)
    process = start(*args, stdout=theirs)
    os.close(theirs)
    _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (6, b"")


def test_a_reader_that_leaves_probe(origin, name):
    command = f"{sys.executable} -m parpull probe '{origin.url(name, size=MIB)}' | head -c1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, check=False, env=environment(), timeout=60)
    assert (done.stdout, done.stderr) == (b"a", b"")


@pytest.mark.parametrize("args", [*READ, ("probe", "URL"), ("--json", "URL")], ids=" ".join)
def test_a_closed_stdout(start, origin, name, args):
    url = origin.url(f"{name}/x", size=1000)
    process = start(*[arg.replace("URL", url) for arg in args], stdout=None, preexec_fn=lambda: os.close(1))
    err = process.communicate(timeout=20)[1].decode()
    assert process.returncode == 6
    assert err == "" if args == ("--version",) else "cannot write to standard output" in err


def test_a_full_device(cli):
    if not os.path.exists("/dev/full"):
        pytest.skip("there is no /dev/full")
    with open("/dev/full", "wb") as full:
        code, _, err = cli("completion", "bash", stdout=full)
    assert code == 6
    assert "No space left" in err


@pytest.mark.parametrize("closed", [0, 1, 2])
def test_closed_streams_do_not_hurt_a_fetch(start, origin, name, tmp_path, closed):
    process = start(origin.url(f"{name}/x", size=SIZE), stdin=None, preexec_fn=lambda: os.close(closed))
    process.communicate(timeout=20)
    assert process.returncode == 0
    assert content.first_difference((tmp_path / "x").read_bytes()) is None


# --- JSON ----------------------------------------------------------------------------------


RUNS = [
    ((), {"size": 4 * MIB, "pace": MIB}, 0),
    (("--checksum", "sha256=" + content.sha256(SIZE)), {"size": SIZE}, 0),
    ((), {"size": SIZE, "scenario": "redirect-hops"}, 0),
    ((), {"size": 8 * MIB, "scenario": "error-500-once"}, 0),
    ((), {"size": SIZE, "ranges": False, "etag": "none", "last_modified": False, "length": "chunked"}, 0),
    ((), {"size": 32 * MIB, "redirect": "signed", "uses": 3}, 0),
    (("-o", "-"), {"size": SIZE}, 0),
    (("--retry", "0"), {"size": SIZE, "scenario": "busy-503-always"}, 1),
    (("--max-time", "0.7"), {"size": 1 << 30, "pace": MIB}, 1),
    ((), {"size": SIZE, "scenario": "not-found"}, 3),
    ((), {"size": SIZE, "scenario": "forbidden"}, 4),
    (("--checksum", "sha256=" + "0" * 64), {"size": SIZE}, 5),
    (("-d", "file"), {"size": SIZE}, 6),
]


@pytest.mark.parametrize(("args", "about", "code"), RUNS)
def test_every_line_of_json_is_as_described(cli, origin, name, tmp_path, args, about, code):
    from jsonschema import Draft202012Validator

    schema = json.loads((ROOT / "docs" / "events.schema.json").read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    (tmp_path / "file").touch()
    got, out, err = cli("--json", *args, origin.url(f"{name}/x", **about))
    assert got == code, err
    lines = [json.loads(line) for line in (err.encode() if "-" in args else out).splitlines()]
    for line in lines:
        validator.validate(line)
    assert [line["event"] for line in lines].count("finished") == 1
    assert lines[-1]["event"] == "finished"
    assert (lines[-1]["error"] is None) == (code == 0)
    broken = [lines[-1] | {"size": -1}, lines[-1] | {"surprise": 1}, {"event": "nonsense", "object": 1, "url": "x"}]
    assert not any(validator.is_valid(line) for line in broken)


def test_the_description_names_every_event():
    schema = json.loads((ROOT / "docs" / "events.schema.json").read_text(encoding="utf-8"))
    from parpull import events

    kinds = {kind.kind for name in events.__all__ if (kind := getattr(events, name)) is not events.Event}
    assert set(schema["properties"]["event"]["enum"]) == kinds - {"traced"} | {"progress"} == set(schema["$defs"]) - {
        "count", "seconds", "size",
    }  # fmt: skip
