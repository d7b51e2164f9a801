"""The bar on a terminal: a line for each object under way, and one for their sum.

What a line holds is decided here: columns leave one by one as the terminal gets
narrow, and lines as it gets low. The Screen draws them; what has ended scrolls away
above as a plain line.
"""

from __future__ import annotations

import os
import signal
import sys

from .display import Lines, Meter, Totals, time_left
from .screen import Screen
from .text import cell_len, clean, human_rate, human_size, pad, pair, plural

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

    from ..future import Progress
    from .outcome import Item
    from .screen import Run

__all__ = ["Bar", "bar_of", "foreground"]

FIRST = 0.3  # seconds without a bar: most fetches that short need none
WINDOW = 3.0  # seconds that the speed is taken over
LINGER = 1.0  # seconds that an object counts as at work, so that lines do not jump
MIN_NAME, MIN_BAR, MAX_BAR = 10, 8, 40
# In the order in which they get room. The name is always there.
COLUMNS = ("percent", "speed", "left", "bar", "sizes", "connections", "retries")
ORDER = ("bar", "percent", "sizes", "speed", "left", "connections", "retries")
LEAST = {"percent": 4, "speed": 10, "left": 5, "sizes": 8, "connections": 3}  # so that little moves
STYLES = {"sizes": "", "speed": "green", "left": "cyan", "connections": "dim", "retries": "yellow"}


class Row:
    """One line: a name and what stands in the columns, "" for nothing."""

    def __init__(self, name: str, *, total: bool = False) -> None:
        self.name = name
        self.total = total
        self.note = ""  # in place of all columns
        self.fraction: float | None = None
        self.cells: dict[str, str] = {}

    @classmethod
    def of(
        cls,
        name: str,
        *,
        landed: int,
        size: int | None,
        speed: float,
        connections: int,
        retries: int,
        total: bool = False,
    ) -> Row:
        """The line of something under way."""
        row = cls(name, total=total)
        row.fraction = None if size is None else landed / size if size else 1.0
        row.cells = {
            "percent": "" if row.fraction is None else f"{int(row.fraction * 100)}%",
            "sizes": human_size(landed) if size is None else pair(landed, size),
            "speed": human_rate(speed) if connections or speed else "",
            "left": time_left(landed, size, speed),
            "connections": f"×{connections}",
            "retries": plural(retries, "retry", "retries") if retries else "",
        }
        return row


class Bar(Lines):
    """Lines, with a bar below them that redraws."""

    period = 0.1

    def __init__(self, items: Sequence[Item], *, verbose: bool) -> None:
        super().__init__(items, verbose=verbose)
        self._totals = Totals(items, WINDOW)
        self._meters = {item.number: Meter(WINDOW) for item in items}
        self._worked: dict[int, float] = {}  # when each was last seen at work
        self._screen: Screen | None = None
        self._closed = False
        self._widths = dict(LEAST)
        self._shared = _alike([item.name for item in items])

    def line(self, text: str) -> None:
        """Print it above the bar."""
        if self._screen is None:
            super().line(text)
        else:
            self._screen.line(clean(text))

    def close(self) -> None:
        """Remove the bar, show the cursor."""
        self._closed = True
        self._hide()

    def _hide(self) -> None:
        screen, self._screen = self._screen, None
        if screen is not None:
            if signal.getsignal(signal.SIGTSTP) == self._suspend:
                signal.signal(signal.SIGTSTP, signal.SIG_DFL)
            if foreground():
                screen.clear()
            else:  # stopped by force and put in the background: what stands there is its user's
                screen.leave()

    def _tick(self, now: float) -> None:
        under_way = self._totals.update(now)
        speeds = {item.number: self._meters[item.number].add(now, p.received - p.resumed) for item, p in under_way}
        self._worked.update((item.number, now) for item, p in under_way if p.connections)
        if now - self._began < FIRST or self._closed or not under_way or not foreground():
            self._hide()
            return
        screen = self._screen or self._start()
        width, height = screen.size
        rows = self._rows(under_way, speeds, now, height - 1)
        screen.draw(self._draw(rows, max(width - 1, 1), now, plain=not screen.is_unicode))

    def _start(self) -> Screen:
        self._screen = Screen(sys.stderr)
        if signal.getsignal(signal.SIGTSTP) == signal.SIG_DFL:
            signal.signal(signal.SIGTSTP, self._suspend)
        return self._screen

    def _suspend(self, number: int, frame: FrameType | None) -> None:
        """Ctrl-Z: the shell gets its terminal without the bar, and with a cursor. Main
        thread; the process stands still in here."""
        self._hide()  # which gives the signal its meaning back
        os.kill(os.getpid(), number)

    # --- which lines ------------------------------------------------------------------

    def _rows(
        self, under_way: list[tuple[Item, Progress]], speeds: dict[int, float], now: float, height: int
    ) -> list[Row]:
        """A line for each object, as long as they fit; else for those at work, and
        one that counts the others."""
        several = len(self.items) > 1
        room = max(height - several, 1)
        shown = under_way
        if len(under_way) > room:
            shown = [(item, p) for item, p in under_way if now - self._worked.get(item.number, -LINGER) < LINGER]
            shown = shown[: room - 1]
        rows = [self._row(item, p, speeds[item.number]) for item, p in shown]
        hidden = len(under_way) - len(shown)
        if hidden:
            row = Row("")
            row.note = f"and {hidden} more"
            rows.append(row)
        if several:
            totals = self._totals
            rows.append(
                Row.of(
                    f"{totals.done} of {len(self.items)} done",
                    landed=totals.landed,
                    size=totals.size,
                    speed=totals.speed,
                    connections=totals.connections,
                    retries=totals.retries,
                    total=True,
                )
            )
        return rows

    @staticmethod
    def _row(item: Item, p: Progress, speed: float) -> Row:
        if not p.received and p.size is None:
            row = Row(item.name)
            row.note = "connecting" if p.connections else "waiting"
            return row
        if p.size is not None and p.received >= p.size:
            speed = 0.0  # it is being proven, or gets its name: nothing arrives any more
        return Row.of(
            item.name, landed=p.received, size=p.size, speed=speed, connections=p.connections, retries=p.retries
        )

    # --- how they look ------------------------------------------------------------------

    def _draw(self, rows: list[Row], width: int, now: float, *, plain: bool) -> list[list[Run]]:
        for row in rows:
            for column, cell in row.cells.items():
                self._widths[column] = max(self._widths.get(column, 0), len(cell))
        longest = max(cell_len(row.name) for row in rows)
        columns, name_width, bar_width = self._layout(width, longest)
        skip = self._shared if longest > name_width else 0
        lines = []
        for row in rows:
            style = "bold" if row.total else ""
            name = fit(row.name, name_width, skip if row.name and not row.total else 0)
            line = [(name.replace("…", "~") if plain else name, style)]
            lines.append(line)
            if row.note:
                line.append(((" " + row.note)[: max(width - name_width, 0)], "dim"))
                continue
            for column in columns:
                line.append((" ", ""))
                if column == "bar":
                    line += bar_of(row.fraction, bar_width, now, plain=plain)
                else:
                    cell = row.cells[column].rjust(self._widths[column])
                    line.append((cell.replace("×", "x") if plain else cell, STYLES.get(column, "") or style))
        return lines

    def _layout(self, width: int, longest: int) -> tuple[list[str], int, int]:
        """(columns, the name's width, the bar's) for so many cells."""
        name = min(longest, MIN_NAME)
        room = width - name
        chosen = set()
        for column in COLUMNS:
            needed = 1 + (MIN_BAR if column == "bar" else self._widths.get(column, 0))
            if needed == 1:
                continue  # retries, while there are none
            if needed > room:
                break
            chosen.add(column)
            room -= needed
        bar = MIN_BAR if "bar" in chosen else 0
        # A third of what is left goes to the name, as far as it needs it.
        extra = min(longest - name, room if not bar else max(room * 2 // 3, 0))
        name, room = name + extra, room - extra
        if bar:
            grown = min(bar + room, MAX_BAR)
            room -= grown - bar
            bar = grown
        return [column for column in ORDER if column in chosen], min(name + min(room, longest - name), width), bar


def _alike(names: Sequence[str]) -> int:
    """How many characters all of several names begin with."""
    low, high = min(names), max(names)
    return 0 if len(names) < 2 else next((i for i, c in enumerate(low) if high[i : i + 1] != c), len(low))


def fit(name: str, width: int, skip: int) -> str:
    """The name in exactly so many cells. Of names that begin alike (shards) it is the
    rest that tells them apart: `skip` characters make room for it. Else the middle
    goes, and the ending stays."""
    if cell_len(name) <= width and not skip:
        return pad(name, width)
    if skip > 1:
        name = "…" + name[skip:]
        if cell_len(name) > width:
            name = pad(name, max(width - 1, 0)).rstrip() + "…"
    elif cell_len(name) > width:
        tail = name[len(name) - (width - 1) * 2 // 3 :]
        while cell_len(tail) > (width - 1) * 2 // 3:
            tail = tail[1:]
        name = pad(name, max(width - 1 - cell_len(tail), 0)) + "…" + tail
    return pad(name, width)


def bar_of(fraction: float | None, width: int, now: float, *, plain: bool) -> list[Run]:
    """The bar itself; where the size is unknown, something that moves."""
    full, half, rest = ("#", "-", "-") if plain else ("━", "╸", "─")
    if fraction is None:
        at = int(now * 8) % width
        return [(rest * at, "dim"), (full, "blue"), (rest * (width - at - 1), "dim")]
    halves = int(width * 2 * min(fraction, 1.0))
    done = full * (halves // 2) + (half if halves % 2 else "")
    return [(done, "blue"), (rest * (width - len(done)), "dim")]


def foreground() -> bool:
    """Whether the terminal is ours now: a job in the background draws no bar over
    its user's prompt."""
    try:
        return os.tcgetpgrp(2) == os.getpgrp()
    except OSError:
        return True  # stderr is a terminal, but not the one that controls us
