"""A process that serves: its background work, its signals, its service manager, its children."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping, Sequence
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Self

from ttrl.config import Config
from ttrl.engine import parent_death
from ttrl.store.database import OUTAGE, cause

log = logging.getLogger(__name__)

PAUSE_SECONDS = 2.0
REPEAT_SECONDS = 60.0
"""An outage that lasts is logged once; one that comes back after so long is logged again."""
LAST_SECONDS = 5
"""How long after the second signal the kernel ends us. What we started dies with us."""
START_SECONDS = 60
"""Each sign of life extends the unit's start timeout by this: a large store is read, and perhaps
migrated, before we are ready."""
STATUS_SECONDS = 5.0
Steps = Sequence[Callable[[], object]]


@dataclass(eq=False)
class Loop:
    """Work that is done again every so many seconds, and at once when woken; work that consumes a
    queue just does not return. If learning is broken, serving is not: what fails is tried again."""

    work: Callable[[], Awaitable[object]]
    seconds: float = PAUSE_SECONDS
    delay: float = 0.0
    _woken: asyncio.Event = field(default_factory=asyncio.Event)

    def wake(self) -> None:
        self._woken.set()

    async def run(self, name: str) -> None:
        outage, failed_at = "", 0.0
        await asyncio.sleep(self.delay)
        while True:
            try:
                await self.work()
            except OUTAGE as error:
                now = time.monotonic()
                if outage != cause(error) or now - failed_at > REPEAT_SECONDS:
                    log.warning("%s cannot continue and will retry: %s", name, cause(error))
                outage, failed_at = cause(error), now
            except Exception:  # whatever it is, users are still to be served
                log.exception("%s failed; restarting it", name)
            with suppress(TimeoutError):
                async with asyncio.timeout(self.seconds):  # wait_for may lose our own end
                    await self._woken.wait()
            self._woken.clear()


@asynccontextmanager
async def background(**loops: Loop) -> AsyncIterator[None]:
    """Named loops that run as long as the block does."""
    tasks = [asyncio.create_task(loop.run(name)) for name, loop in loops.items()]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def on_signals(in_order: Steps, now: Steps) -> None:
    """The first signal takes the steps of `in_order`, others those of `now`."""
    signals = count()

    def heard() -> None:
        again = next(signals) > 0
        if again:
            log.warning("second signal: stopping immediately")
            signal.alarm(LAST_SECONDS)  # the kernel's, whatever becomes of us
        for step in now if again else in_order:
            step()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, heard)


class Manager:
    """The service manager, told by sd_notify(3): a datagram of NAME=value lines to the socket that
    NOTIFY_SOCKET names. Without one nothing is sent. `look` says how we are, in a line; `watchdog`
    is in how many seconds it wants a sign of life."""

    def __init__(self, address: str | None, watchdog: float | None = None) -> None:
        self.look: Callable[[], str] = lambda: "starting"
        self._address = address
        self._watchdog = watchdog
        self._status = ""
        self._ready = False
        # Half of what the watchdog allows, at most. A task of the event loop, so that a loop that
        # hangs falls silent and is ended.
        self.pause = min(STATUS_SECONDS, (watchdog or 2 * STATUS_SECONDS) / 2)

    @classmethod
    def take(cls, environ: MutableMapping[str, str] = os.environ) -> Self:
        """The one that the environment names, and out of it: our children do not speak for us. A
        watchdog counts when it is meant for this process."""
        address = environ.pop("NOTIFY_SOCKET", None)
        microseconds = environ.pop("WATCHDOG_USEC", "")
        ours = environ.pop("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        watched = ours and microseconds.isdecimal() and int(microseconds) > 0
        return cls(address, int(microseconds) / 1e6 if watched else None)

    async def sign_of_life(self) -> None:
        fields = {"WATCHDOG": "1"} if self._watchdog else {}
        if not self._ready:
            fields["EXTEND_TIMEOUT_USEC"] = str(START_SECONDS * 10**6)
        status = " ".join(self.look().split())
        if status != self._status:
            fields["STATUS"] = self._status = status
        self._tell(fields)

    def ready(self) -> None:
        self._ready = True
        self._tell({"READY": "1"})

    def stopping(self, seconds: float) -> None:
        """We end, and it may take so long whatever the unit's own limit is."""
        self.look = lambda: "stopping; waiting for requests in progress"
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
            log.warning("cannot notify the service manager of %s: %s", ", ".join(fields), error)


async def spawn(
    job: str,
    arguments: Sequence[str],
    config: Config,
    log_file: Path | None,
    pass_fds: Sequence[int] = (),
) -> asyncio.subprocess.Process:
    """Start `python -P -m JOB ARGUMENTS`, which has the configuration on standard input and a log
    of its own, or ours, and dies when we do. Raises OSError."""
    if log_file is not None:
        log_file.parent.mkdir(exist_ok=True, mode=0o700)
    with log_file.open("ab") if log_file is not None else nullcontext() as output:
        child = await asyncio.create_subprocess_exec(
            *parent_death.command(),
            sys.executable,
            "-P",  # not a `jobs` that happens to be in the current directory
            "-m",
            job,
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=output,
            stderr=output,
            pass_fds=pass_fds,
            # Threads that spin while they wait take the cores from the engine beside us; TRL's
            # trainers tell Hugging Face of themselves, unless they are not to.
            env={"OMP_WAIT_POLICY": "PASSIVE", "DO_NOT_TRACK": "1", **os.environ},
            start_new_session=True,
        )
    assert child.stdin is not None
    child.stdin.write(config.model_dump_json().encode())
    child.stdin.close()
    return child
