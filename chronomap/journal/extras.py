"""What a file needs beyond Python: imported here, so that one place says what to install."""

from __future__ import annotations

from chronomap.errors import MissingExtraError

try:
    import apsw
    import msgspec
except ImportError as missing:
    raise MissingExtraError(
        f"a durable map needs {missing.name}, which is not installed; install it with: pip install 'chronomap[durable]'"
    ) from missing

__all__ = ["apsw", "msgspec"]
