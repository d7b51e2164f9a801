"""The lower end of a terminal: lines that redraw, below text that scrolls.

What changes goes out in one write, so that nobody sees half of it. Between two the
cursor rests, hidden, at the beginning of the lowest line: after a resize that is the
one place from which it is known how many rows stand above, however a terminal wraps.
Knows cells and styles; what the lines say is others' business. Main thread only.
"""

from __future__ import annotations

import os
from types import MappingProxyType

from .outcome import write_out
from .text import cell_len, cut, rows

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import TextIO

    Run = tuple[str, str]  # text without control characters, the name of its style or ""

__all__ = ["Screen"]

SIZE = (80, 24)  # where the terminal won't say
ATTRIBUTES: Mapping[str, int] = MappingProxyType({"bold": 1, "dim": 2})
COLORS: Mapping[str, int] = MappingProxyType({"green": 32, "yellow": 33, "blue": 34, "cyan": 36})
HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"
# Row by row: erased from its top-left on, a screen goes into the scrollback of tmux.
ERASE, ERASE_RIGHT = "\x1b[2K", "\x1b[K"
UP, DOWN = "\x1b[A", "\x1b[B"
# Shown at once where a terminal can; the others ignore it.
BEGIN, END = "\x1b[?2026h", "\x1b[?2026l"
# A character that is wider here than we believe must not push the lines down.
CROP, WRAP = "\x1b[?7l", "\x1b[?7h"


class Screen:
    """Draws on `stream`, which is a terminal. Nothing is raised when that has gone."""

    def __init__(self, stream: TextIO) -> None:
        self._fd = stream.fileno()
        self._encoding = stream.encoding
        self._lines: Sequence[Sequence[Run]] = ()
        self._drawn: list[str] = []  # what stands there of them
        self._width = 0  # of the terminal then
        self._styles = ATTRIBUTES if os.environ.get("NO_COLOR") else {**ATTRIBUTES, **COLORS}

    @property
    def size(self) -> tuple[int, int]:
        """(columns, lines) now; COLUMNS and LINES come first."""
        try:
            size: tuple[int, int] = os.get_terminal_size(self._fd)
        except (OSError, ValueError):
            size = SIZE
        said = [os.environ.get(name, "") for name in ("COLUMNS", "LINES")]
        width, height = (int(s) if s.isdecimal() else n for s, n in zip(said, size, strict=True))
        return width or SIZE[0], height or SIZE[1]

    @property
    def is_unicode(self) -> bool:
        """Whether it shows more than its encoding's few characters."""
        return self._encoding.lower().startswith("utf")

    def draw(self, lines: Sequence[Sequence[Run]]) -> None:
        """Show these in place of those. The last column stays free, and one row."""
        before, width = len(self._drawn), self._width
        up, erase = self._up(), self._erase()
        self._lines = lines
        block = self._block()
        in_place = before <= len(self._drawn) and width == self._width
        self._write(BEGIN + HIDE + (up if in_place else erase) + block + END)

    def line(self, text: str) -> None:
        """Print a line above; it scrolls away, and may be longer than a row."""
        erase = self._erase()
        self._write(f"{BEGIN}{erase}{text}\n{self._block() if self._lines else ''}{END}")

    def clear(self) -> None:
        """Remove the lines, show the cursor; safe to call twice."""
        if self._lines:
            erase = self._erase()
            self._lines = ()
            self._drawn = []
            self._write(SHOW + erase)

    def leave(self) -> None:
        """Show the cursor and forget the lines: somebody else has written since."""
        if self._lines:
            self._lines = ()
            self._drawn = []
            self._write(SHOW)

    def _rows(self) -> list[int]:
        """That each line takes by now: one that was drawn wider than the terminal is has
        been wrapped."""
        width = self.size[0]
        return [rows(text, width) for text in self._drawn] or [1]

    def _up(self) -> str:
        """To where the first line begins."""
        return "\r" + UP * sum(self._rows()[:-1])

    def _erase(self) -> str:
        """The same, and nothing is left of the lines."""
        *above, last = self._rows()
        return "\r" + DOWN * (last - 1) + ERASE + (UP + ERASE) * (sum(above) + last - 1)

    def _block(self) -> str:
        width, height = self.size
        self._width = width
        lines = [self._cropped(line, width - 1) for line in self._lines[: max(height - 1, 1)]]
        self._drawn = ["".join(text for text, _ in line) for line in lines]
        shown = ["".join(self._styled(text, style) for text, style in line) for line in lines]
        return CROP + "\n".join(text + ERASE_RIGHT for text in shown) + WRAP + "\r"

    def _cropped(self, line: Sequence[Run], width: int) -> list[Run]:
        """Spaces at the end go too: some terminals wrap them with a line, some do not."""
        out = []
        for text, style in line:
            text = cut(text.encode(self._encoding, "replace").decode(self._encoding), width)
            width -= cell_len(text)
            out.append((text, style))
        while out and not out[-1][0].rstrip():
            out.pop()
        if out:
            out[-1] = (out[-1][0].rstrip(), out[-1][1])
        return out

    def _styled(self, text: str, style: str) -> str:
        number = self._styles.get(style)
        return f"\x1b[{number}m{text}\x1b[m" if number and text else text

    def _write(self, text: str) -> None:
        try:
            write_out(text.encode(self._encoding, "backslashreplace"), fd=self._fd)
        except OSError:  # hung up: that nobody looks on must not end a transfer
            pass
