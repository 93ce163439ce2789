"""History as a pandas DataFrame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chronomap.core.view import View
from chronomap.errors import MissingExtraError

if TYPE_CHECKING:
    import pandas as pd


def dataframe(view: View) -> pd.DataFrame:
    """One row a value version: key, value, timestamp, datetime, version (0, 1, … per key).

    Raises:
        MissingExtraError: If pandas is not installed.
    """
    try:
        import pandas as pd  # noqa: PLC0415 - an extra, and slow to import
    except ImportError:
        raise MissingExtraError("pandas is required for to_dataframe(): pip install 'chronomap[pandas]'") from None
    rows: list[tuple[Any, ...]] = [
        (key, value, timestamp, number)
        for key in list(view.store.timelines)
        for number, (timestamp, value) in enumerate(view.history(key))
    ]
    frame = pd.DataFrame(rows, columns=["key", "value", "timestamp", "version"])
    frame["timestamp"] = frame["timestamp"].astype("float64")
    frame.insert(3, "datetime", pd.to_datetime(frame["timestamp"], unit="s"))
    return frame
