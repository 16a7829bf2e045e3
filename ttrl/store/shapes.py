"""What rows keep as JSON: dataclasses (events, evidence, measurements), with the version of their
shapes."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import TypeAdapter, ValidationError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

log = logging.getLogger(__name__)

VERSION = 2
"""Of all shapes. Raise it when a field is dropped, or means something else than before, and make
`load` read the rows from before. Rows without a version are read like those of the first, but for
those without a field that is needed since."""
T = TypeVar("T")
_adapter: Callable[[Any], TypeAdapter[Any]] = cache(TypeAdapter)


def dump(value: DataclassInstance) -> dict[str, Any]:
    fields = {  # JSON has no nan, and PostgreSQL refuses it
        name: None if isinstance(field, float) and math.isnan(field) else field
        for name, field in asdict(value).items()
    }
    return {**fields, "version": VERSION}


def load(shape: type[T], row: Mapping[str, Any]) -> T | None:
    """Return what `dump` wrote. None, and a line in the log, for a row that cannot be read, such as
    one of a newer release."""
    if row.get("version", VERSION) <= VERSION:
        try:
            value: T = _adapter(shape).validate_python(row)
            return value
        except ValidationError:  # whose words quote the row
            pass
    _warn(shape.__name__)
    return None


@cache
def _warn(name: str) -> None:
    """Once in a process: some rows are read every few seconds."""
    log.warning("skipping a stored %s that this release cannot read", name)
