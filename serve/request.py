"""A client's request: read within bounds, parsed strictly, checked as far as we depend on it.

What we do not depend on is for the engine to judge.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Mapping
from typing import Any, NoReturn

from starlette.datastructures import Headers
from starlette.types import Receive

from serve.errors import Refused

MAX_DEPTH = 100
"""How deep JSON may nest: enough for any tool's schema, too little for the stack to run out."""

REMOVED = ("priority",)
"""Fields that clients may not set: only the daemon's own work has another priority."""


class ClientGone(Exception):
    """The client hung up."""


Request = dict[str, Any]


async def read(headers: Headers, receive: Receive, *, limit: int, seconds: float) -> bytes:
    """The body, of at most `limit` bytes within `seconds`. Raises Refused or ClientGone."""
    check_headers(headers, limit)
    try:
        async with asyncio.timeout(seconds):
            return await _collect(receive, limit)
    except TimeoutError:
        raise Refused(
            408, f"The request did not arrive within {seconds:g} seconds.", headers=CLOSE
        ) from None


CLOSE = {"connection": "close"}


def check_headers(headers: Headers, limit: int) -> None:
    """Refuses what is not plain JSON, and what says itself that it is too long."""
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise Refused(415, "Send JSON, with the header Content-Type: application/json.")
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise Refused(415, "Send the request without Content-Encoding.")
    declared = headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > limit:
        raise too_large(limit)


def too_large(limit: int) -> Refused:
    return Refused(413, f"The request is longer than {limit:,} bytes.", code="request_too_large")


async def _collect(receive: Receive, limit: int) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        body += message.get("body", b"")
        if len(body) > limit:
            raise too_large(limit)
        if not message.get("more_body", False):
            return bytes(body)


def parse(body: bytes) -> Request:
    """The JSON object in a body. Raises Refused."""
    try:
        request = json.loads(body.decode(), parse_constant=_not_finite, parse_float=_finite)
    except (ValueError, RecursionError):
        raise Refused(400, "The request is not valid JSON.", code="invalid_json") from None
    if not isinstance(request, dict):
        raise Refused(400, "The request must be a JSON object.", code="invalid_json")
    if _deeper_than(request, MAX_DEPTH, brackets=body.count(b"[") + body.count(b"{")):
        raise Refused(400, "The request is nested too deeply.", code="invalid_json")
    # Only an escape can smuggle half a surrogate pair past the decoder.
    if b"\\ud" in body.lower() and not _is_unicode(request):
        raise Refused(400, "The request holds half a surrogate pair.", code="invalid_unicode")
    return request


def _is_unicode(request: Request) -> bool:
    try:
        json.dumps(request, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _not_finite(_: str) -> NoReturn:
    raise Refused(
        400, "NaN and Infinity are not JSON: numbers must be finite.", code="invalid_json"
    )


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        _not_finite(text)
    return number


def _deeper_than(value: object, limit: int, *, brackets: int) -> bool:
    if brackets <= limit:
        return False
    level: list[object] = [value]
    for _ in range(limit):
        level = [child for node in level for child in _children(node)]
        if not level:
            return False
    return True


def _children(node: object) -> list[object]:
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return [child for child in children if isinstance(child, dict | list)]


def check(request: Request, *, max_n: int) -> None:
    """Types of the fields that every engine knows, and the bounds that protect it. Absent and null
    are fine. Raises Refused, naming the field."""
    for name, kind in KINDS.items():
        value = request.get(name)
        if value is not None and not is_a(value, kind):
            raise Refused(400, f"'{name}' must be {kind}.", param=name, code="invalid_type")
    for name in ("n", "best_of"):
        value = request.get(name)
        if value is not None and not 1 <= value <= max_n:
            raise Refused(
                400, f"'{name}' must be from 1 to {max_n}.", param=name, code="invalid_value"
            )


def check_messages(request: Request) -> None:
    """A chat request needs messages. Raises Refused."""
    messages = request.get("messages")
    if messages is None:
        raise _bad_messages("'messages' is missing.", "missing_required_parameter")
    if not isinstance(messages, list):
        raise _bad_messages("'messages' must be a list.", "invalid_type")
    if not messages:
        raise _bad_messages("'messages' is empty.", "empty_array")
    if not all(isinstance(message, dict) for message in messages):
        raise _bad_messages("Each of 'messages' must be an object.", "invalid_type")


def _bad_messages(message: str, code: str) -> Refused:
    return Refused(400, message, param="messages", code=code)


A_STRING, A_BOOLEAN, A_NUMBER, AN_INTEGER = "a string", "a boolean", "a number", "an integer"

KINDS: Mapping[str, str] = {
    "model": A_STRING,
    "stream": A_BOOLEAN,
    "temperature": A_NUMBER,
    "top_p": A_NUMBER,
    "max_tokens": AN_INTEGER,
    "max_completion_tokens": AN_INTEGER,
    "seed": AN_INTEGER,
    "n": AN_INTEGER,
    "best_of": AN_INTEGER,
}

TYPES: Mapping[str, type | tuple[type, ...]] = {
    A_STRING: str,
    A_NUMBER: (int, float),
    AN_INTEGER: int,
}


def is_a(value: object, kind: str) -> bool:
    """Whether a JSON value is of a kind; True and False are no numbers."""
    if isinstance(value, bool):
        return kind == A_BOOLEAN
    return kind in TYPES and isinstance(value, TYPES[kind])


def for_engine(request: Request, model: str) -> bytes:
    """The engine's body: as it came, but for the model's name and what clients may not set."""
    passed = {name: value for name, value in request.items() if name not in REMOVED}
    return json.dumps(passed | {"model": model}, ensure_ascii=False).encode()
