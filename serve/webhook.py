"""Tells a webhook what happened, signed as Standard Webhooks has it (standardwebhooks.com).

Each notice is tried a few times, in order; what cannot be delivered is counted and in the log. The
store has all of it in any case.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from dataclasses import asdict
from datetime import UTC, datetime

import httpx2
from standardwebhooks.webhooks import Webhook as Signer

from serve.notices import Notice, of_run
from ttrl.config import WebhookConfig
from ttrl.metrics import Metrics
from ttrl.store.runs import Run

log = logging.getLogger(__name__)

CAPACITY = 100
PAUSES = (1.0, 10.0, 60.0)
"""Seconds before each further try."""
TIMEOUT_SECONDS = 10.0


class Webhook:
    """Takes notices from any thread."""

    def __init__(
        self, settings: WebhookConfig, metrics: Metrics, *, pauses: tuple[float, ...] = PAUSES
    ) -> None:
        self._url = settings.url
        self._signer = Signer(settings.secret) if settings.url and settings.secret else None
        self._count = metrics.versions.notices
        self._pauses = pauses
        self._queue: asyncio.Queue[Notice] = asyncio.Queue(CAPACITY)
        self._loop = asyncio.get_running_loop()

    def tell(self, notice: Notice) -> None:
        """Log it, and have it sent; never waits."""
        told = {"event": notice.event, "run": notice.run, "adapter": notice.adapter}
        log.info("%s: %s", notice.event, notice.reason, extra=told)
        if self._signer is not None:
            self._loop.call_soon_threadsafe(self._offer, notice)

    def hear(self, run: Run) -> None:
        """A run has ended: tell what is worth telling."""
        notice = of_run(run)
        if notice is not None:
            self.tell(notice)

    async def run(self) -> None:
        """Until cancelled."""
        async with httpx2.AsyncClient(timeout=TIMEOUT_SECONDS, trust_env=False) as client:
            while True:
                notice = await self._queue.get()
                delivered = await self._deliver(client, notice)
                self._count.labels("delivered" if delivered else "failed").inc()
                if not delivered:
                    log.error("the webhook did not take %s", notice.event)

    def _offer(self, notice: Notice) -> None:
        try:
            self._queue.put_nowait(notice)
        except asyncio.QueueFull:
            self._count.labels("dropped").inc()

    async def _deliver(self, client: httpx2.AsyncClient, notice: Notice) -> bool:
        """The same identifier each time, so that a receiver knows a second one for a repetition."""
        key = f"msg_{secrets.token_hex(12)}"
        for pause in (0.0, *self._pauses):
            await asyncio.sleep(pause)
            if await self._post(client, key, json.dumps(asdict(notice))):
                return True
        return False

    async def _post(self, client: httpx2.AsyncClient, key: str, body: str) -> bool:
        assert self._signer is not None
        assert self._url is not None
        now = datetime.now(UTC)
        headers = {
            "content-type": "application/json",
            "webhook-id": key,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": self._signer.sign(key, now, body),
        }
        try:
            answer = await client.post(self._url, content=body, headers=headers)
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            log.warning("the webhook cannot be reached: %s", type(error).__name__)
            return False
        return answer.is_success
