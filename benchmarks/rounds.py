"""Runs the workers, interleaved: each round measures every scenario on every side once, each in a process of its own.

What else goes on in the machine then strikes all sides of a comparison alike, and what it does shows between the rounds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from benchmarks.environments import HERE, environment, python
from benchmarks.frame import Ceiling, Scenario

TIMEOUT: Final = 300
"""Seconds for one worker."""


@dataclass
class Comparison:
    """What the rounds found for one scenario: ``figures[case][side]`` has one figure a round.

    ``absent[side]`` says why this machine cannot run a side.
    """

    scenario: Scenario
    sides: tuple[str, ...]
    pinned: bool
    figures: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The scenario's name, and whether it was pinned."""
        return f"{self.scenario.name}, one CPU" if self.pinned else self.scenario.name

    def add(self, side: str, found: dict[str, float] | str) -> None:
        """Take in what one worker found, or why it found nothing."""
        if isinstance(found, str):
            self.absent[side] = found
            return
        for case, figure in found.items():
            self.figures.setdefault(case, {}).setdefault(side, []).append(figure)


def planned(scenarios: Iterable[Scenario], *, quick: bool) -> Iterator[Comparison]:
    """What to compare; a quick run leaves out whom no wanted ratio is about."""
    for scenario in scenarios:
        sides = scenario.sides
        if quick:
            others = {side for want in scenario.wanted if not isinstance(want, Ceiling) for side in want.against}
            sides = tuple(side for side in sides if side == "ours" or side in others)
        yield Comparison(scenario, sides, pinned=False)
        if scenario.between_threads and hasattr(os, "sched_setaffinity"):
            yield Comparison(scenario, sides, pinned=True)


def run(comparisons: list[Comparison], rounds: int, scale: str) -> None:
    """Measure all of them."""
    for turn in range(rounds):
        for number, comparison in enumerate(comparisons):
            if turn and comparison.scenario.once:
                continue
            tell(f"round {turn + 1} of {rounds}: {number + 1} of {len(comparisons)}, {comparison.name}")
            # Nobody always goes first, onto a machine that is still busy with what came before.
            first = turn % len(comparison.sides)
            for side in comparison.sides[first:] + comparison.sides[:first]:
                if side not in comparison.absent:
                    comparison.add(side, measure(comparison, side, scale))
    tell("")


def tell(progress: str) -> None:
    """Say how far it is, where somebody is looking."""
    if sys.stderr.isatty():
        print(f"\r{progress:<79}", end="" if progress else "\r", file=sys.stderr, flush=True)


def measure(comparison: Comparison, side: str, scale: str) -> dict[str, float] | str:
    """The figures of one worker; none if it failed, which is told and makes the verdicts that need them fail.

    Or why there can be none.
    """
    command = [str(python(environment(side))), "-I", str(HERE / "worker.py"), comparison.scenario.name, side, scale]
    with tempfile.TemporaryDirectory() as elsewhere:  # so that nothing is imported from where this was started
        try:
            done = subprocess.run(  # noqa: S603 - our own program
                [*command, *["pinned"] * comparison.pinned],
                cwd=elsewhere,
                capture_output=True,
                text=True,
                timeout=TIMEOUT,
                check=True,
            )
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            print(f"\n{comparison.scenario.name} failed on {side}: {error}", error.stderr, sep="\n", file=sys.stderr)
            return {}
    found: dict[str, float] | str = json.loads(done.stdout)
    return found
