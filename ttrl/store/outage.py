"""When the store cannot be used: locked, full, damaged or gone. What was asked of it may well
succeed later."""

from __future__ import annotations

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from ttrl.store.backend import StoreError

OUTAGE = (DBAPIError, PoolTimeout, StoreError, OSError)


def cause(error: Exception) -> str:
    """What failed, without the statement and its parameters, which are users' words."""
    inner = error.orig if isinstance(error, DBAPIError) and error.orig else error
    detail = getattr(inner, "sqlite_errorname", None) or getattr(inner, "strerror", None)
    return f"{type(inner).__name__} ({detail})" if detail else type(inner).__name__
