"""Single fields of a request body, and the refusal of what is wrong with them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any


class Refusal(Exception):
    """An error answer in vLLM's shape."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        kind: str = "BadRequestError",
        param: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body = {
            "error": {"message": message, "type": kind, "param": param, "code": status},
        }


def read_json(body: bytes) -> dict[str, Any]:
    """The object in a request body. Raises Refusal."""
    try:
        found = json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise Refusal("The body is not valid JSON.", kind="Bad Request") from error
    if not isinstance(found, dict):
        raise Refusal("The body must be a JSON object.", kind="Bad Request")
    return found


def text_field(body: Mapping[str, Any], name: str) -> str:
    """A string that must be there."""
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise Refusal(f"`{name}` must be a non-empty string.", kind="Bad Request", param=name)
    return value


def flag(body: Mapping[str, Any], name: str) -> bool:
    """A boolean; false when left out."""
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise Refusal(f"`{name}` must be true or false.", kind="Bad Request", param=name)
    return bool(value)


def whole(
    body: Mapping[str, Any], name: str, default: int | None, low: int, high: int
) -> int | None:
    """An integer from `low` to `high`."""
    value = body.get(name)
    if value is None:
        return default
    if not is_whole(value):
        raise Refusal(f"`{name}` must be an integer.", kind="Bad Request", param=name)
    if not low <= value <= high:
        raise Refusal(f"{name} must be in [{low}, {high}], got {value}.", param=name)
    return int(value)


def real(body: Mapping[str, Any], name: str, default: float, low: float, high: float) -> float:
    """A finite number from `low` to `high`."""
    value = body.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise Refusal(f"`{name}` must be a number.", kind="Bad Request", param=name)
    if not low <= value <= high:
        raise Refusal(f"{name} must be in [{low}, {high}], got {value}.", param=name)
    return float(value)


def is_whole(value: Any) -> bool:
    """JSON's true and false are numbers to Python, but not to us."""
    return isinstance(value, int) and not isinstance(value, bool)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
