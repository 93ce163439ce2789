"""Turns what the rounds found into verdicts and tables."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from benchmarks.environments import PACKAGES
from benchmarks.frame import Ceiling, Unit, Wanted
from benchmarks.rounds import Comparison

HEADS: Final = {"µs": "µs each", "bytes": "bytes each", "per second": "per second"}


@dataclass(frozen=True)
class Verdict:
    """Whether something wanted was reached.

    Attributes:
        wanted: At least that ratio; for a ceiling, at most that figure.
        got: Of the medians.
        rounds: The same in each round.
        reached: None if this machine cannot run what it is to be compared with.
    """

    scenario: str
    case: str
    against: str
    wanted: str
    got: str
    rounds: str
    multiple: float
    lowest: float
    highest: float
    reached: bool | None


def verdicts(comparison: Comparison) -> list[Verdict]:
    """What is wanted of a scenario, and whether it was reached. Where pinning was tried, only for the run without it."""
    return [] if comparison.pinned else [verdict(comparison, want) for want in comparison.scenario.wanted]


def verdict(comparison: Comparison, want: Wanted | Ceiling) -> Verdict:
    """Whether one wanted thing was reached."""
    name, unit, figures = comparison.scenario.name, comparison.scenario.unit, comparison.figures
    ours = figures.get(want.case, {}).get("ours", [])
    if isinstance(want, Ceiling):
        against, wanted = "", f"at most {shown(unit, want.figure)} {unit}"
        others = [[want.figure] * len(ours)]
        least = 1.0
    else:
        against = " or ".join(want.against) + (f" at {want.at_case}" if want.at_case else "")
        wanted = f"{want.ratio:,g}"
        others = [figures.get(want.at_case or want.case, {}).get(side, []) for side in want.against]
        least = want.ratio
    if absent := [] if isinstance(want, Ceiling) else [side for side in want.against if side in comparison.absent]:
        return Verdict(name, want.case, against, wanted, comparison.absent[absent[0]], "", 0.0, 0.0, 0.0, reached=None)
    if not ours or not all(others):
        return Verdict(name, want.case, against, wanted, "not measured", "", 0.0, 0.0, 0.0, reached=False)
    got = min(map(statistics.median, others)) / statistics.median(ours)
    each = [min(theirs) / mine for mine, *theirs in zip(ours, *others, strict=False)]
    low, high = min(each, default=got), max(each, default=got)
    if isinstance(want, Ceiling):
        texts = [shown(unit, want.figure / ratio) for ratio in (got, high, low)]
    else:
        texts = [number(ratio) for ratio in (got, low, high)]
    return Verdict(
        name,
        want.case,
        against,
        wanted,
        texts[0],
        f"{texts[1]} to {texts[2]}",
        got / least,
        low / least,
        high / least,
        reached=got >= least,
    )


def number(figure: float) -> str:
    """Two or three digits that count, or all there are before the point."""
    if figure < 0.1:
        return f"{figure:.2g}"
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.1f}" if figure >= 10 else f"{figure:.2f}"


def shown(unit: Unit, figure: float) -> str:
    """A figure as people read it."""
    if unit == "bytes":
        return f"{figure:,.0f}"
    if unit == "µs":
        return number(figure / 1_000)
    rate = 1_000_000_000 / figure
    return f"{rate / 1_000_000:.2f}M" if rate >= 1_000_000 else f"{rate / 1_000:.1f}k" if rate >= 1_000 else f"{rate:.0f}"


def spread(unit: Unit, figures: list[float]) -> str:
    """The median, and between what the rounds lay."""
    if not figures:
        return "failed"
    middle = shown(unit, statistics.median(figures))
    low, high = sorted((min(figures), max(figures)), reverse=unit == "per second")
    return middle if len(figures) == 1 else f"{middle} ({shown(unit, low)}–{shown(unit, high)})"  # noqa: RUF001


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows as a Markdown table that can be read as it stands; the first is the head."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    lines.insert(1, " | ".join("-" * width for width in widths))
    return "\n".join(f"| {line} |" for line in lines)


def verdict_table(found: list[Verdict]) -> str:
    """What is wanted and what was reached."""
    rows = [["scenario", "case", "against", "wanted", "got", "rounds", ""]]
    for it in found:
        mark = "" if it.reached is None else "ok" if it.reached else "MISSED"
        rows.append([it.scenario, it.case, it.against, it.wanted, it.got, it.rounds, mark])
    return table(rows)


def figures_table(comparison: Comparison) -> str:
    """All figures of a scenario: our side, then each other with how many times as good ours is."""
    unit, (ours, *others) = comparison.scenario.unit, comparison.sides
    rows = [[HEADS[unit], ours, *others]]
    for case, figures in comparison.figures.items():
        mine = figures.get(ours, [])
        row = [case, spread(unit, mine)]
        for side in others:
            theirs = figures.get(side)
            if theirs is None:
                row.append(comparison.absent.get(side, ""))
                continue
            ratio = f" ×{number(statistics.median(theirs) / statistics.median(mine))}" if mine else ""  # noqa: RUF001
            row.append(spread(unit, theirs) + ratio)
        rows.append(row)
    return table(rows)


def machine() -> str:
    """On what it was measured, without saying whose machine it is."""
    return f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, {os.cpu_count()} CPUs"


def text(comparisons: list[Comparison], how: str) -> str:
    """Everything, as Markdown."""
    found = [it for comparison in comparisons for it in verdicts(comparison)]
    reached = sum(it.reached is True for it in found)
    packages = ", ".join(package for among in PACKAGES.values() for package in among if "matplotlib" not in package)
    parts = [
        "# ChronoMap beside others",
        (
            f"{machine()}; {packages}. {how}. Medians, with the lowest and highest of the rounds in parentheses; ×N after "  # noqa: RUF001
            "a figure: ours is N times as good."
        ),
    ]
    if found:
        parts += ["## What is wanted", f"{reached} of {len(found)} reached.", verdict_table(found)]
    parts.append("## Figures")
    for comparison in comparisons:
        parts += [f"### {comparison.name}", comparison.scenario.about.split("\n\n")[0]]
        parts.append(figures_table(comparison))
    return "\n\n".join(" ".join(part.split("\n    ")) for part in parts) + "\n"


def data(comparisons: list[Comparison], how: str) -> dict[str, Any]:
    """Everything, for programs; figures are in nanoseconds or bytes for one, whatever the unit shown."""
    return {
        "machine": machine(),
        "packages": PACKAGES,
        "how": how,
        "wanted": [asdict(it) for comparison in comparisons for it in verdicts(comparison)],
        "scenarios": [
            {
                "name": comparison.scenario.name,
                "pinned": comparison.pinned,
                "unit": comparison.scenario.unit,
                "figures": comparison.figures,
                "absent": comparison.absent,
            }
            for comparison in comparisons
        ],
    }
