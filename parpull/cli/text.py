"""Text for human eyes: sizes, rates, times, and what is fit for a terminal. Pure.

Knows numbers and strings only. Sizes are binary (KiB, MiB, GiB) with one decimal.
Cells are a terminal's columns: Chinese, Japanese, Korean and emoji take two each,
what stands on top of another character none.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["cell_len", "clean", "cut", "duration", "eta", "human_rate", "human_size", "pad", "pair", "plural", "rows"]

UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def _unit(n: float) -> int:
    """The index of the unit in which `n` has one to four digits before the point."""
    i = 0
    while i < len(UNITS) - 1 and round(n, 1) >= 1024:
        n /= 1024
        i += 1
    return i


def _number(n: float, unit: int) -> str:
    return f"{n:.0f}" if unit == 0 else f"{n / 1024**unit:.1f}"


def human_size(n: float) -> str:
    """Bytes as "512 B" or "1.2 GiB"."""
    unit = _unit(n)
    return f"{_number(n, unit)} {UNITS[unit]}"


def human_rate(per_second: float) -> str:
    """Bytes per second as "1.3 GiB/s"."""
    return human_size(per_second) + "/s"


def pair(landed: int, size: int) -> str:
    """How much of how much, in the unit of the whole: "0.4/1.2 GiB"."""
    unit = _unit(size)
    return f"{_number(landed, unit)}/{_number(size, unit)} {UNITS[unit]}"


def duration(seconds: float) -> str:
    """Time taken: "40 ms", "0.9 s", "1:23", "1:02:03"."""
    if seconds < 0.0995:
        return f"{max(seconds * 1000, 1):.0f} ms"
    return f"{seconds:.1f} s" if seconds < 59.95 else eta(seconds)


def eta(seconds: float) -> str:
    """Time to go: "0:09", "1:02:03"; "" where nobody would believe it."""
    if not seconds < 100 * 3600:
        return ""
    whole = int(seconds + 0.5)
    hours, rest = divmod(whole, 3600)
    minutes, rest = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def plural(n: int, one: str, many: str = "") -> str:
    """ "1 connection", "16 connections"."""
    return f"{n} {one}" if n == 1 else f"{n} {many or one + 's'}"


def clean(text: str) -> str:
    """The text on one line, without anything that could order a terminal about: it
    may hold what a server sent."""
    return "".join(c if c.isprintable() else " " if c.isspace() else "?" for c in text)


def cell_len(text: str) -> int:
    """How many cells the text takes."""
    return len(text) if text.isascii() else sum(_cells(text))


def cut(text: str, width: int) -> str:
    """As much from the beginning as fits into `width` cells; no character is split."""
    for i, cells in enumerate(_cells(text)):
        width -= cells
        if width < 0:
            return text[:i]
    return text


def pad(text: str, width: int) -> str:
    """The text in exactly `width` cells: cut, or with spaces behind."""
    text = cut(text, width)
    return text + " " * (width - cell_len(text))


def rows(text: str, width: int) -> int:
    """How many rows the text takes where it is wrapped at `width` cells: 1 or more."""
    count, used = 1, 0
    for cells in _cells(text):
        used += cells
        if used > width:
            count, used = count + 1, cells
    return count


def _cells(text: str) -> Iterator[int]:
    """The cells of each character: 0, 1 or 2."""
    from unicodedata import category, east_asian_width

    for c in text:
        # The vowels and finals of Hangul that is spelled out join the consonant before them.
        if category(c) in ("Mn", "Me", "Cf") or "\u1160" <= c <= "\u11ff":
            yield 0
        else:
            yield 2 if east_asian_width(c) in "WF" else 1
