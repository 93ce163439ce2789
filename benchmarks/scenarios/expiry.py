"""Values that end by themselves.

Why a user cares: sessions and caches. When a hundred thousand end at once the program must not stand still for long.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from benchmarks.frame import Meter, scenario


@scenario("expiry", sides=("ours", "peer", "cachetools.TTLCache"))
def expiry(meter: Meter) -> None:
    """Processor time for one of 100,000 keys that expire at the same moment, whoever finds them.

    Ours has a reaper that works in the background, the others wait to be asked; so it is not the time of a call but the
    processor time of the whole program, from before the moment until all are gone. Ours also records each expiry in the
    history and tells the watchers.
    """
    size = meter.size(100_000)
    ttl = 2.0 if size > 1_000 else 0.05  # long enough to put them all
    items = {f"key-{number}": number for number in range(size)}
    clean: Callable[[], Any]
    if meter.side == "cachetools.TTLCache":
        from cachetools import TTLCache

        cache: Any = TTLCache(maxsize=size, ttl=ttl)
        cache.update(items)
        clean, get = lambda: len(cache.expire()), cache.get
    else:
        from chronomap import ChronoMap

        cm: Any = ChronoMap()
        cm.put_many(items, ttl=ttl)
        clean, get = cm.clean_expired_keys, cm.get
    assert get("key-0") == 0, "they expired before all were put"
    start = time.process_time_ns()
    time.sleep(ttl)
    gone = 0
    while gone < size:
        gone += clean()
        time.sleep(0.001)
    meter.note("one key", (time.process_time_ns() - start) / size)
    assert gone == size
    assert get("key-0") is None
