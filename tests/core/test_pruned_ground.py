"""Commands where what they need to know has been pruned."""

import pytest

from chronomap import ChronoMap, CompactedError
from chronomap.core.records import CANCELLED, NEVER
from chronomap.testing import ManualClock


def test_delete_where_nothing_can_be_told_any_more() -> None:
    """What stood at a timestamp was called off, and what lay below it has been pruned: a delete there says so."""
    clock = ManualClock(100.0)
    cm = ChronoMap[str, int](clock=clock)
    cm.put("a", 1, timestamp=10)
    cm.put("a", 2, timestamp=20)
    assert cm.prune_history("a", keep_last=1) == 1
    cm._owner.call(cm._store.import_commit, [("a", CANCELLED, 20.0, NEVER)])  # from a file of change lines
    for timestamp in (20, 50, None):
        with pytest.raises(CompactedError):
            cm.delete("a", timestamp)
    with pytest.raises(CompactedError):
        cm.get("a")
    cm.put("a", 3)
    assert cm.delete("a")
