"""What the service manager is told: that we are ready, how we are, that we live, that we end.

The protocol is sd_notify(3)'s: a datagram of NAME=value lines to the socket that NOTIFY_SOCKET
names. Without one there is nobody to tell, and nothing happens.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, MutableMapping
from typing import Self

log = logging.getLogger(__name__)

START_SECONDS = 60
"""A start may take so long from each sign of life on, whatever the unit's own limit is: a large
store is read, and perhaps brought up to date, before we are ready."""
STATUS_SECONDS = 5.0
"""How often the status is looked at; it is told when it has changed."""


class Manager:
    """systemd, or whoever else started us and wants to know. `look` says how we are, in a line;
    `watchdog` is in how many seconds it wants a sign of life."""

    def __init__(self, address: str | None, watchdog: float | None = None) -> None:
        self.look: Callable[[], str] = lambda: "starting"
        self._address = address
        self._watchdog = watchdog
        self._said = ""
        self._ready = False

    @classmethod
    def take(cls, environ: MutableMapping[str, str] = os.environ) -> Self:
        """The one that the environment names, and out of it: our children do not speak for us. A
        watchdog counts when it is meant for this process."""
        address = environ.pop("NOTIFY_SOCKET", None)
        microseconds = environ.pop("WATCHDOG_USEC", "")
        ours = environ.pop("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        watched = ours and microseconds.isdecimal() and int(microseconds) > 0
        return cls(address, int(microseconds) / 1e6 if watched else None)

    @property
    def pause(self) -> float:
        """Seconds between two signs of life: the half of what the watchdog allows, at most."""
        return min(STATUS_SECONDS, (self._watchdog or 2 * STATUS_SECONDS) / 2)

    async def keep(self) -> None:
        """Until cancelled, say that we live and how we are. It is a task of the event loop, so that
        a loop that hangs falls silent and is ended."""
        while True:
            told = {"WATCHDOG": "1"} if self._watchdog else {}
            if not self._ready:
                told["EXTEND_TIMEOUT_USEC"] = str(START_SECONDS * 10**6)
            status = " ".join(self.look().split())
            if status != self._said:
                told["STATUS"] = self._said = status
            self._tell(told)
            await asyncio.sleep(self.pause)

    def ready(self) -> None:
        """We can be asked."""
        self._ready = True
        self._tell({"READY": "1"})

    def stopping(self, seconds: float) -> None:
        """We end, and it may take so long whatever the unit's own limit is."""
        self.look = lambda: "stopping; answers under way may end"
        self._tell({"STOPPING": "1", "EXTEND_TIMEOUT_USEC": str(int(seconds * 1e6))})

    def _tell(self, fields: dict[str, str]) -> None:
        if not self._address or not fields:
            return
        # A name in the abstract namespace begins with a zero byte, which is written as @.
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        message = "\n".join(f"{name}={value}" for name, value in fields.items())
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.setblocking(False)
                sender.sendto(message.encode(), address)
        except OSError as error:
            log.warning("the service manager cannot be told %s: %s", ", ".join(fields), error)
