"""Commands where what they need to know has been pruned."""

import pytest

from chronomap import ChronoMap, CompactedError
from chronomap.core.feed import SLACK
from chronomap.core.records import CANCELLED, NEVER
from chronomap.core.store import Store
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


def test_undo_where_a_later_change_has_been_pruned() -> None:
    """A later change that was dated earlier is gone, and the feed does not reach back to it: an undo says so."""
    store = Store(retained_changes=1)
    store.put(10, "a", 1)
    store.put(20, "a", 2)
    store.put(25, "b", 1)
    store.put(30, "a", 3, timestamp=15)
    assert store.prune(30, ["a"], keep_last=1, older_than=None) == 2
    for number in range(2 * SLACK):
        store.put(40, "c", number)
    assert store.feed.floor > 4
    with pytest.raises(CompactedError, match="revision 4 changed 'a' later"):
        store.undo(40, 2)
    assert store.undo(40, 3)
