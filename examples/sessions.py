"""Web sessions that end by themselves.

What a reader learns: a ttl belongs to what is put, ``touch`` renews it, reads never return what has expired, and a hook
hears of an expiry soon after it is due without anybody asking.
"""

from __future__ import annotations

import asyncio
from typing import Any

from chronomap import AsyncChronoMap

TTL = 0.3
"""Seconds; half an hour in real life."""


async def main() -> None:
    """Log two people in; one of them stays active."""
    async with AsyncChronoMap[str, dict[str, Any]]() as sessions:
        ended = asyncio.Event()

        def session_changed(key: str, old: Any, new: Any, _timestamp: float) -> None:
            if old is not None and new is None:
                print(f"hook: {key} of {old['user']} ended")
                ended.set()

        sessions.on_change(session_changed)

        await sessions.put("session:a", {"user": "alice", "cart": []}, ttl=TTL)
        await sessions.put("session:b", {"user": "bob", "cart": []}, ttl=TTL)
        print(f"present: {await sessions.keys()}")

        # `update` reads, changes and writes without losing anybody's change in between.
        await sessions.update("session:a", lambda session: {**session, "cart": ["book"]}, ttl=TTL)

        for _ in range(4):  # alice keeps clicking
            await asyncio.sleep(TTL / 3)
            await sessions.touch("session:a", TTL)

        await asyncio.wait_for(ended.wait(), 5)
        print(f"present: {await sessions.keys()}")
        print(f"bob's session: {await sessions.get('session:b', default='not logged in')}")
        print(f"alice's cart: {sessions['session:a']['cart']}")

        # What has expired is not forgotten. To remove it for good (privacy), erase it.
        print(f"versions of bob's session: {[version.kind for version in await sessions.versions('session:b')]}")
        await sessions.erase("session:b")
        print(f"after erasing: {await sessions.history('session:b')}")

        await sessions.delete("session:a")
        print(f"present: {await sessions.keys()}")


if __name__ == "__main__":
    asyncio.run(main())
