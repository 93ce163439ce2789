"""Writing one version, in order and out of order.

Why a user cares: it is what each recorded change costs, and late measurements must not cost the whole history again.
"""

from __future__ import annotations

import bisect
import random
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks.frame import Meter, Wanted, scenario
from benchmarks.stores import KEYS, around, opened


@scenario(
    "put",
    sides=("ours", "peer", "dict of lists", "dict with a Lock", "cachetools.TTLCache", "diskcache"),
    wanted=(Wanted("put", ("peer",), 3.5),),
)
def put(meter: Meter) -> None:
    """One plain put, over 1,000 keys in turn: what a script pays for each change that it records."""
    with opened(meter.side) as store:
        put, keys = store.put, KEYS[: meter.size(len(KEYS))]

        def work(count: int) -> None:
            for number, key in enumerate(around(keys, count)):
                put(key, number)

        work(len(keys))
        operations = 4_000 if meter.side == "diskcache" else 100_000
        meter.time("put", work, operations=operations)
        last = meter.operations(operations) - 1
        assert store.get(keys[last % len(keys)]) == last


@scenario("put-with", sides=("ours", "peer", "dict of lists", "cachetools.TTLCache"))
def put_with(meter: Meter) -> None:
    """One put with a ttl, as of a session, and one with a timestamp, later than those before: measurements in their order."""
    side, keys, operations = meter.side, KEYS[: meter.size(len(KEYS))], 20_000
    last = meter.operations(operations) - 1
    if side != "dict of lists":  # of which nothing expires
        with opened(side) as store:
            session = store.put if side == "cachetools.TTLCache" else partial(store.behind.put, ttl=3_600.0)

            def sessions(count: int) -> None:
                for number, key in enumerate(around(keys, count)):
                    session(key, number)

            sessions(len(keys))
            meter.time("a ttl", sessions, operations=operations)
            assert store.get(keys[last % len(keys)]) == last
    if side != "cachetools.TTLCache":  # which keeps no history
        with opened(side) as store:
            start, behind = time.time() - 1_000_000, store.behind
            by_hand: Callable[[str, int, float], Any] = lambda key, value, when: behind[key].append((when, value))  # noqa: E731
            dated = by_hand if side == "dict of lists" else behind.put

            def measurements(count: int) -> None:
                for number, key in enumerate(around(keys, count)):
                    dated(key, number, start + number)

            meter.time("a timestamp, in order", measurements, operations=operations)
            assert store.get(keys[last % len(keys)]) == last


@scenario("put-late", sides=("ours", "peer", "dict of lists"))
def put_late(meter: Meter) -> None:
    """One put dated somewhere in the past of a key with a history: measurements that arrive late, corrections."""
    for length in (100, 10_000, 100_000):
        versions, chance = meter.size(length), random.Random(length)
        with opened(meter.side) as store:
            late: Callable[[float, int], Any]
            if meter.side == "dict of lists":
                history = store.behind["key"]
                late = lambda when, value, history=history: bisect.insort(history, (when, value))  # noqa: E731
            else:
                late = lambda when, value, put=store.behind.put: put("key", value, when)  # noqa: E731
            start = time.time() - versions
            for number in range(versions):
                late(start + number, number)
            assert store.get("key") == versions - 1

            moments = partial(chance.uniform, start, start + versions * 0.9)
            meter.each(f"{length:,} versions", moments, lambda when, late=late: late(when, -1), limit=100)
            assert store.get("key") == versions - 1


@scenario("delete", sides=("ours", "peer", "dict with a Lock", "cachetools.TTLCache", "diskcache"))
def delete(meter: Meter) -> None:
    """One delete of a present key. Ours keeps the history before it, the others lose it."""
    with opened(meter.side) as store:
        behind = store.behind
        delete: Callable[[Any], Any]
        if meter.side == "dict with a Lock":
            delete = lambda key: store.put(key, None)  # noqa: E731 - a tombstone of its own
        else:
            delete = behind.pop if meter.side == "cachetools.TTLCache" else behind.delete

        operations = 2_000 if meter.side == "diskcache" else 20_000
        keys = [f"key-{number}" for number in range(meter.operations(operations))]
        for key in keys:
            store.put(key, 1)

        def work(_: int) -> None:
            for key in keys:
                delete(key)

        meter.time("delete", work, operations=operations)
        assert store.get(keys[0]) is None
        assert store.get(keys[-1]) is None
