"""Holding the present still.

Why a user cares: a consistent report, or something to go back to, must not cost a copy of the map.
"""

from __future__ import annotations

from itertools import repeat

from benchmarks.frame import Ceiling, Meter, Wanted, scenario
from benchmarks.stores import KEYS, opened


@scenario(
    "snapshot",
    sides=("ours", "peer"),
    wanted=(
        # "The same time", less what two medians of the same thing differ by on a shared machine.
        Wanted("1,000,000 versions", ("ours",), 0.75, at_case="10 versions"),
        Ceiling("1,000,000 versions", 20_000),
    ),
)
def snapshot(meter: Meter) -> None:
    """One snapshot of a map of at most 1,000 keys with so many versions; each is dropped at once."""
    with opened(meter.side) as store:
        put, written = store.put, 0
        for versions in (10, 10_000, 100_000, 1_000_000):
            for number in range(written, meter.size(versions)):
                put(KEYS[number % len(KEYS)], number)
            written = meter.size(versions)
            take = store.behind.snapshot
            assert take().get(KEYS[(written - 1) % len(KEYS)]) == written - 1

            def work(count: int) -> None:
                for _ in repeat(None, count):
                    take()  # noqa: B023 - called in the same round

            meter.time(f"{versions:,} versions", work)
