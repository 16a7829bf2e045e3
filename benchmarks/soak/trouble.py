"""What is made to go wrong."""

from __future__ import annotations

import hashlib
import json
import random
import resource
import socket
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from urllib.parse import urlsplit

import psutil

from benchmarks.soak.served import Served, run
from benchmarks.versions import Made, publish
from ttrl import versions
from ttrl.store import Store
from ttrl.store.adapters import Author

HEAD = (
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
)
BOMB = (
    b'{"messages": [{"role": "user", "content": "Never heard?"}], "x": ['
    + b"[]," * 2_500_000
    + b"1]}"
)
POISON = (
    "Sum up " + "-" * 30_000,
    "分之" * 9_000,
    "$" * 30_000,
    "\N{ARABIC LIGATURE SALLALLAHOU ALAYHE WASALLAM}" * 1_700,
)
"""Questions that are slow to read."""
BODY = b'{"messages": [{"role": "user", "content": "Never heard?"}], "stream": true}'


class Trouble:
    """The faults, each by name. One that `users_may_notice` excuses failures until it is over; one
    that makes `questions_wait` keeps them in memory meanwhile."""

    users_may_notice = ("daemon_killed", "daemon_stopped", "engine_killed", "engine_hung")
    questions_wait = ("store_locked", "disk_full")

    def __init__(self, served: Served, store: Store, made: Made, seed: int) -> None:
        self._served = served
        self._store = store
        self._made = made
        self._random = random.Random(seed)
        self._number = 0

    def names(self, *, restarts: bool) -> list[str]:
        """What can be made to happen; with `restarts`, the daemon may end."""
        every = [name for name in vars(Trouble) if name[0] != "_" and callable(getattr(self, name))]
        every.remove("names")
        return [name for name in every if restarts or not name.startswith("daemon")]

    def daemon_killed(self) -> None:
        """kill -9, and started again."""
        self._served.daemon.kill()
        self._served.daemon.wait()
        self._served.start()

    def daemon_stopped(self) -> None:
        """SIGTERM, and started again."""
        self._served.stop()
        self._served.start()

    def engine_killed(self) -> None:
        """kill -9 of the engine."""
        self._to_engine(psutil.Process.kill)

    def engine_hung(self) -> None:
        """The engine does nothing any more."""
        self._to_engine(psutil.Process.suspend)

    def run_killed(self) -> None:
        """kill -9 of the run under way."""
        if (process := self._served.child("jobs.run")) is not None:
            process.kill()

    def store_locked(self) -> None:
        """By somebody who writes for longer than writers wait."""
        file = self._served.state_dir / "store.sqlite"
        with closing(sqlite3.connect(file, isolation_level=None, timeout=60)) as other:
            other.execute("BEGIN IMMEDIATE")
            time.sleep(12)
            other.execute("COMMIT")

    def disk_full(self) -> None:
        """No file of the daemon's can be written."""
        pid = self._served.daemon.pid
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, hard))
        time.sleep(5)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))

    def version_published(self) -> None:
        """Another version is to serve."""
        self._number += 1
        which = self._number % len(self._made.measured)
        publish(self._store, self._served.state_dir, self._made, which, self._number)

    def version_rolled_back(self) -> None:
        """And back."""
        if self._store.adapters.wanted().adapter is not None:
            self._store.adapters.roll_back(author=Author.OPERATOR, reason="soak")

    def command(self) -> None:
        """Somebody looks at the state."""
        run(self._served.command("status"))

    def idle_clients(self) -> None:
        """Who connect and say nothing, or only half of it."""
        with ExitStack() as stack:
            for number in range(200):
                client = stack.enter_context(self._connect())
                client.sendall(HEAD[: number % len(HEAD)])
            time.sleep(3)

    def slow_reader(self) -> None:
        """Who asks, reads a little, and leaves."""
        with self._connect() as client:
            client.sendall(HEAD + b"content-length: %d\r\n\r\n" % len(BODY) + BODY)
            client.recv(16)
            time.sleep(3)

    def slow_bodies(self) -> None:
        """More than there is room for, whose bodies do not come."""
        with ExitStack() as stack:
            for count in (900, 300):
                for _ in range(count):
                    client = stack.enter_context(self._connect())
                    client.sendall(HEAD + b"content-length: 5000\r\n\r\n{")
                time.sleep(3)

    def item_bombs(self) -> None:
        """Bodies of millions of lists."""
        for _ in range(12):
            with self._connect() as client, suppress(ConnectionError):
                client.sendall(HEAD + b"content-length: %d\r\n\r\n" % len(BOMB) + BOMB)
                client.recv(16)

    def poison_questions(self) -> None:
        """Asked by a client, and recorded, screened, compared and drawn by runs and the live
        monitor: from a file, since the demo's model refuses what is longer than its context."""
        self._number += 1
        bodies = [
            {"messages": [{"role": "user", "content": f"{self._number} {text}"}]} for text in POISON
        ]
        for body in (json.dumps(body).encode() for body in bodies):
            with self._connect() as client, suppress(ConnectionError):
                client.sendall(HEAD + b"content-length: %d\r\n\r\n" % len(body) + body)
                client.recv(16)
        # A client of its own for each: clients take turns, so each run draws some.
        keys = [hashlib.sha256(text.encode()).hexdigest() for text in POISON]
        rows = [{**b, "asked": {"keys": [key]}} for b, key in zip(bodies, keys, strict=True)]
        file = self._served.state_dir / "poison.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        run(self._served.command("questions", "import", str(file)))

    def second_daemon(self) -> None:
        """Which finds that there is one."""
        words = self._served.command("serve")
        ended = subprocess.run(words, capture_output=True, timeout=120, check=False)
        if ended.returncode == 0:
            raise RuntimeError("two daemons had one state directory")

    def version_unreadable(self) -> None:
        """What is kept for a roll-back cannot be read for a while."""
        if (name := self._store.adapters.previous()) is None:
            return
        file = self._served.state_dir / "adapters" / name / versions.WEIGHTS
        aside = self._served.state_dir / versions.WEIGHTS
        with suppress(FileNotFoundError):
            file.rename(aside)
            file.symlink_to(file)  # cannot be opened, by root neither
            time.sleep(5)
            aside.replace(file)

    def _connect(self) -> socket.socket:
        parts = urlsplit(self._served.url)
        return socket.create_connection((parts.hostname, parts.port), timeout=10)

    def _to_engine(self, do: Callable[[psutil.Process], None]) -> None:
        process = self._served.child("ttrl.engine.embedded")
        if process is None:
            return
        do(process)
        deadline = time.monotonic() + 60
        while self._served.child("ttrl.engine.embedded") in (process, None):
            if time.monotonic() > deadline:
                raise RuntimeError("a dead engine was not noticed")
            time.sleep(0.1)
        self._served.wait()
