"""How a run hears that it is to stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

WHY = {
    signal.SIGINT: "it was stopped",
    signal.SIGTERM: "its process was ended, as when the one that owned it died",
}
"""The daemon stops a run with SIGINT; the kernel sends SIGTERM when the daemon is gone."""
LAST_SECONDS = 30
"""To clear up. One that takes longer hangs with its engine, and is ended as it is: what it leaves
is cleared away by its owner, who waits less long, or by the next."""


class Stopped(BaseException):
    """Somebody asked the run to stop. No Exception: it comes in the midst of whatever runs, where
    libraries may pass over an Exception or take it for one of theirs."""


def hear() -> None:
    """From now on each of the signals raises Stopped, once."""
    for number in WHY:
        signal.signal(number, _stop)


@contextmanager
def put_off() -> Iterator[None]:
    """No signal is heard before the end of the block. For imports: some libraries drop whatever is
    raised while others are imported (torch, numpy), or make it an ImportError of their own.

    A mask of signals would be no help: it is a thread's own, and what any other thread takes,
    Python lets the main one hear."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {number: signal.signal(number, lambda each, _: came.append(each)) for number in WHY}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


def _stop(number: int, _frame: FrameType | None) -> None:
    for each in WHY:
        signal.signal(each, signal.SIG_IGN)  # the end is already on its way
    signal.alarm(LAST_SECONDS)
    raise Stopped(WHY[signal.Signals(number)])
