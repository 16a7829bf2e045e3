"""A daemon that may be killed, and started again at the same address."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import psutil

from serve.cli.demo import SETTINGS, ttrl
from ttrl.demo import model_dir
from ttrl.engine.process import free_port

START_SECONDS = 120.0
RUNS = (
    "schedule.every=20s", "schedule.min_questions=8", "update.steps=1", "update.keep=4",
    "update.questions_per_step=2", "vote.samples=8", "selection.max_questions=8",
    "gate.min_probes=4", "gate.probes=4", "gate.samples=4", "gate.ship=better",
)  # fmt: skip
"""Runs of seconds, all the time; no version of theirs ships."""


class Served:
    """`ttrl serve` on the demo's settings."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        settings = (
            *RUNS, f"gateway.port={port}", f"model.name={model_dir()}", "store.url=null",
            "engine.canary_timeout=10s",
        )  # fmt: skip
        self._options = [
            "--config", str(SETTINGS), "--state-dir", str(state_dir),
            *(word for each in settings for word in ("--set", each)),
        ]  # fmt: skip
        self.process: psutil.Popen | None = None

    @property
    def daemon(self) -> psutil.Popen:
        """Its process."""
        assert self.process is not None
        return self.process

    @contextmanager
    def up(self) -> Iterator[None]:
        """Started, and stopped at the end."""
        self.start()
        try:
            yield
        finally:
            if self.daemon.is_running():
                self.stop()

    def start(self) -> None:
        """Returns when users can be served."""
        with (self.state_dir / "daemon.log").open("ab") as log:
            self.process = psutil.Popen(self.command("serve"), stdout=log, stderr=log)
        self.wait()

    def wait(self) -> None:
        """Until users can be served."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.ready():
                return
            time.sleep(0.1)
        raise RuntimeError(f"the daemon does not come back; see {self.state_dir}/daemon.log")

    def ready(self) -> bool:
        """Whether users can be served."""
        try:
            return httpx2.get(f"{self.url}/readyz", trust_env=False).is_success
        except httpx2.TransportError:
            return False

    def stop(self) -> None:
        """SIGTERM. Raises RuntimeError when it does not end well."""
        self.daemon.terminate()
        if (code := self.daemon.wait(60)) != 0:
            raise RuntimeError(f"the daemon ended with status {code}")

    def child(self, words: str) -> psutil.Process | None:
        """One of its processes: the engine, or a run if there is one."""
        for each in self.daemon.children():
            try:
                if words in " ".join(each.cmdline()):
                    return each
            except psutil.Error:
                continue
        return None

    def command(self, *words: str) -> list[str]:
        """One on this state, with these settings."""
        return [*ttrl(), *words, *self._options]


def run(command: list[str]) -> None:
    """A command that must succeed."""
    subprocess.run(command, check=True, capture_output=True, timeout=60)
