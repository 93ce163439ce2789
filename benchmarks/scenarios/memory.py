"""What remembering costs in memory.

Why a user cares: how much history fits. Long and short histories want different shapes, so both are measured.
"""

from __future__ import annotations

import gc
import tracemalloc

from benchmarks.frame import Meter, Wanted, scenario
from benchmarks.stores import opened


@scenario(
    "memory",
    sides=("ours", "peer", "dict of lists"),
    wanted=(Wanted("on 1,000 keys", ("peer",), 3), Wanted("on 1,000,000 keys", ("peer",), 1)),
    unit="bytes",
    once=True,
)
def memory(meter: Meter) -> None:
    """Bytes for one of 1,000,000 versions put one by one, beside the keys and values themselves.

    Those are made before the counting begins. A quick run puts 100,000 (on 1,000 and on 100,000 keys).
    """
    versions = meter.size(1_000_000) // (10 if meter.scale.divisor == 4 else 1)
    values = [10_000 + number for number in range(versions)]
    for case, keys in (("on 1,000 keys", 1_000), ("on 1,000,000 keys", 1_000_000)):
        names = [f"key-{number}" for number in range(min(keys, versions))]
        with opened(meter.side) as store:
            put = store.put
            gc.collect()
            tracemalloc.start()
            for number in range(versions):
                put(names[number % len(names)], values[number])
            gc.collect()
            used, _ = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert store.get(names[-1]) == values[-1]
        meter.note(case, used / versions)
