"""The founding argument and what was measured of it, in one figure: `python -m bench.images_plot`.

Left: how many times faster all layers over all connections are than one connection for each layer, as one layer grows
to k times the average, simulated (tests/oci/simulate.py), one bottleneck after the other added. Right: pulls that were
measured (`python -m bench.images`, with and without --pace 0). matplotlib belongs to the group `bench`.
"""

from __future__ import annotations

import importlib
import json
import sys
from typing import Any

from bench.measure import ROOT
from tests.oci.simulate import ADDED, GIB, one_large, speed_up

KS = [1 + step / 4 for step in range(29)]
COLOURS = ("#c2410c", "#2563eb", "#059669", "#7c3aed")


def main() -> int:
    """Draw docs/figures/images.svg."""
    matplotlib: Any = importlib.import_module("matplotlib")
    matplotlib.use("Agg")
    plt: Any = importlib.import_module("matplotlib.pyplot")
    plt.rcParams.update({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "0"})
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4))
    for (name, machine), colour in zip(ADDED.items(), COLOURS, strict=True):
        left.plot(KS, [speed_up(one_large(8, 1.4 * GIB / 8, k), machine) for k in KS], label=name, color=colour)
    left.set_title("8 layers, 16 connections, simulated: times faster", loc="left", fontsize=10)
    left.set_xlabel("the largest layer over the average")
    left.set_ylim(bottom=0)
    left.legend(frameon=False, fontsize=8)
    _measured(right)
    figure.tight_layout()
    (ROOT / "docs" / "figures").mkdir(exist_ok=True)
    figure.savefig(ROOT / "docs" / "figures" / "images.svg", bbox_inches="tight")
    figure.savefig(ROOT / "build" / "images.png", bbox_inches="tight", dpi=100)
    return 0


def _measured(axis: Any) -> None:
    at = 0.0
    ticks = []
    for kind, title in (("paced", "60 MB/s each"), ("unpaced", "unlimited")):
        document = json.loads((ROOT / "bench" / "results" / f"images-{kind}.json").read_text())
        for row in document["rows"]:
            colour = COLOURS[0] if row["tool"].startswith("parpull") else COLOURS[1]
            axis.barh(at, row["wall"], color=colour)
            axis.text(row["wall"], at, f"  {row['wall']:.1f} s", va="center", fontsize=8)
            ticks.append((at, f"{row['tool']}, {title}"))
            at += 1
        axis.plot([document["least"][0]] * 2, [at - 3.5, at - 0.5], color="black", linestyle=":")
        at += 0.5
    axis.set_yticks([place for place, _ in ticks], [name for _, name in ticks])
    axis.invert_yaxis()
    axis.set_title("1.4 GiB, one layer of 1 GiB, measured (dotted: the least)", loc="left", fontsize=10)
    axis.set_xlabel("seconds")


if __name__ == "__main__":
    sys.exit(main())
