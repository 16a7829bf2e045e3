"""Who is let in: those with a known key, within its limits, while there is room.

What each key has used of its limits is in memory that all workers of the gateway share. Locks are
the system's record locks: they end with the process that holds one.
"""

from __future__ import annotations

import fcntl
import math
import mmap
import os
import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import Response

from serve.gateway.keys import Key, KeyFile, client
from serve.gateway.request import Refused
from ttrl.metrics.series import Serving

MINUTE = 60.0
SLACK_SECONDS = 0.001
RETRY_AFTER_SECONDS = 5
SLOW_SECONDS = 1.0
"""In which a body arrives whose client is not slow."""
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
EVERYWHERE = frozenset({"0.0.0.0", "::", ""})  # noqa: S104 - what was set is compared with it
KEYS = 2**20
"""Rows; memory that was never written takes none."""
DIGEST, WORD = 32, 8
"""Bytes of a SHA-256, and of a number."""
AWAY = {
    "wrong_host": (403, "Without keys, only the host names in gateway.hosts are accepted."),
    "no_key": (401, "An API key is required: send it as Authorization: Bearer."),
    "wrong_key": (401, "Unknown API key."),
    "overloaded": (503, "Too many concurrent requests. Try again soon."),
    "at_once": (429, "Too many concurrent requests with this key."),
    "rate": (429, "Rate limit exceeded: too many requests with this key in the last minute."),
}


class Limits:
    """A row for each key that was used since the daemon's start. `number` is this worker's, from 1;
    the first makes the `file` that the others are given."""

    def __init__(self, workers: int = 1, number: int = 1, file: int | None = None) -> None:
        if workers > 1 and file is None:
            file = os.memfd_create("ttrl-limits")
        self.file, self._number, self._rows = file, number, dict[str, int]()
        filled_at = WORD + KEYS * DIGEST
        counts = filled_at + KEYS * WORD
        size = counts + KEYS * WORD * workers
        if file is not None:
            os.ftruncate(file, size)
        self._memory = mmap.mmap(-1 if file is None else file, size)
        view = memoryview(self._memory)
        self._used = view[:WORD].cast("q")
        self.filled_at = view[filled_at:counts].cast("d")
        """When each key may again send all the requests of a minute at once."""
        self._counts = view[counts:].cast("q")
        """Requests under way, of each worker a column."""

    @contextmanager
    def locked(self) -> Iterator[None]:
        """No other worker reads or writes meanwhile; not to be nested."""
        if self.file is None:
            yield
            return
        fcntl.lockf(self.file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self.file, fcntl.LOCK_UN)

    def row(self, sha256: str) -> int:
        """Return a key's row, a new one if it has none."""
        if (row := self._rows.get(sha256)) is None:
            digest = bytes.fromhex(sha256)
            with self.locked():
                end = WORD + self._used[0] * DIGEST
                if (at := self._memory.find(digest, WORD, end)) < 0:
                    self._memory[(at := end) : end + DIGEST] = digest
                    self._used[0] += 1
            row = self._rows[sha256] = (at - WORD) // DIGEST
        return row

    def under_way(self, row: int) -> int:
        return sum(self._counts[row::KEYS])

    def add(self, row: int, requests: int) -> None:
        """Count requests that this worker has begun, or ended if there are fewer than none."""
        self._counts[(self._number - 1) * KEYS + row] += requests

    def forget(self, number: int) -> None:
        """Nothing is under way in a worker that has ended."""
        for row in range(self._used[0]):
            self._counts[(number - 1) * KEYS + row] = 0


@dataclass(eq=False)
class Place:
    """What a request holds while it is under way: as how many it counts."""

    key: Key | None
    count: int = 0


@dataclass(eq=False)
class Admission:
    """Lets requests in, and counts those under way, of which there are no more than `most`: one
    whose body is still to come after `SLOW_SECONDS` goes where there is no room for others. Without
    `keys` everybody is let in who asks for one of `hosts`: a site whose name is made to point here
    would else have its visitors' browsers ask, and read the answers."""

    keys: KeyFile | None
    most: int
    metrics: Serving
    clock: Callable[[], float] = time.monotonic
    hosts: Collection[str] = LOOPBACK
    _under_way: int = 0
    limits: Limits = field(default_factory=Limits)
    _reading: dict[Place, tuple[float, Callable[[], None]]] = field(default_factory=dict)
    """Since when those whose bodies are still to come have waited, the longest first, and what cuts
    each short."""

    @contextmanager
    def admitted(self, headers: Mapping[str, str]) -> Iterator[Place]:
        """Hold a place, and say whose it is, if there are keys. Raises Refused."""
        key = None
        if self.keys is None:
            if "host" in headers and host_in(headers["host"]) not in self.hosts:
                raise self._away("wrong_host")
        elif (key := self.keys.find(digest := client(headers))) is None:
            reason = "wrong_key" if digest else "no_key"
            raise self._away(reason, {"www-authenticate": "Bearer"})
        place = Place(key)
        self.hold(place, 1)
        try:
            yield place
        finally:
            self._under_way -= place.count
            if key:
                self.limits.add(self.limits.row(key.sha256), -place.count)

    def hold(self, place: Place, more: int) -> None:
        """Count a request as so many more. Raises Refused."""
        wait = {"retry-after": str(RETRY_AFTER_SECONDS)}
        if self._under_way + more > self.most and not (more == 1 and self._shed()):
            raise self._away("overloaded", wait)
        if key := place.key:
            limits, row = self.limits, self.limits.row(key.sha256)
            with limits.locked():
                if key.at_once is not None and limits.under_way(row) + more > key.at_once:
                    raise self._away("at_once", wait)
                if key.requests_a_minute is not None:  # last: what it uses up is taken
                    self._take(row, more * MINUTE / key.requests_a_minute)
                limits.add(row, more)
        self._under_way += more
        place.count += more

    @contextmanager
    def reading(self, place: Place, cut: Callable[[], None]) -> Iterator[None]:
        """The time in which a body arrives; `cut` is called where others need its place."""
        self._reading[place] = self.clock(), cut
        try:
            yield
        finally:
            self._reading.pop(place, None)

    def _shed(self) -> bool:
        """Make room, if a body has been coming for long: its place is free in a moment."""
        place, (since, cut) = next(iter(self._reading.items()), (None, (math.inf, None)))
        if place is None or cut is None or self.clock() - since < SLOW_SECONDS:
            return False
        del self._reading[place]
        cut()
        self.metrics.turned_away.labels("overloaded").inc()
        return True

    def handler(
        self, handler: Callable[[Request], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        """The handler of a route that we answer ourselves, for who is admitted."""

        async def checked(request: Request) -> Response:
            with self.admitted(request.headers):
                return await handler(request)

        return checked

    def _take(self, row: int, seconds: float) -> None:
        """Use up one request, which comes back in so many seconds; a minute's worth is there at
        first. Raises Refused."""
        now = self.clock()
        filled_at = max(self.limits.filled_at[row], now) + seconds
        if (wait := filled_at - now - MINUTE) > SLACK_SECONDS:
            raise self._away("rate", {"retry-after": str(math.ceil(wait))})
        self.limits.filled_at[row] = filled_at

    def _away(self, reason: str, headers: Mapping[str, str] | None = None) -> Refused:
        self.metrics.turned_away.labels(reason).inc()
        status, message = AWAY[reason]
        return Refused(status, message, code=reason, headers=headers)


def names(host: str, *more: str) -> list[str]:
    """Under which names one that listens on a host may be asked for, besides those that are set."""
    if host in EVERYWHERE:
        return ["*"]
    found = {name.lower() for name in (*LOOPBACK, host, *more)}
    return [*found, *(f"[{name}]" for name in found if ":" in name)]


def host_in(header: str) -> str:
    name, colon, port = header.lower().rpartition(":")
    return (name if colon and port.isdigit() else header.lower()).strip("[]")
