"""Plots that a person would look at, from what the scorecard knows: SVG, and PNG to look at.

matplotlib belongs to the group `bench` and is imported here only.
"""

from __future__ import annotations

import importlib
import statistics
from typing import TYPE_CHECKING, Any

from bench.rivals import PARPULL
from bench.scenarios import SCENARIOS

if TYPE_CHECKING:
    from pathlib import Path

    from bench.report import Card
    from bench.store import Cell

LINES = ("#2563eb", "#059669", "#7c3aed", "#0891b2", "#db2777", "#65a30d", "#475569", "#1e3a8a", "#a16207", "#94a3b8")
OURS, FLOOR, OTHER = "#c2410c", "#6b7280", "#2563eb"


def draw(card: Card, folder: Path) -> str:
    """All plots there is data for; returns which, or why none."""
    try:
        matplotlib: Any = importlib.import_module("matplotlib")
        matplotlib.use("Agg")
        plt: Any = importlib.import_module("matplotlib.pyplot")
    except ImportError:
        return "no plots: matplotlib is not installed (pip install --group bench)"
    plt.rcParams.update({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "0"})
    plt.rcParams["axes.prop_cycle"] = plt.cycler(color=LINES)
    made = []
    for name, plot in (("cpu", _cpu), ("connections", _connections), ("slow-connection", _slow), ("time-line", _line)):
        figure = plot(card, plt)
        if figure is not None:
            for kind in ("svg", "png"):
                figure.savefig(folder / f"{name}.{kind}", bbox_inches="tight", dpi=110)
            plt.close(figure)
            made.append(name)
    return f"plots: {', '.join(made) or 'none, nothing to draw'}"


def _colour(name: str) -> str:
    return FLOOR if name.startswith("floor") else OURS if name.startswith("parpull") else OTHER


def _cpu(card: Card, plt: Any) -> Any:
    """CPU seconds a GiB by tool, a panel a destination."""
    wanted = [("memory", "plain"), ("memory", "tls"), ("tmpfs", "plain"), ("disk", "plain")]
    panels = [(what, bars) for what in wanted if (bars := _bars(card, *what, "cpu", 8))]
    if not panels:
        return None
    height = sum(len(bars) * 0.3 + 0.9 for _, bars in panels)
    ratios = [len(bars) + 2 for _, bars in panels]
    figure, axes = plt.subplots(len(panels), 1, figsize=(8, height), height_ratios=ratios, squeeze=False)
    for axis, (what, bars) in zip(axes[:, 0], panels, strict=True):
        _horizontal(axis, bars, f"{what[0]}, {what[1]}, 8 connections: CPU s/GiB, less is better")
    figure.tight_layout()
    return figure


def _slow(card: Card, plt: Any) -> Any:
    """Wall of one slow connection of 16 over a clean run's."""
    slow = {cell.rival: cell for cell in card.cells("slow-connection", "slow")}
    clean = {cell.rival: cell for cell in card.cells("slow-connection", "clean")}
    bars = []
    for name in slow.keys() & clean.keys():
        bad, good = (card.figures(cells[name], "wall").values() for cells in (slow, clean))
        if bad and good:
            best = statistics.median(good)
            bars.append((name, statistics.median(bad) / best, min(bad) / best, max(bad) / best))
    if not bars:
        return None
    bars.sort(key=lambda bar: bar[1])
    figure, axis = plt.subplots(figsize=(8, len(bars) * 0.3 + 1))
    _horizontal(axis, bars, "16 connections, one at a tenth: wall over that of a clean run")
    axis.axvline(1, color=FLOOR, linewidth=1, linestyle=":")
    return figure


def _connections(card: Card, plt: Any) -> Any:
    """Wall against connections, where each is paced, with what pacing allows."""
    scenario = next(s for s in SCENARIOS if s.name == "founding")
    figure, axes = plt.subplots(1, len(scenario.variants), figsize=(11, 4.2), sharey=True)
    drawn = False
    for axis, variant in zip(axes, scenario.variants, strict=True):
        lines: dict[str, list[tuple[int, float]]] = {}
        for cell in card.cells("founding", variant.name):
            if cell.connections and (values := card.figures(cell, "wall")):
                lines.setdefault(cell.rival, []).append((cell.connections, statistics.median(values.values())))
        drawn |= bool(lines)
        for name, points in lines.items():
            style = {"linewidth": 2.5, "color": OURS, "zorder": 3} if name == PARPULL else {"linewidth": 1.2}
            axis.plot(*zip(*points, strict=True), marker="o", markersize=4, label=name, **style)
        if variant.pace:
            _allowed(card, axis, variant, lines)
        axis.set_xscale("log", base=2)
        axis.set_yscale("log")
        counts = sorted({n for points in lines.values() for n, _ in points})
        axis.set_xticks(counts, [str(n) for n in counts])
        for which in (axis.yaxis.set_major_formatter, axis.yaxis.set_minor_formatter):
            which(lambda seconds, _: f"{seconds:g}")
        axis.set_title(variant.name, loc="left", fontsize=10)
        axis.set_xlabel("connections")
    axes[0].set_ylabel("wall s, log")
    if not drawn:
        plt.close(figure)
        return None
    axes[-1].legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=8)
    return figure


def _allowed(card: Card, axis: Any, variant: Any, lines: dict[str, list[tuple[int, float]]]) -> None:
    cells = [c for c in card.cells("founding", variant.name) if c.connections and card.store.runs(c)]
    if cells:
        gib = max(card.store.runs(cells[0])[0].by_size)
        counts = sorted({n for points in lines.values() for n, _ in points})
        allowed = [gib * 2**30 / (variant.paced(n) * n) for n in counts]
        axis.plot(counts, allowed, color="black", linestyle=":", label="what pacing allows")
        axis.legend(frameon=False, fontsize=8)


def _line(card: Card, plt: Any) -> Any:
    """MB/s over time, of one run a tool: the slow connection."""
    picked = [c for c in card.cells("slow-connection", "slow") if card.store.runs(c)]
    figure, axis = plt.subplots(figsize=(9, 4))
    drawn = False
    for cell in picked:
        points = _rates(card, cell)
        drawn |= bool(points)
        if points:
            style = {"linewidth": 2.5, "color": OURS, "zorder": 3} if cell.rival == PARPULL else {"linewidth": 1.2}
            axis.plot(*zip(*points, strict=True), label=cell.rival, **style)
    if not drawn:
        plt.close(figure)
        return None
    axis.set_title("16 connections of 12 MB/s, one at a tenth", loc="left", fontsize=10)
    axis.set_xlabel("seconds since the start of the process")
    axis.set_ylabel("MB/s at the client")
    axis.set_ylim(bottom=0)
    axis.legend(frameon=False, fontsize=8)
    return figure


def _rates(card: Card, cell: Cell, over: int = 6) -> list[tuple[float, float]]:
    """Of the median run by wall: rates over so many samples."""
    runs = sorted((run.by_size[max(run.by_size)] for run in card.store.runs(cell)), key=lambda u: u.wall)
    line = ((0.0, 0), *runs[len(runs) // 2].line)
    return [
        (now[0], (now[1] - then[1]) / (now[0] - then[0]) / 1e6)
        for then, now in zip(line, line[over:], strict=False)
        if now[0] > then[0]
    ]


def _bars(card: Card, scenario: str, variant: str, metric: str, count: int) -> list[tuple[str, float, float, float]]:
    bars = []
    for cell in card.cells(scenario, variant):
        values = list(card.figures(cell, metric).values()) if cell.connections == count else []
        if values:
            bars.append((cell.rival, statistics.median(values), min(values), max(values)))
    return sorted(bars, key=lambda bar: bar[1])


def _horizontal(axis: Any, bars: list[tuple[str, float, float, float]], title: str) -> None:
    names = [bar[0] for bar in bars]
    middle = [bar[1] for bar in bars]
    error = [[bar[1] - bar[2] for bar in bars], [bar[3] - bar[1] for bar in bars]]
    axis.barh(names, middle, color=[_colour(name) for name in names], xerr=error, ecolor="#111827", capsize=2)
    for at, bar in enumerate(bars):
        axis.text(bar[3], at, f"  {bar[1]:.2f}", va="center", fontsize=8)
    axis.invert_yaxis()
    axis.set_title(title, loc="left", fontsize=10)
