"""Looking at every key.

Why a user cares: reports, exports and searches over a whole map, while others go on writing.
"""

from __future__ import annotations

from itertools import repeat
from typing import Any

from benchmarks.frame import Meter, Wanted, scenario
from benchmarks.stores import opened


@scenario("scans", sides=("ours", "peer", "dict of lists"), wanted=(Wanted("query", ("peer",), 5),))
def scans(meter: Meter) -> None:
    """One call over 100,000 keys with 2 versions each; the dict of lists does the same by comprehension."""
    size = meter.size(100_000)
    with opened(meter.side) as store:
        for turn in (1, 0):
            for number in range(size):
                store.put(f"key-{number}", number % 100 + turn)
        cm: Any = store.behind
        if meter.side == "dict of lists":
            calls: dict[str, Any] = {
                "latest": lambda: {key: versions[-1][1] for key, versions in cm.items()},
                "query": lambda: {key: versions[-1][1] for key, versions in cm.items() if versions[-1][1] < 10},
                "aggregate": lambda: sum([versions[-1][1] for versions in cm.values()]),
                "get_keys_by_value": lambda: [key for key, versions in cm.items() if versions[-1][1] == 7],
            }
        else:
            calls = {
                "latest": cm.latest,
                "query": lambda: cm.query(lambda _, value: value < 10),
                "aggregate": lambda: cm.aggregate(sum),
                "get_keys_by_value": lambda: cm.get_keys_by_value(7),
            }
        present = [number % 100 for number in range(size)]
        assert len(calls["latest"]()) == size
        assert len(calls["query"]()) == sum(value < 10 for value in present)
        assert calls["aggregate"]() == sum(present)
        assert len(calls["get_keys_by_value"]()) == present.count(7)
        for case, call in calls.items():

            def work(count: int, call: Any = call) -> None:
                for _ in repeat(None, count):
                    call()

            meter.time(case, work)
