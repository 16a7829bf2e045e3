"""What an operator wants to hear of, told to a webhook and signed as Standard Webhooks has it
(standardwebhooks.com): versions that come and go, runs that ended badly.

Each notice is tried a few times, in order; what cannot be delivered is counted and logged. The
store has all of it in any case.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime

import httpx2
from standardwebhooks.webhooks import Webhook as Signer

from serve.gateway.live import BASE
from ttrl.config import WebhookConfig
from ttrl.metrics import Metrics
from ttrl.store.adapters import Change
from ttrl.store.runs import Run, RunState

log = logging.getLogger(__name__)

CAPACITY = 100
PAUSES = (1.0, 10.0, 60.0)
"""Seconds before each further try."""
TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True)
class Notice:
    """One of them, `at` in Unix seconds; no text of a user or a model is in it. `adapter` is the
    version that it is about, `run` the one that made it, `live` what is to serve from then on."""

    event: str
    reason: str
    run: int | None = None
    adapter: str | None = None
    author: str | None = None
    live: str | None = None
    at: float = field(default_factory=time.time)


ENDS = {
    RunState.HELD: "adapter.held",  # for the operator
    RunState.REJECTED: "run.rejected",  # by the gate, or by the run monitor
    RunState.FAILED: "run.failed",
}


def of_change(change: Change) -> Notice:
    return Notice(
        "adapter.rolled_back" if change.back else "adapter.promoted",
        change.reason,
        run=change.run,
        adapter=change.about or BASE,
        author=change.author,
        live=change.adapter or BASE,
    )


def of_alert(version: str, words: str) -> Notice:
    """It differs from the one before it; only labels can say which is better."""
    reason = f"{words}; to see which is better, run `ttrl label`, then `ttrl measure`"
    return Notice("adapter.differs", reason, adapter=version, live=version)


def of_run(run: Run) -> Notice | None:
    """A run ended; None where nobody needs to hear of it."""
    if (event := ENDS.get(run.state)) is None:
        return None
    return Notice(event, run.reason or "", run=run.id, adapter=run.adapter)


@dataclass(eq=False)
class Webhook:
    """Takes notices from any thread."""

    settings: WebhookConfig
    metrics: Metrics
    pauses: tuple[float, ...] = PAUSES

    def __post_init__(self) -> None:
        self._count = self.metrics.versions.notices
        self._queue: asyncio.Queue[Notice] = asyncio.Queue(CAPACITY)
        self._loop = asyncio.get_running_loop()

    def tell(self, notice: Notice | None) -> None:
        """Log it, and have it sent; never waits."""
        if notice is None:
            return
        fields = {"event": notice.event, "run": notice.run, "adapter": notice.adapter}
        log.info("%s: %s", notice.event, notice.reason, extra=fields)

        def offer() -> None:
            try:
                self._queue.put_nowait(notice)
            except asyncio.QueueFull:
                self._count.labels("dropped").inc()

        if self.settings.url is not None:
            self._loop.call_soon_threadsafe(offer)

    async def run(self) -> None:
        async with httpx2.AsyncClient(timeout=TIMEOUT_SECONDS, trust_env=False) as client:
            while True:
                notice = await self._queue.get()
                delivered = await self._deliver(client, notice)
                self._count.labels("delivered" if delivered else "failed").inc()
                if not delivered:
                    log.error("could not deliver %s to the webhook", notice.event)

    async def _deliver(self, client: httpx2.AsyncClient, notice: Notice) -> bool:
        """The same identifier each time, so that a receiver knows a second one for a repetition."""
        url, secret = self.settings.url, self.settings.secret
        assert url is not None
        assert secret is not None
        signer = Signer(secret)
        key, body = f"msg_{secrets.token_hex(12)}", json.dumps(asdict(notice))
        for pause in (0.0, *self.pauses):
            await asyncio.sleep(pause)
            now = datetime.now(UTC)
            headers = {
                "content-type": "application/json",
                "webhook-id": key,
                "webhook-timestamp": str(int(now.timestamp())),
                "webhook-signature": signer.sign(key, now, body),
            }
            try:
                answer = await client.post(url, content=body, headers=headers)
            except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
                log.warning("cannot reach the webhook: %s", type(error).__name__)
                continue
            if answer.is_success:
                return True
        return False
