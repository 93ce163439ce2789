"""A journal that outlives its map but not its process: the reference for the others, and good for tests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from chronomap.core.change import PlainCommit, as_commit
from chronomap.core.records import CANCELLED, Commit, Entry, Record, owned
from chronomap.core.retention import Cut, Retention
from chronomap.core.timeline import NOT_LOADED, Series
from chronomap.core.values import MISSING, bare
from chronomap.errors import ClosedError, JournalError, JournalInUseError, LaggedError
from chronomap.journal.codec import Codec, ExactCodec, encode_key
from chronomap.journal.encoding import Encoder
from chronomap.journal.protocol import Contents, Position, Progress, Pruned
from chronomap.journal.reading import Telling, add, annotate, arrange, complete, resident_part, timeline_of

REPORT_EVERY: Final = 4096
"""Commits between two reports of progress."""


@dataclass(slots=True)
class Shelf:
    """Where a ``MemoryJournal`` keeps its log; give it to the next one to "reopen" it."""

    commits: list[Commit] = field(default_factory=list)
    pruned: dict[Any, Pruned] = field(default_factory=dict)
    complete_since: int = 0
    pruned_to: int = 0
    owned: bool = False


class MemoryJournal:
    """A ``Journal`` in a list. Values are encoded and decoded, so that it refuses and gives what one in a file does."""

    def __init__(self, shelf: Shelf | None = None, *, codec: Codec | None = None) -> None:
        self.shelf = shelf or Shelf()
        self.failure: JournalError | None = None
        self._codec = codec or ExactCodec()
        self.sure = Encoder(self._codec).sure
        self._closed = False
        if self.shelf.owned:
            raise JournalInUseError("another journal is open on this shelf; close that one first")
        self.shelf.owned = True

    @property
    def revision(self) -> int:
        """See ``Journal``."""
        return len(self.shelf.commits)

    @property
    def complete_since(self) -> int:
        """See ``Journal``."""
        return self.shelf.complete_since

    def close(self) -> None:
        """See ``Journal``."""
        if not self._closed:
            self._closed = True
            self.shelf.owned = False

    def check(self, records: Iterable[Record]) -> None:
        """See ``Journal``."""
        for record in records:
            encode_key(record.key)
            self._kept(record.value)

    def append(self, group: Sequence[PlainCommit]) -> None:
        """See ``Journal``."""
        self._ready()
        kept = []
        for revision, commit in enumerate(map(as_commit, group), self.revision + 1):
            if commit.revision != revision:
                raise JournalError(f"revision {commit.revision} cannot be appended: the next is {revision}")
            self.check(commit.records)
            records = [
                record._replace(value=MISSING if record.kind == "activate" else self._kept(record.value), previous=MISSING)
                for record in commit.records
            ]
            kept.append(commit._replace(records=tuple(records), in_force=frozenset()))
        for commit in kept:
            for record in commit.records:
                if record.kind == "erase":
                    self._remove({record.key}, lambda _commit, record: record.kind != "activate")
                    self.shelf.pruned.pop(record.key, None)
            self.shelf.commits.append(commit)

    def replay(self, after: int = 0) -> Iterator[Commit]:
        """See ``Journal``."""
        self._ready(writing=False)
        if after < self.shelf.complete_since:
            raise LaggedError(after, self.shelf.complete_since)
        for commit in self.shelf.commits[after:]:
            records = [record._replace(value=owned(self._kept(record.value))) for record in commit.records]
            yield commit._replace(records=tuple(records))

    def recent(self, changes: int) -> int:
        """See ``Journal``."""
        after, found = self.revision, 0
        while found < changes and after > max(self.shelf.complete_since, self.revision - changes):
            after -= 1
            found += len(self.shelf.commits[after].records)
        return after

    def load(
        self,
        resident: Retention | None = None,
        *,
        now: float = 0.0,
        share: bool = False,
        progress: Progress | None = None,
    ) -> Contents:
        """See ``Journal``."""
        self._ready(writing=False)
        contents = Contents(pruned_to=self.shelf.pruned_to)
        telling = Telling()
        for done, commit in enumerate(self.shelf.commits):
            if progress is not None and not done % REPORT_EVERY:
                progress(done, self.revision)
            contents.instants.append(commit.instant)
            if (request_id := dict(commit.meta).get("request_id")) is not None:
                key = commit.records[0].key if commit.records else MISSING
                contents.requests[request_id] = key, commit.revision
            for kind, key, _, _, timestamp, _ in commit.records:
                telling.meet(commit.revision, kind, key, timestamp, noted=bool(commit.meta))
                if kind == "erase":
                    contents.erased[key] = commit.revision
        for key in dict.fromkeys(r.key for c in self.shelf.commits for r in c.records if r.kind != "activate"):
            contents.timelines[key] = self._timeline(key, share=share)
        metas = {commit.revision: commit.meta for commit in self.shelf.commits}
        annotate(contents, telling.records, metas, self.shelf.pruned)
        if resident is not None:
            _leave_out(contents, resident, now)
        return contents

    def _timeline(self, key: Any, *, share: bool) -> Series:
        entries = list(self.versions(key))
        entries.reverse()
        if not share:
            entries = [entry._replace(value=owned(entry.value)) for entry in entries]
        changed = max(entry.revision for entry in self._written(key))
        return timeline_of(entries, changed, self.shelf.pruned.get(key))

    def versions(self, key: Any, before: Position | None = None) -> Iterator[Entry]:
        """See ``Journal``."""
        self._ready(writing=False)
        found = Series()
        for entry in self._written(key):
            add(found, entry._replace(value=self._kept(entry.value)))
        complete(found)
        found = arrange(found, self.shelf.pruned.get(key))
        for index in reversed(range(len(found))):
            entry = found.entry(index)
            if before is None or entry[:2] < before:
                yield entry

    def _written(self, key: Any) -> Iterator[Entry]:
        """What the log has of a key, in the order of the log."""
        for commit in self.shelf.commits:
            for kind, other, value, _, timestamp, expires_at in commit.records:
                if kind != "activate" and other == key:
                    yield Entry(timestamp, commit.revision, value, expires_at)

    def floor(self, key: Any) -> Position | None:
        """See ``Journal``."""
        return self.shelf.pruned[key].floor if key in self.shelf.pruned else None

    def prune(self, cuts: Sequence[Cut], *, keep_after: int | None = None) -> int:
        """See ``Journal``."""
        self._ready()
        for key, start, floor in cuts:
            forgotten = [entry.revision for entry in self._written(key) if entry[:2] < start]
            cut = Pruned(start, floor, max(forgotten, default=0))
            self.shelf.pruned[key] = cut.joined(self.shelf.pruned.get(key))
            self.shelf.pruned_to = max(self.shelf.pruned_to, cut.changed)
        newest = self.revision if keep_after is None else keep_after
        removed = self._remove(
            {cut.key for cut in cuts},
            lambda commit, record: commit.revision <= newest and self._is_pruned(commit, record),
        )
        self.shelf.complete_since = max(self.shelf.complete_since, *removed, 0)
        return len(removed)

    def compact(self, revision: int, limit: int = 10_000) -> bool:  # noqa: ARG002 - there is nothing to slice
        """See ``Journal``."""
        self._ready()
        self.shelf.complete_since = max(self.shelf.complete_since, revision)
        removed = self._remove(
            None,
            lambda commit, record: (
                commit.revision <= revision and (record.kind == "activate" or self._is_pruned(commit, record))
            ),
        )
        self.shelf.pruned_to = max(self.shelf.pruned_to, *removed, 0)
        return False

    def _is_pruned(self, commit: Commit, record: Record) -> bool:
        pruned = self.shelf.pruned.get(record.key)
        return pruned is not None and record.kind != "activate" and (record.timestamp, commit.revision) < pruned.start

    def _remove(self, keys: set[Any] | None, which: Any) -> list[int]:
        """Take records out of commits; returns the revision of each."""
        removed = []
        for index, commit in enumerate(self.shelf.commits):
            rest = tuple(r for r in commit.records if not ((keys is None or r.key in keys) and which(commit, r)))
            if len(rest) != len(commit.records):
                removed += [commit.revision] * (len(commit.records) - len(rest))
                self.shelf.commits[index] = commit._replace(records=rest)
        return removed

    def _kept(self, value: Any) -> Any:
        if value is MISSING or value is CANCELLED:
            return value
        return self._codec.decode(self._codec.encode(bare(value)))

    def _ready(self, *, writing: bool = True) -> None:
        if self._closed:
            raise ClosedError("the journal has been closed")
        if writing and self.failure is not None:
            raise self.failure


def _leave_out(contents: Contents, resident: Retention, now: float) -> None:
    """Leave of every key only what is to be resident."""
    for key, whole in contents.timelines.items():
        entries, more = resident_part(map(whole.entry, reversed(range(len(whole)))), resident, now)
        if more:
            part = contents.timelines[key] = timeline_of(entries, whole.changed, None)
            part.floor = NOT_LOADED
            contents.partial.add(key)
