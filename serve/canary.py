"""The canary: one token now and then, because an engine's API can answer while what generates is
dead or stuck."""

from __future__ import annotations

import time

from ttrl.engine.client import EngineClient, EngineRefused, EngineUnreachable

EVERY_SECONDS = 15.0


class Canary:
    """Asks the engine for a token, which it must give within `patience` seconds."""

    def __init__(self, client: EngineClient, patience: float) -> None:
        self._client = client
        self._patience = patience
        self._due = 0.0

    def doubt(self) -> None:
        """Ask at the next look, whenever the last one was."""
        self._due = 0.0

    def sings(self) -> bool:
        """Whether the engine gives its token, or is only too busy: one that hangs generates for
        nobody. Between two of its songs, as at the last."""
        if time.monotonic() < self._due:
            return True
        before = self._generated()
        try:
            self._client.pulse(self._patience)
        except EngineRefused as refused:
            return refused.status < 500
        except EngineUnreachable:
            after = self._generated()
            return before is not None and after is not None and after != before
        self._due = time.monotonic() + EVERY_SECONDS
        return True

    def _generated(self) -> float | None:
        """Tokens so far, of all requests, if the engine says it."""
        try:
            load = self._client.load()
        except EngineUnreachable:
            return None
        return None if load is None else load.tokens
