"""Changing a value by a function of what it was.

Why a user cares: counters and balances; nobody's change in between may be lost. The peer has no such call.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import repeat
from typing import Any

from benchmarks.frame import Meter, scenario
from benchmarks.stores import opened


def increment(number: int) -> int:
    """What is done to the value."""
    return number + 1


@scenario("update", sides=("ours", "dict with a Lock"))
def update(meter: Meter) -> None:
    """One ``update(key, function)`` of a counter; by hand it is a read and an append under one lock."""
    with opened(meter.side) as store:
        store.put("key", 0)
        update: Callable[[str, Callable[[int], int]], Any]
        if meter.side == "ours":
            update = store.behind.update
        else:
            mutex, versions = threading.Lock(), store.behind

            def update(key: str, function: Callable[[int], int]) -> None:
                with mutex:
                    versions[key].append((0.0, function(versions[key][-1][1])))

        def work(count: int) -> None:
            for _ in repeat(None, count):
                update("key", increment)

        meter.time("update", work, operations=50_000)
        assert store.get("key") == meter.operations(50_000)
