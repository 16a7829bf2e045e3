"""Lets requests out to the engine only as fast as it can take them beside its users'."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from statistics import fmean
from typing import Self

from ttrl.engine.client import EngineError
from ttrl.engine.load import Load
from ttrl.pace import Pace, after

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.5


class PacerClosed(Exception):
    """No further request may go out: whoever wanted them has left."""


class Event(StrEnum):
    """What whoever follows a run should see."""

    PAUSE = "pause"
    """Nothing goes out any more, for so many answers are `waiting` in the engine."""
    RESUME = "resume"
    """The pause has ended, or all asking has; with its `seconds`."""


@dataclass(frozen=True)
class Paced:
    """What became of the bound in some time: its mean over the looks, and the seconds in which it
    was 0."""

    mean_bound: float
    paused_seconds: float


Tell = Callable[[Event, Mapping[str, float]], None]


def tell_nobody(event: Event, numbers: Mapping[str, float]) -> None:
    """Where nobody follows."""


class Pacer:
    """Shared by the threads that ask. It has no thread of its own: of those that want a slot, one
    looks at the engine when it is time, so nobody looks while nothing is wanted.

    `look` says how busy the engine is and may raise EngineError, as EngineClient.load does; `tell`
    gets the events, from any thread. `maximum` and `pause_waiting` as in ttrl.pace. `width` is how
    many threads should ask: one more than may be out, so that somebody looks while all the others
    wait for the engine.
    """

    def __init__(
        self,
        look: Callable[[], Load | None],
        *,
        maximum: int,
        pause_waiting: int,
        tell: Tell = tell_nobody,
        interval: float = LOOK_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.width = maximum + 1
        self._see = look
        self._tell = tell
        self._interval = interval
        self._clock = clock
        self._changed = threading.Condition()
        self._pace = Pace.first(maximum, pause_waiting)
        self._out = 0
        self._next_look = clock()
        self._looking = self._closed = False
        self._account = _Account(self._pace.bound)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def bound(self) -> int:
        """Requests that may be out, now; 0 in a pause."""
        with self._changed:
            return self._pace.bound

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Waits until a request may go out, and counts it until it has ended. Raises
        PacerClosed."""
        while not self._admitted():
            self._look()
        try:
            yield
        finally:
            with self._changed:
                self._out -= 1
                self._changed.notify()

    def take(self) -> Paced:
        """What happened since this was last asked."""
        with self._changed:
            return self._account.take(self._clock())

    def close(self) -> None:
        """Let nothing out any more: who waits for a slot gets PacerClosed. Waits for nobody."""
        with self._changed:
            over = None if self._closed else self._account.resumed(self._clock())
            self._closed = True
            self._changed.notify_all()
        if over is not None:
            self._tell(Event.RESUME, {"seconds": over})

    def _admitted(self) -> bool:
        """Take a slot, or take it upon this thread to look at the engine first: False."""
        with self._changed:
            while not self._closed:
                left = self._next_look - self._clock()
                if self._looking:
                    self._changed.wait()
                elif left <= 0:
                    self._looking = True
                    return False
                elif self._out < self._pace.bound:
                    self._out += 1
                    return True
                else:
                    self._changed.wait(left)
        raise PacerClosed

    def _look(self) -> None:
        load = None
        try:
            load = self._see()
        except EngineError as error:  # if it is dead, the requests themselves will say so
            log.warning("could not see how busy the engine is: %s", error)
        finally:  # whatever happened: the others wait for this
            event = self._looked(load)
        if event is not None:
            self._tell(*event)

    def _looked(self, load: Load | None) -> tuple[Event, Mapping[str, float]] | None:
        with self._changed:
            now = self._clock()
            before, self._pace = self._pace, after(self._pace, load)
            self._looking, self._next_look = False, now + self._interval
            self._changed.notify_all()
            self._account.looked(self._pace.bound)
            if self._closed or self._pace.paused is before.paused:
                return None
            if load is not None and self._pace.paused:
                self._account.paused(now)
                log.debug("asking for no more: %d answers wait in the engine", load.waiting)
                return Event.PAUSE, {"waiting": load.waiting}
            seconds = self._account.resumed(now) or 0.0
            log.debug("asking again after %.1f s", seconds)
            return Event.RESUME, {"seconds": seconds}


class _Account:
    """Of the bounds seen and the time paused; its owner's lock protects it."""

    def __init__(self, bound: int) -> None:
        self._last = bound
        self._bounds: list[int] = []
        self._since: float | None = None
        self._seconds = self._taken = 0.0

    def looked(self, bound: int) -> None:
        self._last = bound
        self._bounds.append(bound)

    def paused(self, now: float) -> None:
        self._since = now

    def resumed(self, now: float) -> float | None:
        """The seconds of the pause that ends; None when there is none."""
        if self._since is None:
            return None
        seconds, self._since = now - self._since, None
        self._seconds += seconds
        return seconds

    def take(self, now: float) -> Paced:
        seconds = self._seconds + (0.0 if self._since is None else now - self._since)
        paced = Paced(fmean(self._bounds or [self._last]), seconds - self._taken)
        self._bounds, self._taken = [], seconds
        return paced
