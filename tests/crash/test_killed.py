"""A process is killed at any moment: everything that it was told is done is there, and nothing else."""

from __future__ import annotations

import os
import random
from pathlib import Path

from killing import CARES, Ledger, kill

CYCLES = int(os.environ.get("CHRONOMAP_CRASH_CYCLES", "0"))
LIVES = 6
"""How often the map of one file is killed before another is made."""


def test_killed_at_a_random_moment(tmp_path: Path, seed: random.Random) -> None:
    """Many writers, watchers and the reaper, SIGKILL, and everything is looked at; again and again."""
    ledger = Ledger(tmp_path / "map.chrono")
    for cycle in range(CYCLES or 4):
        if not cycle % LIVES:
            (tmp_path / str(cycle)).mkdir()
            ledger = Ledger(tmp_path / str(cycle) / "map.chrono")
        print("cycle", cycle)
        lives = [kill(ledger.path, seed, seed.choice(CARES))]
        while seed.random() < 0.2:  # and again while it is being opened
            lives.append(kill(ledger.path, seed, "open"))
        ledger.check(lives)
        print("commits", len(ledger.log))
    assert ledger.log
