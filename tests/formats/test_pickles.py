"""Pickles from strangers: nothing runs, nothing is changed, nothing grows without bounds."""

from __future__ import annotations

import fractions
import os
import pickle
import struct
import uuid
import zlib
from pathlib import Path
from typing import Any

import pytest

from chronomap import ChronoMap, ChronoMapValueError, formats
from chronomap.formats import pickle_gate

touched: list[str] = []


def touch(*_: Any) -> dict[str, Any]:
    """What no file may call."""
    touched.append("ran")
    return {}


class Runs:
    """Its pickle calls a function when it is loaded."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def named(module: str, name: str) -> bytes:
    """The instructions that bring an object by its name."""
    return b"".join(b"\x8c" + bytes([len(text)]) + text.encode() for text in (module, name)) + b"\x93"


ATTACKS = {
    "os.system": pickle.dumps(Runs(os.system, "false"), 4),
    "eval": pickle.dumps(Runs(eval, "1"), 4),
    "getattr": pickle.dumps(Runs(getattr, dict, "get"), 4),
    "own function": pickle.dumps(Runs(touch), 4),
    "protocol 0": pickle.dumps(Runs(touch), 0),
    "protocol 2": pickle.dumps(Runs(touch), 2),
    "inside": pickle.dumps({"store": {"a": [(1, Runs(touch))]}}, 4),
    "dotted name": b"\x80\x04" + named("datetime", "datetime.fromisoformat") + b".",
    "class": b"\x80\x04}\x8c\x01a" + named("decimal", "Decimal") + b"s.",
    "class as a key": b"\x80\x04}" + named("uuid", "UUID") + b"Ns.",
    "change a class": b"\x80\x04" + named("fractions", "Fraction") + b"N}\x8c\x08poisonedK\x01s\x86b0}.",
    "change a class by state": b"\x80\x04" + named("fractions", "Fraction") + b"}\x8c\x08poisonedK\x01sb0}.",
    "change UUID": b"\x80\x04" + named("uuid", "UUID") + b"N}\x8c\x08poisonedK\x01s\x86b0}.",
    "half a UUID": b"\x80\x04}\x8c\x01a" + named("uuid", "UUID") + b")\x81s.",
    "UUID of a text": b"\x80\x04}\x8c\x01a" + named("uuid", "UUID") + b")\x81}\x8c\x03int\x8c\x01xsbs.",
    "size for a bytearray": b"\x80\x04" + named("builtins", "bytearray") + b"J\xff\xff\xff\x7f\x85R0}.",
    "Fraction of a text": b"\x80\x04" + named("fractions", "Fraction") + b"\x8c\x0b1e999999999\x85R0}.",
    "huge memo index": b"\x80\x04Nr" + struct.pack("<I", 2**31) + b"0}.",
    "huge length": b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"0}.",
    "huge frame": b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"}.",
    "extension": b"\x80\x04\x82\x01.",
    "persistent id": b"\x80\x04}Q.",
    "zone outside": b"\x80\x04}\x8c\x01a" + named("zoneinfo", "ZoneInfo") + b"\x8c\x0b/etc/passwd\x85Rs.",
    "unhashable": b"\x80\x04}]Ns.",
    "itself": b"\x80\x04}\x94\x8c\x01ah\x00s.",
    "not a dict": pickle.dumps([1], 4),
    "bytes too many": pickle.dumps({}, 4) + b"x",
    "bytes too many after zlib": zlib.compress(pickle.dumps({}, 4)) + b"x",
    "nothing": b"",
    "text": b"hello",
    "cut zlib": zlib.compress(pickle.dumps({}, 4))[:-2],
}


@pytest.mark.parametrize("packed", ATTACKS.values(), ids=ATTACKS)
def test_attacks_are_refused(packed: bytes) -> None:
    """With the one error, whatever they try; and no class of the standard library is changed afterwards."""
    with pytest.raises(ChronoMapValueError):
        formats.unpack(packed)
    with pytest.raises(ChronoMapValueError):
        formats.unpack(zlib.compress(packed))
    assert not touched
    assert not hasattr(fractions.Fraction, "poisoned") and not hasattr(uuid.UUID, "poisoned")


def test_a_maker_cannot_be_changed() -> None:
    """Not by a pickle's BUILD, nor by setting its attributes."""
    for maker in pickle_gate.MAKERS.values():
        with pytest.raises(pickle.UnpicklingError):
            maker.__setstate__({})
    with pytest.raises(pickle.UnpicklingError):
        pickle_gate.MAKERS["decimal", "Decimal"]._make = eval


def test_a_reader_finds_only_makers() -> None:
    """Even where the instructions would let more through."""
    reader = pickle_gate.Reader(__import__("io").BytesIO(b""))
    for name in ("eval", "exec", "getattr", "__import__", "open", "object", "type"):
        with pytest.raises(pickle.UnpicklingError):
            reader.find_class("builtins", name)
    with pytest.raises(pickle.UnpicklingError):
        reader.persistent_load("x")


def test_a_bomb_is_capped() -> None:
    """A thousand bytes that claim to be a million."""
    packed = zlib.compress(pickle.dumps({"a": b"x" * 1_000_000}, 4))
    assert len(packed) < 2000
    with pytest.raises(ChronoMapValueError, match="more than 999999"):
        formats.unpack(packed, 999_999)
    assert formats.unpack(packed, 1_000_100) == {"a": b"x" * 1_000_000}


def test_a_large_compressed_map_comes_back() -> None:
    """More than one slice, in and out."""
    value = os.urandom(300_000)
    cm: ChronoMap[str, bytes] = ChronoMap()
    cm.put("k", value)
    assert ChronoMap.from_dict(cm.to_dict(compress=True)).get("k") == value


def test_noise_is_refused(seed: Any) -> None:
    """Random bytes behind every kind of beginning."""
    for _ in range(3000):
        start = seed.choice([b"\x80\x04", b"\x80\x05", b"\x80\x04}", b"x\x9c", b""])
        with pytest.raises(ChronoMapValueError):
            formats.unpack(start + seed.randbytes(seed.randrange(1, 40)) + b"\xff")


@pytest.mark.parametrize("protocol", [4, 5])
def test_both_protocols_of_today_are_read(protocol: int) -> None:
    """Python 3.14 writes 5 unless told otherwise."""
    plain = {"a": [bytearray(b"x"), 1j, uuid.UUID(int=1), {1}, frozenset([2]), 10**400, -1, b"y" * 300, "z" * 300]}
    assert formats.unpack(pickle.dumps(plain, protocol)) == plain


def test_the_file_is_named(tmp_path: Path) -> None:
    """So that one of many can be found."""
    (tmp_path / "broken").write_bytes(b"x")
    with pytest.raises(ChronoMapValueError, match="broken"):
        formats.load_pickle(tmp_path / "broken")
