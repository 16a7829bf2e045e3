"""`POST /v1/feedback`: what clients say of the answers that they got."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from serve.gateway.admission import RETRY_AFTER_SECONDS, Admission, Place
from serve.gateway.keys import client
from serve.gateway.recorder import Recorder
from serve.gateway.request import Refused, read
from ttrl.config import Config
from ttrl.feedback import DAY_SECONDS, Allowance, Given, Invalid, parse, receipt_hash
from ttrl.metrics import Metrics
from ttrl.redaction import RedactionFailed
from ttrl.store.database import OUTAGE
from ttrl.store.feedback import FeedbackTable, Taken

PATH = "/v1/feedback"
MAX_BODY = 1024**2
BODY_SECONDS = 10.0
WRITTEN_SECONDS = 3.0
"""How long feedback waits for its answer's receipt, which is written after the answer has gone
out."""
ELSEWHERE_SECONDS = 1.0
"""The same for an answer of another worker, of whose queue nothing is known here."""


@dataclass(eq=False)
class Feedback:
    """Keeps feedback in the store, one at a time. `redact` is of texts; `then` is called where
    there is something to look at."""

    config: Config
    table: FeedbackTable
    recorder: Recorder
    metrics: Metrics
    redact: Callable[[Sequence[str]], list[str]] | None = None
    then: Callable[[], None] = lambda: None
    clock: Callable[[], float] = time.time
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def __post_init__(self) -> None:
        self._allowance = Allowance(self.config.feedback.per_hour)

    async def handle(self, admission: Admission, request: Request) -> Response:
        """Answer a request. Raises Refused."""
        kind, outcome = "unknown", "refused"
        try:
            with admission.admitted(request.headers) as place:
                who = client(request.headers) if place.key else None
                if (wait := self._allowance.wait(who, self.clock())) > 0:
                    outcome, retry = "too_many", {"retry-after": str(math.ceil(wait))}
                    message = "Too much feedback from this client in this hour."
                    raise Refused(429, message, code="feedback_limit", headers=retry)
                body = await self._body(admission, place, request)
                answer, kind, given = parse(body, max_chars=self.config.record.max_chars)
                outcome = taken = await self._take(receipt_hash(answer, who), given)
        except Invalid as error:
            outcome = "invalid"
            raise Refused(422, str(error), param=error.field, code="invalid_value") from None
        except RedactionFailed:
            outcome, message = "not_redacted", "A text could not be redacted, so nothing is kept."
            raise Refused(422, message, param="correction", code="not_redacted") from None
        except OUTAGE:
            outcome, retry = "store_failed", {"retry-after": str(RETRY_AFTER_SECONDS)}
            message = "Feedback cannot be stored now."
            raise Refused(503, message, code="store_unavailable", headers=retry) from None
        finally:
            self.metrics.recording.feedback.labels(kind, outcome).inc()
        if taken is Taken.UNKNOWN:
            message = "There is no answer with this id that this client may give feedback on."
            raise Refused(404, message, param="id", code="unknown_answer")
        if taken is Taken.EXPIRED:
            message = f"The answer is older than {self.config.feedback.days} days."
            raise Refused(410, message, param="id", code="expired_answer")
        if given.correction and taken is not Taken.UNCHANGED:
            self.then()
        return JSONResponse({"object": "feedback", "id": answer, "status": taken})

    async def _body(self, admission: Admission, place: Place, request: Request) -> dict[str, Any]:
        try:
            async with asyncio.timeout(BODY_SECONDS) as limit:
                with admission.reading(place, lambda: limit.reschedule(0)):
                    return await read(request.headers, request.receive, limit=MAX_BODY)
        except (TimeoutError, ClientDisconnect):
            raise Refused(408, "The request did not arrive in time.") from None

    async def _take(self, answer: str, given: Given) -> Taken:
        async with self._turn:
            given = await asyncio.to_thread(self._redacted, given)
            taken = await asyncio.to_thread(self._give, answer, given)
        if taken is Taken.UNKNOWN:  # its receipt may be on its way, or have come meanwhile
            if self.config.gateway.workers > 1:
                await asyncio.sleep(ELSEWHERE_SECONDS)
            if self.recorder.pending:
                await self.recorder.caught_up(WRITTEN_SECONDS)
            async with self._turn:
                taken = await asyncio.to_thread(self._give, answer, given)
        return taken

    def _give(self, answer: str, given: Given) -> Taken:
        since = self.clock() - self.config.feedback.days * DAY_SECONDS
        return self.table.give(answer, given, since=since)

    def _redacted(self, given: Given) -> Given:
        if self.redact is None:
            return given
        texts = self.redact([given.correction or "", given.comment or "", *given.tags])
        correction, comment, *tags = texts
        return replace(
            given, correction=correction or None, comment=comment or None, tags=tuple(tags)
        )
