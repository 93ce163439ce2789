"""Histories as tables."""

from __future__ import annotations

import sys

import pytest

from chronomap import ChronoMap, ChronoMapError


def test_columns_and_rows() -> None:
    """One row per value version up to now, with the very objects."""
    pytest.importorskip("pandas")
    cm: ChronoMap[object, object] = ChronoMap()
    cm.put("a", [1], timestamp=0)
    cm.put("a", None, timestamp=1.5)
    cm.put(2, 3, timestamp=10)
    cm.delete(2, timestamp=11)
    cm.put(2, "later", timestamp=9e9)
    frame = cm.to_dataframe()
    assert list(frame.columns) == ["key", "value", "timestamp", "datetime", "version"]
    assert frame["key"].tolist() == ["a", "a", 2]
    assert frame["value"].tolist() == [[1], None, 3]
    assert frame["timestamp"].tolist() == [0.0, 1.5, 10.0]
    assert frame["datetime"][1].isoformat() == "1970-01-01T00:00:01.500000+00:00"
    assert frame["version"].tolist() == [0, 1, 0]


def test_no_rows_and_rows_of_other_ages() -> None:
    """An empty map has the same columns; what pandas cannot date has no date."""
    pytest.importorskip("pandas")
    cm: ChronoMap[str, int] = ChronoMap()
    assert cm.to_dataframe().empty and len(cm.to_dataframe().columns) == 5
    cm.put("a", 1, timestamp=-1e15)
    assert cm.to_dataframe()["datetime"].isna().all()


def test_without_pandas(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says how to get it, and is both ours and an ImportError."""
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"pandas is required.*pip install chronomap\[pandas\]") as caught:
        ChronoMap().to_dataframe()
    assert isinstance(caught.value, ChronoMapError)
