"""Measures this checkout beside others and prints how they compare; ``make bench``, ``make bench-quick``.

Everything is measured in processes of its own, several times in turn. The results go to ``benchmarks/results/NAME``, as
``.md``, ``.json`` and ``.svg``. The exit code is 1 if a wanted ratio is missed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from typing import Final

import benchmarks.scenarios  # noqa: F401 - fills SCENARIOS
from benchmarks import profiling, report, rounds
from benchmarks.environments import HERE, environment, python
from benchmarks.frame import SCENARIOS, Scenario

RESULTS: Final = HERE / "results"


def chosen(words: list[str], *, quick: bool) -> list[Scenario]:
    """The scenarios of these names, or of a family (``fanout`` is ``fanout-delay`` too); without any, all.

    A quick run of all is of those of which something is wanted.
    """
    if not words:
        return [it for it in SCENARIOS.values() if it.wanted or not quick]
    for word in words:
        if not any(belongs(name, word) for name in SCENARIOS):
            raise SystemExit(f"no scenario is called {word!r}; there are: {', '.join(SCENARIOS)}")
    return [it for name, it in SCENARIOS.items() if any(belongs(name, word) for word in words)]


def belongs(name: str, word: str) -> bool:
    """Whether a scenario is meant by a word."""
    return name == word or name.startswith(f"{word}-")


def write(comparisons: list[rounds.Comparison], how: str, name: str) -> None:
    """Write the results as Markdown, as JSON and as a plot."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.md").write_text(report.text(comparisons, how), encoding="utf-8")
    source, target = RESULTS / f"{name}.json", RESULTS / f"{name}.svg"
    source.write_text(json.dumps(report.data(comparisons, how), indent=1) + "\n", encoding="utf-8")
    subprocess.run([python("libraries"), HERE / "plot.py", source, target], check=True)  # noqa: S603 - our own program


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("scenario", nargs="*", help="only these; default: all")
    parser.add_argument("--list", action="store_true", help="say what there is to measure, and why")
    parser.add_argument("--quick", action="store_true", help="only what is wanted, less of it, in two minutes")
    parser.add_argument("--rounds", type=int, help="how often (default 5; quick: 2)")
    parser.add_argument("--name", default="latest", help="what to call the results; `latest` is not kept by git")
    parser.add_argument("--profile", metavar="NAME", help="show where the time of a scenario goes instead")
    parser.add_argument("--side", default="ours", help="with --profile: on which side")
    parser.add_argument("--case", default="", help="with --profile: only the cases whose names contain this")
    return parser.parse_args()


def main() -> int:
    """Do what the command line says."""
    given = arguments()
    if given.list:
        for it in SCENARIOS.values():
            print(f"{it.name} ({', '.join(it.sides)})\n    {it.about}\n")
        return 0
    if given.profile:
        (scenario,) = (it for it in chosen([given.profile], quick=False) if it.name == given.profile)
        profiling.show(scenario, given.side, given.case)
        return 0
    comparisons = list(rounds.planned(chosen(given.scenario, quick=given.quick), quick=given.quick))
    for side in {side for comparison in comparisons for side in comparison.sides}:
        python(environment(side))  # before anything is measured
    count = given.rounds or (2 if given.quick else 5)
    rounds.run(comparisons, count, "quick" if given.quick else "full")
    how = f"{count} interleaved rounds{', quick' if given.quick else ''}"
    print(report.text(comparisons, how))
    write(comparisons, how, given.name)
    return 0 if all(it.reached is not False for comparison in comparisons for it in report.verdicts(comparison)) else 1


if __name__ == "__main__":
    sys.exit(main())
