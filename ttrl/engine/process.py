"""An engine as a child process: its command line, its start and end, its log file; and before use
whether another's engine has what ttrl needs, and which flag it lacks."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Self

from ttrl.engine import parent_death
from ttrl.engine.client import EngineClient, EngineError, EngineRefused
from ttrl.versions import CONFIG, WEIGHTS

VLLM_ENVIRONMENT = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True", "VLLM_NO_USAGE_STATS": "1"}
POLL_SECONDS = 0.1
PORTS = range(20_000, 32_768)
LAST_LINES = 20
MAX_LOG_BYTES, OLD_LOGS = 16 * 2**20, 2
CPU_LORAS_PER_SLOT = 4
"""Adapters kept in vLLM's memory for each one that can run at once. Those beyond are read from
their path again when asked for, inside the engine's loop."""


class EngineLog(RotatingFileHandler):
    """What the engine prints, in a file that is rotated when it is full. Raises OSError when it
    cannot be opened, never when it cannot be written."""

    def __init__(self, file: Path) -> None:
        super().__init__(file, maxBytes=MAX_LOG_BYTES, backupCount=OLD_LOGS, encoding="utf-8")

    def __call__(self, line: str) -> None:
        self.handle(logging.makeLogRecord({"msg": line}))

    def handleError(self, record: logging.LogRecord) -> None:
        """The standard one prints the line to standard error."""

    def close(self) -> None:
        with contextlib.suppress(OSError):
            super().close()


class EngineProcess:
    """An engine in a process group of its own, which dies with this process.

    `env` is added to our environment; `log` gets each line that the engine prints. To start it
    again after it ended, make a new object.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        url: str,
        env: Mapping[str, str] | None = None,
        log: Callable[[str], None],
        startup_timeout: float = 600.0,
    ) -> None:
        self.url = url
        self._command = list(command)
        self._env = {**os.environ, **(env or {})}
        self._log = log
        self._startup_timeout = startup_timeout
        self._last_lines: deque[str] = deque(maxlen=LAST_LINES)
        self._child: subprocess.Popen[str] | None = None
        self._reader = threading.Thread(target=self._read_log, name="engine-log", daemon=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child else None

    def start(self, waiting: Callable[[float], None] | None = None) -> None:
        """Start it and wait until it answers, telling `waiting` the seconds so far.

        Raises EngineError when it ends before that, with the last lines it wrote, or is too slow;
        then nothing is left running.
        """
        try:
            self._child = subprocess.Popen(
                [*parent_death.command(), *self._command],
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                errors="replace",
                start_new_session=True,
            )
        except OSError as error:
            raise EngineError(f"could not start the engine: {error}") from error
        self._reader.start()
        try:
            self._wait_until_healthy(self._child, waiting)
        except BaseException:
            self.stop(grace=1.0)
            raise

    def alive(self) -> bool:
        """Whether the process is there. Whether it can answer is for its /health to say."""
        return self._child is not None and self._child.poll() is None

    def kill(self) -> None:
        """Kill the whole group, also while another thread is in `stop`."""
        self._signal_group(signal.SIGKILL)

    def stop(self, grace: float = 10.0) -> None:
        """SIGTERM to the whole group, SIGKILL to what is left of it after `grace` seconds."""
        if self._child is None:
            return
        self._signal_group(signal.SIGTERM)
        try:
            self._child.wait(grace)
        except subprocess.TimeoutExpired:
            self.kill()
            self._child.wait()
        self._reader.join(grace)  # until nothing that it left has its output open

    def _wait_until_healthy(
        self, child: subprocess.Popen[str], waiting: Callable[[float], None] | None
    ) -> None:
        began = time.monotonic()
        with EngineClient(self.url, timeout=5.0) as client:
            while (seconds := time.monotonic() - began) < self._startup_timeout:
                if child.poll() is not None:
                    self._reader.join(1.0)
                    printed = "\n".join(self._last_lines) or "(nothing)"
                    raise EngineError(
                        f"the engine exited with status {child.returncode} before it answered; "
                        f"its last output:\n{printed}"
                    )
                if client.healthy():
                    return
                if waiting:
                    waiting(seconds)
                time.sleep(POLL_SECONDS)
        raise EngineError(f"the engine did not answer within {self._startup_timeout:g} s")

    def _read_log(self) -> None:
        assert self._child is not None
        assert self._child.stdout is not None
        with self._child.stdout as lines:
            for line in lines:
                self._last_lines.append(line.rstrip("\n"))
                # A full disk must not end the reading: the engine would hang on a full pipe.
                with contextlib.suppress(OSError):
                    self._log(line.rstrip("\n"))

    def _signal_group(self, number: signal.Signals) -> None:
        if self._child is not None and self._child.poll() is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._child.pid, number)


def free_port() -> int:
    """Return a loopback port that nobody listens on at the moment, below those that systems hand
    out: the engine binds it only when its model is loaded. Raises OSError if there is none."""
    for port in secrets.SystemRandom().sample(PORTS, len(PORTS)):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def embedded_command(
    model: str | Path, port: int, served_name: str, *, max_lora_rank: int = 16
) -> list[str]:
    command = [sys.executable, "-P", "-m", "ttrl.engine.embedded", "--model", str(model)]
    command += ["--port", str(port), "--served-model-name", served_name]
    return [*command, "--max-lora-rank", str(max_lora_rank)]


def vllm_command(
    model: str | Path,
    port: int,
    served_name: str,
    *,
    max_lora_rank: int = 16,
    max_loras: int = 8,
    extra_flags: Sequence[str] = (),
    python: str = sys.executable,
) -> list[str]:
    """Return vLLM's command line. The user's own flags replace ours. `max_lora_rank` is one that
    vLLM has room for (update.lora_rank takes no other)."""
    ours = {
        "--model": str(model),
        "--served-model-name": served_name,
        "--host": "127.0.0.1",
        "--port": str(port),
        "--enable-lora": None,
        "--max-lora-rank": str(max_lora_rank),
        "--max-loras": str(max_loras),
        "--max-cpu-loras": str(CPU_LORAS_PER_SLOT * max_loras),
        "--logprobs-mode": "processed_logprobs",
        "--scheduling-policy": "priority",
        "--disable-uvicorn-access-log": None,
    }
    theirs = {word.partition("=")[0].replace("_", "-") for word in extra_flags if word[:2] == "--"}
    kept = [
        word
        for flag, value in ours.items()
        if flag not in theirs
        for word in (flag, value)
        if word is not None
    ]
    # Not the `vllm` script: the CPU build's does not work.
    return [python, "-m", "vllm.entrypoints.openai.api_server", *kept, *extra_flags]


FLAGS = {
    "LoRA is not enabled": "it does not serve LoRA adapters; start it with --enable-lora",
    "greater than max_lora_rank": "its maximum LoRA rank is too small; start it with "
    "--max-lora-rank {rank}",
    "No adapter found": "it cannot read {path}; run it on the same machine, or share that "
    "directory with it",
}
"""Parts of vLLM 0.32's errors for an adapter that it cannot load, and what is missing then."""
NO_ROUTE = (
    "it does not load adapters at runtime; start it with "
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True in its environment"
)


class EngineUnfit(EngineError):
    """The engine at that URL cannot be used; the message says what it lacks."""


def check_external(client: EngineClient, *, model: str, rank: int, root: Path) -> None:
    """Raise EngineUnfit unless the engine serves `model` and takes adapters of `rank` from `root`.

    It is asked to load an adapter of that rank without weights: an engine that lacks nothing fails
    later than with one of these errors, or not at all.
    """
    served = client.base_model()
    names = (served.root or "", served.name)
    # A path may be written in several ways.
    if model not in names and Path(model).resolve() not in [Path(name).resolve() for name in names]:
        raise EngineUnfit(
            f"the engine at {client.url} serves {served.root or served.name}, not {model}; "
            f"give --model {served.root or served.name}, or start it with {model}"
        )
    name = f"ttrl-check-{secrets.token_hex(4)}"
    directory = root / f".{name}"
    directory.mkdir(parents=True)
    try:
        config = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "target_modules": ["q_proj"]}
        (directory / CONFIG).write_text(json.dumps(config))
        (directory / WEIGHTS).write_bytes(struct.pack("<Q", 2) + b"{}")  # safetensors without any
        client.load_adapter(name, directory)
    except EngineRefused as refused:
        known = next((lack for said, lack in FLAGS.items() if said in refused.message), None)
        lacks = known or (NO_ROUTE if refused.status == 404 else None)
        if lacks:
            lacks = lacks.format(rank=rank, path=root)
            raise EngineUnfit(f"cannot use the engine at {client.url}: {lacks}") from None
    else:
        client.unload_adapter(name)
    finally:
        shutil.rmtree(directory)
