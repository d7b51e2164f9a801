"""A small terminal: what is to be seen of the bytes that it was sent."""

from __future__ import annotations

import re

from parpull.cli.text import cell_len

__all__ = ["Terminal"]

TOKENS = re.compile(r"\x1b\[(\??)(\d*)([A-Za-z])|(.)", re.DOTALL)


class Terminal:
    """A line that is longer than the terminal is wide is shown in several rows, and
    wrapped anew after `width` has changed, as most terminals do. `shown` has the lines
    whole. A wide character that does not fit takes the next row."""

    def __init__(self, width):
        self.width = width
        self.lines = [""]
        self.line = self.at = 0  # the cursor: which line, which character of it
        self.wraps = self.cursor = True

    def feed(self, data):
        for private, number, letter, char in TOKENS.findall(data):
            if char:
                self._put(char)
            elif letter in ("A", "B"):
                assert not number
                self._move(-1 if letter == "A" else 1)
            elif letter == "K":  # J is not known: tmux keeps in its scrollback what J erases
                self._erase(whole=number == "2")
            elif private and number == "7":
                self.wraps = letter == "h"
            elif private and number == "25":
                self.cursor = letter == "h"
            else:
                assert letter == "m" or number == "2026", "an order that is not known here"

    @property
    def shown(self):
        """The lines, as far down as something was written."""
        last = max([self.line, *(i for i, line in enumerate(self.lines) if line)])
        return self.lines[: last + 1]

    def rows(self, line):
        """Where the rows of a line begin."""
        begins, used = [0], 0
        for i, char in enumerate(self.lines[line]):
            used += cell_len(char)
            if used > self.width:
                begins.append(i)
                used = cell_len(char)
        return begins

    def _move(self, step):
        all_rows = [(line, begin) for line in range(len(self.lines)) for begin in self.rows(line)]
        here = all_rows.index((self.line, self.at))  # only from where a row begins
        self.line, self.at = all_rows[min(max(here + step, 0), len(all_rows) - 1)]

    def _erase(self, *, whole):
        """The row: one below another of its line becomes a line of its own."""
        line, begins = self.lines[self.line], self.rows(self.line)
        begin = max(begin for begin in begins if begin <= self.at)
        assert begin == begins[-1], "rows are erased from below"
        if whole and begin:
            self.lines[self.line : self.line + 1] = [line[:begin], ""]
            self.line, self.at = self.line + 1, 0
        else:
            self.lines[self.line] = "" if whole else line[: self.at]

    def _put(self, char):
        line = self.lines[self.line]
        if char == "\r":
            self.at = max(begin for begin in self.rows(self.line) if begin <= self.at)
        elif char == "\n":
            self.line, self.at = self.line + 1, 0
            self.lines += [""] * (self.line == len(self.lines))
        elif self.wraps or cell_len(line[: self.at] + char) <= self.width:
            self.lines[self.line] = line[: self.at] + char + line[self.at + 1 :]
            self.at += 1
