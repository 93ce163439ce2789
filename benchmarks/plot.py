"""Draws what is wanted and what was reached, and how reading gets on as a history grows.

``python benchmarks/plot.py RESULTS.json PLOT.svg``, in the environment that has matplotlib.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt

REACHED, MISSED, OTHER = "#2a7f62", "#c0392b", "#7f8c8d"


def draw_wanted(axes: Any, wanted: list[dict[str, Any]]) -> None:
    """One line a wanted ratio: the median as a dot, the rounds as a bar, and 1 is what is wanted."""
    shown = [it for it in wanted if it["multiple"]][::-1]
    for row, it in enumerate(shown):
        color = REACHED if it["reached"] else MISSED
        axes.plot([it["lowest"], it["highest"]], [row, row], color=color, linewidth=2, alpha=0.5)
        axes.plot([it["multiple"]], [row], "o", color=color, markersize=5)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log")
    axes.set_yticks(
        range(len(shown)),
        [f"{it['scenario']}: {it['case']}" + (f" / {it['against'].split(' or ')[0]}" if it["against"] else "") for it in shown],
    )
    axes.tick_params(axis="y", labelsize=7)
    axes.set_xlabel("times what is wanted (right of the line: reached)")
    axes.set_title("What is wanted", fontsize=10)
    axes.grid(axis="x", alpha=0.3)


def draw_get(axes: Any, scenarios: list[dict[str, Any]]) -> None:
    """A get of the newest value against the length of the history."""
    figures = next(it["figures"] for it in scenarios if it["name"] == "get")
    for side, color in (("ours", REACHED), ("peer", MISSED), ("dict of lists", OTHER)):
        points = [
            (int(case.split(", ", 1)[1].split()[0].replace(",", "")), statistics.median(sides[side]) / 1_000)
            for case, sides in figures.items()
            if case.startswith("newest") and side in sides
        ]
        if points:
            axes.plot(*zip(*points, strict=True), "o-", color=color, label=side, markersize=4)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("versions of the key")
    axes.set_ylabel("µs")
    axes.set_title("One get of the newest value", fontsize=10)
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)


def main() -> None:
    """Draw what the command line names."""
    source, target = map(Path, sys.argv[1:])
    results = json.loads(source.read_text(encoding="utf-8"))
    mpl.use("Agg")
    mpl.rcParams["svg.fonttype"] = "none"  # text stays text: a tenth of the size
    mpl.rcParams["svg.hashsalt"] = "chronomap"  # the same figures give the same file
    has_get = any(it["name"] == "get" and it["figures"] for it in results["scenarios"])
    height = max(3.5, 0.22 * len(results["wanted"]) + 1.2)
    figure, axes = plt.subplots(
        1, 1 + has_get, figsize=(7 + 4 * has_get, height), width_ratios=[3, 2][: 1 + has_get], squeeze=False
    )
    draw_wanted(axes[0][0], results["wanted"])
    if has_get:
        draw_get(axes[0][1], results["scenarios"])
    figure.tight_layout()
    figure.savefig(target, dpi=120, metadata={"Date": None} if target.suffix == ".svg" else None)


if __name__ == "__main__":
    main()
