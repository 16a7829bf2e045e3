"""A client's request, read within bounds, parsed strictly, checked as far as we depend on it; and
errors in the shape that OpenAI's clients understand, which never repeat what a user wrote.

What we do not depend on is for the engine to judge.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger(__name__)

MAX_DEPTH = 100
"""How deep JSON may nest: enough for any tool's schema, too little for the stack to run out."""
REMOVED = ("priority",)
"""Fields that clients may not set: only the daemon's own work has another priority."""
KINDS: Mapping[str, tuple[type | tuple[type, ...], str]] = {
    "model": (str, "a string"),
    "stream": (bool, "a boolean"),
    "temperature": ((int, float), "a number"),
    "top_p": ((int, float), "a number"),
    **dict.fromkeys(
        ("max_tokens", "max_completion_tokens", "seed", "n", "best_of"), (int, "an integer")
    ),
}
"""The types of the fields that every engine knows, also in words."""
TYPES = {401: "authentication_error", 403: "authentication_error", 429: "rate_limit_error"}
"""OpenAI's `type` for a status."""


@dataclass(eq=False)
class Refused(Exception):
    """A request that we answer with an error of our own."""

    status: int
    message: str
    param: str | None = None
    code: str | None = None
    headers: Mapping[str, str] | None = None

    def __str__(self) -> str:
        return self.message

    def response(self, extra: Mapping[str, str] | None = None) -> Response:
        """The one place where an error gets OpenAI's shape."""
        kind = TYPES.get(
            self.status, "server_error" if self.status >= 500 else "invalid_request_error"
        )
        error = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        headers = {**(self.headers or {}), **(extra or {})}
        return JSONResponse({"error": error}, status_code=self.status, headers=headers)


async def in_shape(request: Request, error: Exception) -> Response:
    """Answer with an error of ours, or Starlette's (404, 405) in our shape."""
    if not isinstance(error, Refused):
        assert isinstance(error, HTTPException)
        message = {
            404: "There is no such route.",
            405: f"{request.method} is not allowed on this route.",
        }.get(error.status_code, "The request failed.")
        error = Refused(error.status_code, message, headers=error.headers)
    return error.response()


HANDLERS = {HTTPException: in_shape, Refused: in_shape}
"""Starlette's `exception_handlers`."""


class Unexpected:
    """ASGI middleware: a defect of ours becomes a 500 in shape, or a cut stream. The log says what
    and where, without the exception's message, which may hold what a user wrote."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except Exception as error:  # noqa: BLE001 - the outermost room: whatever it is, the client gets an answer
            log.error("defect: %s at %s", type(error).__name__, whereabouts(error))
            if not started:
                refused = Refused(500, "Internal error. See the log.")
                await refused.response()(scope, receive, send)


def whereabouts(error: BaseException) -> str:
    """Where an exception was raised, as file:line of each frame, without any values."""
    frames = traceback.extract_tb(error.__traceback__)
    return " < ".join(f"{frame.filename}:{frame.lineno}" for frame in reversed(frames))


class ClientGone(Exception):
    """The client hung up."""


async def read(headers: Headers, receive: Receive, *, limit: int, seconds: float) -> bytes:
    """The body, of at most `limit` bytes within `seconds`. Raises Refused or ClientGone."""
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise Refused(415, "The body must be JSON, with the header Content-Type: application/json.")
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise Refused(415, "Content-Encoding is not supported.")
    message = f"The request is longer than {limit:,} bytes."
    too_large = Refused(413, message, code="request_too_large")
    declared = headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > limit:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            while True:
                event = await receive()
                if event["type"] == "http.disconnect":
                    raise ClientGone
                body += event.get("body", b"")
                if len(body) > limit:
                    raise too_large
                if not event.get("more_body", False):
                    return bytes(body)
    except TimeoutError:
        late = f"The request did not arrive within {seconds:g} seconds."
        raise Refused(408, late, headers={"connection": "close"}) from None


def parse(body: bytes) -> dict[str, Any]:
    """The JSON object in a body. Raises Refused."""
    try:
        request = json.loads(body.decode(), parse_constant=_finite, parse_float=_finite)
    except (ValueError, RecursionError):
        raise Refused(400, "The request is not valid JSON.", code="invalid_json") from None
    if not isinstance(request, dict):
        raise Refused(400, "The request must be a JSON object.", code="invalid_json")
    brackets = body.count(b"[") + body.count(b"{")
    if brackets > MAX_DEPTH and _deeper_than(request, MAX_DEPTH):
        raise Refused(400, "The request is nested too deeply.", code="invalid_json")
    if b"\\ud" in body.lower():  # only an escape can smuggle half a surrogate pair in
        try:
            json.dumps(request, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            half = "The request contains an unpaired surrogate."
            raise Refused(400, half, code="invalid_unicode") from None
    return request


def _finite(text: str) -> float:
    if math.isfinite(number := float(text)):
        return number
    message = "NaN and Infinity are not JSON: numbers must be finite."
    raise Refused(400, message, code="invalid_json")


def _deeper_than(value: object, limit: int) -> bool:
    level: list[Any] = [value]
    for _ in range(limit):
        inside: list[Any] = []
        for node in level:
            children = node.values() if isinstance(node, dict) else node
            inside += (c for c in children if isinstance(c, dict | list))
        level = inside
    return bool(level)


def check(request: Mapping[str, Any], *, max_n: int) -> None:
    """Check the fields' types, and the limits that protect the engine. Absent and null are fine.
    Raises Refused, naming the field."""
    for name, (kind, words) in KINDS.items():
        value = request.get(name)
        # For Python, True is an integer.
        right = isinstance(value, kind) and isinstance(value, bool) == (kind is bool)
        if value is not None and not right:
            raise Refused(400, f"'{name}' must be {words}.", param=name, code="invalid_type")
    for name in ("n", "best_of"):
        value = request.get(name)
        if value is not None and not 1 <= value <= max_n:
            message = f"'{name}' must be from 1 to {max_n}."
            raise Refused(400, message, param=name, code="invalid_value")


def check_messages(request: Mapping[str, Any]) -> None:
    messages = request.get("messages")
    if messages is None:
        wrong = "'messages' is missing.", "missing_required_parameter"
    elif not isinstance(messages, list):
        wrong = "'messages' must be a list.", "invalid_type"
    elif not messages:
        wrong = "'messages' is empty.", "empty_array"
    elif not all(isinstance(message, dict) for message in messages):
        wrong = "Each item of 'messages' must be an object.", "invalid_type"
    else:
        return
    raise Refused(400, wrong[0], param="messages", code=wrong[1])


def for_engine(request: Mapping[str, Any], model: str) -> bytes:
    """The body as it came, but for the model's name and what clients may not set."""
    passed = {name: value for name, value in request.items() if name not in REMOVED}
    return json.dumps(passed | {"model": model}, ensure_ascii=False).encode()
