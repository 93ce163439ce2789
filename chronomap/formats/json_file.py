"""Whole maps as JSON files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from chronomap.core.view import View
from chronomap.errors import ChronoMapValueError
from chronomap.formats.atomic import replacing
from chronomap.formats.plain import FORMAT, dump
from chronomap.formats.tagged import decode, encode


def save_json(view: View, path: Path) -> None:
    """Write the map; keys are written as values are, so 1 and "1" stay two keys."""
    plain = dump(view)
    plain["store"] = [
        [encode(key, f"the key {key!r}"), [_encode_row(key, row) for row in rows]] for key, rows in plain["store"].items()
    ]
    plain["pruned"] = [[encode(key, "a key"), list(floor)] for key, floor in plain["pruned"].items()]
    text = json.dumps(plain, allow_nan=False, separators=(",", ":"))
    with replacing(path) as file:
        file.write(text.encode("ascii"))
        file.write(b"\n")


def _encode_row(key: Any, row: tuple[Any, ...]) -> list[Any]:
    timestamp, value, *rest = row
    return [timestamp, encode(value, f"the value of key {key!r}"), *rest]


def load_json(path: Path) -> dict[str, Any]:
    """Read such a file, or one of ChronoMap 2, into plain data.

    Raises:
        ChronoMapValueError: If it is not one.
    """
    try:
        plain = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ChronoMapValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(plain, dict):
        raise ChronoMapValueError(f"{path} does not hold a saved ChronoMap")
    if plain.get("format") == FORMAT:
        try:
            plain["store"] = _pairs(plain["store"], path, rows=True)
            plain["pruned"] = _pairs(plain["pruned"], path, rows=False)
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            if isinstance(error, ChronoMapValueError):
                raise
            raise ChronoMapValueError(f"{path} is damaged: {type(error).__name__}: {error}") from None
    return plain


def _pairs(pairs: Any, path: Path, *, rows: bool) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for encoded, value in pairs:
        if (key := decode(encoded)) in found:
            raise ChronoMapValueError(f"{path} is damaged: the key {key!r} comes twice")
        found[key] = [[row[0], decode(row[1]), *row[2:]] for row in value] if rows else value
    return found
