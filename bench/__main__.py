"""The scorecard: parpull beside floors and rivals, scenario by scenario.

`python -m bench` (minutes), `python -m bench --full` (hours; goes on where it was interrupted).
Runs are kept in `bench/results/scorecard-short.jsonl` or `-full.jsonl`; the tables, the JSON and
the plots are made of that file. See bench/README.md.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path

from bench import harness, own, plots, report
from bench.measure import ROOT, Failed, adopting, foreign_share, machine, revision
from bench.scenarios import FULL, SHORT, TINY, named
from bench.store import Store, forget
from tests.servers.fetch import Unavailable

RESULTS = ROOT / "bench" / "results"
BUSY = 0.10
# What a short run has beside the floors and parpull: one of each kind.
SHORT_ONLY = "pycurl,recv-into,forked-curl,curl,curl-parallel,aria2,axel,parpull-cat,curl-pipe"


def main(arguments: list[str] | None = None) -> int:
    """Measure what is asked for and not known yet; print tables; exit 1 if anyone failed."""
    options = _options(arguments)
    scale = options.scale or (FULL if options.full else SHORT)
    only = [name for name in (options.only or (SHORT_ONLY if scale == SHORT else "")).split(",") if name]
    path = options.results / f"scorecard-{scale}.jsonl"
    # As if by Ctrl-C: what was started and written is cleared away.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        scenarios = named(options.scenario)
        if options.report:
            return _tell(Store(path), options, scale)
        _refuse_busy(options.force)
        if options.again:
            for scenario in scenarios:
                forget(path, scenario.name, [name for name in options.only.split(",") if name])
        store = Store(path)
        plan = harness.Plan(
            scale,
            options.rounds,
            only,
            [int(n) for n in options.connections.split(",") if n],
            options.python,
            options.openssl,
            options.disk,
            rivals=own.everyone(options.openssl),
        )
        absent = harness.meet(plan)
        wrong = {name for name in options.only.split(",") if name} - {rival.name for rival in plan.rivals}
        if wrong:
            raise ValueError(f"no rival {', '.join(sorted(wrong))}")
        store.session(_facts(plan, options, absent))
        affinity = os.sched_getaffinity(0)
        with adopting():
            for scenario in scenarios:
                try:
                    harness.measure(scenario, plan, store)
                except (Failed, Unavailable) as reason:
                    print(f"{scenario.name} is left out: {reason}", file=sys.stderr)
                finally:
                    os.sched_setaffinity(0, affinity)
    except (ValueError, Failed) as problem:
        print(f"bench: {problem}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("bench: interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGTERM, before)
    return _tell(store, options, scale)


def _tell(store: Store, options: argparse.Namespace, scale: str) -> int:
    card = report.Card(store, own.everyone(options.openssl), scale)
    text = card.markdown(options.scenario)
    print(text)
    options.results.mkdir(parents=True, exist_ok=True)
    (options.results / f"scorecard-{scale}.md").write_text(card.markdown(""))
    (options.results / f"scorecard-{scale}.json").write_text(card.json())
    if options.plots:
        print(plots.draw(card, options.results), file=sys.stderr)
    return int(card.failures(options.scenario))


def _refuse_busy(force: bool) -> None:
    share = foreign_share()
    if share > BUSY and not force:
        raise Failed(f"others have {share:.0%} of this machine; figures would be theirs. --force measures all the same")
    if share > BUSY:
        print(f"bench: others have {share:.0%} of this machine", file=sys.stderr)


def _facts(plan: harness.Plan, options: argparse.Namespace, absent: dict[str, str]) -> dict[str, object]:
    given = {name: str(value) for name, value in vars(options).items() if name in ("scenario", "only", "rounds")}
    return {
        "date": time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
        "revision": revision(),
        "machine": machine(),
        "pinned": (os.cpu_count() or 1) > 1,
        "options": given | {"wheel": options.python != sys.executable, "static_openssl": bool(options.openssl)},
        "versions": plan.versions,
        "absent": absent,
    }


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="all rivals, all numbers of connections, 7 rounds: hours")
    parser.add_argument("--scale", choices=[TINY, SHORT, FULL], default="", help="tiny: does it work at all?")
    parser.add_argument("--scenario", default="", help="comma-separated (default: all)")
    parser.add_argument("--only", default="", help="rivals, comma-separated; the floor and parpull play along")
    parser.add_argument("--rounds", type=int, default=0, help="counted rounds of each cell (3; full: 7)")
    parser.add_argument("--connections", default="", help="instead of the scenario's own numbers, e.g. 1,8")
    parser.add_argument("--again", action="store_true", help="forget what is known of these scenarios and rivals")
    parser.add_argument("--force", action="store_true", help="also on a busy machine")
    parser.add_argument("--report", action="store_true", help="measure nothing, tell what is known")
    parser.add_argument("--plots", action="store_true", help="draw, too (pip install --group bench)")
    parser.add_argument("--python", default=sys.executable, help="the Python whose parpull is measured: a wheel's")
    parser.add_argument("--openssl", default="", help="prefix of a static OpenSSL for the floor of TLS")
    parser.add_argument("--disk", type=Path, default=own.BUILD, help="a folder on the disk to measure")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the runs are kept")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
