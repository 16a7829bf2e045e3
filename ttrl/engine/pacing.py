"""How many of our requests may be in flight: more while nobody waits in the engine, fewer when
somebody does, none when many do.

Additive increase and multiplicative decrease, which share what there is fairly and settle without
anybody knowing its size: D.-M. Chiu and R. Jain, "Analysis of the Increase and Decrease Algorithms
for Congestion Avoidance in Computer Networks", Computer Networks and ISDN Systems 17 (1989) 1-14.

Our own answers wait in the engine too, and vLLM does not tell priorities apart. It need not: what
waits, whoever asked for it, says that the engine is full, and to ask for more is then pointless
for us and a delay for users.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import fmean
from typing import NamedTuple

from ttrl import Closing
from ttrl.engine.client import EngineError, Load

INCREASE = 1
DECREASE = 0.5
MODEST = 4
"""The first limit, and the highest where the engine does not say how busy it is."""
POLL_SECONDS = 0.5

log = logging.getLogger(__name__)


def next_limit(limit: int, load: Load | None, *, maximum: int, pause_waiting: int) -> int:
    """Return how many requests may be in flight after one poll of the engine, at most `maximum`; 0,
    a pause, while `pause_waiting` answers or more wait in the engine. Both are at least 1. None is
    a poll without an answer: an engine that is too busy looks like that as well, so the limit never
    grows by it."""
    if load is not None and load.waiting >= pause_waiting:
        return 0
    if limit == 0:
        return 1
    if load is None:
        return min(limit, MODEST)
    if load.waiting:
        return max(1, int(limit * DECREASE))
    return min(maximum, limit + INCREASE)


class PacerClosed(Exception):
    """No further request may go out."""


class Paced(NamedTuple):
    """The mean limit over the polls of some time, and the seconds in which it was 0."""

    mean_limit: float
    paused_seconds: float


@dataclass(frozen=True)
class Pause:
    """Nothing goes out any more, for so many answers are `waiting` in the engine."""

    waiting: float


@dataclass(frozen=True)
class Resume:
    """The pause has ended, or all requests have, after `seconds`."""

    seconds: float


Tell = Callable[[Pause | Resume], None]


class Pacer(Closing):
    """Shared by the threads that send requests. It has no thread of its own: of those that want a
    slot, one polls the engine when it is time, so that nobody polls while nothing is wanted.

    `poll` says how busy the engine is and may raise EngineError, as EngineClient.load does; `tell`
    gets the events, from any thread. `width` is how many threads should share it: one more than may
    be in flight, so that somebody polls while all others wait for the engine.
    """

    def __init__(
        self,
        poll: Callable[[], Load | None],
        *,
        maximum: int,
        pause_waiting: int,
        tell: Tell | None = None,
        interval: float = POLL_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.width = maximum + 1
        self._poll = poll
        self._maximum, self._pause_waiting = maximum, pause_waiting
        self._tell = tell or (lambda event: None)
        self._interval = interval
        self._clock = clock
        self._changed = threading.Condition()  # guards all below
        self._limit = min(MODEST, maximum)
        self._in_flight = 0
        self._next_poll = clock()
        self._polling = self._closed = False
        self._limits: list[int] = []
        self._paused_since: float | None = None
        self._paused_seconds = self._taken_seconds = 0.0

    @property
    def limit(self) -> int:
        with self._changed:
            return self._limit

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Wait until a request may go out, and count it until it has ended. Raises PacerClosed."""
        while not self._admitted():
            load = None
            try:
                load = self._poll()
            except EngineError as error:  # if it is dead, the requests themselves will say so
                log.warning(
                    "could not read the engine's load, so few requests go out at once: %s", error
                )
            finally:  # whatever happened: the others wait for this
                event = self._polled(load)
            if event is not None:
                self._tell(event)
        try:
            yield
        finally:
            with self._changed:
                self._in_flight -= 1
                self._changed.notify()

    def take(self) -> Paced:
        with self._changed:
            since = self._paused_since
            seconds = self._paused_seconds + (0.0 if since is None else self._clock() - since)
            paced = Paced(fmean(self._limits or [self._limit]), seconds - self._taken_seconds)
            self._limits, self._taken_seconds = [], seconds
            return paced

    def close(self) -> None:
        """Let nothing out any more: whoever waits for a slot gets PacerClosed. Does not wait."""
        with self._changed:
            event = None if self._paused_since is None else self._resumed()
            self._closed = True
            self._changed.notify_all()
        if event is not None:
            self._tell(event)

    def _admitted(self) -> bool:
        """Take a slot, or leave it to this thread to poll the engine first: False."""
        with self._changed:
            while not self._closed:
                left = self._next_poll - self._clock()
                if self._polling:
                    self._changed.wait()
                elif left <= 0:
                    self._polling = True
                    return False
                elif self._in_flight < self._limit:
                    self._in_flight += 1
                    return True
                else:
                    self._changed.wait(left)
        raise PacerClosed

    def _polled(self, load: Load | None) -> Pause | Resume | None:
        """Set the limit by what was seen, and wake the others. Returns what there is to tell."""
        with self._changed:
            limit = next_limit(
                self._limit, load, maximum=self._maximum, pause_waiting=self._pause_waiting
            )
            began, ended = limit < 1 <= self._limit, self._limit < 1 <= limit
            self._limit = limit
            self._limits.append(limit)
            self._polling, self._next_poll = False, self._clock() + self._interval
            self._changed.notify_all()
            if began and not self._closed:
                assert load is not None
                self._paused_since = self._clock()
                log.debug("pausing: %d requests wait in the engine", load.waiting)
                return Pause(load.waiting)
            return self._resumed() if ended and not self._closed else None

    def _resumed(self) -> Resume:
        assert self._paused_since is not None
        seconds, self._paused_since = self._clock() - self._paused_since, None
        self._paused_seconds += seconds
        log.debug("resuming after %.1f s", seconds)
        return Resume(seconds)
