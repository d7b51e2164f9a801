"""The house: what DESIGN says of the package as a whole, held by the machine."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import parpull

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "parpull"
CORE = ["_planner", "_controller", "_response", "_crc", "_journal", "_mapping", "_landing", "_job", "_reactor"]
CORE += ["_tar", "_untar"] if sys.platform == "linux" else []
CEILING = 600  # lines
# What else may be said at the top of a module: the one set of live engines, and the lazy names.
MUTABLE = {("parpull.engine", "_live"), ("parpull", "_HOMES")}
HEAVY = ("asyncio", "importlib.metadata", "numpy", "ssl", "typing", "json", "hashlib", "parpull._reactor")


def module_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = sorted(path for path in PACKAGE.rglob("*.py"))
MODULES = [module_of(path) for path in SOURCES]
LIBRARY = [name for name in MODULES if not name.endswith("__main__")]
TREES = {module_of(path): ast.parse(path.read_text(encoding="utf-8")) for path in SOURCES}


def python(code):
    """A fresh interpreter that knows nothing but what is installed; warnings are errors."""
    command = [sys.executable, "-I", "-W", "error", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("name", [*LIBRARY, *(f"parpull.{name}" for name in CORE)])
def test_every_module_imports_alone(name):
    done = python(f"import {name}")
    assert done.returncode == 0, done.stderr
    assert not done.stdout + done.stderr


def test_import_is_cheap():
    code = f"import sys; old = set(sys.modules); import parpull; print(*(set(sys.modules) - old) & set({HEAVY!r}))"
    done = python(code)
    assert done.stdout.split() == [], done.stderr


@pytest.mark.parametrize("heavy", ["asyncio", "numpy", "importlib.metadata", "concurrent.futures"])
def test_the_verbs_need_nothing_heavy(heavy):
    done = python(f"import sys, parpull; parpull.fetch; assert {heavy!r} not in sys.modules")
    assert done.returncode == 0, done.stderr


def test_installed_it_needs_little():
    """What `pip install parpull` brings along; nothing of it may be large."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {re.match(r"[\w-]+", needed)[0] for needed in project["dependencies"]} == {"shtab"}
    imported = {
        name.split(".")[0]
        for tree in TREES.values()
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom)) and not getattr(node, "level", 0)
        for name in ([node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
    }
    assert not imported & {"rich", "platformdirs"}


def test_the_lazy_names_are_the_public_names():
    assert set(parpull._HOMES) == set(parpull.__all__) - {"__version__"}
    for name in parpull.__all__:
        assert getattr(parpull, name) is not None
    assert dir(parpull) == sorted(parpull.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        parpull.nonsense  # noqa: B018


@pytest.mark.parametrize("name", LIBRARY)
def test_public_names(name):
    """`__all__` is sorted, true, and everything in it is documented."""
    module = importlib.import_module(name)
    assert module.__doc__, "a module opens with a paragraph"
    names = getattr(module, "__all__", None)
    if names is None:
        assert name.rpartition(".")[2].startswith("_"), "no __all__"
        return
    assert list(names) == sorted(names)
    assert len(set(names)) == len(names)
    missing = [public for public in names if not hasattr(module, public)]
    assert not missing, "`from … import *` fails"
    for public in names:
        value = getattr(module, public)
        if callable(value):
            assert value.__doc__, public
            for attribute, method in vars(value).items() if isinstance(value, type) else ():
                if callable(method) and not attribute.startswith("_"):
                    assert method.__doc__, f"{public}.{attribute}"


@pytest.mark.parametrize("name", MODULES)
def test_no_mutable_state_of_modules_or_classes(name):
    """At the top: constants, which nobody changes, and nothing else that could."""
    bodies = [TREES[name].body, *(node.body for node in ast.walk(TREES[name]) if isinstance(node, ast.ClassDef))]
    found = []
    for depth, body in enumerate(bodies):
        for node in body:
            if not isinstance(node, (ast.Assign, ast.AnnAssign)) or node.value is None:
                continue
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [leaf.id for target in targets for leaf in ast.walk(target) if isinstance(leaf, ast.Name)]
            harmless = all(n.isupper() or n.startswith("__") or (name, n) in MUTABLE for n in names)
            literal = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)
            mutable = isinstance(node.value, literal) or (depth == 0 and isinstance(node.value, ast.Call))
            if mutable and not harmless:
                found += names
    assert not found


def test_constants_are_not_changed():
    """No module writes into an UPPER_CASE name, or declares it global."""
    for name, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Global):
                pytest.fail(f"{name}: global {', '.join(node.names)}")
            targets = node.targets if isinstance(node, (ast.Assign, ast.Delete)) else []
            for target in targets:
                if isinstance(target, ast.Subscript) and isinstance(target.value, ast.Name):
                    assert not target.value.id.isupper(), f"{name}: {target.value.id} is written to"


SIZED = [path for folder in ("src", "parpull", "tests", "bench") for path in sorted((ROOT / folder).rglob("*"))]


@pytest.mark.parametrize(
    "path",
    [str(path.relative_to(ROOT)) for path in SIZED if path.suffix in {".py", ".pyi", ".pyx", ".pxi", ".pxd", ".h"}],
)
def test_no_file_is_longer_than_600_lines(path):
    assert len((ROOT / path).read_text(encoding="utf-8").splitlines()) <= CEILING


def test_floors_hold():
    command = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    pytest.importorskip("importlinter")
    done = subprocess.run(
        [sys.executable, "-c", command, "--config", str(ROOT / ".importlinter"), "--no-cache"],
        capture_output=True, text=True, check=False, cwd=ROOT, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_room_has_a_floor():
    """A new module has to be put on a floor, or it may import anything."""
    text = (ROOT / ".importlinter").read_text(encoding="utf-8")
    named = set(re.findall(r"\w+", text.partition("layers =")[2].partition("[")[0]))
    rooms = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert rooms - {"__init__"} - named == set()


def test_only_the_reactor_knows_libcurl():
    for path in sorted((ROOT / "src").iterdir()):
        if path.name in {
            "libcurl.pxd",
            "_reactor.pyx",
            "transfer.pxi",
            "endings.pxi",
            "schedule.pxi",
            "pacing.pxi",
            "sources.pxi",
            "tail.pxi",
            "curl_compat.h",
            "README.md",
        }:
            continue
        code = "\n".join(line.partition("#")[0] for line in path.read_text(encoding="utf-8").splitlines())
        assert not re.search(r"libcurl cimport|curl_(easy|multi)_\w+\(", code), path.name


@pytest.mark.parametrize("name", CORE)
def test_stubs_name_what_the_compiled_modules_have(name):
    module = importlib.import_module(f"parpull.{name}")
    tree = ast.parse((PACKAGE / f"{name}.pyi").read_text(encoding="utf-8"))
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    stubbed = set(classes) | {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    stubbed |= {node.target.id for node in tree.body if isinstance(node, ast.AnnAssign)}
    own = {
        key
        for key, value in vars(module).items()
        if not key.startswith("_") and getattr(value, "__module__", module.__name__) == module.__name__
        and not isinstance(value, type(sys))
    }  # fmt: skip
    assert {key for key in stubbed if not key.startswith("_")} == own
    for key, node in classes.items():
        if key.startswith("_"):
            continue
        members = {leaf.name for leaf in node.body if isinstance(leaf, ast.FunctionDef)}
        members |= {leaf.target.id for leaf in node.body if isinstance(leaf, ast.AnnAssign)}
        real = {member for member in vars(getattr(module, key)) if not member.startswith("_")}
        assert {member for member in members if not member.startswith("_")} == real, key


def test_it_says_that_it_is_typed():
    assert (PACKAGE / "py.typed").read_bytes() == b""


def test_the_version_is_written_once():
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.?(dev|a|b|rc)\d+)?", parpull.__version__)
    assert python("import parpull; print(parpull.__version__)").stdout.strip() == parpull.__version__
