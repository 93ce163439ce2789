"""The keys that changed last.

Why a user cares: a page of recent changes is refreshed again and again.
"""

from __future__ import annotations

from itertools import repeat
from typing import Any

from benchmarks.frame import Meter, Wanted, scenario
from benchmarks.stores import opened


@scenario("latest-keys", sides=("ours", "peer"), wanted=(Wanted("put one by one", ("peer",), 500),))
def latest_keys(meter: Meter) -> None:
    """One get_latest_keys(10) of 100,000 keys: put one by one, and all in one batch, where timestamps are equal."""
    size = meter.size(100_000)
    items = {f"key-{number}": number for number in range(size)}
    for case in ("put one by one", "put in one batch"):
        with opened(meter.side) as store:
            if case == "put in one batch":
                store.behind.put_many(items)
            else:
                for key, value in items.items():
                    store.put(key, value)
            ask: Any = store.behind.get_latest_keys
            assert len(ask(10)) == 10
            if case == "put one by one":
                assert ask(1)[0][2] == size - 1

            def work(count: int, ask: Any = ask) -> None:
                for _ in repeat(None, count):
                    ask(10)

            meter.time(case, work)
