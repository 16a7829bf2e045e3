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
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from statistics import fmean
from typing import Self

from ttrl.engine.client import EngineError, Load

INCREASE = 1
DECREASE = 0.5
MODEST = 4
"""The first limit, and the highest where the engine does not say how busy it is."""
POLL_SECONDS = 0.5

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pace:
    """`limit` is how many requests may be in flight, at most `maximum`; it is 0, a pause, while
    `pause_waiting` answers or more wait in the engine."""

    maximum: int
    pause_waiting: int
    limit: int

    @classmethod
    def first(cls, maximum: int, pause_waiting: int) -> Pace:
        """Return the pace before anything is known of the engine. Both are at least 1."""
        return cls(maximum, pause_waiting, min(MODEST, maximum))

    @property
    def paused(self) -> bool:
        """Whether nothing may go out."""
        return self.limit == 0

    def after(self, load: Load | None) -> Pace:
        """Return the pace after one poll of the engine, however many requests ended since the last.
        None is a poll without an answer: an engine that is too busy looks like that as well, so the
        limit never grows by it."""
        if load is not None and load.waiting >= self.pause_waiting:
            limit = 0
        elif self.paused:
            limit = 1
        elif load is None:
            limit = min(self.limit, MODEST)
        elif load.waiting:
            limit = max(1, int(self.limit * DECREASE))
        else:
            limit = min(self.maximum, self.limit + INCREASE)
        return replace(self, limit=limit)


class PacerClosed(Exception):
    """No further request may go out."""


class Event(StrEnum):
    """What whoever follows a run should see."""

    PAUSE = "pause"
    """Nothing goes out any more, for so many answers are `waiting` in the engine."""
    RESUME = "resume"
    """The pause has ended, or all requests have; with its `seconds`."""


@dataclass(frozen=True)
class Paced:
    """The mean limit over the polls of some time, and the seconds in which it was 0."""

    mean_limit: float
    paused_seconds: float


Tell = Callable[[Event, Mapping[str, float]], None]


def tell_nobody(event: Event, numbers: Mapping[str, float]) -> None:
    """Where nobody follows."""


class Pacer:
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
        tell: Tell = tell_nobody,
        interval: float = POLL_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.width = maximum + 1
        self._poll = poll
        self._tell = tell
        self._interval = interval
        self._clock = clock
        self._changed = threading.Condition()  # guards all below
        self._pace = Pace.first(maximum, pause_waiting)
        self._in_flight = 0
        self._next_poll = clock()
        self._polling = self._closed = False
        self._limits: list[int] = []
        self._paused_since: float | None = None
        self._paused_seconds = self._taken_seconds = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def limit(self) -> int:
        """Requests that may be in flight now; 0 in a pause."""
        with self._changed:
            return self._pace.limit

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Wait until a request may go out, and count it until it has ended. Raises PacerClosed."""
        while not self._admitted():
            load = None
            try:
                load = self._poll()
            except EngineError as error:  # if it is dead, the requests themselves will say so
                log.warning("could not read the engine's load: %s", error)
            finally:  # whatever happened: the others wait for this
                event = self._polled(load)
            if event is not None:
                self._tell(*event)
        try:
            yield
        finally:
            with self._changed:
                self._in_flight -= 1
                self._changed.notify()

    def take(self) -> Paced:
        """Return what happened since this was last called."""
        with self._changed:
            since = self._paused_since
            seconds = self._paused_seconds + (0.0 if since is None else self._clock() - since)
            paced = Paced(fmean(self._limits or [self._pace.limit]), seconds - self._taken_seconds)
            self._limits, self._taken_seconds = [], seconds
            return paced

    def close(self) -> None:
        """Let nothing out any more: whoever waits for a slot gets PacerClosed. Does not wait."""
        with self._changed:
            seconds = None if self._closed else self._end_pause()
            self._closed = True
            self._changed.notify_all()
        if seconds is not None:
            self._tell(Event.RESUME, {"seconds": seconds})

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
                elif self._in_flight < self._pace.limit:
                    self._in_flight += 1
                    return True
                else:
                    self._changed.wait(left)
        raise PacerClosed

    def _polled(self, load: Load | None) -> tuple[Event, Mapping[str, float]] | None:
        """Set the limit by what was seen, and wake the others. Returns what there is to tell."""
        with self._changed:
            before, self._pace = self._pace, self._pace.after(load)
            self._limits.append(self._pace.limit)
            self._polling, self._next_poll = False, self._clock() + self._interval
            self._changed.notify_all()
            if self._closed or self._pace.paused is before.paused:
                return None
            if load is not None and self._pace.paused:
                self._paused_since = self._clock()
                log.debug("pausing: %d requests wait in the engine", load.waiting)
                return Event.PAUSE, {"waiting": load.waiting}
            seconds = self._end_pause() or 0.0
            log.debug("resuming after %.1f s", seconds)
            return Event.RESUME, {"seconds": seconds}

    def _end_pause(self) -> float | None:
        """Return the seconds of the pause that ends; None if there is none."""
        if self._paused_since is None:
            return None
        seconds, self._paused_since = self._clock() - self._paused_since, None
        self._paused_seconds += seconds
        return seconds
