"""Logs on standard error: words for people, a JSON object a line for programs.

An exception's own words may quote what a user or a model wrote, so the log has where it was raised,
through which calls, and its kind.
"""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from types import TracebackType
from typing import Any

from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.json import JsonFormatter

log = logging.getLogger(__name__)

TEXT = "%(asctime)s %(levelname)s %(message)s"
QUIET = ("httpx2", "httpcore2", "alembic")
"""Libraries that tell every step they take."""


def configure(level: str, form: str = "text", **ids: int) -> None:
    """One line an event; `ids` are what all of this process is about. A `form` of `auto` is text on
    a terminal, else JSON."""
    as_json = form == "json" or (form == "auto" and not sys.stderr.isatty())
    handler = logging.StreamHandler(sys.stderr)
    structured = _Structured(
        ["levelname", "name", "message"],
        rename_fields={"levelname": "level", "name": "logger"},
        static_fields=dict(ids),
        timestamp=True,
        reserved_attrs=[*RESERVED_ATTRS, "color_message"],  # uvicorn's, for terminals
    )
    handler.setFormatter(structured if as_json else _Discreet(TEXT))
    logging.basicConfig(level=level.upper(), handlers=[handler])
    logging.getLogger("asyncio").addFilter(_first_line)
    sys.excepthook = _died
    threading.excepthook = lambda args: _died(args.exc_type, args.exc_value, args.exc_traceback)
    sys.unraisablehook = lambda args: _died(args.exc_type, args.exc_value, args.exc_traceback)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


def discreet(error: BaseException) -> str:
    """The traceback of an exception and of what it came from, without a word of theirs."""
    told = []
    one: BaseException | None = error
    while one is not None:
        calls = "".join(traceback.format_tb(one.__traceback__))
        told.append(f"Traceback (most recent call last):\n{calls}{_kind(one)}")
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)
    return "\n\n".join(reversed(told))


def _kind(error: BaseException) -> str:
    """Which one it is, with what the operating system or SQLite calls it."""
    name = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
    detail = getattr(error, "sqlite_errorname", None) or getattr(error, "strerror", None)
    return f"{name} ({detail})" if detail else name


def _died(
    kind: type[BaseException], error: BaseException | None, frames: TracebackType | None
) -> None:
    """Instead of Python's own last words, which have the exception's."""
    if issubclass(kind, KeyboardInterrupt) or error is None:
        sys.__excepthook__(kind, error or kind(), frames)
        return
    log.critical("an unexpected error", exc_info=(kind, error, frames))


def _first_line(record: logging.LogRecord) -> bool:
    """What asyncio says of a task that failed; the lines after that quote the exception."""
    record.msg, record.args = record.getMessage().partition("\n")[0], None
    return True


class _Discreet(logging.Formatter):
    def formatException(self, ei: Any) -> str:
        return discreet(ei[1])


class _Structured(_Discreet, JsonFormatter):
    """JSON, as discreet."""
