"""Configuration that changes on schedule, and can be taken back.

What a reader learns: how to date a change in the future, see what the map will hold then, call a scheduled change off,
and go back to a known state with ``rollback``. A clock that the program moves stands in for a week of waiting.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from chronomap import ChronoMap
from chronomap.testing import ManualClock

MONDAY = datetime(2030, 3, 4, 9, tzinfo=UTC)


def main() -> None:
    """Plan a rollout, let it happen, and take it back."""
    clock = ManualClock(MONDAY.timestamp())
    config: ChronoMap[str, int] = ChronoMap(clock=clock)

    good = config.put_many({"checkout.new": 0, "checkout.timeout": 30})  # one commit, one revision
    print(f"revision {good}: {config.latest()}")

    # Ten percent on Tuesday, half on Wednesday, everybody on Thursday. Nothing changes for readers yet.
    for days, percent in enumerate((10, 50, 100), start=1):
        config.put("checkout.new", percent, timestamp=MONDAY + timedelta(days=days))
    print(f"Monday: {config['checkout.new']} %")
    print(f"Wednesday will be: {config.get('checkout.new', timestamp=MONDAY + timedelta(days=2))} %")

    clock.advance(timedelta(days=1).total_seconds())
    print(f"Tuesday: {config['checkout.new']} %")

    # "Everybody" feels too early: call that one off. Half goes on after Thursday.
    config.unschedule("checkout.new", timestamp=MONDAY + timedelta(days=3))
    clock.advance(timedelta(days=3).total_seconds())
    print(f"Friday: {config['checkout.new']} %")

    # Something is wrong: behave as if nothing had been committed since revision 1. It is one more commit, so the
    # rollout stays in the history, and the rollback could itself be rolled back.
    before = config.revision
    config.rollback(good)
    print(f"rolled back: {config.latest()}")
    print(f"on Wednesday it was: {config.get('checkout.new', timestamp=MONDAY + timedelta(days=2))} %")

    config.rollback(before)
    print(f"and forward again: {config.latest()}")


if __name__ == "__main__":
    main()
