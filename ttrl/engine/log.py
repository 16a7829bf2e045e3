"""The engine's own output, in files that do not grow for ever."""

from __future__ import annotations

import contextlib
import logging
from logging.handlers import RotatingFileHandler
from pathlib import Path

MAX_BYTES = 16 * 2**20
OLD_FILES = 2


class LineFile:
    """A log file that is rotated when it is full. Raises OSError when it cannot be opened, never
    when it cannot be written."""

    def __init__(self, file: Path) -> None:
        self._handler = _Quiet(file, maxBytes=MAX_BYTES, backupCount=OLD_FILES, encoding="utf-8")

    def __call__(self, line: str) -> None:
        """Add a line."""
        self._handler.handle(logging.makeLogRecord({"msg": line}))

    def close(self) -> None:
        """Write no more."""
        with contextlib.suppress(OSError):
            self._handler.close()


class _Quiet(RotatingFileHandler):
    def handleError(self, record: logging.LogRecord) -> None:
        """The standard one prints the line to standard error."""
