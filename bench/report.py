"""Figures made of runs: medians, ratios of one turn, targets; tables to read, a document to keep.

CPU figures are seconds a GiB. A ratio divides two runs of the same turn; its median over turns is
what counts, with the extremes beside it, for one figure from a shared machine says nothing.
"""

from __future__ import annotations

import json
import os
import statistics
from typing import TYPE_CHECKING, Any

from bench import own
from bench.measure import GIB, machine
from bench.rivals import PARPULL
from bench.scenarios import ANY, NO_THIEF, NOTHING, PYTHON, SCENARIOS, STDOUT, TINY, Scenario, Target, Variant, named
from bench.store import Cell, Store

if TYPE_CHECKING:
    from bench.measure import Usage
    from bench.rivals import Rival

# Above this share of the machine, what others did may well be what was measured.
_DOUBTFUL = 0.1
_UNITS = {"cpu": "CPU s/GiB", "wall": "wall s", "first": "first byte s", "rss": "RSS MiB"}


def figure(metric: str, by_size: dict[float, Usage]) -> float:
    """Of one run: the slope of CPU where there are two sizes, else what the largest size cost."""
    small, large = by_size[min(by_size)], by_size[max(by_size)]
    gib, apart = max(by_size), max(by_size) - min(by_size)
    if metric == "cpu":
        return (large.cpu - small.cpu) / apart if apart else large.cpu / (gib or 1)
    if metric == "busy":
        return (large.busy - large.server) / (gib or 1)
    if metric == "first":
        return large.first if large.first is not None else float("nan")
    return large.rss_mib if metric == "rss" else large.wall


class Card:
    """All that a file of runs says."""

    def __init__(self, store: Store, rivals: list[Rival], scale: str) -> None:
        self.store, self.scale = store, scale
        self._rivals = {rival.name: rival for rival in rivals}

    def figures(self, cell: Cell, metric: str) -> dict[str, float]:
        """By turn."""
        return {run.turn: figure(metric, run.by_size) for run in self.store.runs(cell)}

    def ratios(self, ours: Cell, theirs: Cell, metric: str) -> list[float]:
        """Ours over theirs, in the turns that both had."""
        a, b = self.figures(ours, metric), self.figures(theirs, metric)
        return [a[turn] / b[turn] for turn in a if b.get(turn)]

    def cells(self, scenario: str, variant: str) -> list[Cell]:
        """In the order of numbers of connections, then as the rivals are listed."""
        place = {name: at for at, name in enumerate(self._rivals)}
        cells = [c for c in self.store.cells() if (c.scenario, c.variant) == (scenario, variant)]
        return sorted(cells, key=lambda c: (c.connections or 0, place.get(c.rival, 999)))

    def failures(self, names: str = "") -> bool:
        """Whether anyone failed in these scenarios."""
        chosen = {scenario.name for scenario in named(names)}
        return any(c.scenario in chosen and self.store.trouble(c).startswith("failed") for c in self.store.cells())

    def markdown(self, names: str = "") -> str:
        """A table a scenario, its targets below it."""
        parts = ["# Scorecard", self._about()]
        for scenario in named(names):
            if any(c.scenario == scenario.name for c in self.store.cells()):
                parts.append(self._scenario(scenario))
        return "\n\n".join(parts) + "\n"

    def json(self) -> str:
        """Summaries, targets, sessions: what a machine would look for."""
        cells = []
        for scenario in SCENARIOS:
            for variant in scenario.variants:
                cells += [self._summary(scenario, variant, c) for c in self.cells(scenario.name, variant.name)]
        targets = [said for scenario in SCENARIOS for said in self._targets(scenario)]
        document = {"scale": self.scale, "sessions": self.store.sessions, "cells": cells, "targets": targets}
        return json.dumps(document, indent=1, allow_nan=False) + "\n"

    def _about(self) -> str:
        last = self.store.sessions[-1] if self.store.sessions else {}
        m = last.get("machine", machine())
        revisions = list(dict.fromkeys(s["revision"] for s in self.store.sessions))
        where = f"{m['cores']} cores ({m['cpu']}), {m['memory_gib']} GiB, Linux {m['kernel']}, loopback"
        pinned = "; server on core 0, client on core 1" if last.get("pinned") else ""
        absent = "\n".join(f"- {name}: {why}" for name, why in last.get("absent", {}).items())
        text = f"Scale *{self.scale}*, {where}{pinned}. Revision {', '.join(revisions) or 'unknown'}."
        text += " Medians (extremes) over rounds in which all took turns; ratios are of the same round."
        return text + (f"\n\nNot here:\n{absent}" if absent else "")

    def _scenario(self, scenario: Scenario) -> str:
        parts = [f"## {scenario.name}\n\n{scenario.about}"]
        for variant in scenario.variants:
            cells = self.cells(scenario.name, variant.name)
            if variant.missing:
                parts.append(f"{variant.name}: not measured: {variant.missing}")
            elif cells:
                parts.append(self._table(scenario, variant, cells))
        said = [f"- {target['text']}" for target in self._targets(scenario)]
        return "\n\n".join([*parts, *(["\n".join(said)] if said else [])])

    def _table(self, scenario: Scenario, variant: Variant, cells: list[Cell]) -> str:
        piped = scenario.destination == STDOUT
        last = "first byte s" if piped else "busy s/GiB"
        heads = ["tool", "connections", "CPU s/GiB", "x floor", "parpull's CPU / its", "wall s", "parpull's wall / its"]
        heads += [last, "server s", "RSS MiB", "foreign", "rounds"]
        rows = [" | ".join(heads), " | ".join(["---"] * len(heads))]
        rows += [" | ".join(self._row(scenario, variant, cell)) for cell in cells if self.store.runs(cell)]
        text = f"**{variant.name}**\n\n" + "\n".join(f"| {row} |" for row in rows)
        reasons: dict[str, list[str]] = {}
        for cell in cells:
            if why := self.store.trouble(cell):
                reasons.setdefault(why, []).append(f"{cell.rival} x{cell.connections or '-'}")
        notes = [f"- {', '.join(who)}: {why}" for why, who in reasons.items()]
        notes += [
            f"- {name}: {remark}"
            for name in dict.fromkeys(cell.rival for cell in cells)
            if (remark := self._rivals[name].remark if name in self._rivals else "")
        ]
        if any(self._foreign(cell) > _DOUBTFUL for cell in cells) and scenario.destination != "disk":
            notes.append(f"- others had over {_DOUBTFUL:.0%} of the machine in some runs: distrust, run it again")
        return text + ("\n\n" + "\n".join(notes) if notes else "")

    def _row(self, scenario: Scenario, variant: Variant, cell: Cell) -> list[str]:
        runs = [run.by_size[max(run.by_size)] for run in self.store.runs(cell)]
        floor = self._partner(cell, own.floor_of(scenario.destination, variant.tls))
        ours = self._partner(cell, self._ours(scenario))
        nothing = scenario.destination == NOTHING
        return [
            cell.rival,
            str(cell.connections or "-"),
            _cell(list(self.figures(cell, "cpu").values()), 3 if nothing else 2),
            _cell(self.ratios(cell, floor, "cpu")),
            _cell(self.ratios(ours, cell, "cpu")),
            _cell(list(self.figures(cell, "wall").values()), 3),
            _cell(self.ratios(ours, cell, "wall")),
            _cell(list(self.figures(cell, "first" if scenario.destination == STDOUT else "busy").values()), 3),
            f"{statistics.median(u.server for u in runs):.2f}",
            f"{statistics.median(u.rss_mib for u in runs):.0f}",
            f"{self._foreign(cell):.0%}",
            str(len(runs)) + (f", left {max(u.left for u in runs)} processes" if any(u.left for u in runs) else ""),
        ]

    def _partner(self, cell: Cell, name: str) -> Cell:
        return Cell(cell.scenario, cell.variant, name, cell.connections)

    @staticmethod
    def _ours(scenario: Scenario) -> str:
        if scenario.destination == NOTHING:
            return "start: parpull --version"
        return "parpull-cat" if scenario.destination == STDOUT else PARPULL

    def _foreign(self, cell: Cell) -> float:
        """The share of the machine that others had while this cell ran."""
        usages = [usage for run in self.store.runs(cell) for usage in run.by_size.values()]
        wall = sum(u.wall for u in usages) * (os.cpu_count() or 1)
        return sum(u.foreign for u in usages) / wall if wall else 0.0

    def _summary(self, scenario: Scenario, variant: Variant, cell: Cell) -> dict[str, Any]:
        floor = self._partner(cell, own.floor_of(scenario.destination, variant.tls))
        found: dict[str, Any] = {
            "scenario": cell.scenario,
            "variant": cell.variant,
            "rival": cell.rival,
            "connections": cell.connections,
            "command": self.store.commands.get(cell, ""),
            "trouble": self.store.trouble(cell),
        }
        if self.store.runs(cell):
            for metric in ("cpu", "wall", "busy", "rss", "first"):
                values = [x for x in self.figures(cell, metric).values() if x == x]
                found[metric] = spread(values)
            found["x_floor"] = spread(self.ratios(cell, floor, "cpu"))
            found["foreign_share"] = round(self._foreign(cell), 4)
        return found

    def _targets(self, scenario: Scenario) -> list[dict[str, Any]]:
        """Each target of the scenario at each number of connections, with what was found."""
        said: list[dict[str, Any]] = []
        for target in scenario.targets if self.scale != TINY else ():  # there start-up is all
            for count in target.connections:
                ours = Cell(scenario.name, target.variant, PARPULL, count)
                if self.store.runs(ours):
                    said.append(self._verdict(scenario, target, ours))
        return said

    def _verdict(self, scenario: Scenario, target: Target, ours: Cell) -> dict[str, Any]:
        worst, against = self._worst(scenario, target, ours)
        what = f"{target.variant} x{ours.connections or '-'}: {_UNITS[target.metric]} at most {target.most:.2f} x"
        head = f"{what} {target.against}"
        found: dict[str, Any] = {"scenario": scenario.name, "target": head, "most": target.most, "found": worst}
        if worst is None:
            return found | {"held": None, "text": f"{head}: not measured"}
        held = worst <= target.most
        by = "held" if held else f"MISSED by {worst / target.most - 1:.0%}"
        return found | {"held": held, "against": against, "text": f"{head}: {worst:.2f} ({against}): {by}"}

    def _worst(self, scenario: Scenario, target: Target, ours: Cell) -> tuple[float | None, str]:
        """The largest median ratio among those that the target speaks of, and whose it is."""
        if target.pace:
            allowed = allowed_seconds(scenario, target.variant, ours.connections, self.store)
            walls = list(self.figures(ours, target.metric).values())
            return (statistics.median(walls) / allowed, f"{allowed:.2f} s") if allowed else (None, "")
        found = []
        for cell in self.cells(scenario.name, target.variant):
            same = target.best_of_counts and cell.connections is not None
            if (cell.connections == ours.connections or same) and self._speaks_of(target.against, cell):
                ratios = self.ratios(ours, cell, target.metric)
                if ratios:
                    found.append((statistics.median(ratios), f"{cell.rival} x{cell.connections or '-'}"))
        return max(found) if found else (None, "")

    def _speaks_of(self, against: str, cell: Cell) -> bool:
        if cell.rival.startswith(("floor", "parpull")):
            return cell.rival == against
        rival = self._rivals.get(cell.rival)
        if against == NO_THIEF:
            return rival is None or not rival.steals
        if against == PYTHON:
            return "python -m " in self.store.commands.get(cell, "")
        return against in (ANY, cell.rival)


def allowed_seconds(scenario: Scenario, variant: str, connections: int | None, store: Store) -> float | None:
    """What the pacing of the server lets the largest object take at least."""
    found = next((v for v in scenario.variants if v.name == variant), None)
    runs = store.runs(Cell(scenario.name, variant, PARPULL, connections))
    pace = found.paced(connections) if found else None
    if pace is None or connections is None or not runs:
        return None
    return max(runs[0].by_size) * GIB / (pace * connections)


def spread(values: list[float]) -> dict[str, float] | None:
    """Median and extremes."""
    if not values:
        return None
    figures = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return {name: round(x, 4) for name, x in figures.items()}


def _cell(values: list[float], digits: int = 2) -> str:
    values = [x for x in values if x == x]
    if not values:
        return ""
    middle = f"{statistics.median(values):.{digits}f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):.{digits}f}..{max(values):.{digits}f})"
