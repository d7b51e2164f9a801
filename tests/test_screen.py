"""The bar's half that draws: what a terminal shows of it, and what stays behind."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len as length_to_others

from parpull.cli import bar, text
from parpull.cli.screen import Screen
from tests.running import environment, wait_for
from tests.terminal import Terminal

MIB = 1 << 20
ANY = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=30)
NAMES = st.text("ab 模型e\u0301", max_size=50)


@contextmanager
def played(width, height=24, encoding="utf-8", **environ):
    """(Screen, Terminal, writes): all it writes goes to the Terminal. `terminal.width = n` is a resize."""
    terminal, writes = Terminal(width), []

    def write_out(data, fd):
        assert fd == 99
        writes.append(data)
        terminal.feed(data.decode(encoding).replace("\n", "\r\n"))  # as the line discipline does

    with pytest.MonkeyPatch.context() as patch:
        for name in ("COLUMNS", "LINES", "NO_COLOR"):
            patch.delenv(name, raising=False)
        for name, value in environ.items():
            patch.setenv(name, value)
        patch.setattr("parpull.cli.screen.write_out", write_out)
        patch.setattr(os, "get_terminal_size", lambda fd: os.terminal_size((terminal.width, height)))
        yield Screen(SimpleNamespace(encoding=encoding, fileno=lambda: 99)), terminal, writes


def test_lines_redraw_in_place_and_in_one_write():
    with played(20) as (screen, terminal, writes):
        for n in range(3):
            screen.draw([[("one ", ""), (str(n), "green")], [("two", "bold")]])
            assert terminal.shown == [f"one {n}", "two"]
            assert not terminal.cursor
        assert len(writes) == 3
        screen.draw([[("less", "")]])
        assert terminal.shown == ["less"]
        screen.line("a line that is longer than a row")
        assert terminal.shown == ["a line that is longer than a row", "less"]
        screen.clear()
        assert terminal.shown == ["a line that is longer than a row", ""]
        assert (terminal.cursor, terminal.wraps) == (True, True)
        screen.clear()
        assert len(writes) == 6


def test_nothing_is_erased_that_is_drawn_again():
    """Or it flickers where a terminal shows what it has so far."""
    with played(20) as (screen, _, writes):
        for n in range(2):
            screen.draw([[(f"one {n}", "")], [("two", "")]])
        assert writes[1].startswith(b"\x1b[?2026h\x1b[?25l\r\x1b[A\x1b[?7lone 1\x1b[K\ntwo\x1b[K\x1b[?7h")


@given(widths=st.lists(st.integers(2, 60), min_size=1, max_size=6), names=st.lists(NAMES, min_size=1, max_size=5))
def test_a_resize_leaves_nothing_behind(widths, names):
    lines = [[(name, "")] for name in names]
    with played(80) as (screen, terminal, _):
        terminal.feed("$ parpull\r\n")
        for i, width in enumerate(widths):
            screen.draw(lines)
            terminal.width = width
            if i % 2:
                screen.line("log")
        screen.draw(lines)
        above = ["$ parpull", *["log"] * (len(widths) // 2)]
        assert terminal.shown == above + [text.cut(name, widths[-1] - 1).rstrip() for name in names]
        screen.clear()
        assert terminal.shown == [*above, ""]


def test_it_leaves_a_row_and_a_column():
    with played(10, 5) as (screen, terminal, _):
        screen.draw([[("0123456", ""), ("789", "")]] * 9)
        assert terminal.shown == ["012345678"] * 4
    with played(1, 1) as (screen, terminal, _):
        screen.draw([[("模", "")]] * 9)
        assert terminal.shown == [""]


def test_colours_and_their_absence():
    line = [("a", "bold"), ("b", "green"), ("c", ""), ("", "blue")]
    with played(20) as (screen, _, writes):
        screen.draw([line])
        assert b"\x1b[1ma\x1b[m\x1b[32mb\x1b[mc\x1b[K" in writes[0]
    with played(20, NO_COLOR="1") as (screen, _, writes):
        screen.draw([line])
        assert b"\x1b[1ma\x1b[mbc\x1b[K" in writes[0]
    with played(20, NO_COLOR="") as (screen, _, writes):  # empty is not set: https://no-color.org
        screen.draw([line])
        assert b"\x1b[32m" in writes[0]


def test_an_encoding_that_has_little():
    with played(20, encoding="ascii") as (screen, terminal, _):
        assert not screen.is_unicode
        screen.draw([[("模型é", "")]])
        assert terminal.shown == ["???"]
        screen.line("é")
        assert terminal.shown == ["\\xe9", "???"]


def test_its_size():
    with played(0, 0) as (screen, _, _):
        assert screen.size == (80, 24)
    with played(50, 10) as (screen, terminal, _):
        terminal.width = 30
        assert screen.size == (30, 10)
    with played(50, 10, COLUMNS="99", LINES="x") as (screen, _, _):
        assert screen.size == (99, 10)


def test_a_terminal_that_has_gone():
    mine, theirs = pty.openpty()
    os.close(mine)
    with os.fdopen(theirs, "w") as stream:
        screen = Screen(stream)
        screen.draw([[("x", "")]])
        screen.line("x")
        screen.clear()


# --- cells -----------------------------------------------------------------------------


@given(ANY, st.integers(0, 40))
def test_exactly_so_many_cells(given_text, width):
    padded = text.pad(given_text, width)
    assert text.cell_len(padded) == width
    kept = text.cut(given_text, width)
    assert given_text.startswith(kept)
    assert padded == kept + " " * (width - text.cell_len(kept))
    following = given_text[len(kept) : len(kept) + 1]
    assert not following or text.cell_len(kept + following) > width  # and as much as fits


@given(ANY, ANY)
def test_cells_add_up(a, b):
    assert text.cell_len(a + b) == text.cell_len(a) + text.cell_len(b)
    assert text.rows(a, text.cell_len(a) or 1) == 1


@given(ANY, st.integers(2, 40))
def test_rows(given_text, width):
    count, rest = 1, given_text
    while len(rest) > len(row := text.cut(rest, width)):
        count, rest = count + 1, rest[len(row) :]
    assert text.rows(given_text, width) == count


@pytest.mark.parametrize(
    ("shown", "cells"),
    [
        ("", 0), ("abc", 3), ("模型", 4), ("ｆｕｌｌ", 8), ("é", 1), ("e\u0301", 1), ("…━╸─×", 5), ("🚀", 2),
        ("한글", 4), ("\u1112\u1161\u11ab", 2), ("हिन्दी", 5), ("ไทย", 3), ("a\u200db", 2), ("ﬁ", 1), ("שָׁלוֹם", 4),
    ],
)  # fmt: skip
def test_what_others_say(shown, cells):
    assert text.cell_len(shown) == cells
    if shown not in ("हिन्दी", "a\u200db"):  # a mark that takes a cell (Mc); what is joined to what
        assert length_to_others(shown) == cells


@pytest.mark.parametrize("width", range(1, 40))
def test_a_name_is_fitted(width):
    for name in ("a", "模型-00001-of-00030.safetensors", "模" * 30, "e\u0301" * 30):
        for skip in (0, 5):
            assert text.cell_len(bar.fit(name, width, skip)) == width


# --- the terminal's other users -----------------------------------------------------------


def test_a_job_that_is_stopped_leaves_the_terminal_as_it_was(origin, name, tmp_path):
    """Ctrl-Z, and on again: while it stands still there is no bar, and there is a cursor."""
    mine, theirs = pty.openpty()
    seen = b""
    command = [sys.executable, "-m", "parpull", "-x", "2", origin.url(f"{name}/x.bin", size=64 * MIB, pace=2 * MIB)]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdin=theirs, stdout=subprocess.DEVNULL, stderr=theirs, process_group=0,
        env=environment(TERM="xterm-256color", COLUMNS="80", LINES="24"),
    )  # fmt: skip
    os.close(theirs)
    os.set_blocking(mine, False)

    def look():
        nonlocal seen
        try:
            while True:
                seen += os.read(mine, 65536)
        except OSError:  # nothing more for now, or the other end is closed
            pass
        terminal = Terminal(80)
        terminal.feed(seen.decode(errors="ignore"))
        return "".join(terminal.shown), terminal.cursor

    try:
        for _ in range(2):
            wait_for(lambda: "MiB/s" in look()[0])
            assert not look()[1]
            process.send_signal(signal.SIGTSTP)
            assert os.WIFSTOPPED(os.waitpid(process.pid, os.WUNTRACED)[1])
            assert look() == ("", True)
            process.send_signal(signal.SIGCONT)
        wait_for(lambda: "MiB/s" in look()[0])
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
        shown, cursor = look()
        assert shown.startswith("parpull: stopped by SIGINT")
        assert (shown.count("x.bin"), cursor) == (0, True)
    finally:
        process.kill()
        process.wait()
        os.close(mine)
