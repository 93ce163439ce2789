"""Files of whole maps: everything comes back as it was, or is refused before the old file is touched."""

from __future__ import annotations

import collections
import contextlib
import datetime as dt
import enum
import math
import struct
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any
from uuid import UUID, uuid1
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chronomap import ChronoMap, ChronoMapTypeError, ChronoMapValueError, CompactedError
from chronomap.formats import plain as plain_module
from chronomap.formats import tagged
from chronomap.testing import ManualClock

GOLDEN = Path(__file__).parent / "golden"

zones = st.one_of(
    st.none(),
    st.just(dt.UTC),
    st.builds(lambda offset: dt.timezone(dt.timedelta(microseconds=offset)), st.integers(-86_399_999_999, 86_399_999_999)),
    st.just(dt.timezone(dt.timedelta(hours=1), "CET")),
    st.sampled_from([ZoneInfo("UTC"), ZoneInfo("Europe/Paris")]),
)
texts = st.text(st.characters() | st.characters(categories=["Cs"]))
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.just(10**3100),  # above tagged.INT_BITS, and Python can still print it
    st.floats(),
    st.complex_numbers(),
    texts,
    st.binary(),
    st.dates(),
    st.timedeltas(),
    st.decimals(allow_nan=False),
    st.fractions(),
    st.uuids(),
    st.builds(dt.datetime.replace, st.datetimes(), tzinfo=zones, fold=st.sampled_from([0, 1])),
    st.builds(dt.time.replace, st.times(), tzinfo=zones, fold=st.sampled_from([0, 1])),
    st.builds(range, st.integers(-9, 9), st.integers(-9, 9), st.sampled_from([-2, 1, 10**20])),
)
hashables = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3), max_leaves=5
)
values = st.recursive(
    scalars | st.binary().map(bytearray),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.sets(hashables, max_size=3),
        st.dictionaries(hashables, inner, max_size=3),
        st.dictionaries(st.sampled_from(["$type", "value", "zone", "a"]), inner, max_size=3),
    ),
    max_leaves=12,
)


def exactly(value: Any) -> Any:  # noqa: PLR0911 - one case per kind of type
    """Something equal only for what is the same in type and content all the way down; -0.0 and NaN included."""
    kind = type(value)
    if kind is float:
        return kind, "nan" if math.isnan(value) else struct.pack("d", value)
    if kind is complex:
        return kind, exactly(value.real), exactly(value.imag)
    if kind is dict:
        return kind, [(exactly(key), exactly(item)) for key, item in value.items()]
    if kind in (set, frozenset):
        return kind, sorted(repr(exactly(item)) for item in value)
    if kind in (list, tuple):
        return kind, [exactly(item) for item in value]
    if kind in (dt.datetime, dt.time):
        zone = value.tzinfo
        return kind, value.replace(tzinfo=None).isoformat(), value.fold, type(zone), repr(zone)
    if kind is Decimal:
        return kind, value.as_tuple()
    return kind, value


SAVES = [
    pytest.param(lambda cm, path: cm.save_json(path), ChronoMap.load_json, id="json"),
    pytest.param(lambda cm, path: cm.save_pickle(path), ChronoMap.load_pickle, id="pickle"),
    pytest.param(lambda cm, path: cm.save_pickle(path, compress=True), ChronoMap.load_pickle, id="compressed"),
]
each_file = pytest.mark.parametrize(("save", "load"), SAVES)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One directory for all examples of a property."""
    return tmp_path_factory.mktemp("files")


@each_file
@given(key=hashables, value=values)
def test_keys_and_values_come_back_as_they_were(
    folder: Path, save: Callable[..., None], load: Callable[..., Any], key: Any, value: Any
) -> None:
    """Type and content of every plain key and value survive, whatever it is made of."""
    cm: ChronoMap[Any, Any] = ChronoMap()
    cm.put(key, value)
    path = folder / "map"
    save(cm, path)
    again = load(path)
    assert exactly(list(again.to_dict()["store"].items())) == exactly(list(cm.to_dict()["store"].items()))


@given(value=values)
def test_the_encoding_itself(value: Any) -> None:
    """What is encoded is ASCII without bare NaN, and decodes to the same."""
    text = tagged.line(tagged.encode(value))
    assert text.isascii()
    assert exactly(tagged.decode(tagged.parse(text))) == exactly(value)


@pytest.mark.parametrize(
    "value",
    [
        "\ud83d\ude00",  # two characters, not one emoji
        "\ud83d",
        {"\ud83d\ude00": 1},
        {"$type": "tuple", "value": [1]},
        {1: "int", "1": "text"},
        {"NaN": float("nan")},
        -0.0,
        complex(-0.0, math.inf),
        10**5000,
        dt.datetime(2025, 10, 26, 2, 30, tzinfo=ZoneInfo("Europe/Paris"), fold=1),
        dt.time(1, tzinfo=dt.timezone(dt.timedelta(seconds=1), "x")),
        Decimal("-0E+5"),
        Decimal("NaN12"),
        uuid1(),
        range(0, 10, 3),
    ],
    ids=lambda value: type(value).__name__,
)
@each_file
def test_awkward_values(tmp_path: Path, save: Callable[..., None], load: Callable[..., Any], value: Any) -> None:
    """Cases that JSON or pickle by themselves would change, or read as something else."""
    cm: ChronoMap[str, Any] = ChronoMap()
    cm.put("k", value)
    save(cm, tmp_path / "f")
    assert exactly(load(tmp_path / "f").get("k")) == exactly(value)


@each_file
def test_the_whole_history_comes_back(tmp_path: Path, save: Callable[..., None], load: Callable[..., Any]) -> None:
    """Versions, tombstones, cancellations, expiries, schedule, prunings, revisions and instants; and 1 is not "1"."""
    clock = ManualClock(1000)
    cm: ChronoMap[Any, Any] = ChronoMap(clock=clock)
    for value in range(4):
        cm.put("pruned", value, timestamp=value)
    cm.prune_history("pruned", keep_last=2)
    cm.put(1, "int", ttl=5)
    cm.put("1", "text")
    cm.put("s", "now")
    cm.put("s", "later", timestamp=2000)
    cm.put("s", "called off", timestamp=3000)
    cm.unschedule("s", 3000)
    cm.delete("1")
    save(cm, tmp_path / "f")
    again = load(tmp_path / "f", clock=clock)
    assert again.to_dict() == cm.to_dict()
    assert again.get(1) == "int" and again.get("1") is None
    with pytest.raises(CompactedError):
        again.get("pruned", timestamp=0)
    clock.set(2500)
    assert again.get("s") == "later" and again.get(1) is None
    again._store.check(2500)
    assert again.put("new", 1) == cm.put("new", 1)


def test_an_expiry_that_was_undone_stays_undone(tmp_path: Path) -> None:
    """It fell due once, before the file was written; only what the last commit brought along is due still."""
    clock = ManualClock(1000)
    cm: ChronoMap[str, int] = ChronoMap(clock=clock)
    cm.put("a", 1, ttl=5)
    clock.set(1010)
    expired = cm.put("b", 1) - 1
    cm.undo(expired)
    cm.save_json(tmp_path / "f")
    again = ChronoMap[str, int].load_json(tmp_path / "f", clock=clock)
    assert again.to_dict() == cm.to_dict()
    assert again.revision == cm.revision


def test_an_empty_map(tmp_path: Path) -> None:
    """It can be saved, too."""
    ChronoMap().save_json(tmp_path / "f")
    assert ChronoMap.load_json(tmp_path / "f").revision == 0


def test_what_was_pruned_of_a_past_is_not_missing_in_its_fork() -> None:
    """A fork of a past whose only version was pruned cannot be made: it would say "missing"."""
    cm: ChronoMap[str, int] = ChronoMap()
    cm.put("a", 1)
    cm.put("a", 2)
    cm.prune_history("a", keep_last=1)
    with pytest.raises(CompactedError):
        cm.at(revision=1).fork()


class Colour(enum.IntEnum):
    """An int that a file would bring back as an int."""

    RED = 1


class Text(str):
    """A str that a file would bring back as a str."""

    __slots__ = ()


Point = collections.namedtuple("Point", "x y")  # noqa: PYI024 - the plain one is meant

cyclic: list[Any] = []
cyclic.append(cyclic)


def nested(levels: int) -> list[Any]:
    """A list in a list in a list, and so on."""
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [
        Colour.RED,
        Text("x"),
        Point(1, 2),
        collections.OrderedDict(),
        collections.defaultdict(list),
        {"deep": [1, {"er": (Colour.RED,)}]},
        {Colour.RED: 1},
        frozenset([Text("x")]),
        dt.timezone(dt.timedelta(0), Text("x")),
        print,
        Path,
        object(),
        ...,
        cyclic,
        nested(plain_module.DEPTH + 1),
    ],
    ids=lambda value: type(value).__name__,
)
@each_file
def test_what_would_not_come_back_is_refused(
    tmp_path: Path, save: Callable[..., None], load: Callable[..., Any], value: Any
) -> None:
    """With the name of the key; the old file stays, byte for byte, and nothing is left beside it."""
    path = tmp_path / "f"
    path.write_bytes(b"the old file")
    cm: ChronoMap[str, Any] = ChronoMap(isolation="share")
    cm.put("fine", 1)
    cm.put("wrong", value)
    with pytest.raises(ChronoMapTypeError, match="'wrong'"):
        save(cm, path)
    assert path.read_bytes() == b"the old file"
    assert list(tmp_path.iterdir()) == [path]


@each_file
def test_keys_are_refused_too(tmp_path: Path, save: Callable[..., None], load: Callable[..., Any]) -> None:
    """A key of a subclass would be another key afterwards."""
    cm: ChronoMap[Any, Any] = ChronoMap()
    cm.put((Text("x"),), 1)
    with pytest.raises(ChronoMapTypeError, match="key"):
        save(cm, tmp_path / "f")
    assert not list(tmp_path.iterdir())


@each_file
def test_as_deep_as_can_be_written_can_be_read(tmp_path: Path, save: Callable[..., None], load: Callable[..., Any]) -> None:
    """The limit of nesting is one that reading keeps, too."""
    cm: ChronoMap[str, Any] = ChronoMap()
    cm.put("k", nested(plain_module.DEPTH))
    save(cm, tmp_path / "f")
    assert load(tmp_path / "f").get("k") == nested(plain_module.DEPTH)


def test_a_value_reached_in_many_ways_is_looked_at_once() -> None:
    """Checking follows the memory of a value, not its size written out (here: 2 to the power of 90)."""
    value: list[Any] = []
    for _ in range(90):
        value = [value, value]
    plain_module.check(value, lambda: "it")


# -- ChronoMap 2 -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["20.json", "21.json", "20.pickle", "21.pickle", "21.zpickle"])
def test_files_that_chronomap_2_wrote(name: str) -> None:
    """Written by the real 2.0.2 and 2.1.0 (see golden/write.py)."""
    load = ChronoMap.load_json if name.endswith("json") else ChronoMap.load_pickle
    cm = load(GOLDEN / name, clock=ManualClock(500))
    number = "3" if name.endswith("json") else 3  # ChronoMap 2 made texts of JSON's keys
    assert cm.history("a") == [(100.0, 1), (200.5, 2), (200.5, 3)]
    assert cm.get("a") == 3
    assert cm.history("late") == [(20.0, "first"), (50.0, "second")]
    assert cm.history(number) == [(5.0, {"x": [1, None, "ü"]})]
    assert math.isnan(cm.get("n"))
    assert "gone" not in cm and cm.history("gone") == []
    [version] = cm.versions("t")
    assert version.value == "ttl" and version.expires_at is not None and version.expires_at > 10**9
    assert all(v.expires_at is None for v in cm.versions("a"))
    if "pickle" in name:
        assert cm.get((1, 2)) == {1, 2}
        assert cm.get("when") == dt.datetime(2025, 1, 1, 23, tzinfo=dt.UTC)
    cm._store.check(500)
    assert cm.revision == sum(len(cm.versions(key)) for key in cm)


def test_a_version_of_chronomap_2_dated_later_than_now() -> None:
    """Its commit is dated now, and it is scheduled."""
    clock = ManualClock(100)
    cm = ChronoMap.from_dict({"store": {"a": [(50, 1), (200, 2)]}, "ttl": {"a": 300}}, clock=clock)
    assert cm.get("a") == 1
    clock.set(200)
    assert cm.get("a") == 2
    clock.set(300)
    assert "a" not in cm


def test_a_row_that_repeats_the_one_before_is_one_version() -> None:
    """As merging a map with a copy of itself left them in ChronoMap 2."""
    cm = ChronoMap.from_dict({"store": {"a": [(1, "x"), (1, "x"), (2, "x")], "empty": []}, "ttl": {}})
    assert cm.history("a") == [(1.0, "x"), (2.0, "x")]
    assert cm.revision == 2


# -- what is wrong is refused ------------------------------------------------------------------------------------------


def good() -> dict[str, Any]:
    """A dict that loads."""
    return {
        "format": "chronomap/3",
        "version": "3",
        "revision": 2,
        "instants": [10.0, 20.0],
        "store": {"a": [(1.0, "x", 1, None, "value"), (2.0, None, 2, None, "tombstone")]},
        "pruned": {"a": (0.5, 1)},
        "pruned_to": 1,
        "notes": [(1, None, {"author": "ann"}, []), (2, "clear", {}, [("a", 1.0, 1)])],
        "snapshot_time": None,
    }


def test_the_good_one_is_good() -> None:
    """Or the next test would prove nothing."""
    assert ChronoMap.from_dict(good()).to_dict() == good()


@pytest.mark.parametrize(
    "change",
    [
        {"format": "chronomap/4"},
        {"format": []},
        {"version": "4"},
        {"revision": 3},
        {"revision": True, "instants": [10.0]},
        {"revision": 2.0},
        {"instants": [20.0, 10.0]},
        {"instants": [10.0, math.nan]},
        {"instants": "ab"},
        {"instants": [10.0, 10**400]},
        {"store": []},
        {"store": {"a": []}},
        {"store": {"a": {}}},
        {"store": {"a": [(1.0, "x", 1, None)]}},
        {"store": {"a": ["abcde"]}},
        {"store": {"a": [(1.0, "x", 3, None, "value")]}},
        {"store": {"a": [(1.0, "x", 0, None, "value")]}},
        {"store": {"a": [(1.0, "x", True, None, "value")]}},
        {"store": {"a": [(math.inf, "x", 1, None, "value")]}},
        {"store": {"a": [("1", "x", 1, None, "value")]}},
        {"store": {"a": [(True, "x", 1, None, "value")]}},
        {"store": {"a": [(1.0, "x", 1, math.nan, "value")]}},
        {"store": {"a": [(1.0, "x", 1, "5", "value")]}},
        {"store": {"a": [(1.0, "x", 1, None, "thing")]}},
        {"store": {"a": [(1.0, "x", 1, None, [])]}},
        {"store": {"a": [(1.0, "x", 1, None, "tombstone")]}},
        {"store": {"a": [(1.0, None, 1, 5.0, "cancellation")]}},
        {"store": {"a": [(1.0, "x", 1, None, "value"), (1.0, "y", 1, None, "value")]}},
        {"store": {"a": [(2.0, "x", 1, None, "value"), (1.0, "y", 2, None, "value")]}},
        {"pruned": {"b": (1.0, 1)}},
        {"pruned": {"a": (1.5, 1)}},
        {"pruned": {"a": (0.5,)}},
        {"pruned": {"a": (0.5, 3)}},
        {"pruned": None},
        {"pruned_to": 3},
        {"pruned_to": None},
        {"notes": None},
        {"notes": [(1, None, {})]},
        {"notes": [(3, None, {}, [])]},
        {"notes": [(2, None, {}, []), (1, None, {}, [])]},
        {"notes": [(1, "put", {}, [])]},
        {"notes": [(1, [], {}, [])]},
        {"notes": [(1, None, {"author": []}, [])]},
        {"notes": [(1, None, {"author": math.nan}, [])]},
        {"notes": [(1, None, [], [])]},
        {"notes": [(1, None, {}, ["a"])]},
        {"notes": [(1, None, {}, [("b", 1.0, 1)])]},
        {"notes": [(1, None, {}, [([], 1.0, 1)])]},
        {"notes": [(1, None, {}, [("a", "now", 1)])]},
        {"notes": [(1, None, {}, [("a", 1.0, 3)])]},
        {"snapshot_time": "now"},
        {"more": 1},
    ],
    ids=repr,
)
def test_a_wrong_dict_is_refused(change: dict[str, Any]) -> None:
    """Before anything of it is loaded, and with one kind of error."""
    with pytest.raises(ChronoMapValueError):
        ChronoMap.from_dict(good() | change)


@pytest.mark.parametrize("name", sorted(good()))
def test_a_dict_with_a_part_missing_is_refused(name: str) -> None:
    """Each part is needed."""
    with pytest.raises(ChronoMapValueError):
        ChronoMap.from_dict({key: part for key, part in good().items() if key != name})


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"store": []},
        {"store": {"a": 1}},
        {"store": {"a": [1]}},
        {"store": {"a": [(1, 2, 3)]}},
        {"store": {"a": [("now", 2)]}},
        {"store": {"a": [(2, "x"), (1, "y")]}},
        {"store": {"a": [(math.nan, "x")]}},
        {"store": {}, "ttl": []},
        {"store": {"a": [(1, 2)]}, "ttl": {"a": "soon"}},
        {"store": {}, "version": "4.0"},
        {"store": {}, "snapshot_time": "now"},
    ],
    ids=repr,
)
def test_a_wrong_dict_of_chronomap_2_is_refused(wrong: dict[str, Any]) -> None:
    """The same for the old format."""
    with pytest.raises(ChronoMapValueError):
        ChronoMap.from_dict(wrong)


WRITTEN = (
    '{"format":"chronomap/3","version":"3","revision":1,"instants":[1.0],"snapshot_time":null,"pruned":[],"pruned_to":0,'
    '"notes":[],"store":[KEYS]}'
)
ONE = '[KEY,[[1.0,VALUE,1,null,"value"]]]'


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\xff\xfe\xff",
        b"{",
        b"[]",
        b"[" * 100_000,
        WRITTEN.replace("KEYS", ONE.replace("KEY", "[1]").replace("VALUE", "1")),
        WRITTEN.replace("KEYS", ",".join([ONE.replace("KEY", '"k"').replace("VALUE", "1")] * 2)),
        WRITTEN.replace("KEYS", f"{ONE.replace('KEY', '1')},{ONE.replace('KEY', '1.0')}".replace("VALUE", "1")),
        WRITTEN.replace("KEYS", "[1]"),
        WRITTEN.replace("KEYS", "7"),
        WRITTEN.replace('"pruned":[]', '"pruned":{}').replace("KEYS", ""),
        '{"store":{"1":[[1,"a"]],"1":[[1,"b"]]},"ttl":{}}',
        *(
            WRITTEN.replace("KEYS", ONE.replace("KEY", '"k"').replace("VALUE", value))
            for value in (
                "1e999",
                "NaN",
                '{"a":1,"a":2}',
                '{"$type":"set","value":[1,true]}',
                '{"$type":"dict","value":[[1,1],[1.0,2]]}',
                '{"$type":"dict","value":[1]}',
                '{"$type":"set","value":[[1]]}',
                '{"$type":"nothing","value":1}',
                '{"$type":["set"],"value":[]}',
                '{"$type":"set"}',
                '{"$type":"set","value":[],"more":1}',
                '{"$type":"bytes","value":"?"}',
                '{"$type":"date","value":"2025-02-30"}',
                '{"$type":"datetime","value":"2025-01-01T00:00:00+01:00"}',
                '{"$type":"datetime","value":"2025-01-01","zone":"CET"}',
                '{"$type":"zoneinfo","value":"../../etc/passwd"}',
                '{"$type":"zoneinfo","value":"Nowhere/At_All"}',
                '{"$type":"zoneinfo","value":"Europe"}',
                '{"$type":"fraction","value":[1,0]}',
                '{"$type":"decimal","value":"one"}',
                '{"$type":"complex","value":[1]}',
                '{"$type":"uuid","value":"12"}',
                '{"$type":"timedelta","value":[1e9,0,0]}',
                '{"$type":"str","value":[1114112]}',
                '{"$type":"float","value":"0"}',
                '{"$type":"float","value":[]}',
                "[" * 250 + "]" * 250,
                "9" * 5000,
            )
        ),
    ],
)
def test_a_wrong_json_file_is_refused(tmp_path: Path, text: str | bytes) -> None:
    """Nothing is guessed, nothing is lost, and no other error comes out."""
    (tmp_path / "f").write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(ChronoMapValueError):
        ChronoMap.load_json(tmp_path / "f")


@each_file
def test_damaged_files(tmp_path: Path, seed: Any, save: Callable[..., None], load: Callable[..., Any]) -> None:
    """Cut anywhere: refused. A byte changed anywhere: refused, or other plain content; never another error."""
    cm: ChronoMap[Any, Any] = ChronoMap()
    cm.put("a", {"x": [1, 2.5, None], "when": dt.datetime(2025, 1, 1, tzinfo=dt.UTC)})
    cm.put((1, b"x"), {1, UUID(int=5)}, ttl=50)
    cm.put("c", [Fraction(1, 3), Decimal("1.5"), bytearray(b"y"), 1j])
    path = tmp_path / "f"
    save(cm, path)
    whole = path.read_bytes()
    for end in range(len(whole.rstrip())):
        path.write_bytes(whole[:end])
        with pytest.raises(ChronoMapValueError):
            load(path)
    for _ in range(3000):
        damaged = bytearray(whole)
        damaged[seed.randrange(len(whole))] ^= seed.randrange(1, 256)
        path.write_bytes(damaged)
        with contextlib.suppress(ChronoMapValueError):
            load(path)
