"""Runs every scenario with this checkout and with the peer from PyPI in turn, and prints how they compare.

Both run in processes of their own, under the same Python: ours in the environment that runs this, the peer in
``benchmarks/.peer``, made when first needed. The exit code is 1 if a wanted ratio is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from benchmarks.worker import SCENARIOS, Scenario

HERE: Final = Path(__file__).resolve().parent
PEER: Final = HERE / ".peer"
PEER_VERSION: Final = "2.1.0"
TIMEOUT: Final = 300
"""Seconds for one worker."""


def run(*command: str | Path) -> str:
    """What a program prints; it runs far from the checkout, and stops us if it fails."""
    with tempfile.TemporaryDirectory() as elsewhere:
        done = subprocess.run(  # noqa: S603 - our own programs, with arguments from this package
            [str(part) for part in command], cwd=elsewhere, capture_output=True, text=True, timeout=TIMEOUT, check=False
        )
    if done.returncode:
        print(done.stdout, done.stderr, sep="\n", file=sys.stderr)
        raise SystemExit(2)
    return done.stdout


def peer_python() -> Path:
    """The interpreter of the peer's environment, which is made if need be."""
    python = PEER / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    stamp = PEER / "ready"
    wanted = f"{PEER_VERSION} {platform.python_version()}"
    if not (python.exists() and stamp.exists() and stamp.read_text(encoding="utf-8") == wanted):
        print(f"Making {PEER.relative_to(HERE.parent)} with chronomap {PEER_VERSION} from PyPI", file=sys.stderr)
        run(sys.executable, "-m", "venv", "--clear", PEER)
        run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", f"chronomap=={PEER_VERSION}")
        stamp.write_text(wanted, encoding="utf-8")
    return python


def measure(python: str | Path, name: str, side: str, divisor: int) -> float:
    """Nanoseconds for one operation, from a worker that did import the package it was meant to."""
    found: dict[str, Any] = json.loads(run(python, "-I", HERE / "worker.py", name, side, str(divisor)))
    ours = Path(found["file"]).resolve().parent == HERE.parent / "chronomap"
    if ours != (side == "ours") or (side == "peer" and found["version"] != PEER_VERSION):
        print(f"The worker for {side} measured {found['file']} ({found['version']})", file=sys.stderr)
        raise SystemExit(2)
    return float(found["ns"])


def compare(name: str, scenario: Scenario, ours: list[float], peer: list[float]) -> dict[str, Any]:
    """One line of the table, as data."""
    ratio = statistics.median(peer) / statistics.median(ours)
    return {
        "scenario": name,
        "size": {"ours": scenario.ours.size, "peer": scenario.peer.size},
        "ours_ns": ours,
        "peer_ns": peer,
        "ratio": ratio,
        "wanted": scenario.wanted,
        "missed": scenario.wanted is not None and ratio < scenario.wanted,
    }


def shown(nanoseconds: list[float]) -> str:
    """The median in microseconds, and between what the rounds lay."""
    low, middle, high = (f"{f(nanoseconds) / 1_000:,.2f}" for f in (min, statistics.median, max))
    return f"{middle} ({low} to {high})"


def table(lines: list[dict[str, Any]]) -> str:
    """The lines as Markdown that can be read as it stands."""
    cells = [["scenario", "ours µs", "peer µs", "ratio", "wanted", ""]]
    for line in lines:
        size, wanted = line["size"], line["wanted"]
        name = line["scenario"]
        if size["ours"] != size["peer"]:
            name += f" (ours {size['ours']:,}, peer {size['peer']:,})"
        verdict = "" if wanted is None else "MISSED" if line["missed"] else "ok"
        aim = "-" if wanted is None else f"{wanted:g}"
        cells.append([name, shown(line["ours_ns"]), shown(line["peer_ns"]), f"{line['ratio']:,.2f}", aim, verdict])
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    cells.insert(1, ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:5]), "-" * widths[5]])
    rows = [
        " | ".join(
            cell.ljust(width) if column in {0, 5} else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in cells
    ]
    return "\n".join(f"| {row} |" for row in rows)


def main() -> int:
    """Measure everything, and tell."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="2 rounds and fewer operations, for a first impression")
    quick = parser.parse_args().quick
    rounds, divisor = (2, 10) if quick else (5, 1)
    pythons: dict[str, str | Path] = {"ours": sys.executable, "peer": peer_python()}
    times: dict[tuple[str, str], list[float]] = {(name, side): [] for name in SCENARIOS for side in pythons}
    for turn in range(rounds):
        print(f"Round {turn + 1} of {rounds}", file=sys.stderr)
        for name in SCENARIOS:
            for side, python in pythons.items():
                times[name, side].append(measure(python, name, side, divisor))
    lines = [compare(name, its, times[name, "ours"], times[name, "peer"]) for name, its in SCENARIOS.items()]

    where = f"Python {platform.python_version()}, {platform.platform()}, {os.cpu_count()} CPUs"
    what = f"{rounds} rounds{', quick' if quick else ''}; medians (lowest to highest); ratio = peer / ours"
    text = f"This checkout and chronomap {PEER_VERSION} from PyPI. {where}. {what}.\n\n{table(lines)}\n"
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    (results / "latest.md").write_text(text, encoding="utf-8")
    data = {"environment": where, "peer": PEER_VERSION, "quick": quick, "rounds": rounds, "scenarios": lines}
    (results / "latest.json").write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    print(text)
    return 1 if any(line["missed"] for line in lines) else 0


if __name__ == "__main__":
    sys.exit(main())
