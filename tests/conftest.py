"""What every test may use: the backends, a seeded source of randomness, and how hypothesis searches."""

from __future__ import annotations

import importlib.util
import os
import random
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

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


@pytest.fixture
def seed() -> random.Random:
    """A source of randomness; what it prints, which pytest shows if the test fails, repeats it."""
    given = os.environ.get("CHRONOMAP_SEED")
    number = int(given) if given else random.SystemRandom().getrandbits(32)
    print(f"CHRONOMAP_SEED={number}")
    return random.Random(number)
