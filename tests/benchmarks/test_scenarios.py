"""Every scenario runs, at a tiny size, on the sides that need nothing but what the tests have. No time is judged."""

from __future__ import annotations

from pathlib import Path

import pytest

import benchmarks.scenarios  # noqa: F401 - fills SCENARIOS
from benchmarks.disk import MOUNTS, file_system
from benchmarks.environments import environment
from benchmarks.frame import SCALES, SCENARIOS, Ceiling, Meter, Scenario, Wanted, scenario
from benchmarks.report import text, verdicts
from benchmarks.rounds import Comparison
from benchmarks.worker import measure

HERE = [(it, side) for it in SCENARIOS.values() for side in it.sides if environment(side) == "ours" and "uvloop" not in side]


@pytest.mark.parametrize(("its", "side"), HERE, ids=[f"{it.name}-{side}" for it, side in HERE])
def test_scenario_runs(its: Scenario, side: str) -> None:
    """The job is done right (each scenario asserts that), each case has a figure, and what is wanted is about cases."""
    figures = measure(its, Meter(side, SCALES["tiny"]))
    assert figures
    assert all(figure > 0 for figure in figures.values())
    if side == "ours":
        assert {want.case for want in its.wanted} <= figures.keys()
        assert {want.at_case or want.case for want in its.wanted if isinstance(want, Wanted)} <= figures.keys()


@pytest.mark.parametrize("its", SCENARIOS.values(), ids=SCENARIOS)
def test_scenario_is_well_formed(its: Scenario) -> None:
    """It says what it measures and why, ours comes first, and it is compared with sides that it has."""
    assert its.about
    assert (__import__(its.measure.__module__, fromlist=["_"]).__doc__ or "").count("Why a user cares") == 1
    assert its.sides[0] == "ours"
    for want in its.wanted:
        assert isinstance(want, Ceiling) or set(want.against) <= set(its.sides)


def nothing(_: Meter) -> None:
    """Nothing."""


def test_verdicts() -> None:
    """The best of the others counts, a ceiling is a cost, and what was not measured is missed."""
    its = Scenario(
        "made-up",
        nothing,
        ("ours", "peer", "queue"),
        (Wanted("a", ("peer", "queue"), 2), Wanted("a", ("peer",), 2), Ceiling("a", 20_000), Wanted("b", ("peer",), 1)),
    )
    found = Comparison(its, its.sides, pinned=False)
    found.add("ours", {"a": 1_000.0})
    found.add("peer", {"a": 3_000.0})
    found.add("queue", {"a": 1_900.0})
    assert [it.reached for it in verdicts(found)] == [False, True, True, False]
    assert [it.got for it in verdicts(found)] == ["1.90", "3.00", "1.00", "not measured"]
    assert "2 of 4 reached" in text([found], "made up")
    assert verdicts(Comparison(its, its.sides, pinned=True)) == []


def test_side_that_cannot_run_here() -> None:
    """It is said why, where its figures would be and where something is wanted of it, and nothing is missed."""
    its = Scenario("made-up", nothing, ("ours", "server"), (Wanted("a", ("server",), 2),))
    found = Comparison(its, its.sides, pinned=False)
    found.add("ours", {"a": 1_000.0})
    found.add("server", "no server here")
    assert [(it.reached, it.got) for it in verdicts(found)] == [(None, "no server here")]
    told = text([found], "made up")
    assert "0 of 1 reached" in told
    assert "MISSED" not in told
    assert told.count("no server here") == 2


@pytest.mark.skipif(not MOUNTS.exists(), reason="only Linux tells")
def test_file_system() -> None:
    """It is that of the mount nearest above."""
    assert file_system(Path("/proc/self")) == "proc"
    assert file_system(Path("/")) not in {"", "proc"}


def test_two_scenarios_cannot_share_a_name() -> None:
    """Otherwise one of them would silently not be measured."""
    with pytest.raises(AssertionError, match="two scenarios are called get"):
        scenario("get", sides=("ours",))(nothing)
