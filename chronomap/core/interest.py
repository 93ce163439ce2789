"""Who waits for which key: finds the watchers of a changed key without asking each.

A watcher of one key or of a prefix registers where it looks, in a turn. When it has nothing left to read it waits:
``Post.waiting`` of its place holds it until a commit touches that place. Example: ten thousand watchers of ten thousand keys
wait; a commit of ``"k7"`` looks up ``"k7"``, and for each length that some registered prefix has, the first so many
characters of it, and finds the one.

What a touched watcher has slept through did not concern it, so ``touched_at`` lets it go on from the touching commit, even
when the feed no longer retains those between. That holds because commits touch in revision order, inside their turns.
Watchers of everything are not here: every commit concerns them.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from typing import Any

from chronomap.core.values import MISSING


class Watcher:
    """One stream's place in the index.

    Attributes:
        key: The key it watches; MISSING: it watches a prefix.
        prefix: The prefix it watches.
        post: Where it waits.
        touched_at: The revision that ended its last wait.
    """

    __slots__ = ("key", "post", "prefix", "touched_at", "who")

    def __init__(self, who: Any, key: Any = MISSING, prefix: str = "") -> None:
        self.who = who  # whatever must be woken
        self.key = key
        self.prefix = prefix
        self.touched_at = 0
        self.post: Post | None = None


class Post:
    """Where the watchers of one key or one prefix wait. Not removed while one of them is registered."""

    __slots__ = ("registered", "waiting")

    def __init__(self) -> None:
        self.registered = 0
        self.waiting: dict[Watcher, None] = {}


class Interest:
    """The index. Registering and touching are the owner's; a watcher starts and ends its wait on any thread.

    Attributes:
        waiting: Everybody who waits: as long as it is empty there is nothing to touch.
        touched: Who has been touched, and by which revision, and must be woken once the turn is over.
        told: The newest revision all of whose keys have been touched.
    """

    def __init__(self) -> None:
        self.waiting: dict[Watcher, None] = {}
        self.touched: deque[tuple[Watcher, int]] = deque()
        self.told = 0
        self._leaving: deque[Watcher] = deque()
        self._keys: dict[Any, Post] = {}
        self._prefixes: dict[str, Post] = {}
        self._lengths: Counter[int] = Counter()  # of the prefixes registered

    def register(self, watcher: Watcher) -> None:
        """Give a watcher its place. O(1)."""
        self._part()
        posts: dict[Any, Post] = self._prefixes if watcher.key is MISSING else self._keys
        place = watcher.prefix if watcher.key is MISSING else watcher.key
        if (post := posts.get(place)) is None:
            post = posts[place] = Post()
            if watcher.key is MISSING:
                self._lengths[len(watcher.prefix)] += 1
        post.registered += 1
        watcher.post = post

    def leave(self, watcher: Watcher) -> None:
        """Take a watcher out, some time soon. May be called anywhere, by the garbage collector too."""
        self.rest(watcher)
        self._leaving.append(watcher)

    def _part(self) -> None:
        while self._leaving:
            watcher = self._leaving.popleft()
            if (post := watcher.post) is None:
                continue
            watcher.post = None
            post.registered -= 1
            if post.registered:
                continue
            if watcher.key is not MISSING:
                del self._keys[watcher.key]
                continue
            del self._prefixes[watcher.prefix]
            length = len(watcher.prefix)
            self._lengths[length] -= 1
            if not self._lengths[length]:
                del self._lengths[length]

    def wait(self, watcher: Watcher) -> None:
        """From now on a commit that concerns it touches the watcher."""
        if (post := watcher.post) is not None:
            self.waiting[watcher] = None
            post.waiting[watcher] = None

    def rest(self, watcher: Watcher) -> None:
        """It waits no longer."""
        if (post := watcher.post) is not None:
            post.waiting.pop(watcher, None)
        self.waiting.pop(watcher, None)

    def touch(self, revision: int, keys: Iterable[Any]) -> None:
        """A commit has been published: end the wait of everybody it concerns. O(keys · lengths of prefixes)."""
        for key in keys:
            if (post := self._keys.get(key)) is not None:
                self._end(post, revision)
            if self._lengths and isinstance(key, str):
                for length in self._lengths:
                    if len(key) >= length and (post := self._prefixes.get(key[:length])) is not None:
                        self._end(post, revision)
        self.told = revision

    def _end(self, post: Post, revision: int) -> None:
        for watcher in list(post.waiting):
            watcher.touched_at = revision  # before its wait ends: it may look at any moment
            try:
                post.waiting.pop(watcher, None)
                self.waiting.pop(watcher, None)
            finally:  # an interrupt must not leave it where nobody knows of it
                self.touched.append((watcher, revision))
