"""How a pull shows: a line a layer on a terminal, where it goes and how far it is; elsewhere a
line when one is done; with --json one event a line.

`tick` runs on the main thread, which is the pull's own.
"""

from __future__ import annotations

import os
import sys
import time

from .bar import bar_of, foreground
from .display import Meter
from .outcome import say, write_out
from .screen import Screen
from .text import clean, human_rate, human_size, pad, pair

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..oci.pulling import LayerProgress, Pull
    from .screen import Run

__all__ = ["Layers", "short"]

PERIOD = 0.1  # seconds between two drawings
JSON_PERIOD = 1.0
FIRST = 0.5  # seconds during which nothing is drawn: a short pull needs no bar
WINDOW = 5.0  # seconds that the speed is measured over
NAME, STATE, BAR = 12, 9, 24  # cells
PLACES = {"memory": "RAM", "disk": "disk"}


def short(digest: str) -> str:
    """The beginning of a digest, as people compare them."""
    return digest.partition(":")[2][:NAME]


class Layers:
    """Shows one Pull; `tick` is what its `tick` is to be."""

    def __init__(self, *, quiet: bool, json: bool) -> None:
        terminal = sys.stderr is not None and sys.stderr.isatty()
        self._draws = terminal and not quiet and not json and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")
        self._quiet = quiet
        self._json = json
        self._pull: Pull | None = None
        self._states: dict[int, str] = {}
        self._meter = Meter(WINDOW)
        self._screen: Screen | None = None
        self._began = time.monotonic()
        self._shown = self._began

    def watch(self, pull: Pull) -> Layers:
        """Look at this pull from now on."""
        self._pull = pull
        return self

    def __call__(self) -> None:
        """Time has passed, or a layer has gone on."""
        assert self._pull is not None
        now = time.monotonic()
        layers = self._pull.layers
        self._changes(layers)
        if now - self._shown >= (JSON_PERIOD if self._json else PERIOD):
            self._shown = now
            if self._json:
                for layer in layers:
                    if layer.state == "fetching":
                        self._write("progress", layer)
            elif self._draws and now - self._began >= FIRST:
                self._draw(layers, now)

    def close(self) -> None:
        """Show no more; safe to call twice."""
        screen, self._screen = self._screen, None
        if screen is not None:
            if foreground():
                screen.clear()
            else:
                screen.leave()

    def line(self, text: str) -> None:
        """A line of log, above what is drawn."""
        if self._screen is not None:
            self._screen.line(clean(text))
        elif not self._quiet:
            say(text)

    def _changes(self, layers: Sequence[LayerProgress]) -> None:
        for layer in layers:
            if self._states.get(layer.index) == layer.state:
                continue
            self._states[layer.index] = layer.state
            if self._json:
                self._write("layer", layer)
            elif layer.state in ("done", "here") and not self._draws:
                how = "is here already" if layer.state == "here" else f"done, through {PLACES[layer.place]}"
                self.line(
                    f"layer {layer.index + 1} of {len(layers)}: {short(layer.digest)} {human_size(layer.size)} {how}"
                )

    def _write(self, kind: str, layer: LayerProgress) -> None:
        import json

        line = {"event": kind} | {name: getattr(layer, name) for name in layer.__slots__}
        write_out((json.dumps(line) + "\n").encode())

    def _draw(self, layers: Sequence[LayerProgress], now: float) -> None:
        if not foreground():
            self.close()
            return
        screen = self._screen = self._screen or Screen(sys.stderr)
        plain = not screen.is_unicode
        room = max(screen.size[1] - 2, 1)
        shown = [layer for layer in layers if layer.state in ("fetching", "fetched", "unpacking")]
        rest = [layer for layer in layers if layer.state == "waiting"]
        if len(layers) <= room:
            shown, rest = list(layers), []
        lines = [self._line(layer, now, plain) for layer in shown[:room]]
        done = sum(layer.state in ("done", "here") for layer in layers)
        distinct = {layer.digest: layer for layer in layers}.values()
        landed, size = sum(layer.landed for layer in distinct), sum(layer.size for layer in distinct)
        speed = self._meter.add(now, landed)
        text = f"{done} of {len(layers)} layers, {pair(landed, size)}, {human_rate(speed)}"
        lines.append([(text + (f", {len(rest)} waiting" if rest else ""), "bold")])
        screen.draw(lines)

    @staticmethod
    def _line(layer: LayerProgress, now: float, plain: bool) -> list[Run]:
        fraction = layer.landed / layer.size if layer.size else 1.0
        place = "" if layer.state in ("waiting", "here") else PLACES[layer.place]
        return [
            (short(layer.digest) + " ", ""),
            (pad(layer.state, STATE) + " ", "green" if layer.state in ("done", "here") else ""),
            (pad(place, 5), "dim"),
            *bar_of(fraction, BAR, now, plain=plain),
            (f" {pair(layer.landed, layer.size).rjust(18)}", ""),
        ]
