"""What a transaction intends: reads of one snapshot plus its own writes, and a note of everything it looked at."""

from __future__ import annotations

from typing import Any

from chronomap.core.records import NEVER
from chronomap.core.timestamps import Timestamp, duration, seconds
from chronomap.core.values import MISSING, release
from chronomap.core.view import View


class Draft:
    """The reads and writes of one transaction, before it is committed."""

    def __init__(self, base: View) -> None:
        self.base = base
        self.writes: list[tuple[Any, ...]] = []
        self.keys_read: set[Any] = set()
        self.prefixes_read: set[str | None] = set()
        self._own: dict[Any, tuple[float, Any]] = {}  # what decides of its own writes at the base's timestamp, by key

    def held(self, key: Any) -> Any:
        """The kept value in force as the transaction sees it, or MISSING."""
        self.keys_read.add(key)
        return self._seen(key)

    def get(self, key: Any, default: Any = None) -> Any:
        """The value in force as the transaction sees it."""
        value = self.held(key)
        return default if value is MISSING else release(value)

    def _seen(self, key: Any) -> Any:
        value = self.base.held(key)
        if (own := self._own.get(key)) is None:
            return value
        entry = self.base.entry(key)
        timestamp, written = own
        return written if entry is None or entry.timestamp <= timestamp else value

    def _note(self, key: Any, timestamp: float, value: Any) -> None:
        """Note a write of its own."""
        own = self._own.setdefault(key, (-NEVER, MISSING))
        if own[0] <= timestamp <= self.base.timestamp:
            self._own[key] = timestamp, value

    def keys(self, prefix: str | None = None) -> list[Any]:
        """The keys present as the transaction sees it."""
        self.prefixes_read.add(prefix)
        keys = dict.fromkeys(key for key, _ in self.base.scan(prefix))
        for key in self._own:
            if prefix is not None and not (isinstance(key, str) and key.startswith(prefix)):
                continue
            if self._seen(key) is MISSING:
                keys.pop(key, None)
            else:
                keys[key] = None
        return list(keys)

    def put(self, key: Any, kept: Any, timestamp: Timestamp | None = None, ttl: float | None = None) -> None:
        """Intend a put of a captured value; everything is checked now, so that the commit cannot fail on it."""
        when = self.base.timestamp if timestamp is None else seconds(timestamp)
        if ttl is not None:
            duration(ttl)
        self._note(key, when, kept)
        self.writes.append(("put", key, kept, timestamp, ttl))

    def delete(self, key: Any, timestamp: Timestamp | None = None) -> bool:
        """Intend a delete; whether the key is present as the transaction sees it."""
        when = self.base.timestamp if timestamp is None else seconds(timestamp)
        present = self.held(key) is not MISSING
        if present or timestamp is not None:  # deleting what is missing now changes nothing, here as in the store
            self._note(key, when, MISSING)
        self.writes.append(("delete", key, timestamp))
        return present
