"""Who changed what, when it was true, and when we learned it.

What a reader learns: ``on_change`` writes a log as changes happen; ``versions`` tells both times of every change;
``at(revision=...)`` answers "what did we believe then?"; ``undo`` takes back one commit and leaves the others.
"""

from __future__ import annotations

from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from chronomap import ChronoMap, ConflictError

user: ContextVar[str] = ContextVar("user", default="nobody")


def day(timestamp: float) -> str:
    """The date of a timestamp."""
    return datetime.fromtimestamp(timestamp, UTC).date().isoformat()


def main() -> None:
    """Keep salaries, correct one after the fact, and undo a mistake."""
    salaries: ChronoMap[str, int] = ChronoMap()
    log: list[str] = []

    def audit(key: str, old: Any, new: Any, timestamp: float) -> None:
        # Called in the context of whoever made the change, before that call returns.
        log.append(f"{user.get()}: {key} {old} -> {new} as of {day(timestamp)}")

    salaries.on_change(audit)

    user.set("ann")
    salaries.put("eve", 4000, timestamp="2024-01-01")
    paid = salaries.put("eve", 4400, timestamp="2024-07-01")

    # In autumn it turns out that the raise was agreed for May: a correction of the past.
    user.set("bob")
    salaries.put("eve", 4400, timestamp="2024-05-01")

    # And then bob gives everybody the wrong number, in one commit.
    mistake = salaries.put_many({"eve": 44, "tom": 39}, timestamp="2024-09-01")
    salaries.put("kim", 4100, timestamp="2024-09-01")

    print("\n".join(log))
    print("every version of eve's salary (valid from, learned with, value):")
    for version in salaries.versions("eve"):
        print(f"  {day(version.timestamp)}  revision {version.revision}  {version.value}")

    print(f"in June it was {salaries.get('eve', timestamp='2024-06-15')}")
    then = salaries.at(timestamp="2024-06-15", revision=paid)
    print(f"in June we paid by what we knew at revision {paid}: {then['eve']}")

    user.set("ann")
    salaries.undo(mistake)
    print(f"after undo: {salaries.at('2024-09-01').latest()}")

    # What a later commit has touched is not undone behind its author's back.
    raised = salaries.put("kim", 4200, timestamp="2024-10-01")
    salaries.put("kim", 4300, timestamp="2024-11-01")
    try:
        salaries.undo(raised)
    except ConflictError as conflict:
        print(f"not undone: {conflict.keys} changed since, at revision {conflict.revision}")


if __name__ == "__main__":
    main()
