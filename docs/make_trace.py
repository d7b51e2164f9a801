"""Make docs/trace.svg, the picture in docs/tracing.md, from a trace.

    parpull --trace run.json URL
    python docs/make_trace.py run.json                writes docs/trace.svg
    python docs/make_trace.py run.json - [NUMBER]     prints it; of the object of that number

A lane per connection, its requests coloured by what became of them, marks where
something happened; the object's own events above, goodput and connections below.
Reads what a killed run has left, too.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

__all__ = ["PICTURE", "picture", "read"]

PICTURE = Path(__file__).with_name("trace.svg")
WIDTH, LEFT, RIGHT, TOP = 960, 118, 16, 16
LANE, BAR = 24, 16  # height of a lane, and of what is in it
LABEL = 15  # height of a line of the object's events
CHART, GAP = 54, 14
LEAST = 0.4  # pixels; what is narrower is not drawn
# The state of a slice, its colour on white and on black, and what it is called.
STATES = (
    ("wait", "#d9b64a", "#b8942e", "waiting for the first byte"),
    ("body", "#3b7dd8", "#4f8fe6", "body"),
    ("hedged", "#e0812b", "#e88f3f", "given up: too slow"),
    ("stalled", "#8e5bc0", "#a678d6", "stalled"),
    ("failed", "#d0433b", "#e2605a", "failed, refused"),
    ("cut", "#9aa0a6", "#7d848b", "brought to no end"),
)
MARKS = (("stolen", "s", "stolen from"), ("hedged", "h", "hedged"), ("stalled", "!", "stalled"),
         ("failed", "×", "failed"), ("refused", "–", "refused"))  # fmt: skip
INK, PAPER, FAINT = ("#22262b", "#e6e8ea"), ("#ffffff", "#1e2129"), ("#d8dce0", "#3a3f48")


def read(text: str) -> list[dict[str, Any]]:
    """The entries of a trace, also of one whose end is missing."""
    try:
        return list(json.loads(text))
    except ValueError:
        whole = text[: text.rindex("}") + 1]
        return list(json.loads(whole + "]"))


def picture(entries: Iterable[dict[str, Any]], number: int | None = None) -> str:
    """The SVG of one object: the first, or the one of this number."""
    entries = list(entries)
    pid = number if number is not None else next(e["pid"] for e in entries)
    return _Picture([e for e in entries if e["pid"] == pid]).draw()


class _Picture:
    def __init__(self, entries: list[dict[str, Any]]) -> None:
        named = {e["tid"]: e["args"]["name"] for e in entries if e["name"] == "thread_name"}
        self.url = next(e["args"]["name"] for e in entries if e["name"] == "process_name")
        self.object = min(named)
        self.lanes = {tid: named[tid] for tid in sorted(named) if tid != self.object}
        timed = [e for e in entries if "ts" in e]
        self.begin = min(e["ts"] for e in timed)
        self.end = max(self.begin + 1, *(e["ts"] + e.get("dur", 0) for e in timed))
        self.slices = [e for e in entries if e["ph"] == "X"] + self._open(timed)
        self.instants = sorted((e for e in entries if e["ph"] == "i"), key=lambda e: e["ts"])
        self.counters = [e for e in entries if e["ph"] == "C"]
        self.out: list[str] = []

    def _open(self, timed: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Requests that have no end, as slices up to the end of the trace."""
        begun: dict[int, dict[str, Any]] = {}
        for e in timed:
            if e["ph"] == "B" and e["tid"] in self.lanes:
                begun[e["tid"]] = e
            elif e["ph"] == "E":
                begun.pop(e["tid"], None)
        return [e | {"name": "cut", "dur": self.end - e["ts"]} for e in begun.values()]

    def x(self, ts: float) -> float:
        """Where a moment is."""
        return LEFT + (ts - self.begin) / (self.end - self.begin) * (WIDTH - LEFT - RIGHT)

    def text(self, x: float, y: float, text: str, **how: str) -> None:
        more = "".join(f" {name}={quoteattr(value)}" for name, value in how.items())
        self.out.append(f'<text x="{x:.1f}" y="{y:.1f}"{more}>{escape(text)}</text>')

    def draw(self) -> str:
        """From top to bottom."""
        y = float(TOP)
        self.text(LEFT, y + 4, self.url, style="font-weight:600")
        y = self._events(y + 14)
        top = y
        for tid, name in self.lanes.items():
            self._lane(tid, name, y)
            y += LANE
        for name, unit in (("goodput", "MB/s"), ("connections", "")):
            y = self._chart(name, unit, y + GAP)
        self._axis(top, y)
        y = self._legend(y + 40)
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y:.0f}" role="img" '
            f'font-family="system-ui, sans-serif" font-size="12">'
        )
        title = f"<title>{escape(f'Requests of {self.url} by connection, over time')}</title>"
        paper = f'<rect class="paper" width="{WIDTH}" height="{y:.0f}" rx="6"/>'
        return "\n".join([head, title, _style(), paper, *self.out, "</svg>", ""])

    def _events(self, y: float) -> float:
        """The object's own events: a tick, and a word in the first line that has room."""
        ends: list[float] = []
        placed = []
        for e in self.instants:
            if e["tid"] != self.object:
                continue
            x, word = self.x(e["ts"]), _word(e)
            width = 7 * len(word) + 12
            x0 = min(x, WIDTH - RIGHT - width)
            row = next((i for i, end in enumerate(ends) if end <= x0), len(ends))
            ends[row : row + 1] = [x0 + width]
            placed.append((x, x0, row, word))
        bottom = y + LABEL * len(ends) + 8
        self.text(LEFT - 10, y + 12, "object", style="text-anchor:end")
        for x, x0, row, word in placed:
            top = y + LABEL * row
            self.out.append(f'<path class="tick" d="M{x:.1f} {top:.1f}V{bottom:.1f}"/>')
            self.text(x0 + 4, top + 12, word)
        return bottom

    def _lane(self, tid: int, name: str, y: float) -> None:
        self.text(LEFT - 10, y + 16, name, style="text-anchor:end")
        self.out.append(f'<path class="rule" d="M{LEFT} {y + LANE:.0f}H{WIDTH - RIGHT}"/>')
        for e in self.slices:
            x, width = self.x(e["ts"]), self.x(e["ts"] + e["dur"]) - self.x(e["ts"])
            if e["tid"] == tid and width >= LEAST:
                self.out.append(
                    f'<rect class="{_state(e["name"])}" x="{x:.1f}" y="{y + 4:.0f}" '
                    f'width="{max(width - 0.6, LEAST):.1f}" height="{BAR}"/>'
                )
        for e in self.instants:
            if e["tid"] == tid:
                self._mark(self.x(e["ts"]), y + 4 + BAR / 2, e["name"])

    def _mark(self, x: float, y: float, name: str) -> None:
        letter = next((letter for what, letter, _ in MARKS if what == name), "?")
        self.out.append(f'<circle class="mark" cx="{x:.1f}" cy="{y:.1f}" r="7"/>')
        self.text(x, y + 4, letter, style="text-anchor:middle;font-weight:700")

    def _chart(self, name: str, unit: str, y: float) -> float:
        """A counter as steps; returns where it ends."""
        # The last value that was written for a moment is the one that counts.
        points = sorted({e["ts"]: next(iter(e["args"].values())) for e in self.counters if e["name"] == name}.items())
        if not points:
            return y - GAP
        most = max(value for _, value in points) or 1
        base = y + CHART
        path = f"M{self.x(points[0][0]):.1f} {base:.1f}"
        for ts, value in points:
            path += f"H{self.x(ts):.1f}V{base - value / most * (CHART - 6):.1f}"
        self.out.append(f'<path class="area" d="{path}H{self.x(self.end):.1f}V{base:.1f}Z"/>')
        self.out.append(f'<path class="rule" d="M{LEFT} {base:.1f}H{WIDTH - RIGHT}"/>')
        self.text(LEFT - 10, y + 14, name, style="text-anchor:end")
        self.text(LEFT - 10, y + 29, f"up to {most:.0f} {unit}".strip(), style="text-anchor:end;opacity:.7")
        return base

    def _axis(self, top: float, bottom: float) -> None:
        span = (self.end - self.begin) / 1e6
        step = next(s * 10.0**p for p in range(-6, 9) for s in (1, 2, 5) if span / (s * 10.0**p) <= 8)
        for i in range(int(span / step) + 1):
            x = self.x(self.begin + i * step * 1e6)
            self.out.insert(0, f'<path class="rule" d="M{x:.1f} {top:.1f}V{bottom:.1f}"/>')
            self.text(x, bottom + 16, f"{i * step:g} s", style="text-anchor:middle")

    def _legend(self, y: float) -> float:
        x = float(LEFT)
        drawn = {_state(e["name"]) for e in self.slices}
        for state, _, _, meaning in STATES:
            if state in drawn:
                self.out.append(f'<rect class="{state}" x="{x:.1f}" y="{y - 10:.1f}" width="14" height="12"/>')
                self.text(x + 20, y, meaning)
                x += 36 + 6.6 * len(meaning)
        x, y = float(LEFT), y + 22
        told = {e["name"] for e in self.instants}
        for what, _, meaning in MARKS:
            if what in told:
                self._mark(x + 7, y - 4, what)
                self.text(x + 20, y, meaning)
                x += 36 + 6.6 * len(meaning)
        return y + 16


def _word(event: dict[str, Any]) -> str:
    """An event of the object in few words."""
    name, args = event["name"], event.get("args", {})
    if name == "adapted":
        return f"{args['before']} → {args['after']} ({args['why']})"
    return str(name)


def _state(name: str) -> str:
    """The state that a slice is coloured by: how it ended counts more than what it was."""
    last = name.rpartition(": ")[2]
    return {"answered": "wait", "refused": "failed", "cancelled": "cut", "dropped": "cut"}.get(last, last)


def _style() -> str:
    def rules(i: int) -> str:
        lines = [f".{state}{{fill:{colours[i]}}}" for state, *colours, _ in STATES]
        lines += [f"text{{fill:{INK[i]}}}", f".paper{{fill:{PAPER[i]}}}", f".rule{{stroke:{FAINT[i]};fill:none}}"]
        lines += [f".tick{{stroke:{INK[i]};opacity:.5}}", f".mark{{fill:{PAPER[i]};stroke:{INK[i]};stroke-width:1.4}}"]
        return "".join([*lines, f".area{{fill:{STATES[1][1 + i]};opacity:.45}}"])

    return f"<style>{rules(0)}@media(prefers-color-scheme:dark){{{rules(1)}}}</style>"


if __name__ == "__main__":
    drawn = picture(read(Path(sys.argv[1]).read_text(encoding="utf-8")), *map(int, sys.argv[3:4]))
    if sys.argv[2:3] == ["-"]:
        sys.stdout.write(drawn)
    else:
        PICTURE.write_text(drawn, encoding="utf-8")
