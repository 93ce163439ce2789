"""A real history: every file of a project's repository, commit by commit, against digests that git made.

The data is read as plain JSON, so that this says nothing about ``chronomap.formats`` and everything about the map.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import random
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from chronomap import AsyncChronoMap, ChronoMap

DATA = Path(__file__).parents[2] / "examples" / "data"


class GitCommit(NamedTuple):
    """One commit: its number, its timestamp, and its files; None for a deleted one."""

    number: int
    timestamp: float
    files: list[tuple[str, dict[str, Any] | None]]


@pytest.fixture(scope="module")
def commits() -> list[GitCommit]:
    """All commits, in git's order."""
    with gzip.open(DATA / "anyio-history.jsonl.gz", "rt", encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    return [
        GitCommit(number, timestamp, [(line["key"], line["value"]) for line in group])
        for (number, timestamp), group in groupby(lines, key=lambda line: (line["commit"], line["timestamp"]))
    ]


@pytest.fixture(scope="module")
def truth() -> list[dict[str, Any]]:
    """What git says: for some commits, how many files there were, and the digest of their names and contents."""
    with (DATA / "anyio-truth.jsonl").open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def found(latest: Mapping[str, Any]) -> tuple[int, str]:
    """The same two facts, of a map."""
    text = "".join(sorted(f"{path}\t{value['sha']}\n" for path, value in latest.items()))
    return len(latest), hashlib.sha256(text.encode()).hexdigest()


def shuffled(commits: list[GitCommit], seed: random.Random) -> list[GitCommit]:
    """The commits in random order; those with the same timestamp keep theirs, since the later revision wins."""
    order = seed.sample(commits, len(commits))
    queues = {when: iter(list(group)) for when, group in groupby(commits, key=lambda commit: commit.timestamp)}
    return [next(queues[commit.timestamp]) for commit in order]


def last_of_timestamp(commits: list[GitCommit], truth: list[dict[str, Any]]) -> list[tuple[float, int, str]]:
    """The truths that a timestamp can ask for: (timestamp, files, digest), where no later commit has the same one."""
    last = {commit.timestamp: commit.number for commit in commits}
    when = {commit.number: commit.timestamp for commit in commits}
    return [
        (when[line["commit"]], line["files"], line["digest"]) for line in truth if last[when[line["commit"]]] == line["commit"]
    ]


def test_data(commits: list[GitCommit], truth: list[dict[str, Any]]) -> None:
    """The data is what the tests below take it for."""
    assert [commit.number for commit in commits] == list(range(1, len(commits) + 1))
    assert [commit.timestamp for commit in commits] == sorted(commit.timestamp for commit in commits)
    assert len(last_of_timestamp(commits, truth)) > 20


def load(cm: ChronoMap[str, Any], commits: list[GitCommit]) -> None:
    """One transaction a commit."""
    for commit in commits:
        with cm.transaction() as transaction:
            for key, value in commit.files:
                if value is None:
                    transaction.delete(key, timestamp=commit.timestamp)
                else:
                    transaction.put(key, value, timestamp=commit.timestamp)


async def aload(cm: AsyncChronoMap[str, Any], commits: list[GitCommit]) -> None:
    """The same on the async face."""
    for commit in commits:
        async with cm.transaction() as transaction:
            for key, value in commit.files:
                if value is None:
                    await transaction.delete(key, timestamp=commit.timestamp)
                else:
                    await transaction.put(key, value, timestamp=commit.timestamp)


def test_revisions_sync(commits: list[GitCommit], truth: list[dict[str, Any]]) -> None:
    """Each git commit is one revision, and going back to any of them gives git's own digest."""
    with ChronoMap[str, Any]() as cm:
        load(cm, commits)
        assert cm.revision == len(commits)
        for line in truth:
            assert found(cm.at(revision=line["commit"]).latest()) == (line["files"], line["digest"])
        for timestamp, files, digest in last_of_timestamp(commits, truth):
            assert found(cm.at(timestamp=timestamp).latest()) == (files, digest)


@pytest.mark.anyio
async def test_revisions_async(commits: list[GitCommit], truth: list[dict[str, Any]]) -> None:
    """The same on every event loop."""
    async with AsyncChronoMap[str, Any]() as cm:
        await aload(cm, commits)
        assert cm.revision == len(commits)
        for line in truth:
            snapshot = await cm.at(revision=line["commit"])
            assert found(await snapshot.latest()) == (line["files"], line["digest"])
        for timestamp, files, digest in last_of_timestamp(commits, truth):
            assert found(await cm.latest(timestamp=timestamp)) == (files, digest)


def test_any_order_sync(commits: list[GitCommit], truth: list[dict[str, Any]], seed: random.Random) -> None:
    """Timestamps alone decide what held when: commits learned in random order give the same digests."""
    with ChronoMap[str, Any]() as cm:
        load(cm, shuffled(commits, seed))
        for timestamp, files, digest in last_of_timestamp(commits, truth):
            assert found(cm.at(timestamp=timestamp).latest()) == (files, digest)


@pytest.mark.anyio
async def test_any_order_async(commits: list[GitCommit], truth: list[dict[str, Any]], seed: random.Random) -> None:
    """The same on every event loop."""
    async with AsyncChronoMap[str, Any]() as cm:
        await aload(cm, shuffled(commits, seed))
        for timestamp, files, digest in last_of_timestamp(commits, truth):
            snapshot = await cm.at(timestamp=timestamp)
            assert found(await snapshot.latest()) == (files, digest)
