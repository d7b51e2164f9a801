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
            elif letter == "A":
                self._up(int(number))
            elif letter == "J":
                del self.lines[self.line + 1 :]
                self.lines[self.line] = self.lines[self.line][: self.at]
            elif letter == "K":  # of lines that are not wrapped
                self.lines[self.line] = self.lines[self.line][: self.at]
            elif private and number == "7":
                self.wraps = letter == "h"
            elif private and number == "25":
                self.cursor = letter == "h"
            else:
                assert letter == "m" or number == "2026", "an order that is not known here"

    @property
    def shown(self):
        return self.lines

    def rows(self, line):
        """Where the rows of a line begin."""
        begins, used = [0], 0
        for i, char in enumerate(self.lines[line]):
            used += cell_len(char)
            if used > self.width:
                begins.append(i)
                used = cell_len(char)
        return begins

    def _up(self, count):
        assert self.at == 0, "only from where a line begins is it known what stands above"
        above = [(line, begin) for line in range(self.line) for begin in self.rows(line)]
        self.line, self.at = above[max(len(above) - count, 0)]

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
