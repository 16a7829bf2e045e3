"""A client's request, read within bounds and parsed strictly; and errors in the shape that OpenAI's
clients understand, which never repeat what a user wrote.

What its fields may be is for the engine to judge, but for the limits that protect it.
"""

from __future__ import annotations

import codecs
import logging
import math
import re
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json, to_json
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger(__name__)

_DIGITS = re.compile("[1-9][0-9]{0,3}")
BRACKETS = 200_000
"""Lists and objects in a body at most. All else is read at 8 MiB in a quarter of a second, while
nobody else is answered; millions of empty lists took seconds."""
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
        headers = {**(extra or {}), **(self.headers or {})}
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
            refused = defect(error)
            if not started:
                await refused.response()(scope, receive, send)


def defect(error: Exception) -> Refused:
    """Log where a defect of ours showed; return what its client gets."""
    log.error("defect: %s at %s", type(error).__name__, whereabouts(error))
    return Refused(500, "Internal error. See the log.")


def whereabouts(error: BaseException) -> str:
    """Where an exception was raised, as file:line of each frame, without any values."""
    frames = traceback.extract_tb(error.__traceback__)
    return " < ".join(f"{frame.filename}:{frame.lineno}" for frame in reversed(frames))


async def read(
    headers: Mapping[str, str], receive: Receive, *, limit: int, by: str = ""
) -> dict[str, Any]:
    """The JSON object in a body of at most `limit` bytes, which the setting `by` says. Raises
    Refused or ClientDisconnect."""
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise Refused(415, "The body must be JSON, with the header Content-Type: application/json.")
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise Refused(415, "Content-Encoding is not supported.")
    message = f"The request is longer than {limit:,} bytes{by and f' ({by})'}."
    too_large = Refused(413, message, code="request_too_large")
    if int(headers.get("content-length", 0)) > limit:  # digits: the server has seen to it
        raise too_large
    body, more = bytearray(), True
    while more:
        piece = await receive()
        if piece["type"] == "http.disconnect":
            raise ClientDisconnect
        body += piece.get("body", b"")
        more = piece.get("more_body", False)
        if len(body) > limit:
            raise too_large
    return parse(bytes(body))


def parse(body: bytes) -> dict[str, Any]:
    """The JSON object in a body. Raises Refused."""
    if body.count(b"[") + body.count(b"{") > BRACKETS:
        message = f"The request has more than {BRACKETS:,} lists and objects."
        raise Refused(413, message, code="request_too_large")
    try:
        body = body.removeprefix(codecs.BOM_UTF8)  # as vLLM does
        asked = from_json(body, allow_inf_nan=False)  # refuses what is nested too deeply
    except ValueError:
        raise Refused(400, "The request is not valid JSON.", code="invalid_json") from None
    if not isinstance(asked, dict):
        raise Refused(400, "The request must be a JSON object.", code="invalid_json")
    return asked


def check(request: Mapping[str, Any], *, max_n: int) -> None:
    """Check the limits that protect the engine. Raises Refused, naming the field."""
    for name in ("n", "best_of"):
        value = request.get(name)
        if value is not None and not 1 <= _integer(value) <= max_n:
            message = f"'{name}' must be an integer from 1 to {max_n}."
            raise Refused(400, message, param=name, code="invalid_value")


def counts_as(request: Mapping[str, Any], max_n: int) -> int:
    """As how many requests it counts: of `max_n` answers, or texts to embed, each."""
    lists = (request.get(name) for name in ("prompt", "input"))
    # A list of numbers is one prompt, in tokens; one of objects is one conversation.
    texts = max(
        (
            sum(isinstance(each, str | list) for each in some)
            for some in lists
            if type(some) is list
        ),
        default=1,
    )
    answers = max(_integer(request.get(name) or 1) for name in ("n", "best_of"))
    return max(1, math.ceil(texts * answers / max_n))


def _integer(value: object) -> int:
    """The number that vLLM takes a value for, also 2.0 and "2"; 0 if it is none."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        return int(value)
    return value if type(value) is int else 0  # for Python, True is an integer


def for_engine(request: Mapping[str, Any], model: str) -> bytes:
    """The body as it came, but for the model's name and what clients may not set. Raises Refused
    for numbers beyond all, which JSON has no word for."""
    passed = {**request, "model": model}
    passed.pop("priority", None)  # only the daemon's own work has another one
    body = to_json(passed)  # several times as fast as json.dumps
    if b"Infinity" in body:  # in a text, or in place of 1e400
        try:
            from_json(body, allow_inf_nan=False)
        except ValueError:
            raise Refused(400, "Numbers must be finite.", code="invalid_json") from None
    return body
