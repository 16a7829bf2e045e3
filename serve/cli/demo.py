"""`ttrl demo`: the real daemon, real questions over HTTP, a real run, and the same questions again.

Right answers are used for the table at the end, and nowhere else.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from statistics import fmean
from typing import Any

import click
import httpx2
from rich.console import Console

from serve.cli.common import PATH, require
from serve.cli.output import Failure, fail, json_option, print_json, print_table, wants_json
from serve.state import owner_of, prepare
from ttrl.answers import AnswerKind, Reader
from ttrl.config import EngineKind
from ttrl.demo import Problem, make_disjoint, model_dir
from ttrl.engine import parent_death
from ttrl.store import Store
from ttrl.store.runs import Run, RunState
from ttrl.votes import take_vote
from ttrl.words import counted, lasting

SETTINGS = Path(str(files("ttrl.demo") / "demo.yaml"))
MODEL = "ttrl-demo"
ASKED, HELD_OUT = 200, 100
VOTES = 64
AT_ONCE = 16
"""Requests in flight."""
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


class DemoFailed(Failure):
    """Something in the demo did not work; the message says what, and where its log is."""


@dataclass(frozen=True)
class Daemon:
    url: str
    state_dir: Path
    options: tuple[str, ...]


@contextmanager
def daemon(state_dir: Path, settings: Sequence[str], config: Path = SETTINGS) -> Iterator[Daemon]:
    """`ttrl serve` as anybody would start it, stopped at the end. Raises DemoFailed."""
    # Not the store that the environment may name: the demo must leave that alone.
    ours = (f"gateway.max_n={VOTES}", "store.url=null")
    all_settings = (f"model.name={model_dir()}", *settings, *ours)
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


def ask(
    daemon: Daemon,
    problems: Sequence[Problem],
    *,
    count: int = 1,
    temperature: float = 1.0,
    learn: bool = False,
) -> tuple[list[list[str]], str]:
    """So many answers to each question, asked as users do, a few requests under way at once; and
    the version that answered the last. Recorded only to `learn`. Raises DemoFailed."""
    headers = {} if learn else {"X-TTRL-No-Learn": "1"}
    client = httpx2.Client(base_url=daemon.url, headers=headers, timeout=300, trust_env=False)

    def post(problem: Problem) -> httpx2.Response:
        body = {
            "model": MODEL,
            "messages": [{"role": "user", "content": problem.prompt}],
            "temperature": temperature,
            "n": count,
            "max_tokens": MAX_TOKENS,
        }
        answer = client.post("/v1/chat/completions", json=body)
        if answer.is_error:
            raise DemoFailed(f"the daemon answered {answer.status_code}: {answer.text}")
        return answer

    with client, ThreadPoolExecutor(AT_ONCE) as pool:
        answered = list(pool.map(post, problems))
    texts = [[each["message"]["content"] for each in a.json()["choices"]] for a in answered]
    return texts, answered[-1].headers["x-ttrl-adapter"]


_READER = Reader(AnswerKind.MATH)


def _score(daemon: Daemon, held_out: Sequence[Problem]) -> tuple[list[float], float, float]:
    """Ask the held-out questions, unrecorded, greedily and `VOTES` times: whether each greedy
    answer is correct, and which share of all answers and of the majorities is."""
    greedy, _ = ask(daemon, held_out, temperature=0.0)
    sampled, _ = ask(daemon, held_out, count=VOTES)
    labels = [take_vote(_READER.read("", texts).answers).label for texts in sampled]
    majorities = _correct([[label or ""] for label in labels], held_out)
    return _correct(greedy, held_out), fmean(_correct(sampled, held_out)), fmean(majorities)


def _correct(answered: Sequence[Sequence[str]], problems: Sequence[Problem]) -> list[float]:
    """The share of correct answers of each question."""
    return [
        fmean(_READER.matches(text, [problem.answer], "", AnswerKind.MATH) for text in texts)
        for texts, problem in zip(answered, problems, strict=True)
    ]


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
    "--held-out", default=HELD_OUT, show_default=True, type=click.IntRange(1, 1000),
    help="Questions asked before and after, never to learn.",
)  # fmt: skip
@click.option("--state-dir", type=PATH, help="The state directory; kept afterwards.")
@click.option("--set", "settings", multiple=True, metavar="PATH=VALUE", help="As in `ttrl serve`.")
@json_option
def demo(
    engine: str, seed: int, held_out: int, state_dir: Path | None, settings: tuple[str, ...]
) -> None:
    """Try the whole loop on this machine, in minutes, with a small model.

    Starts the daemon, asks it 200 questions over HTTP, trains on them without labels, and asks
    held-out questions before and after. The correct answers are only used for the table at the end.
    """
    require("the demo", "train", "torch", "transformers", "trl", "peft")
    # So that the daemon is stopped and the directory removed, as after Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    began = time.monotonic()
    made = tempfile.TemporaryDirectory(prefix="ttrl-demo-") if state_dir is None else None
    with made or nullcontext(state_dir) as where:
        state_dir = Path(str(where))
        prepare(state_dir)
        with daemon(state_dir, (*ENGINES[EngineKind(engine)], *settings)) as started:
            result = _run(started, seed, held_out)
    result["seconds"] = round(time.monotonic() - began, 1)
    if wants_json():
        print_json(result)
    else:
        _show(result)
    if result["run"] != RunState.PUBLISHED:
        fail(f"the run published no version; it ended {result['run']}: {result['reason']}")


def _run(daemon: Daemon, seed: int, count: int) -> dict[str, Any]:
    asked, held_out = make_disjoint(ASKED, count, seed=seed)
    console = Console(quiet=wants_json(), highlight=False)

    def ask_all(which: str) -> str:
        """Ask to learn, and show a few answers; the version that gave them."""
        texts, version = ask(daemon, asked, learn=True)
        correct = fmean(_correct(texts, asked))
        console.print(f"{which}: {correct:.0%} answered correctly (by {version})")
        greedy, _ = ask(daemon, held_out[:2], temperature=0.0)
        for problem, (text,) in zip(held_out, greedy, strict=False):
            console.print(f"  {problem.prompt} → {text}", style="dim", markup=False)
        return version

    console.print(f"`ttrl serve` answers at {daemon.url}/v1")
    ask_all(f"asked {counted(len(asked), 'question')}")
    before, once_before, majority_before = _score(daemon, held_out)
    accuracy = {0.0: fmean(before), 1.0: once_before}
    for temperature in TEMPERATURES:
        texts, _ = ask(daemon, held_out, count=SAMPLES_PER_TEMPERATURE, temperature=temperature)
        accuracy[temperature] = fmean(_correct(texts, held_out))
    best = max(accuracy, key=accuracy.__getitem__)
    console.print(
        f"{counted(len(held_out), 'held-out question')}: no temperature does better than "
        f"{accuracy[best]:.0%} ({best:g})"
    )
    console.print("`ttrl adapt` trains on the recorded questions, without labels")
    run = _adapt(daemon, seed)
    version = ask_all(f"the same {counted(len(asked), 'question')}")
    after, once_after, majority_after = _score(daemon, held_out)
    changes = Counter(zip(before, after, strict=True))
    return {
        "questions": len(asked),
        "greedy_before": fmean(before),
        "greedy_after": fmean(after),
        "pass_at_1_before": round(once_before, 4),
        "pass_at_1_after": round(once_after, 4),
        "best_temperature_before": round(accuracy[best], 4),
        "best_temperature": best,
        "majority_before": majority_before,
        "majority_after": majority_after,
        "learned": changes[0, 1],
        "corrupted": changes[1, 0],
        "steps": run.steps,
        "samples": run.samples,
        "run": run.state,
        "reason": run.reason,
        "adapter": version,
    }


def _adapt(daemon: Daemon, seed: int) -> Run:
    command = [*ttrl(), "adapt", *daemon.options, "--set", f"update.seed={seed}"]
    silent = wants_json()
    command += ["--json"] if silent else []
    subprocess.run(command, check=False, stdout=subprocess.DEVNULL if silent else None)
    with Store.open(daemon.state_dir) as store:
        newest = store.runs.newest()
    if not newest:
        raise DemoFailed(f"no run was started; see {daemon.state_dir}")
    return newest[0]


def _show(result: Mapping[str, Any]) -> None:
    rows = (
        ("most likely answer is correct", "greedy"),
        ("one answer at temperature 1 is correct", "pass_at_1"),
        (f"majority of {VOTES} is correct", "majority"),
    )
    cells = [
        (words, f"{result[f'{key}_before']:.0%}", f"{result[f'{key}_after']:.0%}")
        for words, key in rows
    ]
    cells.append(("best at any temperature", f"{result['best_temperature_before']:.0%}", ""))
    print_table(("held-out questions", "before", "after"), cells)
    click.echo(
        f"{result['learned']} learned, {result['corrupted']} corrupted; "
        f"{counted(result['steps'], 'step')}, {counted(result['samples'], 'sample')}; "
        f"{lasting(result['seconds'])} in all; "
        f"adapter {result['adapter']}"
    )
