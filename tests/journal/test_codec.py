"""Values and keys as bytes: exactly the same comes back, or it is refused."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import math
import subprocess
import sys
import uuid
import zoneinfo
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chronomap.core.records import Record
from chronomap.core.values import MISSING, same
from chronomap.errors import ChronoMapTypeError, ChronoMapValueError
from chronomap.journal import ExactCodec, UnsafePickleCodec
from chronomap.journal.codec import decode_key, encode_key
from chronomap.journal.encoding import Encoder


@dataclasses.dataclass
class Point:
    """Registered in the tests below."""

    x: Any
    y: Any = 0

    def __post_init__(self) -> None:
        """Would tell if decoding ran it."""
        if self.x == "boom":
            raise AssertionError


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    """The same, immutable and with slots."""

    part: Any


class Color(enum.Enum):
    """Registered as well."""

    RED = 1
    ALSO = "a"


class Rights(enum.IntFlag):
    """With combinations that have no name."""

    READ = 1
    WRITE = 2


class Number(enum.IntEnum):
    """Equal to an int, and not registered."""

    ONE = 1


CODEC = ExactCodec([Point, Frozen, Color, Rights])


def alike(one: Any, other: Any) -> bool:  # noqa: PLR0911 - a table of types
    """Whether two values are equal and of the same types all the way down; NaN is like NaN, and -0.0 unlike 0.0."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return (math.isnan(one) and math.isnan(other)) or (one == other and math.copysign(1, one) == math.copysign(1, other))
    if isinstance(one, complex):
        return alike(one.real, other.real) and alike(one.imag, other.imag)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, dict):
        return alike(list(one.items()), list(other.items()))
    if isinstance(one, set | frozenset):
        return len(one) == len(other) and all(any(alike(part, twin) for twin in other) for part in one)
    if isinstance(one, datetime.datetime | datetime.time):
        return one.replace(tzinfo=None) == other.replace(tzinfo=None) and one.fold == other.fold and one.tzinfo == other.tzinfo
    if isinstance(one, decimal.Decimal):
        return one.as_tuple() == other.as_tuple()
    if dataclasses.is_dataclass(one):
        return all(alike(getattr(one, f.name), getattr(other, f.name)) for f in dataclasses.fields(one))
    return bool(one == other)


texts = st.text(st.characters(), max_size=8) | st.sampled_from(
    ["$", "$type", "$dict", "$tuple", "\ud800", "\ud83d\ude00", "\0"]
)
zones = (
    st.none()
    | st.timezones()
    | st.builds(
        datetime.timezone,
        st.timedeltas(datetime.timedelta(hours=-23), datetime.timedelta(hours=23)),
        st.sampled_from(["", "X"]),
    )
)
scalars = (
    st.none() | st.booleans() | st.integers() | st.integers(-(2**70), 2**70) | st.floats() | st.complex_numbers() | texts
    | st.binary(max_size=8) | st.binary(max_size=8).map(bytearray) | st.datetimes(timezones=zones, allow_imaginary=True)
    | st.dates() | st.times(timezones=zones) | st.timedeltas() | st.decimals() | st.fractions() | st.uuids()
    | st.sampled_from([*Color, *Rights, Rights(3), Rights(0), range(1, 9, 2), 10**3000, zoneinfo.ZoneInfo("UTC")])
)  # fmt: skip
hashable = st.recursive(
    scalars.filter(
        lambda value: not isinstance(value, bytearray) and not (isinstance(value, decimal.Decimal) and value.is_snan())
    ),
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3),
    max_leaves=5,
)
values = st.recursive(
    scalars | hashable,
    lambda inner: st.lists(inner, max_size=4) | st.lists(inner, max_size=3).map(tuple) | st.sets(hashable, max_size=3)
    | st.dictionaries(hashable | texts, inner, max_size=4) | st.builds(Point, inner, inner) | st.builds(Frozen, inner),
    max_leaves=12,
)  # fmt: skip


@given(values)
def test_exactly_what_was_put(value: Any) -> None:
    """Any value of the types that the codec promises comes back equal and of the same types."""
    text = CODEC.encode(value)
    assert text
    assert alike(CODEC.decode(text), value)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | texts,
        lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
        max_leaves=20,
    )
)
def test_what_json_has(value: Any) -> None:
    """The fast path is as exact as the long one."""
    assert alike(CODEC.decode(CODEC.encode(value)), value)


@pytest.mark.parametrize(
    "value",
    [
        Number.ONE,
        collections.OrderedDict(a=1),
        collections.namedtuple("Pair", "a b")(1, 2),  # noqa: PYI024
        type("Text", (str,), {})("x"),
        [type("Whole", (int,), {})(1)],
        {"a": {type("Key", (str,), {})("x"): 1}},
        object(),
        len,
        collections.defaultdict(list),
        memoryview(b"x"),
        NotImplemented,
        object,
    ],
    ids=repr,
)
def test_what_would_change_is_refused(value: Any) -> None:
    """Subclasses and foreign types are refused, wherever they stand, since only their base would come back."""
    for wrapped in (value, [value], {"a": (value,)}, Frozen(value)):
        with pytest.raises(ChronoMapTypeError, match="would not come back"):
            CODEC.encode(wrapped)


@given(st.lists(st.none() | st.booleans() | st.integers() | texts | st.dictionaries(texts, st.integers() | texts, max_size=3)))
def test_many_at_once(values: list[Any]) -> None:
    """Encoding several values gives what encoding each of them does, whatever they have in common."""
    for alone in (values, [value for value in values if type(value) is dict], [[value] for value in values]):
        assert CODEC.encode_all(alone) == [CODEC.encode(value) for value in alone]


@pytest.mark.parametrize("odd", [Number.ONE, {Number.ONE: 1}, {1: Number.ONE}, {"a": Number.ONE}, object()])
def test_one_of_many_is_refused(odd: Any) -> None:
    """A value that would not come back refuses all of those that are encoded with it."""
    for others in ([1], [{"a": 1}], [{"a": [1]}]):
        with pytest.raises(ChronoMapTypeError):
            CODEC.encode_all([*others, odd])


def test_line_ends_in_values() -> None:
    """What is the end of a line to Python does not end a value."""
    values = ["\n", "\r\n", "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029", "", "\r"]
    assert [CODEC.decode(text) for text in CODEC.encode_all(values)] == values
    assert [CODEC.decode(text) for text in CODEC.encode_all([{value: value} for value in values])] == [{v: v} for v in values]


WRAPPERS: list[Any] = [
    lambda part: [part, part],
    lambda part: (part, part),
    lambda part: {"a": part, "b": part},
    lambda part: {1: part, 2: part},
    lambda part: Point(part, part),
    lambda part: Frozen([part, (part,)]),
    lambda part: [{"a": part}, 1 << 70, part, float("nan")],
]


@pytest.mark.parametrize("wrap", WRAPPERS)
@pytest.mark.parametrize("core", ["x", 1, b"x", None])
def test_what_is_shared_is_not_written_for_ever(wrap: Any, core: Any) -> None:
    """A small value that would be huge when written, since its parts are shared, is refused without writing it."""
    value = wrap(core)
    for _ in range(30):
        value = wrap(value)
    with pytest.raises(ChronoMapValueError, match="MiB"):
        CODEC.encode(value)


@pytest.mark.parametrize(
    "large", ["x" * 100_000, 1 << 400_000, b"x" * 100_000, ("x" * 100_000,)], ids=lambda large: type(large).__name__
)
def test_large_parts_in_many_places(large: Any) -> None:
    """The same goes for texts, numbers and bytes that are in many places."""
    for value in ([large] * 1000, {str(n): large for n in range(1000)}, [[large, n] for n in range(1000)], (large,) * 1000):
        with pytest.raises(ChronoMapValueError, match="MiB"):
            CODEC.encode(value)
        with pytest.raises(ChronoMapValueError, match="MiB"):
            CODEC.encode_all([value, value])


def test_the_largest_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is that of the text, to the byte, wherever it comes from."""
    for module in ("exact", "measuring", "encoding"):
        monkeypatch.setattr(f"chronomap.journal.{module}.LIMIT", 1000)
    for value, over in (("x" * 998, "x" * 999), (b"x" * 999, b"x" * 1000), (["x" * 996], ["x" * 997]), ([9] * 499, [9] * 500)):
        assert len(CODEC.encode(value)) >= 999
        assert CODEC.encode_all([value] * 3) == [CODEC.encode(value)] * 3
        for many in ([over], [1, over], [over, over]):
            with pytest.raises(ChronoMapValueError, match="MiB"):
                CODEC.encode_all(many)
    encoder = Encoder(UnsafePickleCodec())
    encoder.check([Record("put", "a", ["x" * 900], MISSING, 1.0, 2.0)])
    with pytest.raises(ChronoMapValueError, match="MiB"):
        encoder.check([Record("put", "a", ["x" * 1000], MISSING, 1.0, 2.0)])


def test_shared_parts_that_are_not_too_many() -> None:
    """What is in two places and not too large comes back as two equal parts, also where one stands deeper."""
    part: Any = ["x"]
    for _ in range(10):
        part = [part, part, 1.5]
    value = [part, [[[part]]], {"a": (part,)}]
    assert CODEC.decode(CODEC.encode(value)) == value
    deep: Any = []
    for _ in range(60):
        deep = [deep, 1.5]
    deeper = deep
    for _ in range(40):
        deeper = [deeper]
    with pytest.raises(ChronoMapTypeError, match="nested deeper"):
        CODEC.encode([deep, deeper])


def test_unregistered_classes_are_refused() -> None:
    """A dataclass or enum that was not registered is refused, going and coming."""
    with pytest.raises(ChronoMapTypeError, match="register it"):
        ExactCodec().encode(Point(1))
    with pytest.raises(ChronoMapValueError, match="register that class"):
        ExactCodec().decode(CODEC.encode(Point(1)))
    for wrong in (int, Point(1), type("Odd", (dict,), {})):
        with pytest.raises(ChronoMapTypeError):
            ExactCodec({"x": wrong})  # type: ignore[dict-item]


def test_decoding_runs_nothing_of_the_class() -> None:
    """An instance comes back without __init__ or __post_init__ being run."""
    point = Point(1)
    point.x = "boom"
    assert CODEC.decode(CODEC.encode(point)).x == "boom"
    point.more = 1  # type: ignore[attr-defined]
    with pytest.raises(ChronoMapTypeError, match="more than its fields"):
        CODEC.encode(point)


def test_a_name_of_ones_own_survives_renaming() -> None:
    """A class registered under a name can be called something else later."""
    text = ExactCodec({"point": Point}).encode(Point(1, 2))
    assert text == b'{"$object":["point",{"x":1,"y":2}]}'
    renamed = dataclasses.make_dataclass("Renamed", ["x", "y"])
    assert ExactCodec({"point": renamed}).decode(text) == renamed(1, 2)


@pytest.mark.parametrize("kind", [list, tuple, dict, Frozen])
@pytest.mark.parametrize("depth", [101, 5_000, 200_000])
def test_too_deep_is_a_typed_error(kind: Any, depth: int) -> None:
    """Nesting beyond the cap is refused on the way in, whatever it is made of; so is what contains itself."""
    value: Any = 1
    for _ in range(depth):
        value = {"a": value} if kind is dict else Frozen(value) if kind is Frozen else kind([value])
    with pytest.raises(ChronoMapTypeError, match="nested deeper"):
        CODEC.encode(value)
    while isinstance(value, list | dict | tuple) and depth > 101:  # taken apart by hand: Python's own way is recursive
        value = next(iter(value.values())) if isinstance(value, dict) else value[0]
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(ChronoMapTypeError, match="in itself"):
        CODEC.encode(loop)


@pytest.mark.parametrize("depth", [101, 1_000, 1_000_000])
@pytest.mark.parametrize(("left", "right"), [(b"[", b"]"), (b'{"a":', b"}"), (b'{"$tuple":[', b"]}")])
def test_too_deep_coming_back(left: bytes, right: bytes, depth: int) -> None:
    """Bytes that nest deeper than anything that was ever written give a typed error, and no crash."""
    with pytest.raises(ChronoMapValueError):
        CODEC.decode(left * depth + b"1" + right * depth)


def test_as_deep_as_allowed() -> None:
    """A hundred levels come back."""
    value: Any = 1
    for _ in range(100):
        value = [value]
    assert CODEC.decode(CODEC.encode(value)) == value


NONSENSE = [
    b'{"$dict":[[[],1]]}',
    b'{"$set":[[]]}',
    b'{"$tuple":1}',
    b'{"$no":1}',
    b'{"$int":"x"}',
    b'{"$tuple":[],"a":1}',
    b'{"$enum":[[],1]}',
    b'{"$zoneinfo":"../../etc/passwd"}',
    b'{"$dict":[[1,1],[true,2]]}',
    b'{"$timezone":[1e300]}',
    b'{"$flag":["x",1]}',
    b'{"$complex":[]}',
    b'{"$datetime":["2020-01-01",5,0]}',
    b'{"$uuid":[]}',
    b'{"$decimal":[1]}',
    b'{"$object":["x",5]}',
    b"",
]


@given(st.binary(max_size=30) | st.text(alphabet='[]{}",:$tuplediczn01e ').map(str.encode) | st.sampled_from(NONSENSE))
def test_nonsense_is_an_error(text: bytes) -> None:
    """Whatever bytes it is given, the codec answers with a value or with its one error."""
    try:
        value = CODEC.decode(text)
    except ChronoMapValueError:
        return
    assert alike(CODEC.decode(CODEC.encode(value)), value)


keys = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts | st.binary(max_size=5)
    | st.sampled_from([1, 1.0, True, 0, -0.0, False, 2.0**70, 2**70, "1", b"1"]),
    lambda inner: st.lists(inner, max_size=3).map(tuple),
    max_leaves=4,
)  # fmt: skip


@given(keys, keys)
def test_keys_are_one_if_python_says_so(one: Any, other: Any) -> None:
    """Two keys have the same canonical text exactly if they are equal, and each comes back as it was."""
    texts = []
    for key in (one, other):
        canonical, exact = encode_key(key)
        assert alike(decode_key(canonical, exact), key)
        assert decode_key(canonical, None) == key
        texts.append(canonical)
    assert (texts[0] == texts[1]) == (one == other)


@pytest.mark.parametrize(
    "key", [float("nan"), ("a", (float("nan"),)), frozenset(), (1, [2]), 1j, decimal.Decimal(1), Number.ONE]
)
def test_keys_that_are_refused(key: Any) -> None:
    """NaN equals nothing, so it could never be found; other types are not promised."""
    with pytest.raises((ChronoMapTypeError, ChronoMapValueError)):
        encode_key(key)


def test_pickles_only_when_asked_for() -> None:
    """The codec for pickles takes what the exact one refuses, and turns every failure into the library's errors."""
    codec = UnsafePickleCodec()
    assert codec.decode(codec.encode({"a": Number.ONE})) == {"a": Number.ONE}
    with pytest.raises(ChronoMapTypeError):
        codec.encode(lambda: None)
    with pytest.raises(ChronoMapValueError):
        codec.decode(b"junk")


def test_zones_and_folds() -> None:
    """Two readings of a clock that was set back stay two, and a zone stays the zone it is and not its offset."""
    paris = zoneinfo.ZoneInfo("Europe/Paris")
    for fold in (0, 1):
        stamp = datetime.datetime(2024, 10, 27, 2, 30, tzinfo=paris, fold=fold)
        back = CODEC.decode(CODEC.encode(stamp))
        assert back.tzinfo is paris
        assert (back.fold, back.utcoffset()) == (fold, stamp.utcoffset())


def test_uuid_safety_and_fractions() -> None:
    """What equality does not ask for comes back as well."""
    known = uuid.UUID(int=5, is_safe=uuid.SafeUUID.safe)
    assert CODEC.decode(CODEC.encode(known)).is_safe is uuid.SafeUUID.safe
    assert same(CODEC.decode(CODEC.encode(fractions.Fraction(10**40, 3))), fractions.Fraction(10**40, 3))


@pytest.mark.parametrize("missing", ["apsw", "msgspec"])
def test_a_missing_extra_says_what_to_install(missing: str) -> None:
    """Without what a file needs, the import says which pip install brings it."""
    code = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from chronomap.errors import MissingExtraError\n"
        "try: import chronomap.journal\n"
        "except MissingExtraError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'chronomap[durable]'" in done.stdout
    assert missing in done.stdout


def test_integers_too_long_for_text() -> None:
    """Integers with more digits than Python turns into text come back."""
    assert CODEC.decode(CODEC.encode([10**6000, -(1 << 64), 1 << 63])) == [10**6000, -(1 << 64), 1 << 63]
