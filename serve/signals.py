"""How a process hears that it is to end: in order, and when it is told again, now."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Sequence
from itertools import count

log = logging.getLogger(__name__)

LAST_SECONDS = 5
"""What has not ended so long after the second signal does not end by itself. What it started dies
with it."""
Steps = Sequence[Callable[[], object]]


def on_signals(in_order: Steps, now: Steps) -> None:
    """The first signal takes the steps of `in_order`, others those that are in `now` by then."""
    told = count()

    def heard() -> None:
        again = next(told) > 0
        if again:
            log.warning("told to end once more: now")
            signal.alarm(LAST_SECONDS)  # the kernel's, whatever becomes of us
        for step in now if again else in_order:
            step()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, heard)
