"""Measurements that arrive late and in any order.

What a reader learns: a timestamp says when something held, not when the map heard of it, so samples can be back-filled
and corrected; ``get_range`` and ``aggregate`` read what results; ``Retention`` keeps a key's history short by itself.
"""

from __future__ import annotations

import random
from statistics import mean

from chronomap import ChronoMap, CompactedError, Retention


def main() -> None:
    """Collect temperatures of three rooms, late, in random order and with a correction."""
    metrics: ChronoMap[str, float] = ChronoMap()
    samples = [(f"room:{room}", 60.0 * minute, 20.0 + room + minute / 10) for room in (1, 2, 3) for minute in range(60)]
    random.shuffle(samples)
    for key, timestamp, celsius in samples:
        metrics.put(key, celsius, timestamp=timestamp)

    print(f"rooms: {sorted(metrics)}")
    print(f"room 1, minutes 10 to 13: {[value for _, value in metrics.get_range('room:1', 600, 780)]}")
    print(f"mean of the newest: {metrics.aggregate(mean):.1f}")
    print(f"mean at minute 10: {metrics.aggregate(mean, timestamp=600):.1f}")
    print(f"maximum of rooms 1 and 2 at minute 10: {metrics.aggregate(max, ['room:1', 'room:2'], 600)}")

    # The sensor of room 3 was wrong at minute 10. The correction wins from now on; what was known before can be asked.
    known = metrics.revision
    metrics.put("room:3", 21.5, timestamp=600)
    print(
        f"room 3 at minute 10: {metrics.get('room:3', timestamp=600)}, corrected from "
        f"{metrics.get('room:3', timestamp=600, revision=known)}"
    )

    # A map that keeps five versions a key. What it no longer knows is an error, never "missing".
    short: ChronoMap[str, float] = ChronoMap(retention=Retention(max_versions=5))
    for minute in range(60):
        short.put("room:1", 21.0 + minute / 10, timestamp=60.0 * minute)
    print(f"kept: {[value for _, value in short.history('room:1')]}")
    try:
        short.get("room:1", timestamp=600)
    except CompactedError as error:
        print(f"minute 10 is gone; oldest readable: {error.timestamp:.0f} s")


if __name__ == "__main__":
    main()
