"""Blocks of code: transactions that are over, snapshot contexts that cannot be undone or are left from elsewhere."""

from __future__ import annotations

import contextvars
import logging
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import anyio
import pytest
from waiting import until

import chronomap
from chronomap import AsyncChronoMap, ChronoMap, ChronoMapError, ConflictError
from chronomap.runtime import blocks

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("maps")]


@pytest.mark.parametrize("how", ["committed", "failed"])
async def test_a_transaction_ends_with_its_block(how: str) -> None:
    """A write after the block would be lost without a word."""
    with ChronoMap[str, int]() as cm:
        with suppress(LookupError), cm.transaction() as tx:
            tx.put("k", 1)
            if how == "failed":
                raise LookupError
        for call in (
            lambda: tx.put("k", 2),
            lambda: tx.delete("k"),
            lambda: tx.get("k"),
            lambda: tx["k"],
            tx.keys,
            lambda: len(tx),
        ):
            with pytest.raises(ChronoMapError, match="has ended with its block"):
                call()
        assert cm.get("k") == (1 if how == "committed" else None)
    async with AsyncChronoMap[str, int]() as acm:
        with suppress(LookupError):
            async with acm.transaction() as atx:
                await atx.put("k", 1)
                if how == "failed":
                    raise LookupError
        for acall in (lambda: atx.put("k", 2), lambda: atx.delete("k"), lambda: atx.get("k"), atx.keys):
            with pytest.raises(ChronoMapError, match="has ended with its block"):
                await acall()
        with pytest.raises(ChronoMapError, match="a transaction is one block"):
            async with atx:
                pass
        assert await acm.get("k") == (1 if how == "committed" else None)


async def test_a_snapshot_context_is_one_block() -> None:
    """Entered twice it would forget what the first block wrote."""
    async with AsyncChronoMap[str, int]() as cm:
        context = cm.snapshot_context()
        async with context:
            with pytest.raises(ChronoMapError, match="is one block"):
                async with context:
                    pass
        with pytest.raises(ChronoMapError, match="is one block"):
            async with context:
                pass


async def test_a_cancelled_block_that_cannot_be_undone(caplog: pytest.LogCaptureFixture) -> None:
    """The cancellation goes on: a loop that tries again after each conflict must end."""
    written = anyio.Event()
    async with AsyncChronoMap[str, int]() as cm:

        async def work() -> None:
            while True:
                with suppress(ConflictError):
                    async with cm.snapshot_context():
                        await cm.put("k", 1)
                        written.set()
                        await anyio.sleep_forever()

        with caplog.at_level(logging.ERROR, "chronomap"):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(work)
                await written.wait()
                await cm.put("k", 2)
                tasks.cancel_scope.cancel()
        assert await cm.get("k") == 2
    assert len(caplog.messages) == 1
    assert "has not been undone" in caplog.messages[0]


def test_an_interrupted_block_that_cannot_be_undone(caplog: pytest.LogCaptureFixture) -> None:
    """So does an interrupt, with a note."""
    with ChronoMap[str, int]() as cm:
        with pytest.raises(KeyboardInterrupt) as caught, cm.snapshot_context():
            cm.put("k", 1)
            contextvars.Context().run(cm.put, "k", 2)  # somebody else's
            raise KeyboardInterrupt
        assert cm["k"] == 2
    assert any("has not been undone" in note for note in caught.value.__notes__)
    assert caplog.messages


async def test_a_block_that_is_left_in_another_context() -> None:
    """As an async fixture's is: what it wrote is undone all the same, and its error goes on."""
    async with AsyncChronoMap[str, int]() as cm:

        async def block() -> Any:
            with chronomap.meta(author="ann"):
                async with cm.snapshot_context():
                    await cm.put("k", 1)
                    yield
                    raise LookupError

        generator = block()

        async def step() -> None:
            with suppress(StopAsyncIteration):
                await anext(generator)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(step)
            await until(lambda: "k" in cm)
        with pytest.raises(LookupError):
            await step()
        assert await cm.get("k") is None
        assert blocks.current.get() is None
    with ChronoMap[str, int]() as plain:

        def sync_block() -> Iterator[None]:
            with plain.snapshot_context():
                plain.put("k", 1)
                yield
                raise LookupError

        steps = sync_block()
        contextvars.copy_context().run(next, steps)
        with pytest.raises(LookupError):
            contextvars.copy_context().run(next, steps)
        assert "k" not in plain
