"""Rows 1, 2, 3 and 8 of the table in ``__init__``: what is true when a caller or a watcher is cancelled."""

from __future__ import annotations

import asyncio
import gc
import importlib
import inspect
import itertools
import pkgutil
import random
import threading
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from waiting import LONG, until

import chronomap
from chronomap import AsyncChronoMap, ChangeStream
from chronomap.runtime import owner

from .stage import Held

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("maps")]


async def test_replies_belong_to_their_callers(seed: random.Random) -> None:
    """Row 1: half of forty waiting callers are cancelled; nobody else gets their replies, and they wrote nothing."""
    cm = AsyncChronoMap[int, str]()
    mailbox = cm._owner.mailbox
    replies: dict[int, int] = {}
    scopes = [anyio.CancelScope() for _ in range(40)]

    async def put(name: int) -> None:
        with scopes[name]:
            replies[name] = await cm.put(name, f"value of {name}")

    leaving = set(seed.sample(range(40), 20))
    async with anyio.create_task_group() as tasks:
        with Held(cm) as held:
            for name in range(40):
                tasks.start_soon(put, name)
            await until(lambda: len(mailbox) == 40)
            for name in leaving:
                scopes[name].cancel()
            await until(lambda: len(mailbox) == 20)
            held.release()
    assert replies.keys() == set(range(40)) - leaving
    assert sorted(replies.values()) == list(range(1, 21))
    for name, revision in replies.items():
        version = await cm.version(name)
        assert version is not None and (version.value, version.revision) == (f"value of {name}", revision)
    assert set(await cm.keys()) == replies.keys(), "a cancelled caller's put was applied behind its back"
    cm._check()


@pytest.mark.memory_only
async def test_what_a_turn_has_taken_is_applied() -> None:
    """Row 1: cancelled in the middle of its turn on a thread, a put has been applied; its retry does not repeat it."""
    cm = AsyncChronoMap[Any, int]()
    owner = cm._owner
    loop_thread = threading.get_ident()
    taken, go_on = threading.Event(), threading.Event()

    class Key(str):
        """Its hash is asked for in the turn, which is where the cancellation shall meet it."""

        __slots__ = ()

        def __hash__(self) -> int:
            if threading.get_ident() != loop_thread:
                taken.set()
                go_on.wait(LONG)
            return str.__hash__(self)

    withdraw = owner.withdraw

    def withdraw_too_late(command: Any) -> bool:
        withdrawn = withdraw(command)
        go_on.set()
        return withdrawn

    owner.withdraw = withdraw_too_late  # type: ignore[method-assign]
    scope = anyio.CancelScope()
    revision_when_cancelled: list[int] = []

    async def put() -> None:
        with scope:
            try:
                await cm.put(Key("k"), 1, request_id="one")
            finally:
                revision_when_cancelled.append(cm.revision)

    async with anyio.create_task_group() as tasks:
        with Held(cm) as held:
            tasks.start_soon(put)
            await until(lambda: owner.mailbox)
            held.release()
            await anyio.to_thread.run_sync(taken.wait, LONG)
            scope.cancel()
            await until(lambda: revision_when_cancelled)
    assert scope.cancelled_caught
    assert revision_when_cancelled == [1], "the caller was let go while its put was neither withdrawn nor applied"
    assert await cm.put("k", 1, request_id="one") == 1
    assert cm.revision == 1
    cm._check()


async def test_a_writer_who_is_stuck_holds_up_nobody() -> None:
    """Row 2: one writer waits for ever in its callback; others go on, and it can be cancelled: nothing is shielded."""
    cm = AsyncChronoMap[str, int]()
    bridge = cm.bridge()
    stuck = anyio.Event()

    async def callback(key: str, old: int | None, new: int | None, timestamp: float) -> None:
        if key == "stuck":
            stuck.set()
            await anyio.Event().wait()

    cm.on_change(callback)
    with anyio.fail_after(LONG):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(cm.put, "stuck", 1)
            await stuck.wait()
            assert await cm.put("task", 2) == 2
            assert await anyio.to_thread.run_sync(bridge.put, "thread", 3) == 3
            tasks.cancel_scope.cancel()
        assert await cm.latest() == {"stuck": 1, "task": 2, "thread": 3}
        await cm.aclose()


async def test_a_cancelled_watcher_loses_nothing(seed: random.Random) -> None:
    """Row 3: a watcher cancelled again and again, also when a change has just come, is shown every change once."""
    cm = AsyncChronoMap[str, int]()
    stream = cm.watch()
    seen: list[int] = []
    cancelled = 0
    scope = anyio.CancelScope()

    async def write() -> None:
        for number in range(400):
            order = seed.randrange(3)
            if order == 0:
                scope.cancel()
            await cm.put("k", number)
            if order == 1:
                scope.cancel()
            for _ in range(seed.randrange(4)):
                await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(write)
        with anyio.fail_after(LONG):
            while len(seen) < 400:
                scope = anyio.CancelScope()
                with scope:
                    change = await anext(stream)
                    seen.append(change.revision)
                cancelled += scope.cancelled_caught
    assert seen == list(range(1, 401))
    assert cancelled > 20


@pytest.mark.asyncio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_natively_cancelled_watcher_loses_nothing() -> None:
    """Row 3: the same with ``task.cancel()``, which anyio's memory streams do not survive, at every distance."""
    cm = AsyncChronoMap[str, int]()
    stream = cm.watch()
    seen: list[int] = []
    for before, after in itertools.product(range(4), repeat=2):
        task = asyncio.ensure_future(anext(stream))
        for _ in range(before):
            await asyncio.sleep(0)
        await cm.put("k", 1)
        for _ in range(after):
            await asyncio.sleep(0)
        task.cancel()
        (outcome,) = await asyncio.gather(task, return_exceptions=True)
        if isinstance(outcome, BaseException):
            assert isinstance(outcome, asyncio.CancelledError)
            outcome = await asyncio.wait_for(anext(stream), LONG)
        seen.append(outcome.revision)
    assert seen == list(range(1, 17))


@pytest.mark.parametrize("by", ["change", "commit", "prefix", "where"])
async def test_a_watcher_cancelled_within_a_commit_loses_nothing(
    seed: random.Random, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    """Row 3: cancelled between two changes of one commit, while it lets others run, it goes on with the second."""
    monkeypatch.setattr(owner, "BUDGET", 1)  # it yields to the loop before every second change
    cm = AsyncChronoMap[str, int]()
    stream = cm.watch(
        prefix="k" if by == "prefix" else None, where=(lambda change: change.index != 1) if by == "where" else None
    )
    commits = stream.commits()
    seen: list[tuple[int, int]] = []
    within = 0
    scope = anyio.CancelScope()

    async def write() -> None:
        for number in range(100):
            await cm.put_many({"k0": number, "other": number, "k1": number, "k2": number})
            for _ in range(seed.randrange(8)):
                await anyio.lowlevel.checkpoint()
                if seed.random() < 0.3:
                    scope.cancel()

    wanted = [
        (revision, index) for revision in range(1, 101) for index in ((0, 2, 3) if by in {"prefix", "where"} else range(4))
    ]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(write)
        with anyio.fail_after(LONG):
            while len(seen) < len(wanted):
                scope = anyio.CancelScope()
                with scope:
                    if seed.random() < 0.3:
                        scope.cancel()
                    changes = await anext(commits) if by == "commit" else [await anext(stream)]
                    seen += [(change.revision, change.index) for change in changes]
                within += scope.cancelled_caught and bool(stream._cursor._ready)
    assert seen == wanted
    assert within or by == "commit"
    assert stream.revision == cm.revision == 100


async def test_a_watcher_natively_cancelled_within_a_commit(monkeypatch: pytest.MonkeyPatch, anyio_backend: Any) -> None:
    """Row 3: the same with ``task.cancel()``, at every distance."""
    if anyio_backend[0] != "asyncio":
        pytest.skip("only asyncio cancels like this")
    monkeypatch.setattr(owner, "BUDGET", 1)
    cm = AsyncChronoMap[str, int]()
    stream = cm.watch()
    seen: list[tuple[int, int]] = []
    cancelled = 0
    for number in range(20):
        await cm.put_many({"a": number, "b": number, "c": number})
        for _ in range(3):
            task = asyncio.ensure_future(anext(stream))
            for _ in range(number % 4):
                await asyncio.sleep(0)
            task.cancel()
            (outcome,) = await asyncio.gather(task, return_exceptions=True)
            if isinstance(outcome, BaseException):
                assert isinstance(outcome, asyncio.CancelledError)
                cancelled += 1
                outcome = await asyncio.wait_for(anext(stream), LONG)
            seen.append((outcome.revision, outcome.index))
    assert seen == [(revision, index) for revision in range(1, 21) for index in range(3)]
    assert cancelled


async def test_a_stream_may_be_left_anywhere() -> None:
    """Row 8: begun in one task and scope, gone on with in another, dropped half-way: no scope is tied to it."""
    cm = AsyncChronoMap[str, int]()
    stream = cm.watch()
    seen: list[int] = []

    async def take_one(stream: ChangeStream[str, int]) -> None:
        with anyio.move_on_after(LONG):
            async for change in stream:
                seen.append(change.revision)
                break

    for number in range(3):
        await cm.put("k", number)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(take_one, stream)
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(take_one, stream)
            await until(lambda: any(gate.sleepers for gate in cm._owner.gates))
            scope.cancel()
    await cm.put("k", 3)
    await take_one(stream)
    assert seen == [1, 2, 3, 4]
    del stream
    gc.collect()  # an async generator that is left like this is complained about here
    await cm.put("k", 4)
    assert not any(gate.users for gate in cm._owner.gates)


def test_there_are_no_async_generators() -> None:
    """Row 8: nothing in the library is one, so nothing can hold a scope or a task group across a ``yield``."""
    looked_at = 0
    for module in pkgutil.walk_packages(chronomap.__path__, "chronomap."):
        if module.name == "chronomap.__main__":
            continue
        for place in [loaded := importlib.import_module(module.name), *(vars(loaded).values())]:
            if place is loaded or (inspect.isclass(place) and place.__module__ == module.name):
                for name, member in vars(place).items():
                    function = getattr(member, "__func__", getattr(member, "__wrapped__", member))
                    looked_at += 1
                    assert not inspect.isasyncgenfunction(function), f"{module.name}: {name}"
    assert looked_at > 500
