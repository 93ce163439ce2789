"""What every test may use: the backends, a seeded source of randomness, and how hypothesis searches."""

from __future__ import annotations

import importlib.util
import os
import random
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from on_a_journal import AsyncJournalMap, JournalMap, close_all

from chronomap.core import timeline

# No deadlines: how long an example takes says more about the machine than about the code. Not derandomised:
# every run looks somewhere new, and a failure prints what repeats it.
settings.register_profile(
    "default", deadline=None, print_blob=True, derandomize=False, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("ci", settings.get_profile("default"), database=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "default"))

needs_uvloop = pytest.mark.skipif(importlib.util.find_spec("uvloop") is None, reason="uvloop is not installed")


@pytest.fixture(
    params=[
        pytest.param(("asyncio", {}), id="asyncio"),
        pytest.param(("asyncio", {"debug": True}), id="asyncio-debug"),
        pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop", marks=needs_uvloop),
        pytest.param(("trio", {}), id="trio"),
    ]
)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Every event loop the library promises to run on; a test marked ``anyio`` runs once on each."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(params=["memory", "journal"])
def maps(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Runs the tests of a module a second time, with every map that it makes on a journal.

    Use it with ``pytest.mark.usefixtures``; a test marked ``memory_only`` is about what durable maps do otherwise.
    """
    if request.param == "memory":
        yield
        return
    for name, durable in (("ChronoMap", JournalMap), ("AsyncChronoMap", AsyncJournalMap)):
        if hasattr(request.module, name):
            monkeypatch.setattr(request.module, name, durable)
    yield
    close_all()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is only about maps in memory."""
    other = [
        item
        for item in items
        if item.get_closest_marker("memory_only")
        and getattr(item, "callspec", None)
        and item.callspec.params.get("maps") == "journal"  # type: ignore[attr-defined]
    ]
    if other:
        config.hook.pytest_deselected(items=other)
        items[:] = [item for item in items if item not in other]


@pytest.fixture
def seed(monkeypatch: pytest.MonkeyPatch) -> random.Random:
    """A source of randomness; what it prints, which pytest shows if the test fails, repeats it.

    It also decides how short the blocks are into which long histories are cut.
    """
    given = os.environ.get("CHRONOMAP_SEED")
    number = int(given) if given else random.SystemRandom().getrandbits(32)
    print(f"CHRONOMAP_SEED={number}")
    source = random.Random(number)
    monkeypatch.setattr(timeline, "BLOCK", source.choice([1, 2, 3, timeline.BLOCK]))
    return source
