"""A job as a process of its own: how it starts, and how it hears that it is to stop.

The configuration comes on standard input, and with it secrets, which arguments would show.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from ttrl import logs
from ttrl.config import Config
from ttrl.engine.client import EngineClient

STOPPED_BECAUSE = {
    signal.SIGINT: "the run was stopped",
    signal.SIGTERM: "the process that owned it died or ended it",
}
"""The daemon stops a run with SIGINT; the kernel sends SIGTERM when the daemon is gone."""
CLEANUP_SECONDS = 30
"""To clean up after a signal. A process that takes longer hangs with its engine and is killed: what
it leaves is cleaned up by its owner, who waits less long, or by the next run."""


class Stopped(BaseException):
    """The job was asked to stop. Not an Exception: it comes in the midst of whatever runs, where
    libraries may swallow an Exception or take it for one of theirs."""


def configure(run: int | None = None) -> Config:
    """Read the configuration from standard input and set up logging as it says."""
    config = Config.model_validate_json(sys.stdin.read())
    ids = {} if run is None else {"run": run}
    logs.configure(config.log_level, config.log_format, **ids)
    return config


def engine_client(config: Config, url: str) -> EngineClient:
    """Return a client of the engine at `url` with the configured patience."""
    return EngineClient(
        url,
        api_key=config.engine.api_key,
        timeout=config.engine.request_timeout.total_seconds(),
        retries=config.engine.retries,
    )


def raise_on_signals() -> None:
    """Raise Stopped in the main thread on the first of the signals; ignore further ones."""
    for number in STOPPED_BECAUSE:
        signal.signal(number, _stop)


@contextmanager
def signals_deferred() -> Iterator[None]:
    """Deliver signals at the end of the block. For imports: some libraries drop whatever is raised
    while others are imported (torch, numpy), or make it an ImportError of their own.

    A signal mask would be no help: it belongs to one thread, and what any other thread receives,
    Python hands to the main one."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []

    def remember(number: int, _frame: FrameType | None) -> None:
        received.append(number)

    before = {number: signal.signal(number, remember) for number in STOPPED_BECAUSE}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if received:
            signal.raise_signal(received[0])


def _stop(number: int, _frame: FrameType | None) -> None:
    for each in STOPPED_BECAUSE:
        signal.signal(each, signal.SIG_IGN)
    signal.alarm(CLEANUP_SECONDS)
    raise Stopped(STOPPED_BECAUSE[signal.Signals(number)])
