"""Which version answers now, and how many answers each version still has under way.

No locks: everything here is called from the process's one event loop and never awaits in between.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

BASE = "base"
"""The version that is no adapter."""


@dataclass(frozen=True)
class Target:
    """`version`: who answers (an adapter's name, or "base"); `model`: the engine's name for it."""

    version: str
    model: str


@dataclass(frozen=True)
class Standing:
    """All that a gateway process must know of the engine: what `Live` says of each, and whether
    users can be served."""

    base: Target
    current: Target
    max_model_len: int | None
    since: int
    open: bool
    ready: bool


async def _alone() -> None:
    pass


class Live:
    """A stable name in front, the live version behind it."""

    def __init__(self, served_name: str, base_model: str) -> None:
        self.served_name = served_name
        self.base = self.current = Target(BASE, base_model)
        self.max_model_len: int | None = None
        """The engine's, in tokens, once somebody has asked it."""
        self.open = True
        """Whether requests may go to the engine: not to one that was started again, before it has
        what was live."""
        self.ready = False
        """Whether users can be served, as the daemon told this worker."""
        self.since = int(time.time())
        self.spread: Callable[[], Awaitable[None]] = _alone
        """To be awaited after a change: returns when the other workers go by it."""
        self.elsewhere: dict[int, Mapping[str, int]] = {}
        """The answers that each other worker has under way, by version. Those of a version that is
        not current any more only become fewer after `spread`."""
        self._in_flight: Counter[str] = Counter()

    def found(self, base_model: str, max_model_len: int | None) -> None:
        """Take in what the engine, now that it is up, calls its base model, and how long it
        reads."""
        base = Target(BASE, base_model)
        if self.current == self.base:
            self.current = base
        self.base, self.max_model_len = base, max_model_len

    def target(self, requested_model: object) -> Target | None:
        """Who answers for this name. None asks for whatever is served, as in vLLM; nobody answers
        for an unknown name (an adapter's own name is one)."""
        return self.current if requested_model in (None, self.served_name) else None

    def flip(self, version: str | None) -> None:
        """From the next request on, this adapter answers (None: the base). Requests under way end
        where they began. The caller has made sure that the engine serves it."""
        self.current = Target(version, version) if version else self.base

    @contextmanager
    def hold(self, version: str) -> Iterator[None]:
        """Count one request in flight on a version, which must not be unloaded meanwhile."""
        self._in_flight[version] += 1
        try:
            yield
        finally:
            self._in_flight[version] -= 1

    def in_flight(self, version: str) -> int:
        """How many answers all workers have under way."""
        elsewhere = (counts.get(version, 0) for counts in tuple(self.elsewhere.values()))
        return self._in_flight[version] + sum(elsewhere)

    def held(self) -> dict[str, int]:
        """The answers that this process has under way, by version."""
        return dict(+self._in_flight)

    def standing(self, *, ready: bool) -> Standing:
        return Standing(self.base, self.current, self.max_model_len, self.since, self.open, ready)

    def take(self, standing: Standing) -> None:
        """Go by what the daemon says from the next request on."""
        self.base, self.current = standing.base, standing.current
        self.max_model_len, self.since = standing.max_model_len, standing.since
        self.open, self.ready = standing.open, standing.ready
