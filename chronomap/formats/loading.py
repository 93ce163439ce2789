"""From plain containers to a store: everything is checked first, then the store is filled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final

from chronomap.core.ledger import TOLD, Note
from chronomap.core.meta import checked
from chronomap.core.records import CANCELLED, NEVER, Entry
from chronomap.core.store import Store
from chronomap.core.timeline import sorted_up
from chronomap.core.values import MISSING
from chronomap.errors import ChronoMapTypeError, ChronoMapValueError
from chronomap.formats import legacy
from chronomap.formats.checks import Contents, captured, number, of_type, whole
from chronomap.formats.dumping import FORMAT
from chronomap.formats.plain import shown

MEMBERS: Final = frozenset(
    {"format", "version", "revision", "instants", "store", "pruned", "pruned_to", "notes", "snapshot_time"}
)
ROW: Final = 5
NOTE: Final = 4
ACTIVATION: Final = 3


def load(store: Store, mapping: Mapping[str, Any], now: float) -> None:
    """Fill a fresh store with what ``dump`` gave, or with what ChronoMap 2 wrote.

    Args:
        store: One that nothing was ever written to.
        mapping: Plain containers, from anywhere.
        now: No commit of a ChronoMap 2 file is dated later.

    Raises:
        ChronoMapValueError: If anything in it is wrong; the store is as it was.
        ChronoMapTypeError: If it is not a mapping, or holds a value that cannot be copied.
    """
    if not isinstance(mapping, Mapping):
        raise ChronoMapTypeError(f"Expected a dict as to_dict() gives, got {type(mapping).__name__}")
    if store.revision or store.timelines:
        raise ChronoMapValueError("only an empty map can be loaded into")
    contents = _read(mapping) if "format" in mapping else legacy.read(mapping, now)
    store.instant = contents.instants[-1] if contents.instants else -NEVER
    newest = len(contents.instants) if "format" in mapping else None  # ChronoMap 2 committed no expiries
    for key, entries, floor in contents.keys:
        store.restore(key, entries, floor, newest)
    versions = Counter(entry.revision for _, entries, _ in contents.keys for entry in entries)
    notes = [(revision, note, versions[revision]) for revision, note in contents.notes]
    store.restored(contents.instants, notes, contents.pruned_to)


def _read(mapping: Mapping[str, Any]) -> Contents:
    if mapping["format"] != FORMAT:
        raise ChronoMapValueError(
            f"format {shown(mapping['format'])} is not known here; this version reads {FORMAT!r} and ChronoMap 2"
        )
    if mapping.keys() != MEMBERS:
        wrong = sorted(map(repr, mapping.keys() ^ MEMBERS))
        raise ChronoMapValueError(f"a {FORMAT} dict has exactly {sorted(MEMBERS)}; missing or not expected: {wrong[:9]}")
    instants = _instants(mapping)
    revision = len(instants)
    rows_by_key, pruned = of_type(Mapping, mapping["store"], "'store'"), of_type(Mapping, mapping["pruned"], "'pruned'")
    keys = [
        (key, list(_entries(key, rows, revision)), _floor(key, pruned[key], revision) if key in pruned else None)
        for key, rows in rows_by_key.items()
    ]
    for key, entries, floor in keys:
        if floor is not None and floor[0] > entries[0].timestamp:
            raise ChronoMapValueError(f"'pruned' of key {shown(key)}: later than its oldest version")
    for key in pruned:
        if key not in rows_by_key:
            raise ChronoMapValueError(f"'pruned' names key {shown(key)}, which is not in 'store'")
    pruned_to = whole(mapping["pruned_to"], "'pruned_to'", 0, revision)
    return Contents(keys, instants, list(_notes(mapping["notes"], revision, rows_by_key)), pruned_to)


def _notes(notes: Any, newest: int, known: Mapping[Any, Any]) -> Iterator[tuple[int, Note]]:
    before = 0
    for index, row in enumerate(of_type((list, tuple), notes, "'notes'")):
        place = f"'notes'[{index}]"
        if len(of_type((list, tuple), row, place)) != NOTE:
            raise ChronoMapValueError(f"{place}: not (revision, kind, meta, activations)")
        revision, kind, meta, activated = row
        if whole(revision, f"{place}, revision", 1, newest) <= before:
            raise ChronoMapValueError(f"{place}: out of order (by revision)")
        before = revision
        told = next((one for one in TOLD if one == kind), None)
        if told != kind:
            raise ChronoMapValueError(f"{place}, kind: {shown(kind)} is not None or one of {sorted(TOLD)}")
        try:
            kept = checked(meta)
        except (ChronoMapTypeError, ChronoMapValueError) as error:
            raise ChronoMapValueError(f"{place}, meta: {error}") from error
        rows = of_type((list, tuple), activated, f"{place}, activations")
        yield revision, Note(told, kept, tuple(_activation(one, f"{place}, activations", newest, known) for one in rows))


def _activation(row: Any, place: str, newest: int, known: Mapping[Any, Any]) -> tuple[Any, float, int]:
    if len(of_type((list, tuple), row, place)) != ACTIVATION:
        raise ChronoMapValueError(f"{place}: not (key, timestamp, revision)")
    key, timestamp, revision = row
    try:
        there = key in known
    except TypeError:
        there = False
    if not there:
        raise ChronoMapValueError(f"{place}: key {shown(key)} is not in 'store'")
    return key, number(timestamp, f"{place}, timestamp"), whole(revision, f"{place}, revision", 0, newest)


def _instants(mapping: Mapping[str, Any]) -> list[float]:
    given = of_type((list, tuple), mapping["instants"], "'instants'")
    instants = [number(instant, f"'instants'[{index}]") for index, instant in enumerate(given)]
    if not sorted_up(instants):
        raise ChronoMapValueError("'instants' go back in time")
    if whole(mapping["revision"], "'revision'", 0) != len(instants):
        raise ChronoMapValueError(f"'revision' is {mapping['revision']}, but there are {len(instants)} 'instants'")
    if mapping["version"] != "3":
        raise ChronoMapValueError(f"'version' is {shown(mapping['version'])}, not '3'")
    if mapping["snapshot_time"] is not None:
        number(mapping["snapshot_time"], "'snapshot_time'")
    return instants


def _entries(key: Any, rows: Any, newest: int) -> Iterator[Entry]:
    place = f"key {shown(key)}"
    before = (-NEVER, 0)
    if not of_type((list, tuple), rows, place):
        raise ChronoMapValueError(f"{place}: has no versions")
    for index, row in enumerate(rows):
        entry = _entry(row, f"{place}, version {index}", newest)
        if entry[:2] <= before:
            raise ChronoMapValueError(f"{place}, version {index}: out of order (by timestamp, then revision)")
        before = entry[:2]
        yield entry


def _entry(row: Any, place: str, newest: int) -> Entry:
    if len(of_type((list, tuple), row, place)) != ROW:
        raise ChronoMapValueError(f"{place}: not (timestamp, value, revision, expires_at, kind)")
    timestamp, value, revision, expires_at, kind = row
    when = number(timestamp, f"{place}, timestamp")
    whole(revision, f"{place}, revision", 1, newest)
    until = NEVER if expires_at is None else number(expires_at, f"{place}, expires_at")
    if kind == "value":
        return Entry(when, revision, captured(value, place), until)
    if kind not in ("tombstone", "cancellation"):
        raise ChronoMapValueError(f"{place}, kind: {shown(kind)} is not 'value', 'tombstone' or 'cancellation'")
    if value is not None or expires_at is not None:
        raise ChronoMapValueError(f"{place}: a {kind} has neither value nor expires_at")
    return Entry(when, revision, MISSING if kind == "tombstone" else CANCELLED, NEVER)


def _floor(key: Any, floor: Any, newest: int) -> tuple[float, int]:
    place = f"'pruned' of key {shown(key)}"
    if len(of_type((list, tuple), floor, place)) != len(("timestamp", "revision")):
        raise ChronoMapValueError(f"{place}: not (timestamp, revision)")
    return number(floor[0], f"{place}, timestamp"), whole(floor[1], f"{place}, revision", 1, newest)
