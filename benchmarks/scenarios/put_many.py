"""Writing a batch.

Why a user cares: imports and bulk changes. Ours is one commit: nobody ever sees half of it.
"""

from __future__ import annotations

from typing import Any

from benchmarks.frame import Meter, Wanted, scenario
from benchmarks.stores import opened


@scenario("put_many", sides=("ours", "peer", "dict of lists"), wanted=(Wanted("1,000 items", ("peer",), 5),))
def put_many(meter: Meter) -> None:
    """One put_many to keys that exist, as the whole batch."""
    for items in (10, 1_000):
        with opened(meter.side) as store:
            size = meter.size(items)
            first, second = ({f"key-{number}": turn + number for number in range(size)} for turn in (0, 1))
            put_many: Any
            if meter.side == "dict of lists":
                put = store.put

                def put_many(batch: dict[str, int], put: Any = put) -> None:
                    for key, value in batch.items():
                        put(key, value)
            else:
                put_many = store.behind.put_many

            def work(count: int, put_many: Any = put_many, first: Any = first, second: Any = second) -> None:
                for _ in range(count // 2):
                    put_many(first)
                    put_many(second)

            work(2)
            meter.time(f"{items:,} items", work, operations=100_000 // items)
            assert store.get(f"key-{size - 1}") == size
