"""A bit of a file is flipped: the map that is opened on it says so, or every answer of it is right."""

from __future__ import annotations

import os
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from chronomap import ChronoMap, JournalError

CYCLES = int(os.environ.get("CHRONOMAP_CRASH_CYCLES", "0"))

Map = ChronoMap[Any, Any]


def clock() -> float:
    """The same for everybody."""
    return 1_000_000.0


def fill(path: Path, keys: int, puts: int) -> None:
    """A file with something in every table."""
    with Map.open(path, durability="off", clock=clock) as cm:
        for n in range(puts):
            cm.put(f"k{n % keys}", ["value", n], timestamp=900_000.0 + n)
        cm.put_many({"a": b"bytes", 7: 1.5, (1, "two"): None}, meta={"by": "ann"})
        cm.put("ttl", 1, ttl=10)
        cm.put("plan", 1, timestamp=1_000_005.0)
        cm.put("once", 1, request_id="once")
        cm.delete("a")
        cm.put("secret", 1)
        cm.erase("secret")
        cm.prune_history("k0", keep_last=2)
        cm.rollback(cm.revision - 4)
    with Map.open(path, durability="off", clock=lambda: clock() + 7) as cm:  # takes effect
        cm.put("last", [1, {"a": 2}])


def answers(path: Path) -> Any:
    """What a map tells; None: that something is wrong."""
    try:
        with Map.open(path, durability="off", create=False, clock=lambda: clock() + 8) as cm:
            return (
                cm.revision,
                cm.latest(),
                {key: cm.versions(key, scheduled=True) for key in cm._store.timelines},
                [(c.revision, c.kind, c.key, c.value, c.previous, c.timestamp) for c in cm.watch(since=0, timeout=0)],
                cm.get_latest_keys(5),
            )
    except JournalError:
        return None


def flip(path: Path, bits: Iterable[int]) -> tuple[int, int]:
    """Flip one bit at a time; returns how many were flipped, and how many of them noticed."""
    whole = path.read_bytes()
    right = answers(path)
    assert right is not None
    spot = path.with_name("damaged.chrono")
    done = noticed = 0
    for bit in bits:
        damaged = bytearray(whole)
        damaged[bit // 8 % len(whole)] ^= 1 << bit % 8
        for file in spot.parent.glob("damaged*"):
            file.unlink()
        spot.write_bytes(damaged)
        found = answers(spot)
        assert found is None or found == right, f"bit {bit % (len(whole) * 8)} of {len(whole) * 8}"
        done += 1
        noticed += found is None
    return done, noticed


def test_some_bits_of_a_small_file(tmp_path: Path, seed: random.Random) -> None:
    """Some, at random."""
    fill(tmp_path / "map.chrono", keys=3, puts=20)
    done, noticed = flip(tmp_path / "map.chrono", [seed.getrandbits(40) for _ in range(150)])
    assert (done, noticed > 5) == (150, True)


@pytest.mark.skipif(not CYCLES, reason="a long campaign: make crash")
def test_every_bit_of_a_small_file(tmp_path: Path) -> None:
    """All that are not in the midst of nothing: of every byte that is not zero, or stands beside one that is not."""
    fill(tmp_path / "map.chrono", keys=3, puts=20)
    whole = (tmp_path / "map.chrono").read_bytes()
    filled = [n for n in range(len(whole)) if any(whole[max(0, n - 1) : n + 2])]
    done, noticed = flip(tmp_path / "map.chrono", (byte * 8 + bit for byte in filled for bit in range(8)))
    print(f"{done} bits of {len(whole) * 8}, {noticed} noticed")
    assert noticed > done / 3


@pytest.mark.skipif(not CYCLES, reason="a long campaign: make crash")
def test_many_bits_of_a_larger_file(tmp_path: Path, seed: random.Random) -> None:
    """Thousands, at random."""
    fill(tmp_path / "map.chrono", keys=50, puts=3_000)
    done, noticed = flip(tmp_path / "map.chrono", (seed.getrandbits(40) for _ in range(CYCLES * 10)))
    print(f"{done} bits, {noticed} noticed")
    assert noticed > done / 3
