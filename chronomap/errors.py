"""Every error ChronoMap raises on purpose.

A leaf also inherits the built-in it resembles, carries its data in attributes, and says what to do. All of them can be
pickled, so that they come back from a pool of processes.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any


class ChronoMapError(Exception):
    """Base of all errors of this library."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (type(self), self.args, self.__dict__)  # what a constructor takes is not what it hands on


def _again(kind: type[ChronoMapError], arguments: tuple[Any, ...], attributes: dict[str, Any]) -> ChronoMapError:
    error = kind.__new__(kind, *arguments)
    error.__dict__.update(attributes)
    return error


class ChronoMapKeyError(ChronoMapError, KeyError):
    """A key holds nothing at the asked timestamp and revision.

    Attributes:
        key: The key that was asked for.
    """

    def __init__(self, key: Any) -> None:
        super().__init__(key)
        self.key = key


class ChronoMapTypeError(ChronoMapError, TypeError):
    """An argument has a type that cannot work (an unhashable key, a bool as timestamp)."""


class ChronoMapValueError(ChronoMapError, ValueError):
    """An argument has the right type and an impossible value (a ttl of zero, NaN as timestamp)."""


class ConflictError(ChronoMapError):
    """Somebody else changed what this write depends on; nothing was written.

    Attributes:
        keys: The keys that changed meanwhile.
        version: The version in force of the first of them (None: it holds nothing).
        revision: The revision that last changed that key (0: never).
    """

    def __init__(
        self,
        message: str,
        *,
        keys: tuple[Any, ...] = (),
        version: Callable[[], Any] | None = None,
        revision: int = 0,
    ) -> None:
        super().__init__(message)
        self.keys = keys
        self.revision = revision
        self._version = version  # asked for when somebody looks: it copies a value, and a copy may fail

    @property
    def version(self) -> Any:
        """The version in force when the write was refused, with a copy of its value; None: the key holds nothing."""
        return None if self._version is None else self._version()

    def __reduce__(self) -> tuple[Any, ...]:
        version = self.version
        known = None if version is None else partial(deepcopy, version)
        return _again, (type(self), self.args, self.__dict__ | {"_version": known})


class CompactedError(ChronoMapError, LookupError):
    """The history needed for the answer has been pruned or erased: the answer is unknown, not "missing".

    Attributes:
        key: The key, if it is about one.
        timestamp: The oldest timestamp that can still be read (None if it is not known).
    """

    def __init__(self, message: str, *, key: Any = None, timestamp: float | None = None) -> None:
        super().__init__(message)
        self.key = key
        self.timestamp = timestamp


class NotResidentError(ChronoMapError):
    """What was asked for is in the file only, and this call cannot wait for the disk; the message says which can.

    Attributes:
        key: The key.
    """

    def __init__(self, key: Any) -> None:
        super().__init__(
            f"the older history of key {key!r} is not in memory, and this call does not wait for the disk: "
            "await get(), version() or history() instead"
        )
        self.key = key


class FutureRevisionError(ChronoMapValueError):
    """A revision that the map has not reached yet.

    Attributes:
        revision: The revision that was asked for.
        newest: The newest revision there is.
    """

    def __init__(self, revision: int, newest: int) -> None:
        super().__init__(f"revision {revision} is in the future: the newest is {newest}")
        self.revision = revision
        self.newest = newest


class LaggedError(ChronoMapError):
    """A watcher fell behind what the change feed retains; some changes can no longer be delivered.

    Attributes:
        since: The revision the watcher had reached.
        oldest: ``watch(since=oldest)`` is the earliest resumption that misses nothing from there on.
    """

    def __init__(self, since: int, oldest: int) -> None:
        super().__init__(
            f"the changes after revision {since} are no longer retained; "
            f"read the present with watch(initial=True), or resume with watch(since={oldest})"
        )
        self.since = since
        self.oldest = oldest


class ClosedError(ChronoMapError):
    """The map (or the handle) has been closed."""


class ForkedError(ChronoMapError, RuntimeError):
    """The map was made in another process; after a fork each process must open its own."""


class JournalError(ChronoMapError):
    """The journal could not store or read something; after a failed write it refuses more until it is reopened."""


class JournalOpenError(JournalError):
    """A file cannot be opened as a journal: the message says why, and what to do.

    Attributes:
        path: The file.
    """

    def __init__(self, message: str, *, path: str = "") -> None:
        super().__init__(message)
        self.path = path


class JournalInUseError(JournalOpenError):
    """Another process (or another map in this one) has the file open.

    Attributes:
        pid: The owner's process id; None if it did not get to write it down.
        host: The machine or container in which that id means something.
    """

    def __init__(self, message: str, *, path: str = "", pid: int | None = None, host: str = "") -> None:
        super().__init__(message, path=path)
        self.pid = pid
        self.host = host


class CorruptJournalError(JournalError):
    """A file does not hold what it should: it is damaged, or was not written by ChronoMap.

    Attributes:
        problems: What is wrong, one line each.
        safe: Everything up to this revision was read and found right.
    """

    def __init__(self, message: str, *, problems: tuple[str, ...] = (), safe: int = 0) -> None:
        super().__init__(message)
        self.problems = problems or (message,)
        self.safe = safe


class MissingExtraError(ChronoMapError, ImportError):
    """Something optional is not installed; the message says which ``pip install`` brings it."""
