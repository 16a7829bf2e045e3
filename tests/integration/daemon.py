"""Starting `ttrl serve`, talking to it, and ending it in every way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2
import openai
import psutil
import pytest

from serve.cli.common import ask_daemon
from serve.cli.demo import ENGINES
from serve.state import owner_of
from tests.command import ttrl
from ttrl import versions
from ttrl.config import EngineKind
from ttrl.config.loading import load
from ttrl.demo import make_problems, model_dir
from ttrl.engine.client import EngineClient
from ttrl.engine.proof import Pinned
from ttrl.questions.question import from_prompt
from ttrl.store import Store
from ttrl.store.adapters import AdapterRow, AdapterState
from ttrl.store.questions import Recorded
from ttrl.versions import Manifest

TTRL = [sys.executable, "-c", "from serve.cli import main; main()"]
MODEL = "ttrl-demo"
ROOT = Path(__file__).parents[2]
SETTINGS = ROOT / "configs" / "demo.yaml"
LIGHT = {"PYTHONPATH": f"{ROOT / 'tests' / 'light'}:{ROOT}"}
"""The environment in which engine and trainer are light ones: see tests/light."""
DEADLINE_SECONDS = 60.0
NOTHING: Mapping[str, str] = {}
START_SECONDS = 420.0
"""vLLM takes its time."""

both_engines = pytest.mark.parametrize(
    "engine_settings",
    [
        pytest.param(EngineKind.EMBEDDED, id="embedded"),
        pytest.param(
            EngineKind.VLLM, id="vllm", marks=[pytest.mark.vllm, pytest.mark.timeout(900)]
        ),
    ],
    indirect=True,
)
"""For tests that say the same of a real vLLM."""


def settings_for(kind: EngineKind) -> tuple[str, ...]:
    """What makes the daemon start such an engine; the embedded one is the default here."""
    if kind is EngineKind.EMBEDDED:
        return ()
    python = os.environ.get("TEST_VLLM_PYTHON", sys.executable)
    return (*ENGINES[kind], f"engine.python={python}")


def sets(*settings: str) -> list[str]:
    """Settings, as words of a command line."""
    return [word for setting in settings for word in ("--set", setting)]


def wait_until(
    true: Callable[[], Any], what: str, seconds: float = DEADLINE_SECONDS, *, pause: float = 0.05
) -> Any:
    """Look until it is so, the more seldom the longer it takes; fail when it does not come to be in
    time. Without a pause it looks all the time."""
    began = time.monotonic()
    while (waited := time.monotonic() - began) < seconds:
        if found := true():
            return found
        time.sleep(pause and max(pause, waited / 20))
    raise AssertionError(f"not within {seconds:g} s: {what}")


class Daemon:
    """`ttrl serve` on the demo's settings, in a process of its own."""

    def __init__(
        self,
        state_dir: Path,
        *settings: str,
        start: bool = True,
        environ: Mapping[str, str] = NOTHING,
    ) -> None:
        self.state_dir = state_dir
        self._more = environ
        self.versions: list[str] = []
        self.child: subprocess.Popen[bytes] | None = None
        self._clients: dict[str, openai.OpenAI] = {}
        self._settings = [f"model.name={model_dir()}", *settings]
        state_dir.mkdir(exist_ok=True)
        if start:
            self.start()

    def __enter__(self) -> Daemon:
        return self

    def __exit__(self, *_: object) -> None:
        for client in self._clients.values():
            client.close()
        if self.child is not None and self.child.poll() is None:
            self.child.terminate()
            self.child.wait(30)

    @property
    def options(self) -> list[str]:
        there = ("--state-dir", str(self.state_dir))
        return ["--config", str(SETTINGS), *there, *sets(*self._settings)]

    @property
    def environ(self) -> dict[str, str]:
        """Of its processes."""
        paths = [each.get("PYTHONPATH") for each in (self._more, os.environ)]
        path = os.pathsep.join(filter(None, paths))
        return {**os.environ, **self._more, **({"PYTHONPATH": path} if path else {})}

    @property
    def url(self) -> str:
        owner = owner_of(self.state_dir)
        assert owner is not None
        assert owner.url is not None
        return owner.url

    @property
    def log(self) -> str:
        return (self.state_dir / "daemon.log").read_text()

    @property
    def client(self) -> openai.OpenAI:
        """One for each address that the daemon has had."""
        url = self.url
        if url not in self._clients:
            self._clients[url] = openai.OpenAI(
                base_url=f"{url}/v1", api_key="anybody", max_retries=0
            )
        return self._clients[url]

    def start(self, *more: str) -> None:
        with (self.state_dir / "daemon.log").open("ab") as log:
            command = [*TTRL, "serve", *self.options, *more]
            self.child = subprocess.Popen(command, stdout=log, stderr=log, env=self.environ)
        try:
            wait_until(self._ready_or_dead, "the daemon is ready", START_SECONDS)
        except AssertionError as late:
            raise AssertionError(f"{late}; its log:\n{self.log}") from None

    def ready(self) -> bool:
        owner = owner_of(self.state_dir)
        if owner is None or owner.url is None:
            return False
        try:
            return httpx2.get(f"{owner.url}/readyz", trust_env=False).is_success
        except httpx2.TransportError:
            return False

    def ttrl(self, *words: str, code: int | None = 0) -> str:
        """What a command prints that is run in this process; a `code` of None stands for any."""
        return ttrl(*words, *self.options, code=code).stdout

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A command that has ended, in a process of its own: for what starts an engine or a run,
        or is killed."""
        return subprocess.run(
            [*TTRL, *words, *self.options], capture_output=True, text=True, timeout=280,
            env=self.environ,
        )  # fmt: skip

    def begin(self, *words: str) -> subprocess.Popen[str]:
        """A command that is under way."""
        return subprocess.Popen(
            [*TTRL, *words, *self.options], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, env=self.environ,
        )  # fmt: skip

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.ttrl("status", "--json"))
        return found

    def store(self) -> Store:
        return Store.open(self.state_dir)

    def metrics(self) -> str:
        return httpx2.get(f"{self.url}/metrics", trust_env=False).text

    def metric(self, name: str) -> float:
        """The value of a series, written as Prometheus has it; no number where it is none."""
        lines = self.metrics().splitlines()
        line = next((line for line in lines if line.startswith(f"{name} ")), "nan")
        return float(line.split()[-1])

    def ask(self, prompt: str, **more: Any) -> tuple[str, str]:
        """The greedy answer, and the version that gave it."""
        raw = self.client.chat.completions.with_raw_response.create(
            model=MODEL,
            messages=[{"role": "user", "content": prompt}],
            temperature=0,
            max_tokens=48,
            **more,
        )
        return raw.parse().choices[0].message.content or "", raw.headers["x-ttrl-adapter"]

    def engine(self) -> EngineClient:
        """The engine itself."""
        return EngineClient(self.admin("status")["engine_url"], api_key=self.engine_key())

    def engine_key(self) -> str:
        """The key that the engine has from the daemon."""
        return str(self.admin("config")["engine"]["api_key"])

    def admin(self, what: str) -> dict[str, Any]:
        """What a command asks of the daemon, without the command's process."""
        config = load(None, environ={}, overrides={"state_dir": str(self.state_dir)}).config
        found = ask_daemon(config, "GET", f"/admin/{what}")
        assert found is not None
        return found

    def logprobs(self, token_ids: Sequence[int]) -> tuple[float | None, ...]:
        """What the engine says of each token, under the base model."""
        with self.engine() as engine:
            return engine.prompt_logprobs(token_ids, model=MODEL)

    def wait_live(self, version: str) -> None:
        with self.store() as store:
            wait_until(
                lambda: (store.adapters.serving().adapter or "base") == version,
                f"{version} is live\n{self.log}",
            )

    def engine_pid(self) -> int:
        """The engine's process: the daemon's child that is no run."""
        return next(
            pid
            for pid, words in self.children()
            if "ttrl.engine.embedded" in words or "vllm.entrypoints" in words
        )

    def generator_pid(self) -> int:
        """The process that generates: vLLM's API server has it as a child."""
        family = psutil.Process(self.engine_pid()).children(recursive=True)
        cores = (child.pid for child in family if "EngineCore" in " ".join(child.cmdline()))
        return next(cores, self.engine_pid())

    def run_pid(self) -> int | None:
        return next((pid for pid, words in self.children() if "jobs.run" in words), None)

    def children(self) -> list[tuple[int, str]]:
        assert self.child is not None
        found = []
        for task in Path(f"/proc/{self.child.pid}/task").iterdir():
            for pid in (task / "children").read_text().split():
                with suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
                    words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
                    found.append((int(pid), words))
        return found

    def kill(self, pid: int | None = None) -> None:
        """kill -9, and wait until the process is gone."""
        assert self.child is not None
        os.kill(pid or self.child.pid, signal.SIGKILL)
        if pid is None:
            self.child.wait(10)
        else:
            wait_until(lambda: not alive(pid), f"{pid} is gone", 10)

    def _ready_or_dead(self) -> bool:
        assert self.child is not None
        return self.ready() or self.child.poll() is not None


def alive(pid: int) -> bool:
    """Whether a process is there and not a zombie."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def record_questions(state_dir: Path, count: int = 120, url: str | None = None) -> Path:
    """A state directory with questions as the gateway would have recorded them, but that it is not
    left to chance how many are held out: a fifth."""
    state_dir.mkdir(exist_ok=True)
    with Store.open(state_dir, url) as store:
        asked = [Recorded(from_prompt(p.prompt), 1.0) for p in make_problems(count, seed=5)]
        store.questions.record(asked[: count // 5], holdout=1)
        store.questions.record(asked[count // 5 :], holdout=0)
    return state_dir


def publish_random(
    state_dir: Path,
    sources: Sequence[Path],
    measured: Sequence[Pinned] = (),
    *,
    first: int = 1,
    state: AdapterState = AdapterState.APPROVED,
    learned: Sequence[int] = (),
    weights: str | None = None,
) -> list[str]:
    """Versions as a run would have published them, from any adapters, numbered from `first`, having
    learned from these questions; `weights` is the digest of the base model that they are said to
    belong to."""
    names: list[str] = []
    with Store.open(state_dir) as store:
        for number, source in enumerate(sources, first):
            digest = versions.digest_of(source)
            name = versions.version_name("test", number, digest)
            parent = names[-1] if names else None
            base, targets = str(model_dir()), ("all",)
            manifest = Manifest(
                name, "test", number, digest, base, parent, 0, 16, targets, float(number),
                weights=weights,
            )  # fmt: skip
            versions.publish(source, state_dir / "adapters", manifest)
            row = AdapterRow(
                name, "test", number, digest, parent, base, None, 16,
                state, "made for a test", float(number),
            )  # fmt: skip
            store.adapters.publish(row, learned, measured, author="test")
            names.append(name)
    return names
