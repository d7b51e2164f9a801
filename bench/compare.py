"""Two builds of parpull in turn: the ratio of what they cost, and how sure it is.

    python -m bench.compare OLD NEW [--rounds 15] [--size 1] [--tls] [--file] [--connections 8]

OLD and NEW are each a git revision, which is built into build/compare/, or the Python of an
environment with parpull in it. Told is NEW over OLD, the median of ratios of one round, with a
bootstrapped 95 % interval: if that holds 1, nothing is shown.
"""

from __future__ import annotations

import argparse
import io
import os
import random
import statistics
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from pathlib import Path

from bench import harness
from bench.measure import ROOT, Failed, Setting, Usage, adopting, cost, warm_up
from bench.rivals import MEMORY
from bench.scenarios import PLAIN, TLS, Scenario
from bench.stage import Stage, make

BUILDS = ROOT / "build" / "compare"
CLIENT = """
import sys, parpull
url, connections, out, ca = sys.argv[1:]
blob = parpull.fetch(url, into=out or None, connections=int(connections), **({"ca_file": ca} if ca else {}))
print(len(blob))
"""


def main(arguments: list[str] | None = None) -> int:
    """Build, measure in turn, tell."""
    parser = argparse.ArgumentParser(prog="python -m bench.compare", description=__doc__.splitlines()[0])
    parser.add_argument("old", metavar="OLD")
    parser.add_argument("new", metavar="NEW")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--size", type=float, default=1.0, help="GiB")
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--file", action="store_true", help="into a file in tmpfs, not into memory")
    options = parser.parse_args(arguments)
    try:
        pythons = [python_of(options.old), python_of(options.new)]
    except Failed as reason:
        print(f"bench.compare: {reason}", file=sys.stderr)
        return 2
    with adopting():
        rounds = _measure(pythons, options)
    for metric in ("cpu", "wall"):
        old, new = ([getattr(pair[i], metric) for pair in rounds] for i in (0, 1))
        ratios = [b / a for a, b in zip(old, new, strict=True)]
        low, high = interval(ratios)
        shown = "" if low <= 1 <= high else "  (differs)"
        before, after = statistics.median(old), statistics.median(new)
        line = f"{before:.3f} -> {after:.3f} s, ratio {statistics.median(ratios):.3f} [{low:.3f}, {high:.3f}]"
        print(f"{metric:4}  {line}{shown}")
    return 0


def interval(ratios: list[float], draws: int = 10_000, seed: int = 1) -> tuple[float, float]:
    """The middle 95 % of the medians of samples drawn from these, with replacement."""
    source = random.Random(seed)
    medians = sorted(statistics.median(source.choices(ratios, k=len(ratios))) for _ in range(draws))
    return medians[int(draws * 0.025)], medians[int(draws * 0.975) - 1]


def python_of(build: str) -> str:
    """The Python that has this build: it is one, or a revision that is built if need be."""
    if os.access(build, os.X_OK) and Path(build).is_file():
        return str(Path(build).absolute())
    git = ["git", "rev-parse", "--verify", "--quiet", f"{build}^{{commit}}"]
    commit = subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    if not commit:
        raise Failed(f"{build} is neither a Python nor a revision")
    place = BUILDS / commit[:12]
    python = place / "venv" / "bin" / "python"
    if not (place / "built").exists():
        print(f"building {build} into {place.relative_to(ROOT)}", file=sys.stderr)
        _build(commit, place, python)
        (place / "built").touch()
    return str(python)


def _build(commit: str, place: Path, python: Path) -> None:
    """An environment of its own that borrows the build's tools from ours, but not our parpull."""
    source = place / "source"
    source.mkdir(parents=True, exist_ok=True)
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(source, filter="data")
    subprocess.run([sys.executable, "-m", "venv", "--clear", "--without-pip", place / "venv"], check=True)
    where = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    Path(where, "tools.pth").write_text(sysconfig.get_path("purelib") + "\n")
    install = "-m pip install -q --no-build-isolation --no-deps --ignore-installed".split()
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        [python, *install, source], capture_output=True, text=True, check=False, env={**os.environ, "PATH": path}
    )
    if done.returncode:
        raise Failed(f"{commit[:12]} does not build: {(done.stderr.strip().splitlines() or ['?'])[-1]}")


def _measure(pythons: list[str], options: argparse.Namespace) -> list[tuple[Usage, Usage]]:
    sized = Scenario("compare", "", MEMORY, {}, {})
    rounds = []
    with harness.scratch() as place:
        object_ = make(place, sized, options.size)
        affinity = os.sched_getaffinity(0)
        harness.pin(0)
        with Stage(place, TLS if options.tls else PLAIN, options.connections) as stage:
            harness.pin(1)
            for number in range(options.rounds + 1):
                pair: dict[int, Usage] = {}
                for which in (0, 1) if number % 2 else (1, 0):
                    with tempfile.TemporaryDirectory(dir=place) as folder:
                        out = f"{folder}/object" if options.file else ""
                        url = stage.url(object_.names[0], object_.size)
                        # -P: not the package of this tree.
                        command = [pythons[which], "-P", "-c", CLIENT, url, str(options.connections), out]
                        warm_up(object_.size)
                        usage, said = cost([*command, stage.ca_file or ""], Setting(stage.processes))
                        if int(said) != object_.size:
                            raise Failed(f"{said.strip()} of {object_.size} bytes")
                        pair[which] = usage
                if number:
                    rounds.append((pair[0], pair[1]))
                    print(f"round {number}: cpu {pair[0].cpu:.3f} {pair[1].cpu:.3f}", file=sys.stderr, flush=True)
        os.sched_setaffinity(0, affinity)
    return rounds


if __name__ == "__main__":
    sys.exit(main())
