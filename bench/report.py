"""Figures made of runs: slopes, ratios, spreads; a table to read, a document to keep.

CPU figures are seconds a GiB.  Every one is a median with its extremes, for one figure
from a shared machine says nothing.
"""

import argparse
import os
import statistics
import time
from dataclasses import asdict, dataclass, field

from bench.measure import Usage, machine, revision
from bench.rivals import FLOOR, PARPULL, Rival

TARGET = 1.15
# Above this share of the machine, what others did may well be what was measured.
_DOUBTFUL = 0.1
_HEADS = [
    "client",
    "to",
    "CPU s/GiB, slope",
    "x floor",
    "CPU s/GiB, whole",
    "GiB/s",
    "foreign",
]


@dataclass
class Row:
    """One rival and its runs, `runs[round][size in GiB]`.

    `trouble` says why there are none, or no more.
    """

    rival: Rival
    version: str = ""
    trouble: str = ""
    command: str = ""
    runs: list[dict[float, Usage]] = field(default_factory=list)

    def slopes(self) -> list[float]:
        return [_slope(run) for run in self.runs]

    def whole(self) -> list[float]:
        """CPU seconds a GiB of the whole process, at the largest size."""
        return [run[max(run)].cpu / max(run) for run in self.runs]

    def rates(self) -> list[float]:
        return [max(run) / run[max(run)].wall for run in self.runs]

    def ratios(self, floor: "Row") -> list[float]:
        return [a / b for a, b in zip(self.slopes(), floor.slopes(), strict=False)]


def _slope(run: dict[float, Usage]) -> float:
    """With a single size there is no slope: then the whole process stands for it."""
    small, large = min(run), max(run)
    if small == large:
        return run[large].cpu / large
    return (run[large].cpu - run[small].cpu) / (large - small)


def _spread(values: list[float]) -> dict[str, float]:
    figures = {"median": statistics.median(values), "min": min(values)}
    return {name: round(x, 4) for name, x in (figures | {"max": max(values)}).items()}


def _floor(rows: list[Row]) -> Row | None:
    return next((row for row in rows if row.rival.name == FLOOR and row.runs), None)


def _cell(values: list[float]) -> str:
    s = _spread(values)
    return f"{s['median']:.2f} ({s['min']:.2f}..{s['max']:.2f})"


def table(rows: list[Row]) -> str:
    floor = _floor(rows)
    lines = [_HEADS] + [_cells(row, floor) for row in rows]
    # The reason why a row is empty runs on to the right and widens no column.
    columns = [[c[i] for c in lines if i < 2 or len(c) > 3] for i in range(len(_HEADS))]
    widths = [max(map(len, column)) for column in columns]
    text = ["  ".join(map(str.ljust, cells, widths)).rstrip() for cells in lines]
    measured = [row for row in rows if row.runs]
    text += [f"{row.rival.name}: {row.trouble}" for row in measured if row.trouble]
    if any(_foreign(row) > _DOUBTFUL for row in measured):
        text += [f"note: others had over {_DOUBTFUL:.0%} of the machine; run it again"]
    return "\n".join(text)


def _cells(row: Row, floor: Row | None) -> list[str]:
    cells = [row.rival.name, row.rival.destination]
    if not row.runs:
        return [*cells, row.trouble]
    cells += [_cell(row.slopes()), _cell(row.ratios(floor)) if floor else "-"]
    cells += [_cell(row.whole()), f"{statistics.median(row.rates()):.2f}"]
    return [*cells, f"{_foreign(row):.0%}"]


def _foreign(row: Row) -> float:
    """The share of the machine that others had while this row ran."""
    usages = [usage for run in row.runs for usage in run.values()]
    cores = os.cpu_count() or 1
    return sum(u.foreign for u in usages) / (sum(u.wall for u in usages) * cores)


def verdict(rows: list[Row]) -> str:
    found = {row.rival.name: row for row in rows if row.runs}
    if FLOOR not in found or PARPULL not in found:
        return f"target: parpull <= {TARGET} x floor: not measured"
    ratio = statistics.median(found[PARPULL].ratios(found[FLOOR]))
    word = "met" if ratio <= TARGET else "MISSED"
    return f"target: parpull <= {TARGET} x floor: {word}, {ratio:.3f}"


def _plain(usage: Usage) -> dict[str, float]:
    return {name: round(value, 4) for name, value in asdict(usage).items()}


def document(rows: list[Row], server: str, options: argparse.Namespace) -> dict[str, object]:
    """All that is worth keeping, raw runs included."""
    floor = _floor(rows)
    clients: dict[str, object] = {}
    for row in rows:
        entry: dict[str, object] = {
            "destination": row.rival.destination,
            "version": row.version,
        }
        if row.trouble:
            entry["trouble"] = row.trouble
        if row.runs:
            entry["command"] = row.command
            entry["slope"] = _spread(row.slopes())
            entry["whole"] = _spread(row.whole())
            entry["ratio"] = _spread(row.ratios(floor)) if floor else None
            entry["foreign_share"] = round(_foreign(row), 4)
            entry["runs"] = [{f"{gib:g}": _plain(usage) for gib, usage in run.items()} for run in row.runs]
        clients[row.rival.name] = entry
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "revision": revision(),
        "machine": machine(),
        "pinned": (os.cpu_count() or 1) > 1,
        "server": server,
        "options": vars(options),
        "verdict": verdict(rows),
        "clients": clients,
    }
