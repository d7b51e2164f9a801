"""The user guide does what it says: every example on its pages, and in README.md, is
run, and what the package has is all mentioned.

A ```python block runs in its page's one namespace, in a folder of its own; a ```text
block right behind it is what it prints, `…` standing for anything. In a ```console
block each line behind `$ ` is run by bash, and has to end with 0, or with what
`# exits N` says; the lines shown below have to come, whatever their figures are. A
block with a title is a file of that name. Placeholder addresses lead to the tests'
origin, or to nginx where a real file is needed (FILES), and `9f86d0…` is the digest
of the object named last. A block that can't be run says why in a comment before it.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import inspect
import io
import json
import os
import re
import shlex
import statistics
import subprocess
import sys
import tarfile
import typing
import zipfile
from pathlib import Path

import numpy as np
import pytest

import parpull
import parpull.oci.errors
from parpull import cli, errors, events
from parpull.checks import FROM_TEXT
from parpull.cli import outcome
from parpull.options import FIELDS, Options
from tests.running import environment
from tests.servers.content import sha256
from tests.servers.fixtures import real
from tests.servers.real import Nginx

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = (ROOT / "README.md", *sorted(DOCS.glob("*.md")))
NEED_ALL = os.environ.get("PARPULL_REQUIRE") == "all"

MIB = 1 << 20
SIZES = {"model.safetensors": 64 * MIB, "slow.bin": 400 * MIB, "huge.bin": 1200 * MIB}
SIZE = 8 * MIB  # of all others
SCENARIOS = {"not-there": "not-found", "redirected.bin": "redirect-other-host"}
MANNERS = {"slow.bin": "&pace=1000000", "private/data.bin": "&auth=me:secret"}
FILES = ("data.tar", "data.tar.gz", "matrix.npy", "photos.zip", "table.csv", "table.parquet")
PLACE = re.compile(r"https://(?:example\.com|host)/([\w./-]*[\w-])")
DIGEST = "9f86d0…"
BLOCK = re.compile(r"(?:<!-- no test: (?P<why>[^\n]+) -->\n)?^```(?P<lang>\w+)(?: title=\"(?P<title>[^\"]+)\")?\n"
                   r"(?P<text>.*?)^```$", re.M | re.S)  # fmt: skip
UNTESTED = 3  # blocks that are not run, at most


class Block(typing.NamedTuple):
    lang: str
    text: str
    title: str | None
    why: str | None
    line: int  # of its first line


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text()
    found = [
        Block(m["lang"], m["text"], m["title"], m["why"], text.count("\n", 0, m.start("text")) + 1)
        for m in BLOCK.finditer(text)
    ]
    assert len(found) * 2 == len(re.findall(r"^ *```", text, re.M)), f"{page.name}: a fence that is none, or not read"
    return found


def table(page: str, below: str = "# ") -> list[list[str]]:
    """The cells of the rows of a page's first table below some heading."""
    rows = re.search(r"^\|.*?(?=\n\n|\Z)", (DOCS / page).read_text().partition(below)[2], re.M | re.S)
    assert rows
    return [[cell.strip() for cell in row.strip("|").split(" |")] for row in rows[0].splitlines()[2:]]


# --- the objects behind the placeholders ------------------------------------------------


def make_files(folder: Path) -> None:
    """Real ones, for what reads formats."""
    members = {"one.txt": b"one\n", "two.txt": b"two\n"}
    with zipfile.ZipFile(folder / "photos.zip", "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    for name, mode in (("data.tar", "w"), ("data.tar.gz", "w:gz")):
        with tarfile.open(folder / name, mode) as archive:
            for member, data in members.items():
                entry = tarfile.TarInfo(member)
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
    np.save(folder / "matrix.npy", np.arange(60_000.0).reshape(200, 300))
    rows = [(i, i / 4, f"name {i}") for i in range(1000)]
    (folder / "table.csv").write_text("id,price,name\n" + "".join(f"{a},{b},{c}\n" for a, b, c in rows))
    with contextlib.suppress(ImportError):  # the page that needs it is skipped then
        import pyarrow as pa
        import pyarrow.parquet as pq

        columns = dict(zip(("id", "price", "name"), zip(*rows, strict=True), strict=True))
        pq.write_table(pa.table({name: list(values) for name, values in columns.items()}), folder / "table.parquet")


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    make_files(folder)
    with real(lambda: Nginx(folder)) as server:
        yield server


class Places:
    """What stands for the placeholders, in one test."""

    def __init__(self, origin, name):
        self.server = None  # of real files, for a page that has some
        self.base = f"http://{origin.host}:{origin.port}"
        self.name = name
        self.last = "data.bin"

    def url(self, path):
        if path in FILES:
            return self.server.url(path)
        manner = MANNERS.get(path, "")
        return f"{self.base}/{SCENARIOS.get(path, 'plain')}/{self.name}/{path}?size={SIZES.get(path, SIZE)}{manner}"

    def digest(self, path):
        if path in FILES:
            return hashlib.sha256((self.server.root / path).read_bytes()).hexdigest()
        return sha256(SIZES.get(path, SIZE))

    def fill(self, text, *, shell=False):
        """The text with real addresses and digests."""
        lines = []
        for line in text.split("\n"):
            named = PLACE.findall(line) or re.findall(rf"^{DIGEST}  (\S+)$", line)
            self.last = named[-1] if named else self.last
            line = line.replace(DIGEST, self.digest(self.last)) if DIGEST in line else line
            lines.append(PLACE.sub(lambda m: shlex.quote(self.url(m[1])) if shell else self.url(m[1]), line))
        text = "\n".join(lines).replace("machine example.com", "machine 127.0.0.1")
        return text.replace("http://proxy.example:3128", self.base)  # the origin is a proxy, too


@pytest.fixture
def places(origin, name):
    return Places(origin, name)


@pytest.fixture
def shell(tmp_path, monkeypatch):
    """The environment of a user with a home of their own, and parpull on the PATH."""
    home, programs = tmp_path / "home", tmp_path / "bin"
    for folder in (home, programs, tmp_path / "here"):
        folder.mkdir()
    for name, more in (("parpull", " -m parpull"), ("python", ""), ("python3", "")):
        (programs / name).write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)}{more} "$@"\n')
        (programs / name).chmod(0o755)
    monkeypatch.chdir(tmp_path / "here")
    env = environment(HOME=str(home), PATH=f"{programs}:{os.environ['PATH']}", PYTHONPATH=str(ROOT))
    env["XDG_RUNTIME_DIR"] = str(tmp_path)
    for key in ("PARPULL_CONFIG", "XDG_CONFIG_HOME", "PYTHONWARNINGS"):
        env.pop(key, None)
    for key in os.environ.keys() - env.keys():  # what runs in this process sees the same
        monkeypatch.delenv(key)
    for key, value in env.items():
        monkeypatch.setenv(key, value)
    return env


# --- running a page ---------------------------------------------------------------------


def importable(blocks):
    """Skip what needs a package that is not here; with PARPULL_REQUIRE=all, fail."""
    code = "\n".join(block.text for block in blocks if block.lang == "python" and not block.why)
    for module in sorted(set(re.findall(r"^\s*(?:import|from) (\w+)", code, re.M))):
        if importlib.util.find_spec(module) is None:
            (pytest.fail if NEED_ALL else pytest.skip)(f"{module} is not installed")


def matches(shown: str, printed: str) -> bool:
    """Whether the lines are the ones shown; `…` stands for anything."""
    pattern = re.escape(shown.strip()).replace("…", ".*?")
    return re.fullmatch(pattern, printed.strip()) is not None


def run_python(page, block, shown, namespace, places):
    code = compile("\n" * (block.line - 1) + places.fill(block.text), str(page), "exec")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, namespace)
    if shown is not None:
        assert matches(shown.text, printed.getvalue()), f"{page.name}:{block.line} prints\n{printed.getvalue()}"


def likeness(text: str) -> list[str]:
    """Lines without what differs from run to run: figures, units, addresses."""
    text = re.sub(r"https?://[^\s']*/", "URL/", text).replace("?…", "")
    text = re.sub(r"\d[\d.,]*", "N", text)
    text = re.sub(r"\bN (?:[kKMGT]i?)?B(/s)?\b|\bN m?s\b", "N", text)
    return [re.sub(r"connections?\b", "connections", " ".join(line.split())) for line in text.splitlines()]


def run_console(page, block, env, places):
    for i, part in enumerate(re.split(r"^\$ ", block.text, flags=re.M)[1:]):
        command, _, shown = part.partition("\n")
        command, _, code = command.partition("    # exits ")
        place = f"{page.name}:{block.line}, command {i + 1}: {command}"
        run = ["bash", "-o", "pipefail", "-c", places.fill(command, shell=True)]
        done = subprocess.run(run, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
        printed = done.stderr + done.stdout
        assert done.returncode == int(code or 0), f"{place} ended with {done.returncode}:\n{printed}"
        missing = [line for line in likeness(shown) if line not in likeness(printed)]
        assert not missing, f"{place} does not print {missing}, but\n{printed}"


def run_page(page, env, places):
    """All blocks, in their order."""
    blocks = blocks_of(page)
    importable(blocks)
    namespace = {"__name__": "__main__"}
    try:
        run_blocks(page, blocks, namespace, env, places)
    finally:
        namespace.clear()


def run_blocks(page, blocks, namespace, env, places):
    for i, block in enumerate(blocks):
        if block.why:
            continue
        if block.title:
            path = Path(block.title.replace("~", env["HOME"]))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(places.fill(block.text))
        elif block.lang == "python":
            after = blocks[i + 1] if i + 1 < len(blocks) else None
            run_python(page, block, after if after and after.lang == "text" else None, namespace, places)
        elif block.lang == "console":
            run_console(page, block, env, places)


def real_files(page):
    """Those that it needs: only then there has to be an nginx."""
    return set(FILES) & set(PLACE.findall(page.read_text()))


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if not real_files(page)], ids=lambda page: page.stem)
def test_examples(page, shell, places):
    run_page(page, shell, places)


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if real_files(page)], ids=lambda page: page.stem)
@pytest.mark.filterwarnings("default::DeprecationWarning")  # of pandas, and others'
def test_examples_with_files(page, shell, places, files):
    places.server = files
    run_page(page, shell, places)


def test_few_are_not_run():
    whys = [block.why for page in PAGES for block in blocks_of(page) if block.why]
    assert len(whys) <= UNTESTED
    assert all(len(why) > 20 for why in whys)
    run = ("python", "console")
    other = [block for page in PAGES for block in blocks_of(page) if block.lang not in run and not block.why]
    assert all(block.lang == "text" or block.title for block in other)


# --- nothing is left out ----------------------------------------------------------------


def test_options():
    rows = {row[0].strip("`"): row[1:] for row in table("options.md")}
    assert rows.keys() == FIELDS
    flags = {flag for verb in cli.VERBS for flag in cli.parser_of(verb).flags}
    for option, (default, flag, variable, meaning) in rows.items():
        value = getattr(Options, option)
        assert default == f"`{dict(value) if option == 'curl' else value!r}`", option
        assert variable == (f"`PARPULL_{option.upper()}`" if option in FROM_TEXT else ""), option
        known = outcome.FLAGS.get(option) or ("--overwrite" if option == "overwrite" else "")
        assert flag.strip("`") == known, option
        assert not flag or flag.strip("`") in flags, option
        assert meaning
        assert re.search(rf"\b{option}\b", Options.__doc__), f"{option} is not in the docstring"


def test_public_names():
    text = (DOCS / "api.md").read_text() + (DOCS / "files.md").read_text()
    missing = [name for name in parpull.__all__ if not re.search(rf"`(?:parpull\.)?{name}[`(.]", text)]
    assert not missing
    fields = [name for name in parpull.Progress.__slots__ if f"`{name}`" not in text]
    assert not fields


def test_events():
    rows = {row[0].strip("`"): row[1:] for row in table("api.md", "## Events")}
    told = {kind.kind: kind for name in events.__all__ if (kind := getattr(events, name)) is not events.Event}
    assert rows.keys() == told.keys()
    for kind, (name, data) in rows.items():
        assert name == f"`events.{told[kind].__name__}`"
        assert {field for field in told[kind].__annotations__ if f"`{field}`" not in data} == set()
    schema = json.loads((DOCS / "events.schema.json").read_text())
    told_of = {*rows, *re.findall(r"`(\w+)`", (DOCS / "cli.md").read_text())}
    assert set(schema["properties"]["event"]["enum"]) <= told_of


@pytest.mark.parametrize(("module", "heading"), [(errors, "## The tree"), (parpull.oci.errors, "## Of images")])
def test_errors(module, heading):
    rows = {row[0].strip("*`"): row[1:] for row in table("errors.md", heading)}
    kinds = {name: kind for name in module.__all__ if isinstance(kind := getattr(module, name), type)}
    assert rows.keys() == kinds.keys()
    for name, (also, data, _, code) in rows.items():
        kind = kinds[name]
        own = [field for field in inspect.get_annotations(kind) if f"`{field}`" not in data]
        assert not own, name
        error = kind("…", last=errors.ParpullError("…"))
        assert int(code) == outcome.exit_code(error), name
        builtins = {base.__name__ for base in kind.__mro__ if base.__module__ == "builtins"}
        assert not also or also.strip("`") in builtins | {"ParpullError"}, name


def test_verbs():
    text = (DOCS / "cli.md").read_text()
    for verb in cli.VERBS:
        assert f"\n## {verb}\n" in text
        known = text + "`-h` `--help`"
        flags = [flag for flag in cli.parser_of(verb).flags if not re.search(rf"`{re.escape(flag)}[` ,]", known)]
        assert not flags, verb


def test_exit_codes():
    from parpull.cli import exec as exec_

    said = {int(row[0]) for row in table("errors.md", "## Exit codes")}
    ours = {code for name, code in vars(outcome).items() if name.isupper() and isinstance(code, int) and code < 7}
    assert said == ours | {exec_.CANNOT_RUN, exec_.NO_COMMAND, 130, 143}


def steady(name):
    """(CPU s/GiB, x floor) by the beginning of the client's name, of the steady benchmark."""
    clients = json.loads((ROOT / f"bench/results/steady-{name}.json").read_text())["clients"]
    medians = {client: statistics.median(map(sum, runs)) for client, runs in clients.items()}
    return lambda start: next(
        (f"{cpu:.2f}", f"{cpu / medians['floor']:.2f}") for client, cpu in medians.items() if client.startswith(start)
    )


def scorecard(scenario):
    """The same of the scorecard, plain, 8 connections."""
    cells = json.loads((ROOT / "bench/results/scorecard-short.json").read_text())["cells"]
    mine = {cell["rival"]: cell for cell in cells
            if (cell["scenario"], cell["variant"], cell["connections"]) == (scenario, "plain", 8)}  # fmt: skip
    return lambda rival: (f"{mine[rival]['cpu']['median']:.2f}", f"{mine[rival]['x_floor']['median']:.2f}")


@pytest.mark.parametrize("page", ["../README.md", "when-not.md"])
def test_figures(page):
    """Those of the last runs of the bench, and no others."""
    plain, tls, tmpfs, disk = steady("plain"), steady("tls"), scorecard("tmpfs"), scorecard("disk")
    wheel = "parpull, libcurl/8.21"
    wanted = [
        plain("floor"), plain(wheel), plain("pycurl"), tls("floor"), tls(wheel), tls("pycurl"), tmpfs("floor-tmpfs"),
        tmpfs("parpull"), tmpfs("aria2"), tmpfs("forked-curl-joined"), disk("parpull"), disk("aria2"),
    ]  # fmt: skip
    found = [(row[2].strip("*"), row[3].strip("*")) for row in table(page, "## What it costs")]
    for ours, theirs in zip(found, wanted, strict=True):
        # A hundredth, for both of a ratio are rounded.
        assert [float(x) for x in ours] == pytest.approx([float(x) for x in theirs], abs=0.011)


def test_links(tmp_path):
    """mkdocs finds nothing to complain about: pages, links and anchors."""
    if importlib.util.find_spec("mkdocs") is None or importlib.util.find_spec("material") is None:
        (pytest.fail if NEED_ALL else pytest.skip)("mkdocs-material is not installed: pip install --group docs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    env = environment(NO_MKDOCS_2_WARNING="1", PYTHONWARNINGS="")  # not --quiet: with it --strict counts no warnings
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "site" / "index.html").is_file()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_into_the_tree(page):
    """As they are read in the source, without a site."""
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []
