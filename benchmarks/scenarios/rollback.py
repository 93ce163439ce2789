"""Going back to a snapshot.

Why a user cares: undoing a bad change should cost what the change was, not what the map is.
"""

from __future__ import annotations

from typing import Any, Final

from benchmarks.frame import Meter, Wanted, scenario
from benchmarks.stores import KEYS, Store, opened

CHANGED: Final = 10


def back(meter: Meter, case: str, store: Store, keys: list[str]) -> None:
    """Time a rollback of some changed keys; the snapshot and the changes are not in it."""
    cm = store.behind
    before = cm.get(keys[0])

    def change() -> Any:
        snapshot = cm.snapshot()
        for key in keys[: meter.size(CHANGED)]:
            cm.put(key, -1)
        return snapshot

    meter.each(case, change, cm.rollback)
    assert cm.get(keys[0]) == before


@scenario("rollback", sides=("ours", "peer"), wanted=(Wanted("10 of 100,000 keys", ("peer",), 1_000),))
def rollback(meter: Meter) -> None:
    """One rollback of 10 changed keys: among 100,000 keys, and among 1,000 keys with more and more versions."""
    with opened(meter.side) as store:
        names = [f"key-{number}" for number in range(meter.size(100_000))]
        store.behind.put_many(dict.fromkeys(names, 1))
        back(meter, "10 of 100,000 keys", store, names)
    with opened(meter.side) as store:
        written = 0
        for versions in (10_000, 100_000, 1_000_000):
            for number in range(written, meter.size(versions)):
                store.put(KEYS[number % len(KEYS)], number)
            written = meter.size(versions)
            back(meter, f"10 keys, {versions:,} versions", store, KEYS)
