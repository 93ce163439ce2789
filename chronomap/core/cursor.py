"""Where a change stream is in the feed, and what it lets through. Knows nothing of waiting.

A cursor reads commits one by one and gives out their matching changes one by one. It holds no queue: at most the changes of
one commit, which the feed shares among all cursors, or of ``SLICE`` present keys. ``revision`` moves on when the last
change of a commit has been given out, so a stream resumed there sees every change once.

Example: a cursor on ``"a"`` at revision 3 reads revision 4, a batch of ``"a"`` and ``"b"``, gives out the first change and is
at revision 4; revision 5 is about ``"b"`` alone, and it is at 5 without having given out anything.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from chronomap.core.change import Change
from chronomap.core.interest import Watcher
from chronomap.core.records import NEVER, Commit, Record
from chronomap.core.values import MISSING
from chronomap.core.view import View
from chronomap.errors import ClosedError, LaggedError

if TYPE_CHECKING:
    from chronomap.core.chronicle import Chronicle

SLICE: Final = 256
"""Present keys looked at before the caller may let others run."""

STEPS: Final = 8 * SLICE
"""Commits and changes looked at without finding any, before the same. More than a writer commits before it lets others run:
a reader must gain on it."""

PAUSE: Final[Any] = object()
"""Instead of a change: nothing found yet, and there is more to look at."""

Any_ = Change[Any, Any]


@dataclass(frozen=True, slots=True)
class Selection:
    """Which changes a stream lets through.

    Attributes:
        key: Only this key; MISSING: any.
        prefix: Only text keys that begin with it.
        where: Only changes for which it is true.
        present_only: Only changes of what a key holds at the instant of the commit.
        latest_only: Of what has not been given out yet, only the newest change of each key.
        resync: After falling behind begin anew with what is present, instead of raising.
    """

    key: Any = MISSING
    prefix: str | None = None
    where: Callable[[Any_], object] | None = None
    present_only: bool = False
    latest_only: bool = False
    resync: bool = False

    def watcher(self) -> Watcher | None:
        """Its place in the index of interest; None: every commit concerns it."""
        if self.key is not MISSING:
            return Watcher(None, key=self.key)
        return Watcher(None, prefix=self.prefix) if self.prefix else None

    def names(self, key: Any) -> bool:
        """Whether it is about a key."""
        if self.key is not MISSING:
            return bool(key is self.key or key == self.key)
        return self.prefix is None or (isinstance(key, str) and key.startswith(self.prefix))

    def everything(self) -> bool:
        """Whether whole commits pass."""
        return self.key is MISSING and not self.prefix and not self.present_only


class Cursor:
    """A position in the feed of one store.

    Args:
        store: The store.
        selection: What to let through.
        since: Begin after this revision.
        pin: Makes a pinned view of the present, to begin anew from.

    Attributes:
        position: Up to this revision everything has been read.
        short: Whether there is a short way, as there most often is for a watcher of everything: who finds the next change in
            ``feed.lone``, where another watcher had it put, moves ``position`` there and is done. Else ``next`` tells.
        store: The store.
        feed: Its feed.
    """

    def __init__(self, store: Chronicle, selection: Selection, since: int, pin: Callable[[], View]) -> None:
        self.store = store
        self.feed = store.feed
        self._selection = selection
        self._everything = selection.everything()
        self._unfiltered = self._everything and selection.where is None and not selection.latest_only
        self.short = False
        self._pin = pin
        self.position = since
        self._done = since  # up to here everything has been given out
        self._ready: deque[Any_] = deque()
        self._view: View | None = None
        self._present: Iterator[Any] = iter(())
        self._doubtful: Iterator[Any] | None = None  # after falling behind: keys it may have missed changes of
        self._goal = 0  # and up to which revision
        self.watcher = selection.watcher()
        self._asleep = False

    def end(self) -> None:
        """Nobody wants any more: there is no short way from now on."""
        self._unfiltered = self.short = False

    def begin_with(self, view: View) -> None:
        """First give out what a pinned view holds, then follow from there."""
        self._view = view
        self.short = False
        self._present = self._candidates()
        self._read_present(view)  # a small map's present is known to be empty at once

    @property
    def revision(self) -> int:
        """Up to this revision everything that matches has been given out (0: not yet all that is present)."""
        if self._ready or self._view is not None:
            return self._done
        told, watcher = self.store.interest.told, self.watcher
        if self._asleep and watcher is not None and watcher.post is not None and watcher in watcher.post.waiting:
            return max(self.position, told)  # any commit up to there would have ended its wait
        return self.position

    @property
    def behind(self) -> bool:
        """Whether there may be something to read."""
        return self.position < self.store.revision or bool(self._ready) or self._view is not None

    def fall_asleep(self) -> bool:
        """After the wait has begun: False if it must end at once, since there may be something to read.

        A commit just before the wait did not touch the watcher, so only if there is none may ``awake`` skip anything.
        """
        self._asleep = not self.behind
        return self._asleep

    def awake(self) -> None:
        """A wait has ended: what was committed during it, up to the touching commit if any, was of no concern."""
        interest, watcher = self.store.interest, self.watcher
        asleep, self._asleep = self._asleep, False
        if watcher is None or watcher.post is None:
            return
        if not asleep:
            interest.rest(watcher)
            return
        told = interest.told  # before the next look: a commit in between is read from the feed
        slept = told if watcher in watcher.post.waiting else watcher.touched_at - 1
        interest.rest(watcher)
        if slept > self.position and not self._ready:
            self.position = self._done = slept

    def next(self) -> Any:
        """The next change, None if there is none yet, or PAUSE.

        Raises:
            LaggedError: If the feed no longer retains it.
        """
        if self.short:
            revision, newest, feed = self.position + 1, self.store.revision, self.feed
            if revision > newest:
                return None
            if (change := feed.lone.get(revision) or feed.show(revision, newest)) is not None:
                self.position = revision
                return change
        found = self._next()
        self.short = self._unfiltered and not self._ready and self._view is None
        return found

    def _next(self) -> Any:
        ready, where = self._ready, self._selection.where
        for _ in range(STEPS):
            if ready:
                change = ready.popleft()
                if not ready and self._view is None:
                    self._done = self.position
                if self.store.erased:
                    change = self._scrubbed(change)
                if where is None or change.kind == "resync" or where(change):
                    return change
            elif self._view is not None:
                if not self._read_present(self._view):
                    return PAUSE
            elif (read := self._read_log()) is not True:
                return read
        return PAUSE

    def next_commit(self) -> Any:
        """All matching changes of the next commit that has any, None, or PAUSE. What is present comes in slices."""
        while True:
            if (first := self.next()) is None or first is PAUSE:
                return first
            if first.kind == "resync":  # by itself, so that who finds it need not look through what is present
                return [first]
            changes = [first]
            try:
                while self._ready:
                    change = self._scrubbed(self._ready.popleft())
                    if self._selection.where is None or self._selection.where(change):
                        changes.append(change)
            except BaseException:
                self._ready.extendleft(reversed(changes))  # what `where` raised for is gone, the others are not
                raise
            if self._view is None:
                self._done = self.position
            return changes

    def _read_log(self) -> Any:
        """Take up the next commit: True, None if there is none, or PAUSE."""
        self._done = self.position
        newest, revision = self.store.revision, self.position + 1
        if revision > newest:
            return None
        feed = self.feed
        if (change := feed.lone.get(revision) or feed.show(revision, newest)) is not None:
            changes = [change]
        else:
            try:
                changes = feed.changes(revision)
            except LaggedError as error:
                return self._lag(error.oldest)
        self.position = revision
        self._ready.extend(changes if self._everything else self._chosen(changes))
        if not self._ready:
            self._done = revision
        return True

    def _chosen(self, changes: list[Any_]) -> list[Any_]:
        selection = self._selection
        return [change for change in changes if selection.names(change.key) and (not selection.present_only or change.present)]

    def _lag(self, floor: int) -> Any:
        """The next commit is not retained any more: find out whether that matters, and then say so or begin anew."""
        if self.watcher is not None and (spared := self._spare(floor)) is not None:
            return spared
        if not self._selection.resync:
            raise LaggedError(self.revision, floor)
        try:
            view = self._pin()
        except ClosedError:
            return None  # there will be no more
        self.begin_with(view)
        record = Record("resync", None, MISSING, MISSING, view.timestamp, NEVER)
        self._ready.appendleft(Change(Commit(view.revision, view.timestamp, (record,)), 0))
        return True

    def _spare(self, floor: int) -> Any:
        """Go on from there if nothing was missed: True; PAUSE if there are more keys to look at, None if something was."""
        if self._doubtful is None:
            self._goal = floor  # before the keys: one that is new since then has missed nothing
            self._doubtful = self._candidates()
        keys = list(islice(self._doubtful, SLICE))
        missed = any(map(self._missed, keys))
        if not missed and len(keys) == SLICE:
            return PAUSE
        self._doubtful = None
        if missed:
            return None
        self.position = self._done = self._goal
        return True

    def _candidates(self) -> Iterator[Any]:
        key = self._selection.key
        return iter(list(self.store.timelines) if key is MISSING else [key])

    def _missed(self, key: Any) -> bool:
        """Whether changes of a key up to the goal may have been missed. See ``Series.touched`` for when nobody can be sure."""
        store, position = self.store, self.position
        if not self._selection.names(key) or (timeline := store.timelines.get(key)) is None:
            return False
        touched: bool = timeline.touched(position, self._goal, store.instant_of(position))
        return touched or store.erased.get(key, 0) > position

    def _read_present(self, view: View) -> bool:
        """Take up some of what is present; False if none of what was looked at matches and there is more."""
        keys = list(islice(self._present, SLICE))
        for key in keys:
            if self._selection.names(key) and (entry := view.entry(key)) is not None and entry.holds(view.timestamp):
                timestamp, revision, value, expires_at = entry
                record = Record("initial", key, value, MISSING, timestamp, expires_at)
                meta = tuple(self.store.ledger.meta_of(revision).items())
                commit = Commit(view.revision, self.store.instant_of(revision), (record,), meta, frozenset((0,)))
                self._ready.append(Change(commit, 0))
        if len(keys) < SLICE:
            self._view = None
            self.position = view.revision
            if not self._ready:
                self._done = view.revision
            return True
        return bool(self._ready)

    def _scrubbed(self, change: Any_) -> Any_:
        """The change without values, if its key has been erased since it was read."""
        if self.store.erased.get(change.key, 0) <= change.revision:
            return change
        commit = change._whole
        records = tuple(
            record._replace(value=MISSING, previous=MISSING) if record.key == change.key else record
            for record in commit.records
        )
        return Change(commit._replace(records=records), change.index)


class LatestCursor(Cursor):
    """Gives out only the newest change of each key's present value: who is slow skips what has been superseded.

    What is to come is kept by key, in the order of revisions, and caught up with before each change that is given out.
    """

    def __init__(self, store: Chronicle, selection: Selection, since: int, pin: Callable[[], View]) -> None:
        super().__init__(store, selection, since, pin)
        self._newest: dict[Any, Any_] = {}

    @property
    def revision(self) -> int:
        """Up to this revision everything has been given out, or superseded by what is to come."""
        if self._newest:
            return next(iter(self._newest.values())).revision - 1
        return super().revision

    @property
    def behind(self) -> bool:
        """Whether there may be something to read."""
        return bool(self._newest) or super().behind

    def _read_log(self) -> Any:
        read: Any = True
        for _ in range(STEPS):
            if (read := Cursor._read_log(self)) is not True:
                break
            while self._ready:
                change = self._ready.popleft()
                if change.kind == "resync":
                    self._newest.clear()
                    self._ready.appendleft(change)
                    return True
                self._newest.pop(change.key, None)
                self._newest[change.key] = change
        if read is not None:  # there is more
            return PAUSE
        self._done = self.position
        if not self._newest:
            return None
        self._ready.append(self._newest.pop(next(iter(self._newest))))
        return True
