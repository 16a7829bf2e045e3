"""`ttrl demo`: the real daemon, real questions over HTTP, a real run, and the same questions again.

Right answers are used for the table at the end, and nowhere else.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path
from statistics import fmean
from typing import Any, TypeVar

import click
import httpx2
from rich.console import Console
from rich.table import Table

from serve.cli.common import fail, json_option, print_json
from serve.state import owner_of, prepare
from ttrl import answers
from ttrl.answers import AnswerKind
from ttrl.config import EngineKind
from ttrl.demo import Problem, make_disjoint, model_dir
from ttrl.engine import parent_death
from ttrl.store import Store
from ttrl.store.runs import Run, RunState
from ttrl.votes import take_vote

SETTINGS = Path(str(files("ttrl.demo") / "demo.yaml"))
MODEL = "ttrl-demo"
ASKED, HELD_OUT = 200, 100
VOTES = 64
AT_ONCE = 16
"""Requests in flight, and answers to one of them."""
TEMPERATURES = (0.3, 0.6, 0.8, 1.2)
SAMPLES_PER_TEMPERATURE = 8
MAX_TOKENS = 96
START_SECONDS = 600.0
"""vLLM takes its time."""
ENGINES = {
    EngineKind.EMBEDDED: (),
    EngineKind.VLLM: (
        "engine.kind=vllm",
        "engine.flags=[--dtype, float32, --enforce-eager, --max-model-len, '256', "
        "--no-enable-chunked-prefill, --lora-target-modules, "
        "q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj]",
    ),
}
"""Settings of each engine for a model this small. The last two are for vLLM's CPU build (0.32):
asked with a seed it dies of prompts that are read in parts (`gen.set_offset`), and asked for
prompts' log-probabilities of batches with a LoRA on the output layer (`bgmv_shrink`)."""


T = TypeVar("T")


class DemoFailed(Exception):
    """Something in the demo did not work; the message says what, and where its log is."""


@dataclass(frozen=True)
class Score:
    """How the endpoint answers the held-out questions; all are shares."""

    greedy: tuple[bool, ...]
    pass_at_1: float
    majority: float

    @property
    def greedy_share(self) -> float:
        """Of questions that the most likely answer gets right."""
        return fmean(self.greedy)


@dataclass(frozen=True)
class Daemon:
    """A running `ttrl serve`."""

    url: str
    state_dir: Path
    options: tuple[str, ...]


def problems(seed: int) -> tuple[tuple[Problem, ...], tuple[Problem, ...]]:
    """The questions to ask and learn from, and the held-out ones."""
    return make_disjoint(ASKED, HELD_OUT, seed=seed)


@contextmanager
def daemon(state_dir: Path, settings: Sequence[str], config: Path = SETTINGS) -> Iterator[Daemon]:
    """`ttrl serve` as anybody would start it, stopped at the end. Raises DemoFailed."""
    # Not the store that the environment may name: the demo must leave that alone.
    all_settings = (f"model.name={model_dir()}", *settings, "store.url=null")
    options = (
        *("--config", str(config), "--state-dir", str(state_dir)),
        *(word for setting in all_settings for word in ("--set", setting)),
    )
    log_file = state_dir / "demo-daemon.log"
    with log_file.open("wb") as log:
        child = subprocess.Popen(
            [*parent_death.command(), *ttrl(), "serve", *options],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield Daemon(_wait_until_ready(child, state_dir, log_file), state_dir, options)
    finally:
        child.terminate()
        child.wait()


def ttrl() -> list[str]:
    """The command line of this very installation."""
    return [sys.executable, "-P", "-c", "from serve.cli import main; main()"]


def adapt(daemon: Daemon, seed: int, *, silent: bool) -> None:
    """`ttrl adapt`, with its progress on this terminal."""
    command = [*ttrl(), "adapt", *daemon.options, "--set", f"update.seed={seed}"]
    command += ["--json"] if silent else []
    subprocess.run(command, check=False, stdout=subprocess.DEVNULL if silent else None)


async def ask_all(daemon: Daemon, asked: Sequence[Problem]) -> tuple[float, str]:
    """Ask each question once, as users do; the share of right answers, and which version gave
    them. These are recorded."""
    async with _client(daemon) as client:
        answered = await _each(asked, lambda p: _ask(client, p.prompt, learn=True))
    right = [_right(texts[0], problem) for (texts, _), problem in zip(answered, asked, strict=True)]
    return fmean(right), answered[-1][1]


async def examples(daemon: Daemon, some: Sequence[Problem]) -> list[tuple[Problem, str]]:
    """A few questions with their most likely answers, to look at."""
    async with _client(daemon) as client:
        answered = await _each(some, lambda p: _ask(client, p.prompt, temperature=0.0))
    return [(problem, texts[0]) for problem, (texts, _) in zip(some, answered, strict=True)]


async def score(daemon: Daemon, held_out: Sequence[Problem]) -> Score:
    """Ask the held-out questions, unrecorded: greedily, and `VOTES` times."""
    async with _client(daemon) as client:
        greedy = await _each(held_out, lambda p: _ask(client, p.prompt, temperature=0.0))
        drawn = await _each(held_out, partial(_draw, client, count=VOTES, heat=1.0))
    pairs = list(zip(drawn, held_out, strict=True))
    return Score(
        greedy=tuple(_right(t[0], p) for (t, _), p in zip(greedy, held_out, strict=True)),
        pass_at_1=fmean(_share_right(texts, problem) for texts, problem in pairs),
        majority=fmean(_majority_right(texts, problem) for texts, problem in pairs),
    )


async def best_temperature(
    daemon: Daemon, held_out: Sequence[Problem], so_far: Sequence[tuple[float, float]]
) -> tuple[float, float]:
    """The temperature, and its share of right answers, at which the endpoint does best; `so_far`
    holds those already known."""
    found = list(so_far)
    async with _client(daemon) as client:
        for heat in TEMPERATURES:
            draw = partial(_draw, client, count=SAMPLES_PER_TEMPERATURE, heat=heat)
            drawn = await _each(held_out, draw)
            shares = [_share_right(texts, p) for texts, p in zip(drawn, held_out, strict=True)]
            found.append((heat, fmean(shares)))
    return max(found, key=lambda pair: pair[1])


def changed(before: Score, after: Score) -> Counter[str]:
    """Held-out questions whose greedy answer became right (`learned`) or wrong (`corrupted`)."""
    pairs = zip(before.greedy, after.greedy, strict=True)
    names = {(False, True): "learned", (True, False): "corrupted"}
    return Counter(names[pair] for pair in pairs if pair in names)


def _wait_until_ready(child: subprocess.Popen[bytes], state_dir: Path, log_file: Path) -> str:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and child.poll() is None:
        owner = owner_of(state_dir)
        if owner and owner.url:
            with suppress(httpx2.TransportError):
                if httpx2.get(f"{owner.url}/readyz", trust_env=False).is_success:
                    return owner.url
        time.sleep(0.1)
    raise DemoFailed(f"the daemon did not start; its log is {log_file}")


def _client(daemon: Daemon) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(base_url=daemon.url, timeout=120, trust_env=False)


async def _each(
    asked: Sequence[Problem], ask: Callable[[Problem], Coroutine[object, object, T]]
) -> list[T]:
    """The answer to each, a few under way at once."""
    free = asyncio.Semaphore(AT_ONCE)

    async def one(problem: Problem) -> T:
        async with free:
            return await ask(problem)

    return await asyncio.gather(*map(one, asked))


async def _ask(
    client: httpx2.AsyncClient,
    prompt: str,
    *,
    temperature: float = 1.0,
    n: int = 1,
    learn: bool = False,
) -> tuple[list[str], str]:
    """The answers and the version that gave them. Raises DemoFailed."""
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": prompt}],
        "temperature": temperature,
        "n": n,
        "max_tokens": MAX_TOKENS,
    }
    headers = {} if learn else {"X-TTRL-No-Learn": "1"}
    answer = await client.post("/v1/chat/completions", json=body, headers=headers)
    if answer.is_error:
        raise DemoFailed(f"the daemon answered {answer.status_code}: {answer.text}")
    texts = [choice["message"]["content"] for choice in answer.json()["choices"]]
    return texts, answer.headers["x-ttrl-adapter"]


async def _draw(
    client: httpx2.AsyncClient, problem: Problem, *, count: int, heat: float
) -> list[str]:
    texts: list[str] = []
    while len(texts) < count:
        n = min(AT_ONCE, count - len(texts))
        texts += (await _ask(client, problem.prompt, temperature=heat, n=n))[0]
    return texts


def _right(text: str, problem: Problem) -> bool:
    return answers.matches(text, [problem.answer], AnswerKind.MATH)


def _share_right(texts: Sequence[str], problem: Problem) -> float:
    return fmean(_right(text, problem) for text in texts)


def _majority_right(texts: Sequence[str], problem: Problem) -> bool:
    label = take_vote(answers.canonical(texts, AnswerKind.MATH)).label
    return label is not None and answers.same(label, problem.answer, AnswerKind.MATH)


@click.command()
@click.option(
    "--engine",
    type=click.Choice([kind.value for kind in EngineKind]),
    default=EngineKind.EMBEDDED.value,
    show_default=True,
    help="The engine to start. For vllm, it must be installed, or engine.python must name a "
    "Python that has it.",
)
@click.option(
    "--seed", default=0, show_default=True, help="Random seed of the questions and the run."
)
@click.option(
    "--state-dir", type=click.Path(path_type=Path), help="The state directory; kept afterwards."
)
@click.option("--set", "settings", multiple=True, metavar="PATH=VALUE", help="As in `ttrl serve`.")
@json_option
def demo(
    engine: str, seed: int, state_dir: Path | None, settings: tuple[str, ...], as_json: bool
) -> None:
    """Try the whole loop on this machine, in minutes, with a small model.

    Starts the daemon, asks it 200 questions over HTTP, trains on them without labels, and asks
    held-out questions before and after. The correct answers are only used for the table at the end.
    """
    # So that the daemon is stopped and the directory removed, as after Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    began = time.monotonic()
    console = Console(stderr=as_json, quiet=as_json, highlight=False)
    all_settings = (*ENGINES[EngineKind(engine)], *settings)
    with _directory(state_dir) as directory, daemon(directory, all_settings) as started:
        result = _run(started, seed, console, as_json=as_json)
    result["seconds"] = round(time.monotonic() - began, 1)
    console.print(_table(result))
    console.print(
        f"{result['learned']} learned, {result['corrupted']} corrupted; {result['steps']} steps, "
        f"{result['samples']} samples; {result['seconds']:.0f} s in all; "
        f"adapter {result['adapter']}"
    )
    if as_json:
        print_json(result)
    if result["run"] != RunState.PUBLISHED:
        fail(f"the run published no version; it ended {result['run']}: {result['reason']}")


def _run(daemon: Daemon, seed: int, console: Console, *, as_json: bool) -> dict[str, Any]:
    asked, held_out = problems(seed)
    console.print(f"`ttrl serve` answers at {daemon.url}/v1")
    share, version = asyncio.run(ask_all(daemon, asked))
    console.print(f"asked {len(asked)} questions: {share:.0%} answered correctly (by {version})")
    _show_some(daemon, held_out, console)
    before = asyncio.run(score(daemon, held_out))
    known = [(0.0, before.greedy_share), (1.0, before.pass_at_1)]
    heat, best = asyncio.run(best_temperature(daemon, held_out, known))
    console.print(
        f"{len(held_out)} held-out questions: no temperature does better than {best:.0%} ({heat:g})"
    )
    console.print("`ttrl adapt` trains on the recorded questions, without labels")
    adapt(daemon, seed, silent=as_json)
    run = _last_run(daemon.state_dir)
    share, version = asyncio.run(ask_all(daemon, asked))
    console.print(f"the same {len(asked)} questions: {share:.0%} answered correctly (by {version})")
    _show_some(daemon, held_out, console)
    after = asyncio.run(score(daemon, held_out))
    moved = changed(before, after)
    return {
        "questions": len(asked),
        "greedy_before": before.greedy_share,
        "greedy_after": after.greedy_share,
        "pass_at_1_before": round(before.pass_at_1, 4),
        "pass_at_1_after": round(after.pass_at_1, 4),
        "best_temperature_before": round(best, 4),
        "best_temperature": heat,
        "majority_before": before.majority,
        "majority_after": after.majority,
        "learned": moved["learned"],
        "corrupted": moved["corrupted"],
        "steps": run.steps,
        "samples": run.samples,
        "run": run.state,
        "reason": run.reason,
        "adapter": version,
    }


def _table(result: dict[str, Any]) -> Table:
    table = Table(title="held-out questions, before and after")
    for heading in ("", "before", "after"):
        table.add_column(heading, justify="left" if not heading else "right")
    rows = (
        ("most likely answer is correct", "greedy"),
        ("one answer at temperature 1 is correct", "pass_at_1"),
        (f"majority of {VOTES} is correct", "majority"),
    )
    for name, key in rows:
        table.add_row(name, f"{result[f'{key}_before']:.0%}", f"{result[f'{key}_after']:.0%}")
    table.add_row("best at any temperature", f"{result['best_temperature_before']:.0%}", "")
    return table


def _show_some(daemon: Daemon, held_out: tuple[Problem, ...], console: Console) -> None:
    for problem, text in asyncio.run(examples(daemon, held_out[:2])):
        console.print(f"  {problem.prompt} → {text}", style="dim", markup=False)


def _last_run(state_dir: Path) -> Run:
    with Store.open(state_dir) as store:
        newest = store.runs.newest()
    if not newest:
        raise DemoFailed(f"no run was started; see {state_dir}")
    return newest[0]


@contextmanager
def _directory(chosen: Path | None) -> Iterator[Path]:
    if chosen is not None:
        prepare(chosen)
        yield chosen
        return
    with tempfile.TemporaryDirectory(prefix="ttrl-demo-") as made:
        yield Path(made)
