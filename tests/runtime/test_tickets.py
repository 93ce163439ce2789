"""What tasks sleep on: asyncio's and trio's way to wait, as much of it as is used."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from waiting import LONG

from chronomap import AsyncChronoMap, ChronoMapError
from chronomap.runtime import watch
from chronomap.runtime.gates import FEW
from chronomap.runtime.ports import Port
from chronomap.runtime.tickets import FutureTicket, wake_all

MANY = FEW + 3


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An asyncio loop that the test itself runs."""
    loop = asyncio.new_event_loop()
    loop.set_debug(True)
    yield loop
    loop.close()


async def sleepers(number: int, heard: list[int]) -> tuple[list[Any], list[asyncio.Task[None]]]:
    """So many tasks, each asleep on a ticket of its own, and then on it again."""
    tickets = [FutureTicket(asyncio.get_running_loop()) for _ in range(number)]

    async def sleep(place: int) -> None:
        for _ in range(2):
            await tickets[place]
            heard.append(place)

    tasks = [asyncio.create_task(sleep(place)) for place in range(number)]
    await asyncio.sleep(0)
    assert not any(ticket.done() for ticket in tickets)
    return tickets, tasks


def test_all_are_woken_in_one_callback_and_in_order(loop: asyncio.AbstractEventLoop) -> None:
    """And a ticket may be used again."""

    async def run() -> None:
        heard: list[int] = []
        tickets, tasks = await sleepers(5, heard)
        for turn in (1, 2):
            during: list[list[int]] = []

            def in_callback(during: list[list[int]] = during) -> None:
                wake_all(tickets, asyncio.get_running_loop())
                during.append(heard[:])

            asyncio.get_running_loop().call_soon(in_callback)
            await asyncio.sleep(0)
            assert during == [[0, 1, 2, 3, 4] * turn]
        await asyncio.gather(*tasks)

    loop.run_until_complete(run())


def test_called_by_a_task_it_wakes_the_others_soon(loop: asyncio.AbstractEventLoop) -> None:
    """A task cannot take its step within another's."""

    async def run() -> None:
        heard: list[int] = []
        tickets, tasks = await sleepers(3, heard)
        wake_all(tickets, asyncio.get_running_loop())
        assert heard == []
        await asyncio.sleep(0)
        assert heard == [0, 1, 2]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    loop.run_until_complete(run())


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_a_task_that_exits_leaves_nobody_asleep(loop: asyncio.AbstractEventLoop, error: type[BaseException]) -> None:
    """It ends the loop, as it does from a callback of asyncio's own; who runs the loop on finds the others awake."""
    heard: list[int] = []
    ticket = FutureTicket(loop)

    async def leave() -> None:
        await ticket
        raise error

    async def begin() -> tuple[list[Any], list[asyncio.Task[None]], asyncio.Task[None]]:
        leaving = asyncio.create_task(leave())
        tickets, tasks = await sleepers(3, heard)
        return tickets, tasks, leaving

    tickets, tasks, leaving = loop.run_until_complete(begin())
    loop.call_soon(wake_all, [tickets[0], ticket, tickets[1], tickets[2]], loop)
    with pytest.raises(error):
        loop.run_until_complete(asyncio.sleep(LONG))
    assert heard == [0]
    loop.run_until_complete(asyncio.sleep(0))
    assert heard == [0, 1, 2]
    with pytest.raises(error):
        leaving.result()
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))


@pytest.mark.parametrize("rung", [False, True])
def test_cancelled_asleep_or_just_woken(loop: asyncio.AbstractEventLoop, rung: bool) -> None:
    """With asyncio's message; a wake that is on its way does not hide it."""

    async def run() -> None:
        heard: list[int] = []
        (ticket,), (task,) = await sleepers(1, heard)
        if rung:
            ticket.ring()
            assert ticket.done()
        task.cancel("enough")
        with pytest.raises(asyncio.CancelledError, match="enough"):
            await task
        assert heard == []

    loop.run_until_complete(run())


@pytest.mark.anyio
async def test_rung_before_it_is_awaited() -> None:
    """That wait ends at once, and only that."""
    ticket: Any = Port().ticket()
    ticket.ring()
    with anyio.fail_after(LONG):
        await ticket
    with anyio.move_on_after(0) as scope:
        await ticket
    assert scope.cancelled_caught
    assert ticket.sleeper is None


@pytest.mark.anyio
@pytest.mark.parametrize("watchers", [1, MANY])
async def test_another_reader_beside_one_that_is_being_cancelled(anyio_backend: Any, watchers: int) -> None:
    """It is told, and whoever reads next misses nothing."""
    if anyio_backend[0] == "trio":
        pytest.skip("there a task is not cancelled by itself")
    cm = AsyncChronoMap[str, int]()
    streams = [cm.watch() for _ in range(watchers)]
    tasks = [asyncio.ensure_future(anext(stream)) for stream in streams]
    await asyncio.sleep(0)
    for stream, task in zip(streams, tasks, strict=True):
        task.cancel()
        with pytest.raises(ChronoMapError, match="somebody else is waiting"):
            await anext(stream)
    await asyncio.gather(*tasks, return_exceptions=True)
    assert all(task.cancelled() for task in tasks)
    assert not any(gate.sleepers for gate in cm._owner.gates)
    tasks = [asyncio.ensure_future(anext(stream)) for stream in streams]
    await asyncio.sleep(0)
    await cm.put("k", 1)
    with anyio.fail_after(LONG):
        assert [change.value for change in await asyncio.gather(*tasks)] == [1] * watchers


@pytest.mark.parametrize("trio", ["there", "not there"])
@pytest.mark.parametrize("choice", [{}, {"key": "k"}, {"prefix": "k"}, {"latest_only": True}])
def test_a_stream_goes_on_on_another_loop(monkeypatch: pytest.MonkeyPatch, trio: str, choice: dict[str, Any]) -> None:
    """Where there is no trio nobody asks for the loop: asyncio tells, and the stream moves."""
    if trio == "not there":
        monkeypatch.setattr(watch, "modules", {})
    cm = AsyncChronoMap[str, int]()
    stream = cm.watch(**choice)

    async def follow(first: int) -> None:
        with anyio.move_on_after(0):  # it sleeps, and does not get up by itself
            await anext(stream)
        task = asyncio.create_task(anext(stream))
        await asyncio.sleep(0)
        await cm.put("k", first)
        async with asyncio.timeout(LONG):
            assert (await task).value == first
        await cm.put("k", first + 1)
        async with asyncio.timeout(LONG):
            assert (await anext(stream)).value == first + 1

    for number in range(3):
        asyncio.run(follow(10 * number), debug=number == 1)
        gates = cm._owner.gates
        assert not any(gate.sleepers or gate.others for gate in gates)
        assert stream._gate in gates
    stream.close()


@pytest.mark.parametrize("choice", [{}, {"key": "k"}])
def test_a_loop_that_was_closed_with_a_sleeper(
    loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch, choice: dict[str, Any]
) -> None:
    """The stream is free for another loop, and what is left of the sleeper does not disturb who reads it there."""
    monkeypatch.setattr(watch, "modules", {})
    cm = AsyncChronoMap[str, int]()
    stream = cm.watch(**choice)
    task = loop.create_task(stream.__anext__())
    loop.run_until_complete(asyncio.sleep(0))
    loop.set_exception_handler(lambda *_: None)  # "Task was destroyed but it is pending"
    loop.close()
    remains = [task]
    del task

    async def take() -> int | None:
        reader = asyncio.create_task(anext(stream))
        await asyncio.sleep(0)
        assert stream._asleep
        remains.clear()
        gc.collect()
        await cm.put("k", 1)
        async with asyncio.timeout(LONG):
            return (await reader).value

    assert asyncio.run(take()) == 1
