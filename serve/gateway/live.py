"""Which version answers now, and how many answers each version still has under way.

No locks: everything here is called from the daemon's one event loop and never awaits in between.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

BASE = "base"
"""The version that is no adapter."""


@dataclass(frozen=True)
class Route:
    """`version`: who answers (an adapter's name, or "base"); `model`: the engine's name for it."""

    version: str
    model: str


class Live:
    """Stable names in front, the live version behind them. `max_model_len` is the engine's, in
    tokens, once somebody has asked it."""

    def __init__(self, served_names: Sequence[str], base_model: str) -> None:
        if not served_names:
            raise ValueError("at least one served name is needed")
        self.served_names = tuple(served_names)
        self.base = Route(BASE, base_model)
        self.current = self.base
        self.max_model_len: int | None = None
        self.open = True
        """Whether requests may go to the engine: not to one that was started again, before it has
        what was live."""
        self.since = int(time.time())
        self._in_flight: Counter[str] = Counter()

    def found(self, base_model: str, max_model_len: int | None) -> None:
        """Take in what the engine, now that it is up, calls its base model, and how long it
        reads."""
        base = Route(BASE, base_model)
        if self.current == self.base:
            self.current = base
        self.base, self.max_model_len = base, max_model_len

    def route(self, requested_model: str | None) -> Route | None:
        """Who answers for this name. None asks for whatever is served, as in vLLM; an unknown name
        (an adapter's own name is one) has no route."""
        known = requested_model is None or requested_model in self.served_names
        return self.current if known else None

    def flip(self, version: str | None) -> None:
        """From the next request on, this adapter answers (None: the base). Requests under way end
        where they began. The caller has made sure that the engine serves it."""
        self.current = self.base if version in (None, BASE) else Route(version, version)

    @contextmanager
    def hold(self, version: str) -> Iterator[None]:
        """Count one request in flight on a version, which must not be unloaded meanwhile."""
        self._in_flight[version] += 1
        try:
            yield
        finally:
            self._in_flight[version] -= 1
            if not self._in_flight[version]:
                del self._in_flight[version]

    def in_flight(self, version: str) -> int:
        return self._in_flight[version]
