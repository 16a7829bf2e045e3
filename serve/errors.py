"""Errors in the shape that OpenAI's clients understand. They never repeat what a user wrote."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Mapping

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger(__name__)


class Refused(Exception):
    """A request that we answer with an error of our own."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.headers = headers

    def response(self, extra: Mapping[str, str] | None = None) -> Response:
        """The one place where an error gets its shape."""
        error = {
            "message": self.message,
            "type": kind(self.status),
            "param": self.param,
            "code": self.code,
        }
        headers = {**(self.headers or {}), **(extra or {})}
        return JSONResponse({"error": error}, status_code=self.status, headers=headers)


def no_such_model() -> Refused:
    """For a name that clients may not ask for."""
    message = "There is no such model here: GET /v1/models lists what there is."
    return Refused(404, message, param="model", code="model_not_found")


def kind(status: int) -> str:
    """OpenAI's `type` for a status."""
    if status == 429:
        return "rate_limit_error"
    if status in (401, 403):
        return "authentication_error"
    return "server_error" if status >= 500 else "invalid_request_error"


async def from_http_exception(request: Request, error: Exception) -> Response:
    """Starlette's own errors (404, 405) in our shape."""
    assert isinstance(error, HTTPException)
    message = {
        404: "There is no such route here.",
        405: f"{request.method} is not allowed here.",
    }.get(error.status_code, "The request could not be answered.")
    return Refused(error.status_code, message, headers=error.headers).response()


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
                refused = Refused(500, "Something went wrong here. The log says where.")
                await refused.response()(scope, receive, send)


def whereabouts(error: BaseException) -> str:
    """Where an exception was raised, as file:line of each frame, without any values."""
    frames = traceback.extract_tb(error.__traceback__)
    return " < ".join(f"{frame.filename}:{frame.lineno}" for frame in reversed(frames))
