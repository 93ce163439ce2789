"""Values that can change: small dicts.

Why a user cares: ours copies them in and out, so that changing one does not change history. Those who promise not to
change what they have put can turn it off, and this shows what they gain.
"""

from __future__ import annotations

from benchmarks.frame import Meter, scenario
from benchmarks.stores import KEYS, around, opened


@scenario("isolation", sides=("ours", "ours, share", "peer", "dict of lists", "dict of lists, deepcopy"))
def isolation(meter: Meter) -> None:
    """One put and one get of ``{"user": "ann", "roles": ["admin"], "visits": 3}``; ours copies unless told to share."""
    keys = KEYS[: meter.size(len(KEYS))]
    record = {"user": "ann", "roles": ["admin"], "visits": 3}
    with opened(meter.side) as store:
        put, get = store.put, store.get

        def puts(count: int) -> None:
            for key in around(keys, count):
                put(key, record)

        def gets(count: int) -> None:
            for key in around(keys, count):
                get(key)

        puts(len(keys))
        meter.time("put a small dict", puts, operations=20_000)
        meter.time("get a small dict", gets, operations=20_000)
        assert get(keys[0]) == record
        copied = meter.side in {"ours", "dict of lists, deepcopy"}
        assert (get(keys[0])["roles"] is record["roles"]) != copied
