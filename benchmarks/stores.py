"""What several scenarios are compared with: stores that can put and get, each made from what its library offers.

A bare dict of lists is the limit: it keeps every version with its time, and nothing that keeps history in Python can do
with less. The others either keep no history or cannot be shared; each is measured only where it does the same job.
"""

from __future__ import annotations

import copy
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any, Final

KEYS: Final = [f"key-{number}" for number in range(1_000)]


def around(keys: list[str], count: int) -> Iterator[str]:
    """So many keys, taken in turn."""
    return islice(cycle(keys), count)


@dataclass(frozen=True)
class Store:
    """How to put and get, and the object behind."""

    put: Callable[[Any, Any], Any]
    get: Callable[[Any], Any]
    behind: Any


@contextmanager
def opened(side: str) -> Iterator[Store]:
    """An empty store of a side, for plain calls."""
    if side == "diskcache":
        import diskcache

        with tempfile.TemporaryDirectory() as folder, diskcache.Cache(folder) as cache:
            yield Store(cache.set, cache.get, cache)
    elif side == "pykka actor":
        reference = _actor()
        try:
            yield Store(lambda key, value: reference.ask((key, value)), reference.ask, reference)
        finally:
            reference.stop()
    else:
        yield MAKERS[side]()


def chronomap(**options: Any) -> Store:
    """The ``ChronoMap`` of whatever environment this is, as it comes; options are for ours."""
    from chronomap import ChronoMap

    made: Any = ChronoMap(**options)
    return Store(made.put, made.get, made)


def dict_of_lists(keep: Callable[[Any], Any] | None = None) -> Store:
    """Every version with its time, and nothing else. With ``keep`` it copies values in and out."""
    lists: defaultdict[Any, list[tuple[float, Any]]] = defaultdict(list)
    clock = time.time

    def put(key: Any, value: Any) -> None:
        lists[key].append((clock(), value))

    def get(key: Any) -> Any:
        return lists[key][-1][1]

    if keep is None:
        return Store(put, get, lists)
    return Store(lambda key, value: put(key, keep(value)), lambda key: keep(get(key)), lists)


def dict_with_lock() -> Store:
    """The same behind a lock: what one writes by hand to share it between threads."""
    lists: defaultdict[Any, list[tuple[float, Any]]] = defaultdict(list)
    mutex = threading.Lock()
    clock = time.time

    def put(key: Any, value: Any) -> None:
        with mutex:
            lists[key].append((clock(), value))

    def get(key: Any) -> Any:
        with mutex:
            return lists[key][-1][1]

    return Store(put, get, lists)


def ttl_cache() -> Store:
    """A cache with expiry and without history."""
    from cachetools import TTLCache

    cache: Any = TTLCache(maxsize=10_000_000, ttl=3_600)
    return Store(cache.__setitem__, cache.get, cache)


def _actor() -> Any:
    """An actor with a thread of its own that owns a dict of lists."""
    import pykka

    class Table(pykka.ThreadingActor):
        def __init__(self) -> None:
            super().__init__()
            self.lists: defaultdict[Any, list[tuple[float, Any]]] = defaultdict(list)

        def on_receive(self, message: Any) -> Any:
            if isinstance(message, str):
                return self.lists[message][-1][1]
            key, value = message
            return self.lists[key].append((time.time(), value))

    return Table.start()


MAKERS: Final[dict[str, Callable[[], Store]]] = {
    "ours": chronomap,
    "ours, share": lambda: chronomap(isolation="share"),
    "peer": chronomap,
    "dict of lists": dict_of_lists,
    "dict of lists, deepcopy": lambda: dict_of_lists(copy.deepcopy),
    "dict with a Lock": dict_with_lock,
    "cachetools.TTLCache": ttl_cache,
}
