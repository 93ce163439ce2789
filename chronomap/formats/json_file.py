"""A whole map as a JSON file: one line per key, so that two saves can be compared.

The file holds what ``dump`` gives, with values as ``tagged`` writes them. Keys stand in pairs ``[key, versions]``,
not as names of members, so that 1 and "1" stay two.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from chronomap.core.view import View
from chronomap.errors import ChronoMapValueError
from chronomap.formats.checks import of_type
from chronomap.formats.dumping import dump
from chronomap.formats.plain import check_dump, shown
from chronomap.formats.replacing import replacing
from chronomap.formats.tagged import decode, encode, line, parse


def save_json(view: View, path: Path) -> None:
    """Write everything the view's revision knows; the file is replaced as a whole or not at all.

    Raises:
        ChronoMapTypeError: If a key or value would not come back as it is; the old file is untouched.
    """
    plain = dump(view)
    check_dump(plain)
    with replacing(path) as file:
        for text in _lines(plain):
            file.write(text.encode("ascii"))


def load_json(path: Path) -> dict[str, Any]:
    """What ``save_json`` or ChronoMap 2 wrote, for ``load``.

    Raises:
        ChronoMapValueError: If the file holds anything else.
    """
    text = path.read_bytes()
    try:
        members = of_type(dict, parse(text), "the file")
        if "format" not in members:
            return dict(members)  # as ChronoMap 2 wrote it, which knew no tags
        return {
            **members,
            "store": {key: [_row(row, key) for row in rows] for key, rows in _pairs(members, "store").items()},
            "pruned": _pairs(members, "pruned"),
            "notes": [
                _note(note, f"'notes'[{index}]") for index, note in enumerate(of_type(list, members.get("notes"), "'notes'"))
            ],
        }
    except ChronoMapValueError as error:
        raise ChronoMapValueError(f"{path}: {error}") from error


def _lines(plain: Mapping[str, Any]) -> Iterator[str]:
    yield "{"
    for name in ("format", "version", "revision", "snapshot_time", "instants", "pruned_to"):
        yield f'"{name}":{line(plain[name])},\n'
    notes = [
        [revision, kind, meta, [[encode(key), *place] for key, *place in activated]]
        for revision, kind, meta, activated in plain["notes"]
    ]
    yield f'"notes":{line(notes)},\n'
    yield f'"pruned":{line([[encode(key), floor] for key, floor in plain["pruned"].items()])},\n"store":['
    separator = "\n"
    for key, rows in plain["store"].items():
        yield separator + line([encode(key), [[row[0], encode(row[1]), *row[2:]] for row in rows]])
        separator = ",\n"
    yield "\n]}\n"


def _pairs(members: dict[str, Any], name: str) -> dict[Any, list[Any]]:
    """A list of ``[key, list]`` as a dict."""
    found: dict[Any, list[Any]] = {}
    for index, pair in enumerate(of_type(list, members.get(name), f"'{name}'")):
        place = f"'{name}'[{index}]"
        if len(of_type(list, pair, place)) != len(("key", "rows")):
            raise ChronoMapValueError(f"{place}: not [key, versions]")
        try:
            key = decode(pair[0])
            repeated = key in found
        except (ChronoMapValueError, TypeError) as error:
            raise ChronoMapValueError(f"{place}, key: {error}") from error
        if repeated:
            raise ChronoMapValueError(f"{place}: key {shown(key)} is there twice")
        found[key] = of_type(list, pair[1], place)
    return found


def _note(note: Any, place: str) -> Any:
    """A note with its keys decoded; its other parts are for ``load`` to check."""
    if not of_type(list, note, place) or type(note[-1]) is not list:
        raise ChronoMapValueError(f"{place}: not [revision, kind, meta, activations]")
    try:
        return (*note[:-1], [(decode(row[0]), *row[1:]) for row in note[-1] if of_type(list, row, place)])
    except ChronoMapValueError as error:
        raise ChronoMapValueError(f"{place}: {error}") from error


def _row(row: Any, key: Any) -> Any:
    """A row with its value decoded; its other parts are for ``load`` to check."""
    place = f"a version of key {shown(key)}"
    if len(of_type(list, row, place)) < len(("timestamp", "value")):
        raise ChronoMapValueError(f"{place}: too short")
    try:
        return (row[0], decode(row[1]), *row[2:])
    except ChronoMapValueError as error:
        raise ChronoMapValueError(f"{place} at timestamp {shown(row[0])}: {error}") from error
