"""Forgetting old versions.

Why a user cares: a long-running service has to, and nobody should notice when it does.
"""

from __future__ import annotations

from typing import Any

from benchmarks.frame import Meter, scenario
from benchmarks.stores import KEYS, opened


@scenario("prune", sides=("ours", "peer", "dict of lists"))
def prune(meter: Meter) -> None:
    """One version removed, by prune_all_history(keep_last=10) of 1,000 keys with 100 versions each."""
    keys, keep = KEYS[: meter.size(len(KEYS))], 10
    with opened(meter.side) as store:
        for turn in range(100):
            for key in keys:
                store.put(key, turn)
        removed = len(keys) * (100 - keep)

        def act(_: Any) -> None:
            if meter.side == "dict of lists":
                for versions in store.behind.values():
                    del versions[:-keep]
            else:
                assert store.behind.prune_all_history(keep_last=keep) == removed

        meter.each("one version", lambda: None, act, limit=1, per=removed)
        assert store.get(keys[0]) == 99
