"""Programs written for ChronoMap 2.1: what its README documents works unchanged, and what differs is listed here.

The documented calls are written once and run on the sync face and, awaited behind the scenes, on the async one on
asyncio and on trio. ``DIFFERENCES`` is the list that README.md repeats: each of its lines has a test.
"""

from __future__ import annotations

import inspect
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import anyio.from_thread
import pytest

import chronomap
from chronomap import (
    AsyncChronoMap,
    ChronoMap,
    ChronoMapError,
    ChronoMapKeyError,
    ChronoMapTypeError,
    ChronoMapValueError,
    CompactedError,
)

pytestmark = pytest.mark.usefixtures("maps")

README = Path(__file__).parents[2] / "README.md"


class Awaited:
    """An async map (or snapshot) used like a sync one: every call is awaited on a loop in another thread."""

    def __init__(self, portal: Any, target: Any) -> None:
        self._portal = portal
        self._target = target

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._target, name)
        if not callable(attribute):
            return attribute

        async def call(*arguments: Any, **named: Any) -> Any:
            reply = attribute(*map(unwrap, arguments), **named)
            return await reply if inspect.isawaitable(reply) else reply

        def blocking(*arguments: Any, **named: Any) -> Any:
            reply = self._portal.call(lambda: call(*arguments, **named))
            return Awaited(self._portal, reply) if hasattr(reply, "history") else reply

        return blocking

    def __setitem__(self, key: Any, value: Any) -> None:
        self.put(key, value)

    def __delitem__(self, key: Any) -> None:
        if not self.delete(key):
            raise ChronoMapKeyError(key)

    def _plain(self, function: Callable[[Any], Any]) -> Any:
        async def call() -> Any:
            return function(self._target)

        return self._portal.call(call)

    def __getitem__(self, key: Any) -> Any:
        return self._plain(lambda target: target[key])

    def __contains__(self, key: Any) -> bool:
        return bool(self._plain(lambda target: key in target))

    def __iter__(self) -> Iterator[Any]:
        return iter(self._plain(list))

    def __len__(self) -> int:
        return int(self._plain(len))

    def __bool__(self) -> bool:
        return bool(self._plain(bool))

    def __eq__(self, other: object) -> bool:
        return bool(self._plain(lambda target: target == unwrap(other)))

    __hash__ = None  # type: ignore[assignment]


def unwrap(value: Any) -> Any:
    """What stands behind an ``Awaited``."""
    return value._target if isinstance(value, Awaited) else value


@pytest.fixture(params=["sync", "asyncio", "trio"])
def new(request: pytest.FixtureRequest) -> Iterator[Callable[[], Any]]:
    """Makes empty maps of one face."""
    if request.param == "sync":
        yield ChronoMap
        return
    with anyio.from_thread.start_blocking_portal(request.param) as portal:
        made: list[Awaited] = []

        async def make() -> Any:
            return AsyncChronoMap()

        def new() -> Awaited:
            made.append(Awaited(portal, portal.call(make)))
            return made[-1]

        yield new
        for cm in made:
            cm.aclose()


@pytest.fixture
def cm(new: Callable[[], Any]) -> Any:
    """An empty map."""
    return new()


# -- what the README of 2.1 shows, section by section ------------------------------------------------------------------


def test_quick_start(cm: Any) -> None:
    """Items, a query, a change callback, pruning."""
    seen = []

    def log_change(key: Any, old: Any, new: Any, ts: float) -> None:
        seen.append((key, old, new, type(ts)))

    cm["user"] = "alice"
    cm["status"] = "active"
    assert cm["user"] == "alice"
    assert cm.query(lambda k, v: v == "active") == {"status": "active"}
    cm.on_change(log_change)
    cm["user"] = "bob"
    assert seen == [("user", "alice", "bob", float)]
    assert cm.prune_all_history(keep_last=100) == 0


def test_basic_operations(cm: Any) -> None:
    """Put, get, delete, by method and by operator; defaults; strict."""
    cm.put("key", "value")
    assert cm.get("key") == "value"
    assert cm.delete("key") is True
    assert cm.delete("key") is False
    cm["key"] = "value"
    assert cm["key"] == "value"
    assert "key" in cm
    del cm["key"]
    assert "key" not in cm
    assert cm.get("nonexistent") is None
    assert cm.get("nonexistent", default="default_value") == "default_value"
    with pytest.raises(ChronoMapKeyError, match="nonexistent"):
        cm.get("nonexistent", strict=True)
    with pytest.raises(ChronoMapKeyError):
        cm["nonexistent"]
    with pytest.raises(KeyError):
        del cm["nonexistent"]


def test_time_travel_with_datetime(cm: Any) -> None:
    """Timestamps as text and as ``datetime``."""
    cm.put("event", "login", timestamp="2025-10-21T12:00:00")
    cm.put("event", "logout", timestamp=datetime(2025, 10, 21, 13, 0, 0))  # noqa: DTZ001 - as documented
    assert cm.get("event", timestamp="2025-10-21T12:30:00") == "login"
    assert cm.get("event") == "logout"


def test_ttl(cm: Any) -> None:
    """A ttl, and the number of expired keys."""
    cm.put("session_token", "abc123", ttl=3600)
    assert cm.get("session_token") == "abc123"
    assert cm.clean_expired_keys() == 0


def test_snapshot_context_sync() -> None:
    """An exception undoes the block and goes on."""
    cm = ChronoMap[str, Any]()
    cm["counter"] = 10

    def block() -> None:
        with cm.snapshot_context():
            cm["counter"] = 100
            cm["temp"] = "data"
            raise OSError("Rollback!")

    with pytest.raises(OSError, match="Rollback!"):
        block()
    assert cm["counter"] == 10
    assert cm.get("temp") is None


@pytest.mark.anyio
async def test_snapshot_context_async() -> None:
    """The same with ``async with``."""
    cm = AsyncChronoMap[str, Any]()
    await cm.put("counter", 10)

    async def block() -> None:
        async with cm.snapshot_context():
            await cm.put("counter", 100)
            await cm.put("temp", "data")
            raise OSError("Rollback!")

    with pytest.raises(OSError, match="Rollback!"):
        await block()
    assert await cm.get("counter") == 10
    assert await cm.get("temp") is None
    await cm.aclose()


def test_snapshot_rollback(cm: Any) -> None:
    """A snapshot stays as it was; rolling back to it brings its content back."""
    cm["a"] = 1
    snapshot = cm.snapshot()
    cm["a"] = 2
    cm["b"] = 3
    assert snapshot.get("a") == 1
    assert snapshot["a"] == 1
    assert isinstance(snapshot.snapshot_time, float)
    assert cm.snapshot_time is None
    assert cm.diff(snapshot) == {"a", "b"}
    cm.rollback(snapshot)
    assert cm.latest() == {"a": 1}
    assert cm == snapshot


def test_event_hooks(cm: Any) -> None:
    """A callback hears of changes until it is removed."""
    seen = []

    def audit_log(key: Any, old: Any, new: Any, ts: float) -> None:
        seen.append((key, old, new))

    cm.on_change(audit_log)
    cm["config"] = "new_value"
    assert seen == [("config", None, "new_value")]
    assert cm.remove_change_callback(audit_log) is True
    assert cm.remove_change_callback(audit_log) is False
    cm["config"] = "newer_value"
    assert len(seen) == 1


def test_query_and_aggregation(cm: Any) -> None:
    """Filters, aggregates and counts, also at a timestamp."""
    cm.put_many({"score1": 85, "score2": 92, "score3": 78})
    assert cm.query(lambda k, v: isinstance(v, int) and v > 80) == {"score1": 85, "score2": 92}
    assert cm.aggregate(lambda vals: sum(vals) / len(vals)) == 85
    assert cm.aggregate(sum, keys=["score1", "score2"]) == 177
    assert cm.aggregate(sum, ["score1", "missing"]) == 85
    assert cm.count(lambda k, v: v == 85) == 1
    assert cm.count() == 3
    assert cm.count(timestamp=100) == 0
    assert cm.query(lambda k, v: True, 100) == {}


def test_history_pruning(cm: Any) -> None:
    """By number, by date, and for all keys."""
    for number in range(20):
        cm.put("sensor", number, timestamp=100 + number)
    cm.put("log", "old", timestamp="2024-01-01")
    cm.put("log", "new", timestamp="2025-06-01")
    assert cm.prune_history("sensor", keep_last=10) == 10
    assert [value for _, value in cm.history("sensor")] == list(range(10, 20))
    assert cm.prune_history("log", older_than="2025-01-01") == 1
    assert cm.prune_history("nothing", keep_last=1) == 0
    assert cm.prune_all_history(keep_last=100) == 0
    assert cm.prune_all_history(5) == 5


@pytest.mark.anyio
async def test_async_chronomap() -> None:
    """The documented async program."""
    cm = AsyncChronoMap[str, Any]()
    await cm.put("key", "value")
    assert await cm.get("key") == "value"
    snap = await cm.snapshot()
    assert await cm.keys() == ["key"]
    assert await cm.latest() == {"key": "value"}
    assert await snap.get("key") == "value"
    assert await cm.delete("key") is True
    await cm.put_many({"a": 1})
    assert cm.get_stats()["writes"] == 2
    assert cm.on_change(print) is None
    await cm.aclose()


def test_pandas_export(cm: Any) -> None:
    """The documented columns and row."""
    pytest.importorskip("pandas")
    cm.put("temp", 20, timestamp=100)
    frame = cm.to_dataframe()
    assert list(frame.columns) == ["key", "value", "timestamp", "datetime", "version"]
    assert frame.iloc[0][["key", "value", "timestamp", "version"]].tolist() == ["temp", 20, 100.0, 0]
    assert str(frame.iloc[0]["datetime"]).startswith("1970-01-01 00:01:40")


def test_persistence(cm: Any, tmp_path: Path) -> None:
    """Pickle with and without compression, JSON, and plain data, through methods with the same arguments."""
    cm.put("a", 1, timestamp=100)
    cm.put("a", 2, timestamp=200)
    cm["b"] = [1, "two"]
    cm.save_pickle(str(tmp_path / "state.pkl"), compress=True)
    cm.save_pickle(tmp_path / "plain.pkl")
    cm.save_json(tmp_path / "state.json")
    loaded = [
        ChronoMap.load_pickle(str(tmp_path / "state.pkl")),
        ChronoMap.load_pickle(tmp_path / "plain.pkl", debug=False),
        ChronoMap.load_json(tmp_path / "state.json"),
        ChronoMap.from_dict(cm.to_dict()),
        ChronoMap.from_dict(cm.to_dict(compress=True)),
    ]
    for other in loaded:
        assert other.latest() == {"a": 2, "b": [1, "two"]}
        assert other.history("a") == [(100.0, 1), (200.0, 2)]
    assert isinstance(cm.to_dict(True), bytes)
    with pytest.raises(FileNotFoundError):
        ChronoMap.load_json(tmp_path / "missing.json")


def test_statistics(cm: Any) -> None:
    """Counters, and back to zero."""
    cm["a"] = 1
    cm.get("a")
    cm.delete("a")
    cm.snapshot()
    stats = cm.get_stats()
    assert {name: stats[name] for name in ("reads", "writes", "deletes", "snapshots")} == dict.fromkeys(
        ("reads", "writes", "deletes", "snapshots"), 1
    )
    cm.reset_stats()
    assert cm.get_stats()["writes"] == 0


def test_batch_operations(cm: Any) -> None:
    """Several keys at once, with a ttl, with a timestamp."""
    users = {
        "user:1": {"name": "Alice", "role": "admin"},
        "user:2": {"name": "Bob", "role": "user"},
        "user:3": {"name": "Charlie", "role": "user"},
    }
    cm.put_many(users)
    cm.put_many(users, ttl=3600)
    cm.put_many(users, timestamp=1609459200)
    assert cm.latest() == users
    assert cm.delete_many(["user:2", "user:3", "user:4"]) == 2
    assert cm.latest() == {"user:1": users["user:1"]}


def test_advanced_queries(cm: Any) -> None:
    """Ranges, newest keys, keys by value."""
    cm.put("sensor", 10, timestamp=100)
    cm.put("sensor", 15, timestamp=200)
    cm.put("sensor", 20, timestamp=300)
    assert cm.get_range("sensor", start_ts=150, end_ts=250) == [(200.0, 15)]
    assert cm.get_range("sensor", 100, 200) == [(100.0, 10), (200.0, 15)]
    cm.put("other", 1, timestamp=400)
    assert cm.get_latest_keys(2) == [("other", 400.0, 1), ("sensor", 300.0, 20)]
    assert cm.get_latest_keys(0) == []
    cm.put_many({"user1": "active", "user2": "active", "user3": "inactive"})
    assert sorted(cm.get_keys_by_value("active")) == ["user1", "user2"]


def test_merge_and_diff(new: Callable[[], Any]) -> None:
    """Both strategies, and what differs."""
    cm1, cm2 = new(), new()
    cm1.put("shared", "v1", timestamp=100)
    cm2.put("shared", "v2", timestamp=200)
    cm2.put("unique", "data")
    cm1.merge(cm2, strategy="timestamp")
    assert cm1.diff(cm2) == set()
    assert cm1.history("shared") == [(100.0, "v1"), (200.0, "v2")]
    cm1.put("shared", "mine")
    assert cm1.diff_detailed(cm2) == [("shared", "v2", "mine")]
    cm1.merge(cm2, "overwrite")
    assert cm1.get("shared") == "v2"


def test_iteration_and_utilities(cm: Any) -> None:
    """Iteration in the order of first appearance, history, length, clear."""
    cm["key"] = 1
    cm["other"] = 2
    assert list(cm) == list(cm.keys()) == ["key", "other"]
    assert list(cm.values()) == [1, 2]
    assert list(cm.items()) == [("key", 1), ("other", 2)]
    assert cm.latest() == {"key": 1, "other": 2}
    assert [value for _, value in cm.history("key")] == [1]
    assert list(cm.iter_history("key")) == cm.history("key")
    assert len(cm) == 2
    assert cm
    cm.clear()
    assert len(cm) == 0
    assert not cm


def test_bad_arguments(cm: Any) -> None:
    """The documented errors, each also the built-in it resembles, and nothing is stored."""
    bad: list[tuple[Callable[[], Any], type[Exception]]] = [
        (lambda: cm.put([], 1), ChronoMapTypeError),
        (lambda: cm.put("a", 1, ttl=0), ChronoMapValueError),
        (lambda: cm.put("a", 1, ttl=-1), ChronoMapValueError),
        (lambda: cm.put("a", 1, timestamp="yesterday"), ChronoMapValueError),
        (lambda: cm.merge("x"), ChronoMapTypeError),
        (lambda: cm.diff("x"), ChronoMapTypeError),
        (lambda: cm.rollback("x"), ChronoMapTypeError),
        (lambda: cm.merge(ChronoMap(), strategy="bad"), ChronoMapValueError),
    ]
    for call, error in bad:
        with pytest.raises(error):
            call()
    assert cm.revision == 0


# -- names, positions, classes -----------------------------------------------------------------------------------------

SIGNATURES = {
    "get": "key, timestamp=None, default=None, *, strict=False",
    "put": "key, value, timestamp=None, ttl=None",
    "put_many": "items, timestamp=None, ttl=None",
    "delete": "key",
    "delete_many": "keys",
    "clear": "",
    "latest": "",
    "history": "key",
    "iter_history": "key",
    "get_range": "key, start_ts=None, end_ts=None",
    "get_latest_keys": "n",
    "get_keys_by_value": "value, timestamp=None",
    "query": "predicate, timestamp=None",
    "aggregate": "func, keys=None, timestamp=None",
    "count": "predicate=None, timestamp=None",
    "snapshot": "",
    "snapshot_context": "",
    "diff": "other",
    "diff_detailed": "other",
    "merge": "other, strategy='timestamp'",
    "prune_history": "key, keep_last=None, older_than=None",
    "prune_all_history": "keep_last=None, older_than=None",
    "clean_expired_keys": "",
    "on_change": "callback",
    "remove_change_callback": "callback",
    "get_stats": "",
    "reset_stats": "",
    "keys": "",
    "values": "",
    "items": "",
    "to_dict": "compress=False",
    "from_dict": "data, debug=False",
    "save_json": "file_path",
    "load_json": "file_path, debug=False",
    "save_pickle": "file_path, compress=False",
    "load_pickle": "file_path, debug=False",
    "to_dataframe": "",
}


@pytest.mark.parametrize("face", [ChronoMap, AsyncChronoMap])
@pytest.mark.parametrize("name", SIGNATURES)
def test_signature(face: type, name: str) -> None:
    """The documented arguments come first, with the documented names and defaults; what is new can be left out."""
    namespace: dict[str, Any] = {}
    exec(f"def documented({SIGNATURES[name]}): ...", namespace)  # noqa: S102 - of the table above
    documented = list(inspect.signature(namespace["documented"]).parameters.values())
    bound = getattr(face, name)
    parameters = [p for p in inspect.signature(bound).parameters.values() if p.name != "self"]
    assert [(p.name, p.default, p.kind) for p in documented] == [
        (p.name, p.default, p.kind) for p in parameters[: len(documented)]
    ]
    assert all(p.default is not p.empty or p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL) for p in parameters[len(documented) :])


@pytest.mark.memory_only
def test_constructors() -> None:
    """``debug`` goes by position; ``use_rwlock`` is accepted wherever 2.1 took it, and does nothing."""
    assert isinstance(AsyncChronoMap(False), AsyncChronoMap)
    with pytest.warns(DeprecationWarning, match="use_rwlock"):
        cm = ChronoMap[str, int](False, True)
    cm["a"] = 1
    data = cm.to_dict()
    assert ChronoMap.from_dict(data, debug=False, use_rwlock=True) == cm
    assert ChronoMap.from_dict(data, False, True) == cm


@pytest.mark.parametrize(
    ("error", "builtin"),
    [(ChronoMapKeyError, KeyError), (ChronoMapTypeError, TypeError), (ChronoMapValueError, ValueError)],
)
def test_error_classes(error: type[Exception], builtin: type[Exception]) -> None:
    """Each documented error is a ``ChronoMapError`` first and a built-in second."""
    assert error.__mro__[:3] == (error, ChronoMapError, builtin)
    assert ChronoMapError.__mro__[:2] == (ChronoMapError, Exception)


# -- what is better on purpose -----------------------------------------------------------------------------------------


def history_survives(cm: Any) -> None:
    """Time travel before a delete, and before a rollback, still works."""
    cm.put("a", 1, timestamp=100)
    cm.delete("a")
    assert cm.get("a", timestamp=150) == 1
    assert cm.history("a") == [(100.0, 1)]
    revision = cm.revision
    cm["a"] = 2
    cm.rollback(revision)
    assert "a" not in cm
    assert [value for _, value in cm.history("a")] == [1, 2]


def future_is_invisible(cm: Any) -> None:
    """What is dated later than now is not there yet."""
    cm["a"] = 1
    cm.put("a", 2, timestamp="2999-01-01")
    cm.put("b", 2, timestamp="2999-01-01")
    assert cm["a"] == 1
    assert len(cm) == 1
    assert cm.latest() == {"a": 1}
    assert cm.get("b", timestamp="2999-01-02") == 2


def ttl_of_a_version(cm: Any) -> None:
    """A later put without a ttl does not inherit one."""
    cm.put("a", 1, ttl=3600)
    assert cm.version("a").expires_at is not None
    cm.put("a", 2)
    assert cm.version("a").expires_at is None


def values_are_captured(cm: Any) -> None:
    """Neither changing what was put nor what was got changes history."""
    value = {"n": 1}
    cm["a"] = value
    value["n"] = 2
    cm["a"]["n"] = 3
    assert cm["a"] == {"n": 1}


def snapshots_are_frozen(cm: Any) -> None:
    """A snapshot has no way to write, and forks when one is needed."""
    cm["a"] = 1
    snapshot = cm.snapshot()
    assert not hasattr(unwrap(snapshot), "put")
    fork = snapshot.fork()
    fork.put("a", 2)
    assert (cm["a"], fork["a"]) == (1, 2)


def missing_is_not_none(cm: Any) -> None:
    """A key that holds None is present and differs from one that is missing."""
    cm["a"] = None
    assert "a" in cm
    assert cm.diff(ChronoMap()) == {"a"}


def merge_is_idempotent(cm: Any) -> None:
    """Merging twice adds nothing; with itself is an error."""
    other = ChronoMap[str, int]()
    other.put("a", 1, timestamp=100)
    cm.merge(other)
    cm.merge(other)
    assert cm.history("a") == [(100.0, 1)]
    with pytest.raises(ChronoMapValueError):
        cm.merge(unwrap(cm))


def deletes_are_announced(cm: Any) -> None:
    """Callbacks hear of deletes, and what one raises does not reach the writer."""
    seen = []

    def callback(key: Any, old: Any, new: Any, ts: float) -> None:
        seen.append((key, old, new))

    cm["a"] = 1
    cm.on_change(callback)
    cm.delete("a")
    assert seen == [("a", 1, None)]


def pruned_is_an_error(cm: Any) -> None:
    """A read of what was pruned does not answer "missing"."""
    cm.put("a", 1, timestamp=100)
    cm.put("a", 2, timestamp=200)
    cm.prune_history("a", keep_last=1)
    with pytest.raises(CompactedError):
        cm.get("a", timestamp=150)


def writes_return_revisions(cm: Any) -> None:
    """``put``, ``put_many``, ``merge`` and ``rollback`` return the revision instead of None."""
    assert cm.put("a", 1) == 1
    assert cm.put_many({"a": 2, "b": 2}) == 2
    assert cm.rollback(1) == 3


def aggregate_of_nothing(cm: Any) -> None:
    """``aggregate`` of nothing is what the function makes of an empty list, not None."""
    assert cm.aggregate(sum) == 0
    with pytest.raises(ValueError, match="empty"):
        cm.aggregate(max)


def arguments_are_checked(cm: Any) -> None:
    """A put that raises stores nothing; what makes no sense is refused instead of ignored."""
    for call in (
        lambda: cm.put("a", 1, timestamp=True),
        lambda: cm.put("a", 1, timestamp=float("nan")),
        lambda: cm.put("a", 1, ttl="soon"),
        lambda: cm.put_many({"a": 1}, ttl=-1),
        lambda: cm.get(["unhashable"]),
        cm.prune_all_history,
        lambda: cm.rollback(ChronoMap()),
        lambda: cm.get_latest_keys(-1),
    ):
        with pytest.raises(ChronoMapError):
            call()
    assert cm.revision == 0


DIFFERENCES: dict[str, Callable[[Any], None]] = {
    "A delete, `clear` or `rollback` keeps the history": history_survives,
    "A value dated in the future is invisible until then": future_is_invisible,
    "A ttl belongs to one value": ttl_of_a_version,
    "Values are copied in and out": values_are_captured,
    "Snapshots are read-only": snapshots_are_frozen,
    "`diff` tells a missing key from one that holds None": missing_is_not_none,
    "Merging twice adds nothing": merge_is_idempotent,
    "Callbacks hear of deletes and expiries": deletes_are_announced,
    "Reading what was pruned raises `CompactedError`": pruned_is_an_error,
    "Writes return the revision": writes_return_revisions,
    "`aggregate` calls its function also for an empty list": aggregate_of_nothing,
    "Impossible arguments raise, and nothing is stored": arguments_are_checked,
}
"""What README.md says is different on purpose, with the proof."""


@pytest.mark.parametrize("text", DIFFERENCES)
def test_difference(text: str, cm: Any) -> None:
    """Each difference is as README.md says."""
    DIFFERENCES[text](cm)


def test_differences_are_in_readme() -> None:
    """README.md and this file list the same differences."""
    section = README.read_text(encoding="utf-8").partition("## Differences from chronomap 2.1")[2].partition("\n## ")[0]
    listed = [line for line in section.splitlines() if line.startswith("- ")]
    assert len(listed) == len(DIFFERENCES)
    for text, line in zip(DIFFERENCES, listed, strict=True):
        assert line.startswith(f"- {text}")


# -- and a program of random documented calls runs alike on both faces -------------------------------------------------


@asynccontextmanager
async def both() -> AsyncIterator[tuple[ChronoMap[str, int], AsyncChronoMap[str, int]]]:
    """A map of each face."""
    async with AsyncChronoMap[str, int]() as asynchronous:
        with ChronoMap[str, int]() as sync:
            yield sync, asynchronous


@pytest.mark.anyio
@pytest.mark.memory_only
async def test_faces_agree(seed: random.Random) -> None:
    """The same calls give the same content and revisions on the sync and the async face."""
    async with both() as (sync, asynchronous):
        for step in range(300):
            key, timestamp = seed.choice("abcdef"), float(seed.randrange(1000))
            verb = seed.choice(["put", "put", "put", "delete", "put_many", "rollback"])
            arguments: tuple[Any, ...] = {
                "put": (key, step, timestamp),
                "delete": (key,),
                "put_many": ({key: step, "z": step}, timestamp),
                "rollback": (seed.randint(0, sync.revision),),
            }[verb]
            assert getattr(sync, verb)(*arguments) == await getattr(asynchronous, verb)(*arguments)
            at = float(seed.randrange(1000))
            assert sync.latest(at) == await asynchronous.latest(at)
        assert sync.latest() == await asynchronous.latest()
        assert sync == asynchronous
        assert chronomap.ChronoMap is ChronoMap
