"""The versions of one key, in the order of the visibility rule.

The idea: four parallel arrays sorted by (timestamp, revision). A read is a bisection and, rarely, a few steps back. Writers
append in place; anything else (a late version, pruning) builds a new timeline aside, which the store swaps in.

A worked example. Put 1 at timestamp 10 (revision 1), schedule 2 for 30 (revision 2), put 3 for 20 (revision 3), call off
what stands at 30 (revision 4)::

    timestamps  10  20  30  30
    revisions    1   3   2   4
    values       1   3   2   CANCELLED

At timestamp 35 as known at revision 2 the greatest entry is (30, 2): the answer is 2. As known at revision 4 it is
(30, 4), a cancellation, so everything at 30 is void and the answer is 3.

Readers on other threads never wait, so mind the order here: an append publishes values, expiries and revisions before the
timestamp that makes them reachable, and ``settled`` is withdrawn before a commit and set again after it is published.

Many a key never has a second version. Arrays for one entry are nine tenths overhead, so such a timeline has a shape of its
own (``Single``), which a second version replaces by one with arrays (``Series``). Where a late version comes to a long
history, copying all of it would cost too much: that is cut into blocks (``Chain``), of which only one is copied from then
on. Who reads need not know which it is.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice, pairwise
from typing import Any, Final

from chronomap.core.records import CANCELLED, NEVER, Entry, make
from chronomap.core.values import MISSING

UNSETTLED: Final[Any] = type("_Unsettled", (), {"__slots__": (), "__repr__": lambda _: "UNSETTLED"})()
"""The state of a timeline whose value now cannot be told without the clock, or that is being changed."""


NOT_LOADED: Final = (-NEVER, 0)
"""The floor of a timeline whose older versions are in the journal: whatever lies below those it has counts as pruned."""


NARROW: Final = "I"
WIDE: Final = "q"
"""The type codes of an array of revisions: four bytes and eight."""

WIDE_FROM: Final = (1 << 32) - (1 << 20)
"""The revision from which on revisions are kept in eight bytes, a little before they must."""

BLOCK: Final = 512
"""Entries of a block of a chain, when it is cut off; at twice as many it is cut in two. Copying one takes 3 µs."""


def sorted_up(numbers: Sequence[float]) -> bool:
    """Whether no number is smaller than the one before it."""
    return all(one <= two for one, two in pairwise(numbers))


class Pruned(Exception):  # noqa: N818 - an answer ("not known any more"), turned into CompactedError one floor up
    """The versions that could have answered have been pruned."""


class Shape:
    """What all shapes of a timeline share: the reads, which any thread may do, and copies.

    Attributes:
        timestamps: Ascending.
        revisions: Of entries with one timestamp, ascending.
        values: Kept values, MISSING for a tombstone, or CANCELLED.
        expiries: When each version expires; None: none ever does.
        ordered: Whether the revisions ascend along the arrays: a read as of a revision may bisect.
        start: Entries below this index have been pruned.
        floor: The smallest timestamp and revision ever pruned.
        settled: The value in force at every timestamp from now on as far as is known (MISSING: none), or UNSETTLED.
        since: The revision from which on ``settled`` holds.
        changed: The revision that last wrote a version here.
    """

    __slots__ = ("settled", "since")

    timestamps: Sequence[float]
    revisions: Sequence[int]
    values: Sequence[Any]
    expiries: Sequence[float] | None
    ordered: bool
    start: int
    floor: tuple[float, int] | None
    settled: Any
    since: int
    changed: int

    def __len__(self) -> int:
        return len(self.timestamps) - self.start

    def __iter__(self) -> Iterator[Entry]:
        return map(self.entry, range(self.start, len(self.timestamps)))

    @property
    def partial(self) -> bool:
        """Whether older versions are not in memory, but in the journal."""
        return self.floor == NOT_LOADED

    @property
    def size(self) -> int:
        """How many entries there are, with those below ``start``."""
        return len(self.timestamps)

    @property
    def oldest(self) -> tuple[float, int]:
        """The timestamp and revision of the first entry."""
        return self.timestamps[self.start], self.revisions[self.start]

    def known(self) -> Iterable[int]:
        """The revisions of all entries, in the order of these."""
        return self.revisions[self.start :]

    def stamps(self, first: int, last: int) -> Iterator[tuple[float, int]]:
        """The timestamps and revisions of some entries."""
        return zip(self.timestamps[first:last], self.revisions[first:last], strict=True)

    def index(self, timestamp: float) -> int:
        """The index of the first entry that is not dated before a timestamp."""
        return bisect_left(self.timestamps, timestamp)

    def locate(self, timestamp: float, revision: int) -> int:
        """The index of the entry that decides at (timestamp, revision), or -1 for none. O(log n) for appended histories.

        Raises:
            Pruned: If a pruned entry might have decided.
        """
        timestamps, revisions = self.timestamps, self.revisions
        index = bisect_right(timestamps, timestamp) - 1
        if self.ordered and index >= 0 and revisions[index] > revision:
            index = min(index, bisect_right(revisions, revision) - 1)
        while index >= self.start:
            if revisions[index] > revision:
                index -= 1
            elif self.values[index] is CANCELLED:
                index = bisect_left(timestamps, timestamps[index]) - 1
            else:
                return index
        if self.floor is not None and timestamp >= self.floor[0] and revision >= self.floor[1]:
            raise Pruned
        return -1

    def entry(self, index: int) -> Entry:
        """The entry at an index."""
        expiries = self.expiries
        until = NEVER if expiries is None else expiries[index]
        found: Entry = make(Entry, (self.timestamps[index], self.revisions[index], self.values[index], until))
        return found

    def find(self, timestamp: float, revision: int) -> Entry | None:
        """The entry that decides at (timestamp, revision): a value or a tombstone, expired or not."""
        index = self.locate(timestamp, revision)
        return self.entry(index) if index >= 0 else None

    def at_exactly(self, timestamp: float, revision: int) -> Entry | None:
        """What stands at exactly that timestamp as known at that revision; None if nothing does or it is called off."""
        index = bisect_right(self.timestamps, timestamp) - 1
        while index >= self.start and self.timestamps[index] == timestamp:
            if self.revisions[index] <= revision:
                return None if self.values[index] is CANCELLED else self.entry(index)
            index -= 1
        return None

    def entries(self, revision: int, until: float = NEVER, after: float = -NEVER) -> Iterator[Entry]:
        """All entries with ``after < timestamp <= until`` that were known at a revision, oldest timestamp first."""
        first = max(self.start, bisect_right(self.timestamps, after))
        for index in range(first, bisect_right(self.timestamps, until)):
            if self.revisions[index] <= revision:
                yield self.entry(index)

    def standing(self, revision: int, until: float = NEVER, after: float = -NEVER) -> list[Entry]:
        """The same without what was called off and without the cancellations."""
        kept: list[Entry] = []
        for entry in self.entries(revision, until, after):
            if entry.value is CANCELLED:
                while kept and kept[-1].timestamp == entry.timestamp:
                    kept.pop()
            else:
                kept.append(entry)
        return kept

    def columns(self, revision: int, start: float, until: float) -> tuple[Sequence[float], Sequence[Any]] | None:
        """The timestamps and values of the entries with ``start <= timestamp <= until`` that were known at a revision.

        None if they do not stand next to each other. Cost: O(log n), and copying them.
        """
        timestamps, revisions = self.timestamps, self.revisions
        first, last = max(self.start, bisect_left(timestamps, start)), bisect_right(timestamps, until)
        if self.ordered:
            last = min(last, bisect_right(revisions, revision))
        elif first < last and max(revisions[first:last]) > revision:
            return None
        return timestamps[first:last], self.values[first:last]

    def settle(self, instant: float, revision: int) -> None:
        """Publish the value in force now, if it needs no clock to tell. Called after the revision is published."""
        timestamps, values, expiries = self.timestamps, self.values, self.expiries
        self.since = revision
        if len(timestamps) == self.start or timestamps[-1] > instant:
            return
        if (value := values[-1]) is not CANCELLED:
            if expiries is None or expiries[-1] == NEVER:
                self.settled = value
            return
        try:
            entry = self.find(instant, revision)
        except Pruned:
            return
        if entry is None:
            self.settled = MISSING
        elif entry.expires_at == NEVER:
            self.settled = entry.value

    def touched(self, after: int, until: int, instant: float) -> bool:
        """Whether a commit with ``after < revision <= until`` may have been about this key; ``instant`` is that of ``after``.

        False is certain. True may be wrong where versions have been pruned or erased, or lay ahead at that instant.
        """
        if max(self.changed, self.since) <= after:
            return False
        floor, start = self.floor, self.start
        if not self.ordered:
            known = [stamp for stamp, revision in self.stamps(start, self.size) if revision <= after]
            return floor is not None or (known or [instant])[-1] > instant or any(after < one <= until for one in self.known())
        revisions, timestamps = self.revisions, self.timestamps
        if revisions[start] > after and (floor is not None or self.values[start] is MISSING):
            return True  # what was pruned or erased is older than that, but perhaps not than `after`
        first = bisect_right(revisions, after)
        # What lay ahead at that instant may have taken effect since.
        return (first and timestamps[first - 1] > instant) or bisect_right(revisions, until) > first

    def floor_without(self, start: int) -> tuple[float, int]:
        """The floor when the entries below an index have been pruned."""
        timestamp, revision = self.oldest[0], min(revision for _, revision in self.stamps(self.start, start))
        return (timestamp, revision) if self.floor is None else (min(self.floor[0], timestamp), min(self.floor[1], revision))

    def extended(self, older: list[Entry], floor: tuple[float, int] | None) -> Series:
        """A timeline that has entries before its own, oldest first, and its true floor; of the same state."""
        whole = Series()
        for entry in chain(older, self):
            whole.append(*entry)
        whole.ordered = sorted_up(whole.revisions)
        whole.floor, whole.changed = floor, self.changed
        whole.settled, whole.since = self.settled, self.since
        return whole

    def upto(self, revision: int) -> Series:
        """A timeline that never heard of anything after a revision (to leave nothing of commits that came to nothing)."""
        rest = Series()
        for entry in self.entries(revision):
            rest.append(*entry)
        rest.ordered, rest.floor, rest.since = self.ordered, self.floor, self.since
        rest.changed = max(rest.revisions, default=0)
        return rest

    def _check(self) -> None:
        """Verify every invariant."""
        size = len(self.timestamps)
        assert len(self.revisions) == len(self.values) == size
        assert self.expiries is None or len(self.expiries) == size
        assert 0 <= self.start <= size
        assert size == 0 or self.start < size, "pruned to nothing"
        stamps = list(zip(self.timestamps, self.revisions, strict=True))
        assert all(one < two for one, two in pairwise(stamps)), "not sorted by (timestamp, revision)"
        assert not self.ordered or list(self.revisions) == sorted(self.revisions), "not ordered by revision"
        assert self.changed >= max(self.revisions, default=0)


class Single(Shape):
    """The only version of its key: one that has been in force since its revision, as far as is known, and never expires.

    Nothing of it changes but ``settled``.

    Attributes:
        timestamp: Since when it holds.
        since: Its revision: what it settles has held since then.
        value: Its kept value, or MISSING.
    """

    __slots__ = ("timestamp", "value")

    expiries = (NEVER,)
    ordered = True
    start = 0
    floor = None

    def __init__(self, timestamp: float, revision: int, value: Any) -> None:
        self.timestamp = float(timestamp)  # as arrays have it, whatever a clock gives
        self.since = revision
        self.value = value
        self.settled = UNSETTLED

    timestamps = property(lambda self: (self.timestamp,))
    revisions = property(lambda self: (self.since,))
    values = property(lambda self: (self.value,))
    changed = property(lambda self: self.since)

    def with_room(self) -> Series:
        """The same in arrays, to which a version that does not expire may be appended."""
        series = Series((self.timestamp,), (self.since,), (self.value,))
        series.changed = series.since = self.since
        return series

    def add(self, timestamp: float, revision: int, value: Any, expires_at: float) -> Series | Chain:
        """Two versions. O(1)."""
        return self.with_room().add(timestamp, revision, value, expires_at)

    def frozen(self) -> Single:
        """Itself: no pruning reaches it."""
        return self

    def settle(self, _: float, __: int) -> None:
        """See ``Shape``."""
        self.settled = self.value


class Series(Shape):
    """A timeline in four arrays, to which appending is cheap.

    Attributes:
        code: The type code of ``revisions`` of every series that is made.
    """

    code = NARROW

    __slots__ = ("changed", "expiries", "floor", "ordered", "revisions", "start", "timestamps", "values")

    def __init__(self, timestamps: Iterable[float] = (), revisions: Iterable[int] = (), values: Iterable[Any] = ()) -> None:
        self.timestamps: array[float] = array("d", timestamps)
        self.revisions: array[int] = array(self.code, revisions)
        self.values: list[Any] = [*values]
        self.expiries: array[float] | None = None  # made when the first version that expires arrives
        self.ordered = True
        self.start = 0
        self.floor: tuple[float, int] | None = None
        self.settled = UNSETTLED
        self.since = 0
        self.changed = 0

    def add(self, timestamp: float, revision: int, value: Any, expires_at: float) -> Series | Chain:
        """Add an entry and return the timeline to use from now on: this one after an append, else a new one.

        Cost: O(1) when nothing later stands; else O(n), but that once only if n is large.
        """
        timestamps = self.timestamps
        if not timestamps or timestamp >= timestamps[-1]:
            self.append(timestamp, revision, value, expires_at)
            return self
        if isinstance(whole := self.in_blocks(), Chain):
            return whole.add(timestamp, revision, value, expires_at)
        return self.plus(timestamp, revision, value, expires_at)

    def plus(self, timestamp: float, revision: int, value: Any, expires_at: float) -> Series:
        """A copy with one more entry, before others."""
        timestamps = self.timestamps
        index = bisect_right(timestamps, timestamp) - self.start
        grown = self.piece(self.start, len(timestamps))  # whole arrays are copied, in C
        if grown.expiries is None and expires_at != NEVER:
            grown.expiries = array("d", [NEVER]) * len(grown.timestamps)
        if grown.expiries is not None:
            grown.expiries.insert(index, expires_at)
        grown.values.insert(index, value)
        grown.revisions.insert(index, revision)
        grown.timestamps.insert(index, timestamp)
        grown.ordered = False
        return grown

    def in_blocks(self) -> Series | Chain:
        """The same as a chain, if it is so long and can be cut."""
        blocks = self.cut()
        return self if len(blocks) == 1 else Chain(blocks, _begins(blocks), _least(blocks), self)

    def cut(self) -> list[Series]:
        """Blocks of it; entries of one timestamp stay together. Itself alone, if it is not long enough."""
        timestamps, first, last = self.timestamps, self.start, len(self.timestamps)
        blocks = []
        while last - first > 2 * BLOCK:
            cut = timestamps[first + BLOCK]
            end = bisect_left(timestamps, cut, first)
            if end == first:
                end = bisect_right(timestamps, cut, first)
                if end == last:
                    break
            blocks.append(self.piece(first, end))
            first = end
        if not blocks:
            return [self]
        blocks.append(self.piece(first, last))
        for block in blocks:
            block.floor = None
            block.ordered = self.ordered or sorted_up(block.revisions)
        return blocks

    def with_room(self) -> Series:
        """Itself; where versions expire, that the next one does not is noted already."""
        if self.expiries is not None:
            self.expiries.append(NEVER)
        return self

    def append(self, timestamp: float, revision: int, value: Any, expires_at: float) -> None:
        """Add an entry that comes after all others. O(1)."""
        if self.expiries is not None:
            self.expiries.append(expires_at)
        elif expires_at != NEVER:
            self.expiries = array("d", [NEVER] * len(self.timestamps) + [expires_at])
        if not self.timestamps:  # without room for more: perhaps there never is a second version
            self.values, self.revisions, self.timestamps = [value], array(self.code, (revision,)), array("d", (timestamp,))
            return
        self.values.append(value)
        self.revisions.append(revision)
        self.timestamps.append(timestamp)

    def frozen(self) -> Series:
        """A view that later pruning does not reach; it shares the arrays. O(1)."""
        view = Series()
        view.timestamps, view.revisions, view.values = self.timestamps, self.revisions, self.values
        view.expiries, view.ordered, view.start = self.expiries, self.ordered, self.start
        view.floor, view.changed, view.since = self.floor, self.changed, self.since
        return view

    def prune(self, start: int) -> Series:
        """Forget the entries below an index; returns the timeline to use from now on. Amortised O(1) per entry."""
        self.floor = self.floor_without(start)
        if start * 2 < len(self.timestamps):
            self.start = start  # cheap now; the arrays are cut when at least half of them is dead
            return self
        rest = self.piece(start, len(self.timestamps))
        rest.settled = self.settled
        return rest

    def evict(self, start: int) -> Series:
        """Let go of the entries below an index, which the journal has; returns the timeline to use from now on."""
        rest = self.piece(start, len(self.timestamps))
        rest.settled, rest.since, rest.floor = self.settled, self.since, NOT_LOADED
        return rest

    def widened(self) -> Series:
        """The same, for longer revisions; aside, since readers and views go on with the arrays they have."""
        whole = self.piece(self.start, len(self.timestamps))
        whole.revisions = array(self.code, whole.revisions)
        whole.settled = self.settled
        return whole

    def piece(self, first: int, last: int) -> Series:
        """A copy of some of its entries."""
        part = Series()
        part.timestamps = self.timestamps[first:last]
        part.revisions = self.revisions[first:last]
        part.values = self.values[first:last]
        part.expiries = None if self.expiries is None else self.expiries[first:last]
        part.ordered = self.ordered
        part.floor = self.floor
        part.changed, part.since = self.changed, self.since
        return part


class Chain(Shape):
    """A timeline in blocks, each with the entries of one stretch of time: a late version has only its block copied.

    A chain is made anew for every late version; its blocks are not, and only the last of them grows.

    Attributes:
        blocks: At least two; none is empty, and no timestamp is in two of them.
        begins: The first timestamp of each but the first.
        least: The smallest revision in each.
    """

    __slots__ = ("begins", "blocks", "changed", "floor", "least")

    ordered = False
    start = 0

    def __init__(self, blocks: list[Series], begins: list[float], least: list[int], like: Series | Chain) -> None:
        """Make a chain that is like another timeline but for its entries."""
        self.blocks, self.begins, self.least = blocks, begins, least
        self.floor, self.changed, self.since = like.floor, like.changed, like.since
        self.settled = UNSETTLED

    # Who appends, or looks at what comes last, need not know that there are blocks.
    timestamps = property(lambda self: self.blocks[-1].timestamps)
    revisions = property(lambda self: self.blocks[-1].revisions)
    values = property(lambda self: self.blocks[-1].values)
    expiries = property(lambda self: self.blocks[-1].expiries)

    def __len__(self) -> int:
        return sum(map(len, self.blocks))

    size = property(__len__)
    oldest = property(lambda self: self.blocks[0].oldest)

    def __iter__(self) -> Iterator[Entry]:
        return chain.from_iterable(self.blocks)

    def known(self) -> Iterable[int]:
        """See ``Shape``."""
        return chain.from_iterable(block.revisions for block in self.blocks)

    def stamps(self, first: int, last: int) -> Iterator[tuple[float, int]]:
        """See ``Shape``. O(last)."""
        return islice(chain.from_iterable(block.stamps(0, block.size) for block in self.blocks), first, last)

    def index(self, timestamp: float) -> int:
        """See ``Shape``. O(blocks)."""
        place = bisect_right(self.begins, timestamp)
        return sum(map(len, self.blocks[:place])) + self.blocks[place].index(timestamp)

    def locate(self, timestamp: float, revision: int) -> int:
        """See ``Shape``. O(blocks)."""
        place, index = self._where(timestamp, revision)
        return index if place < 0 else sum(map(len, self.blocks[:place])) + index

    def _where(self, timestamp: float, revision: int) -> tuple[int, int]:
        """The place of a block and the index in it of what ``locate`` finds. O(log n), or O(blocks) for old revisions."""
        for place in range(bisect_right(self.begins, timestamp), -1, -1):
            if self.least[place] <= revision and (index := self.blocks[place].locate(timestamp, revision)) >= 0:
                return place, index
        if self.floor is not None and timestamp >= self.floor[0] and revision >= self.floor[1]:
            raise Pruned
        return -1, -1

    def entry(self, index: int) -> Entry:
        """See ``Shape``. O(blocks)."""
        place, index = self._at(index)
        return self.blocks[place].entry(index)

    def _at(self, index: int) -> tuple[int, int]:
        """The place of the block that an index falls into, and the index in it."""
        place = 0
        while index >= self.blocks[place].size:
            index -= self.blocks[place].size
            place += 1
        return place, index

    def find(self, timestamp: float, revision: int) -> Entry | None:
        """See ``Shape``."""
        place, index = self._where(timestamp, revision)
        return None if place < 0 else self.blocks[place].entry(index)

    def at_exactly(self, timestamp: float, revision: int) -> Entry | None:
        """See ``Shape``."""
        return self.blocks[bisect_right(self.begins, timestamp)].at_exactly(timestamp, revision)

    def entries(self, revision: int, until: float = NEVER, after: float = -NEVER) -> Iterator[Entry]:
        """See ``Shape``."""
        for block in self.blocks[bisect_right(self.begins, after) : bisect_right(self.begins, until) + 1]:
            yield from block.entries(revision, until, after)

    def columns(self, revision: int, start: float, until: float) -> tuple[Sequence[float], Sequence[Any]] | None:
        """See ``Shape``."""
        timestamps: array[float] = array("d")
        values: list[Any] = []
        for block in self.blocks[bisect_right(self.begins, start) : bisect_right(self.begins, until) + 1]:
            if (columns := block.columns(revision, start, until)) is None:
                return None
            timestamps.extend(columns[0])
            values.extend(columns[1])
        return timestamps, values

    def add(self, timestamp: float, revision: int, value: Any, expires_at: float) -> Chain:
        """Add an entry and return the timeline to use from now on. O(blocks), or O(1) when nothing later stands."""
        place = bisect_right(self.begins, timestamp)
        block = self.blocks[place]
        if place == len(self.begins) and timestamp >= block.timestamps[-1]:
            block.append(timestamp, revision, value, expires_at)
            return self
        # A block is cut before it gets the entry: then it is the shorter one that is copied.
        pieces = block.cut()
        blocks, begins, least = self.blocks.copy(), self.begins, self.least
        if len(pieces) > 1:
            begins, least = begins.copy(), least.copy()
            blocks[place : place + 1], begins[place:place], least[place : place + 1] = pieces, _begins(pieces), _least(pieces)
            place = bisect_right(begins, timestamp)
        blocks[place] = blocks[place].plus(timestamp, revision, value, expires_at)
        return Chain(blocks, begins, least, self)

    def with_room(self) -> Chain:
        """See ``Series``."""
        self.blocks[-1].with_room()
        return self

    def frozen(self) -> Chain:
        """See ``Series``."""
        return Chain(self.blocks, self.begins, self.least, self)

    def prune(self, start: int) -> Series | Chain:
        """See ``Series``. O(blocks), and what remains of the first of them is copied."""
        floor = self.floor_without(start)
        rest = self._rest(start)
        rest.floor = floor
        return rest

    def evict(self, start: int) -> Series | Chain:
        """See ``Series``."""
        rest = self._rest(start)
        rest.floor = NOT_LOADED
        return rest

    def _rest(self, start: int) -> Series | Chain:
        """The same without the entries below an index."""
        place, start = self._at(start)
        first = self.blocks[place].piece(start, self.blocks[place].size)
        blocks, least = [first, *self.blocks[place + 1 :]], [*_least([first]), *self.least[place + 1 :]]
        rest = first if len(blocks) == 1 else Chain(blocks, self.begins[place:], least, self)
        rest.settled, rest.since, rest.changed = self.settled, self.since, self.changed
        return rest

    def widened(self) -> Chain:
        """See ``Series``."""
        whole = Chain([block.widened() for block in self.blocks], self.begins, self.least, self)
        whole.settled = self.settled
        return whole

    def _check(self) -> None:
        assert len(self.blocks) > 1
        for block in self.blocks:
            assert block.size
            assert block.start == 0
            assert block.floor is None
            block.changed = max(block.revisions)
            block._check()
        assert self.begins == [block.timestamps[0] for block in self.blocks[1:]]
        assert self.least == [min(block.revisions) for block in self.blocks]
        assert all(one.timestamps[-1] < two.timestamps[0] for one, two in pairwise(self.blocks))
        assert self.changed >= max(self.known())


def _begins(blocks: list[Series]) -> list[float]:
    return [block.timestamps[0] for block in blocks[1:]]


def _least(blocks: list[Series]) -> list[int]:
    return [block.revisions[0] if block.ordered else min(block.revisions) for block in blocks]


Timeline = Single | Series | Chain
"""The versions of one key."""


def begun(now: float, timestamp: float, revision: int, value: Any, expires_at: float) -> Timeline:
    """The timeline of a key with its first entry, committed at an instant."""
    if timestamp <= now and expires_at == NEVER and value is not CANCELLED:
        return Single(timestamp, revision, value)
    series = Series().add(timestamp, revision, value, expires_at)
    series.changed = revision
    return series
