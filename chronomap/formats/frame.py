"""A history as a table for pandas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chronomap.core.view import View
from chronomap.errors import MissingExtraError

if TYPE_CHECKING:
    import pandas as pd


def dataframe(view: View) -> pd.DataFrame:
    """What ``history`` tells of every key, one row per version.

    Returns:
        A DataFrame with the columns ``key``, ``value`` (objects, as they were put), ``timestamp`` (seconds since the
        epoch), ``datetime`` (the same in UTC; NaT where pandas cannot tell it) and ``version`` (0, 1, … per key).

    Raises:
        MissingExtraError: If pandas is not installed.
    """
    try:
        import pandas as pd  # noqa: PLC0415 - an extra, and slow to import
    except ImportError as error:
        raise MissingExtraError(
            "pandas is required for to_dataframe(); install it with: pip install chronomap[pandas]"
        ) from error

    rows = [
        (key, value, timestamp, version)
        for key in list(view.store.timelines)
        for version, (timestamp, value) in enumerate(view.history(key))
    ]
    timestamps = pd.Series([row[2] for row in rows], dtype="float64")
    return pd.DataFrame(
        {
            "key": _objects([row[0] for row in rows]),
            "value": _objects([row[1] for row in rows]),
            "timestamp": timestamps,
            "datetime": pd.to_datetime(timestamps, unit="s", utc=True, errors="coerce"),
            "version": pd.Series([row[3] for row in rows], dtype="int64"),
        }
    )


def _objects(values: list[Any]) -> pd.Series[Any]:
    """A column of the very objects: pandas would turn None into NaN and lists of equal length into a matrix."""
    import pandas as pd  # noqa: PLC0415

    column = pd.Series([None] * len(values), dtype="object")
    for index, value in enumerate(values):
        column.iat[index] = value  # noqa: PD009 - one cell, which may be given a list
    return column
