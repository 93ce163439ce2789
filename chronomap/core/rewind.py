"""Going back: what to write so that the map behaves as it did, while its history stays.

Nothing here changes anything: the functions return the records of one new commit. Example: a was 1, then 2 was put and 3
scheduled for tomorrow; rolling back to the first commit writes 1 at now and a cancellation at tomorrow.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from chronomap.core.plan import conflict
from chronomap.core.records import CANCELLED, NEVER, Commit, Kind, Record
from chronomap.core.timeline import Pruned, Timeline
from chronomap.core.values import MISSING
from chronomap.core.view import View, compacted
from chronomap.errors import CompactedError

if TYPE_CHECKING:
    from chronomap.core.chronicle import Chronicle


def rollback(store: Chronicle, now: float, revision: int, view: View | None) -> Iterator[Record]:
    """What makes the map behave from now on as if nothing had been committed since a revision."""
    for key in store.changed_since(revision):
        known = store.timelines[key] if view is None else (view.timeline(key) or store.timelines[key])
        yield from _restore(store, key, now, revision, "rollback", known)


def undo(store: Chronicle, now: float, revisions: set[int]) -> Iterator[Record]:
    """The inverse of some commits, on the keys they wrote.

    Raises:
        ConflictError: If another commit wrote one of these keys after the first of them did.
        CompactedError: If one of them erased a key, or nothing is left of it, or what the keys held before has been pruned.
    """
    first: dict[Any, int] = {}
    everything = _written(store, revisions)
    for revision in sorted(revisions):
        written = everything[revision]
        if not written and _is_gone(store, revision):
            raise CompactedError(f"what revision {revision} wrote has been pruned or erased; it cannot be undone any more")
        for key, kind in written:
            if kind == "erase":
                raise CompactedError(f"revision {revision} erased {key!r}; what was erased cannot be brought back", key=key)
            first.setdefault(key, revision)
    _check_untouched(store, now, first, revisions)
    for key, revision in first.items():
        timeline = store.timelines[key]
        yield from _restore(store, key, now, revision - 1, "undo", timeline)
        yield from _withdraw(store, key, revision - 1, revisions)


def _commit(store: Chronicle, revision: int) -> Commit | None:
    """A commit that the feed retains, or the journal has."""
    commit = store.feed.commit(revision)
    return store.look_up(revision) if commit is None and store.look_up is not None else commit


def _written(store: Chronicle, revisions: set[int]) -> dict[int, list[tuple[Any, Kind]]]:
    """The keys that each of some commits wrote a version of. O(their changes), or O(versions) for all that are not retained."""
    written: dict[int, list[tuple[Any, Kind]]] = {revision: [] for revision in revisions}
    rest = set()
    for revision, found in written.items():
        if (commit := _commit(store, revision)) is None:
            rest.add(revision)
        else:
            found += [(record.key, record.kind) for record in commit.records if record.kind != "activate"]
    for key, timeline in store.timelines.items() if rest else ():
        if timeline.partial:
            raise compacted(key, timeline)
        if not rest.isdisjoint(timeline.known()):
            for entry in timeline.entries(store.head):
                if entry.revision in rest:
                    written[entry.revision].append((key, store.ledger.kind_of(entry.revision, entry.value)))
    return written


def _kinds(store: Chronicle, key: Any, revision: int) -> set[Kind]:
    """What a commit did to a key."""
    if (commit := _commit(store, revision)) is not None:
        return {record.kind for record in commit.records if record.key == key and record.kind != "activate"}
    entries = store.timelines[key].entries(revision)
    return {store.ledger.kind_of(revision, entry.value) for entry in entries if entry.revision == revision}


def _is_gone(store: Chronicle, revision: int) -> bool:
    """Whether a commit of which no version is left wrote any: one that only says what took effect did not."""
    if (commit := store.feed.commit(revision)) is not None and commit.records:
        return False
    return revision > 0 and revision not in store.ledger.notes


def _check_untouched(store: Chronicle, now: float, first: dict[Any, int], own: set[int]) -> None:
    """Refuse if another commit wrote one of the keys after its first own one. What fell due is nobody's commit."""
    for key, revision in _later(store, first, own):
        message = f"key {key!r} was changed again by revision {revision}; undo that one first, or put the value you want"
        conflict(store, message, [key], now)


def _later(store: Chronicle, first: dict[Any, int], own: set[int]) -> Iterator[tuple[Any, int]]:
    """The keys with the revisions of others that wrote them later. O(commits since) while the feed retains them.

    Raises:
        CompactedError: If such a revision is not known any more.
    """
    if (since := min(first.values(), default=store.head)) < store.feed.floor:
        yield from _later_by_history(store, first, own)
        return
    for commit in store.feed.since(since):
        if commit.revision not in own:
            for record in commit.records:
                if first.get(record.key, commit.revision) < commit.revision and record.kind not in ("activate", "expire"):
                    yield record.key, commit.revision


def _later_by_history(store: Chronicle, first: dict[Any, int], own: set[int]) -> Iterator[tuple[Any, int]]:
    for key, own_first in first.items():
        timeline = store.timelines[key]
        if timeline.partial:
            raise compacted(key, timeline)
        kept = list(timeline.known())
        for revision in kept:
            if revision > own_first and revision not in own and "expire" not in _kinds(store, key, revision):
                yield key, revision
        if timeline.changed > max(own_first, *kept) and timeline.changed not in own:
            raise CompactedError(
                f"revision {timeline.changed} changed {key!r} later and has been pruned; put the value you want", key=key
            )


def _restore(  # noqa: PLR0917 - two private functions of this module
    store: Chronicle, key: Any, now: float, as_of: int, kind: Kind, known: Timeline
) -> Iterator[Record]:
    """What brings a key back to how it stood at (now and later, as_of)."""
    timeline = store.timelines[key]
    try:
        before, present = known.find(now, as_of), timeline.find(now, store.head)
    except Pruned:
        raise compacted(key, timeline) from None
    held = MISSING if present is None or not present.holds(now) else present.value
    if before is not None and before.holds(now):
        if present is None or before[:2] != present[:2]:
            yield Record(kind, key, before.value, held, now, before.expires_at)
    elif held is not MISSING:
        yield Record(kind, key, MISSING, held, now, NEVER)
    learned = (entry.timestamp for entry in timeline.entries(store.head, after=now) if entry.revision > as_of)
    for when in dict.fromkeys(learned):
        if known.at_exactly(when, as_of) is not None or timeline.at_exactly(when, store.head) is not None:
            yield _rewrite(store, key, when, as_of, kind, known)


def _withdraw(store: Chronicle, key: Any, as_of: int, revisions: set[int]) -> Iterator[Record]:
    """What takes back the versions that some commits dated before themselves."""
    timeline = store.timelines[key]
    if timeline.partial:
        raise compacted(key, timeline)
    back_dated = (
        entry.timestamp
        for entry in timeline.entries(store.head)
        if entry.revision in revisions and entry.timestamp < store.instant_of(entry.revision)
    )
    for when in dict.fromkeys(back_dated):
        if timeline.at_exactly(when, as_of) is not None or timeline.at_exactly(when, store.head) is not None:
            yield _rewrite(store, key, when, as_of, "undo", timeline)


def _rewrite(  # noqa: PLR0917
    store: Chronicle, key: Any, when: float, as_of: int, kind: Kind, known: Timeline
) -> Record:
    """What makes exactly that timestamp read again as it did at ``as_of``."""
    stood = known.at_exactly(when, as_of)
    previous = store.held(key, when)
    if stood is None:
        return Record(kind, key, CANCELLED, previous, when, NEVER)
    return Record(kind, key, stood.value, previous, when, stood.expires_at)
