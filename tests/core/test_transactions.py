"""What a transaction writes, where its own writes meet."""

import pytest

from chronomap import ChronoMap
from chronomap.testing import ManualClock


def test_a_delete_outlasts_what_is_back_dated_after_it() -> None:
    """As when the calls are made one by one, and as the block itself sees it."""
    clock = ManualClock(100.0)
    cm, single = ChronoMap[str, int](clock=clock), ChronoMap[str, int](clock=clock)
    with cm.transaction() as tx:
        for write in (tx, single):
            write.put("a", 1)
            write.delete("a")
            write.put("a", 2, timestamp=90)
        assert tx.get("a") is None
    assert cm.get("a") is single.get("a") is None
    assert cm.get("a", 95) == single.get("a", 95) == 2
    assert [(version.timestamp, version.deleted) for version in cm.versions("a")] == [(90, False), (100, True)]


@pytest.mark.parametrize("scheduled", [False, True])
def test_what_is_taken_back_leaves_nothing(*, scheduled: bool) -> None:
    """A key that held nothing before, and holds nothing after its own puts were deleted, is not written."""
    cm = ChronoMap[str, int](clock=ManualClock(100.0))
    with cm.transaction() as tx:
        tx.put("a", 1)
        if scheduled:
            tx.put("a", 2, timestamp=110)
        tx.delete("a")
        tx.delete("b")
    assert cm.revision == 0
    with cm.transaction() as tx:
        tx.put("a", 1, timestamp=90)
        tx.put("a", 2)
        tx.delete("a")
    assert [(version.timestamp, version.deleted) for version in cm.versions("a")] == [(90, False), (100, True)]


def test_a_delete_of_nothing_ends_nothing() -> None:
    """What is dated back after it holds, as when the calls are made one by one."""
    cm = ChronoMap[str, int](clock=ManualClock(100.0))
    with cm.transaction() as tx:
        tx.delete("a")
        tx.put("a", 1, timestamp=90)
        assert tx.get("a") == 1
    assert cm.get("a") == 1
