"""What was measured, line by line, so that an interrupted benchmark goes on where it was.

One JSON object a line, appended as soon as it is known. A *cell* is scenario, variant, rival and
number of connections; a *turn* is one round of a field, in which rivals took turns: only runs of
one turn are compared with each other. A torn last line is dropped.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from bench.measure import Usage

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Cell:
    """One row of one table."""

    scenario: str
    variant: str
    rival: str
    connections: int | None


@dataclass(frozen=True)
class Run:
    """One rival's share of a turn, by size in GiB."""

    turn: str
    by_size: dict[float, Usage]


class Store:
    """The lines of one file, read once and appended to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sessions: list[dict[str, Any]] = []
        self.commands: dict[Cell, str] = {}
        self._runs: dict[Cell, list[Run]] = defaultdict(list)
        self._trouble: dict[Cell, str] = {}
        self.whole = True
        """Whether the file ends with a line's end."""
        if path.exists():
            text = path.read_text()
            self.whole = text.endswith("\n") or not text
            for line in text.splitlines():
                try:
                    self._take(json.loads(line))
                except (ValueError, KeyError, TypeError):
                    continue

    def cells(self) -> list[Cell]:
        """All that anything is known of, in the order of its first appearance."""
        return list(dict.fromkeys([*self._runs, *self._trouble]))

    def runs(self, cell: Cell) -> list[Run]:
        """In the order they were made."""
        return list(self._runs.get(cell, ()))

    def trouble(self, cell: Cell) -> str:
        """Why it is not measured, or not to the end; empty if it is."""
        return self._trouble.get(cell, "")

    def finished(self, cell: Cell, rounds: int) -> bool:
        """A failure is a result; that something is not installed is none."""
        trouble = self.trouble(cell)
        return len(self.runs(cell)) >= rounds or (bool(trouble) and not trouble.startswith("skipped"))

    def session(self, facts: dict[str, Any]) -> None:
        """Machine, versions and options: what the lines after it were measured with."""
        self._write({"session": facts})

    def add(self, cell: Cell, turn: str, by_size: dict[float, Usage], command: str) -> None:
        """One run."""
        usages = {f"{gib:g}": _plain(usage) for gib, usage in by_size.items()}
        self._write({"cell": asdict(cell), "turn": turn, "runs": usages, "command": command})

    def fail(self, cell: Cell, why: str) -> None:
        """It is out, with the reason."""
        self._write({"cell": asdict(cell), "trouble": why})

    def _write(self, line: dict[str, Any]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write("" if self.whole else "\n")
            file.write(json.dumps(line) + "\n")
        self.whole = True
        self._take(json.loads(json.dumps(line)))

    def _take(self, line: dict[str, Any]) -> None:
        if "session" in line:
            self.sessions.append(line["session"])
            return
        cell = Cell(**line["cell"])
        if "trouble" in line:
            self._trouble[cell] = str(line["trouble"])
            return
        by_size = {float(gib): _usage(figures) for gib, figures in line["runs"].items()}
        self._runs[cell].append(Run(line["turn"], by_size))
        self.commands[cell] = line["command"]
        if self._trouble.get(cell, "").startswith("skipped"):
            del self._trouble[cell]


def forget(path: Path, scenario: str, rivals: list[str]) -> None:
    """Drop what the file knows of these rivals (of all, without any); it is written anew."""

    def drops(line: str) -> bool:
        try:
            cell = json.loads(line).get("cell", {})
        except ValueError:
            return True
        return cell.get("scenario") == scenario and (not rivals or cell.get("rival") in rivals)

    if path.exists():
        kept = [line for line in path.read_text().splitlines() if not drops(line)]
        fresh = path.with_suffix(".new")
        fresh.write_text("".join(f"{line}\n" for line in kept))
        fresh.replace(path)


def _plain(usage: Usage) -> dict[str, Any]:
    figures = {name: round(x, 4) if isinstance(x, float) else x for name, x in asdict(usage).items()}
    return {name: x for name, x in figures.items() if x not in (None, ())}


def _usage(figures: dict[str, Any]) -> Usage:
    line = tuple((float(t), int(n)) for t, n in figures.pop("line", ()))
    return Usage(**figures, line=line)
