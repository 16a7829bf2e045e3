"""Swapping versions while users ask: `python -m benchmarks.swap [--engine vllm]`.

A real daemon on the demo's model; versions are published into its store as a run does. Measured:
how long it takes from publishing a version to the first answer of it, alone and under load; whether
anybody of 50 users notices (failures, streams cut off, answers whose header names another version
than the one that gave them); and what a run that samples does to users' time to the first token, in
turns with nobody sampling. The last line is JSON.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import httpx2
import openai
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.versions import Made, make, publish
from serve.cli.demo import ENGINES, MODEL, Daemon, daemon, ttrl
from serve.state import owner_of
from ttrl.config import EngineKind
from ttrl.demo import make_problems
from ttrl.engine.client import EngineClient, Load
from ttrl.store import Store

MARK = 1.1
"""What the p95 of the time to the first token may grow by while a run samples, on a GPU."""
VERSIONS = 6
PROMPTS = [problem.prompt for problem in make_problems(8, seed=4)]
TOKENS = 48
WATCHERS = 4
"""Users whose time to the first token is taken."""
TURNS = 3
"""How often sampling and nobody sampling take turns."""
START_SECONDS = 60.0
PARTS = ("ttrl_adapter_load_duration_seconds", "ttrl_adapter_proof_duration_seconds")


@dataclass
class Scene:
    """The daemon, its store, the weights that there are, and the versions published so far."""

    served: Daemon
    store: Store
    made: Made
    published: list[str] = field(default_factory=list)

    def which(self, version: str) -> int:
        """The number of the weights that a version has."""
        return self.published.index(version) % VERSIONS

    def admin(self, method: str, path: str) -> dict[str, Any]:
        """The answer of one of the daemon's own routes."""
        owner = owner_of(self.served.state_dir)
        assert owner is not None
        headers = {"Authorization": f"Bearer {owner.token}"}
        url = f"{owner.admin}/admin/{path}"
        found: dict[str, Any] = httpx2.request(method, url, headers=headers, trust_env=False).json()
        return found

    def load(self) -> Load:
        """What the engine has to do."""
        url, key = self.admin("GET", "status")["engine_url"], self.admin("GET", "config")
        with EngineClient(url, api_key=key["engine"]["api_key"]) as engine:
            load = engine.load()
        assert load is not None
        return load

    def wait_for_work(self) -> None:
        """Until the engine generates for somebody."""
        deadline = time.monotonic() + START_SECONDS
        while not self.load().running:
            if time.monotonic() > deadline:
                raise RuntimeError("nobody asks the engine for anything")
            time.sleep(0.1)

    def publish(self) -> str:
        """The next version; none has the weights of the one before it."""
        number = len(self.published)
        directory = self.served.state_dir
        name = publish(self.store, directory, self.made, number % VERSIONS, number + 1)
        self.published.append(name)
        self.admin("POST", "reconcile")
        return name

    def roll_back(self) -> None:
        """As an operator does; it waits until the version before is live."""
        command = [*ttrl(), "adapters", "rollback", *self.served.options]
        subprocess.run(command, check=True, capture_output=True)

    def parts(self) -> dict[str, tuple[float, float]]:
        """Sum and count of the swaps' parts so far."""
        page = httpx2.get(f"{self.served.url}/metrics", trust_env=False).text
        found = {
            sample.name: sample.value
            for family in text_string_to_metric_families(page)
            for sample in family.samples
        }
        return {part: (found[f"{part}_sum"], found[f"{part}_count"]) for part in PARTS}


@dataclass
class Book:
    """What 50 users met. `expected` is what each weights' version answers to each prompt."""

    which: Callable[[str], int]
    expected: dict[int, list[str]]
    answers: int = 0
    streams: int = 0
    failures: list[str] = field(default_factory=list)
    cut: int = 0
    wrong_header: int = 0
    apart: int = 0
    """Answers that no version gives to somebody who asks alone: rounding, in another batch."""

    def note(self, prompt: int, version: str, text: str, finish: str | None) -> None:
        """One answer, and the version that its header names."""
        self.answers += 1
        self.cut += finish is None
        own = self.which(version)
        if text != self.expected[own][prompt]:
            elsewhere = any(text == texts[prompt] for texts in self.expected.values())
            self.wrong_header += elsewhere
            self.apart += not elsewhere


async def ask(client: openai.AsyncOpenAI, prompt: str, *, stream: bool) -> tuple[str, str, Any]:
    """The version that answered, the greedy answer, and why it ended (None: cut off)."""
    raw = await client.chat.completions.with_raw_response.create(
        model=MODEL, messages=[{"role": "user", "content": prompt}],
        temperature=0, max_tokens=TOKENS, stream=stream,
    )  # fmt: skip
    version = raw.headers["x-ttrl-adapter"]
    if not stream:
        choice = raw.parse().choices[0]  # type: ignore[union-attr]
        return version, choice.message.content or "", choice.finish_reason
    text, finish = "", None
    async for chunk in raw.parse():  # type: ignore[union-attr]
        for choice in chunk.choices:
            text += choice.delta.content or ""
            finish = choice.finish_reason or finish
    return version, text, finish


async def user(client: openai.AsyncOpenAI, book: Book, number: int) -> None:
    """Asks on and on; every other one streams."""
    for turn in itertools.count(number):
        prompt = turn % len(PROMPTS)
        try:
            version, text, finish = await ask(client, PROMPTS[prompt], stream=number % 2 == 0)
        except openai.OpenAIError as error:
            book.failures.append(repr(error))
            await asyncio.sleep(0.1)
        else:
            book.streams += number % 2 == 0
            book.note(prompt, version, text, finish)


@asynccontextmanager
async def background(tasks: Sequence[asyncio.Task[None]]) -> AsyncIterator[None]:
    """Ends them at the end, and says what went wrong in them."""
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for ended in await asyncio.gather(*tasks, return_exceptions=True):
            if not isinstance(ended, asyncio.CancelledError):
                raise RuntimeError("a user gave up") from ended


async def publish_to_served(scene: Scene, client: openai.AsyncOpenAI) -> float:
    """Seconds from publishing a version to the end of its first answer of one token."""
    began = time.perf_counter()
    name = await asyncio.to_thread(scene.publish)
    while True:
        raw = await client.chat.completions.with_raw_response.create(
            model=MODEL, messages=[{"role": "user", "content": "1"}], max_tokens=1
        )
        if raw.headers["x-ttrl-adapter"] == name:
            return time.perf_counter() - began
        await asyncio.sleep(0.005)


async def swap_alone(scene: Scene, client: openai.AsyncOpenAI) -> tuple[list[float], Any]:
    """Every version goes live once, with nobody else there: seconds, and what each answers."""
    seconds, expected = [], {}
    for which in range(VERSIONS):
        seconds.append(await publish_to_served(scene, client))
        answers = [await ask(client, prompt, stream=False) for prompt in PROMPTS]
        expected[which] = [text for _, text, _ in answers]
    return seconds, expected


async def swap_under_load(
    scene: Scene, client: openai.AsyncOpenAI, book: Book, plan: Plan
) -> list[float]:
    """So many swaps, and roll-backs evenly between them, in so many seconds."""
    tasks = [asyncio.create_task(user(client, book, number)) for number in range(plan.users)]
    seconds = []
    pause = plan.seconds / (plan.swaps + plan.rollbacks)
    every = plan.swaps // (plan.rollbacks + 1)
    async with background(tasks):
        for swap in range(1, plan.swaps + 1):
            await asyncio.sleep(pause)
            seconds.append(await publish_to_served(scene, client))
            if swap % every == 0 and swap // every <= plan.rollbacks:
                await asyncio.sleep(pause)
                await asyncio.to_thread(scene.roll_back)
    return seconds


@dataclass
class Watched:
    """Seconds to users' first tokens, and how many answers the engine gave at once meanwhile."""

    seconds: list[float] = field(default_factory=list)
    running: list[int] = field(default_factory=list)


async def watch_first_tokens(
    scene: Scene, client: openai.AsyncOpenAI, seconds: float, found: Watched
) -> None:
    """Of a few users who stream."""

    async def watch(number: int) -> None:
        for turn in itertools.count(number):
            began = time.perf_counter()
            stream = await client.chat.completions.create(
                model=MODEL, max_tokens=TOKENS, stream=True,
                messages=[{"role": "user", "content": PROMPTS[turn % len(PROMPTS)]}],
            )  # fmt: skip
            first = None
            async for chunk in stream:
                if first is None and chunk.choices and chunk.choices[0].delta.content:
                    first = time.perf_counter() - began
                    found.seconds.append(first)

    async def count() -> None:
        while True:
            found.running.append((await asyncio.to_thread(scene.load)).running)
            await asyncio.sleep(0.5)

    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await asyncio.gather(count(), *map(watch, range(WATCHERS)))


@asynccontextmanager
async def sampling(scene: Scene) -> AsyncIterator[None]:
    """Somebody has the engine sample as a run does, on and on."""
    file = scene.served.state_dir / "questions.jsonl"
    rows = [json.dumps({"prompt": problem.prompt}) for problem in make_problems(5000, seed=7)]
    file.write_text("\n".join(rows))
    command = [*ttrl(), "assess", str(file), "--limit", "5000", "--json", *scene.served.options]
    child = await asyncio.create_subprocess_exec(*command, stdout=subprocess.DEVNULL)
    try:
        await asyncio.to_thread(scene.wait_for_work)
        yield
        if child.returncode is not None:
            raise RuntimeError("the sampling ended too early")
    finally:
        with suppress(ProcessLookupError):
            child.kill()
        await child.wait()
        await asyncio.sleep(2)


async def compare_first_tokens(
    scene: Scene, client: openai.AsyncOpenAI, seconds: float
) -> dict[str, float]:
    """The p95 with and without, in turns."""
    quiet, busy, turn = Watched(), Watched(), seconds / TURNS / 2
    for _ in range(TURNS):
        await watch_first_tokens(scene, client, turn, quiet)
        async with sampling(scene):
            await watch_first_tokens(scene, client, turn, busy)
    found: dict[str, float] = {"first_token_mark": MARK}
    for name, seen in (("quiet", quiet), ("sampling", busy)):
        found[f"first_token_p50_{name}_ms"] = round(statistics.median(seen.seconds) * 1000, 1)
        found[f"first_token_p95_{name}_ms"] = round(p95(seen.seconds) * 1000, 1)
        found[f"answers_at_once_{name}"] = round(statistics.fmean(seen.running), 1)
    found["first_token_ratio"] = round(p95(busy.seconds) / p95(quiet.seconds), 2)
    return found


def p95(values: Sequence[float]) -> float:
    """The 95th percentile."""
    return statistics.quantiles(values, n=20)[-1]


@dataclass(frozen=True)
class Plan:
    """How much of everything."""

    users: int
    swaps: int
    rollbacks: int
    seconds: float


async def measure(scene: Scene, plan: Plan) -> dict[str, Any]:
    """All of it."""
    async with openai.AsyncOpenAI(
        base_url=f"{scene.served.url}/v1", api_key="x", max_retries=0,
        default_headers={"X-TTRL-No-Learn": "1"},
    ) as client:  # fmt: skip
        alone, expected = await swap_alone(scene, client)
        before = scene.parts()
        if len({tuple(texts) for texts in expected.values()}) < VERSIONS:
            raise click.ClickException("two versions answer alike: headers cannot be checked")
        book = Book(scene.which, expected)
        began = time.perf_counter()
        loaded = await swap_under_load(scene, client, book, plan)
        took = time.perf_counter() - began
        after = scene.parts()
        tokens = await compare_first_tokens(scene, client, plan.seconds / 2)
    return {
        "users": plan.users,
        "swaps": plan.swaps,
        "rollbacks": plan.rollbacks,
        "seconds": round(took, 1),
        "answers": book.answers,
        "streamed": book.streams,
        "failed": len(book.failures),
        "cut_off": book.cut,
        "wrong_header": book.wrong_header,
        "rounded_apart": book.apart,
        **_publishing("alone", alone, dict.fromkeys(PARTS, (0.0, 0.0)), before),
        **_publishing("under_load", loaded, before, after),
        **tokens,
        "failures": book.failures[:5],
    }


def _publishing(
    name: str, seconds: Sequence[float], before: dict[str, Any], after: dict[str, Any]
) -> dict[str, float]:
    """The median and the slowest, and the means of their parts."""
    found = {
        f"{name}_publish_to_served_p50_s": statistics.median(seconds),
        f"{name}_publish_to_served_max_s": max(seconds),
    }
    for part, short in zip(PARTS, ("load", "proof"), strict=True):
        total, count = (late - early for late, early in zip(after[part], before[part], strict=True))
        found[f"{name}_{short}_mean_s"] = total / count
    return {key: round(value, 3) for key, value in found.items()}


@click.command()
@click.option("--engine", type=click.Choice(["embedded", "vllm"]), default="embedded")
@click.option("--python", help="A Python that has vLLM, when it is not this one.")
@click.option("--users", default=50, help="Requests in flight.")
@click.option("--swaps", default=20)
@click.option("--rollbacks", default=3)
@click.option("--seconds", default=180.0, help="Under load; half as long for first tokens.")
@click.option("--directory", type=click.Path(path_type=Path), help="A new one, to keep the logs.")
def main(
    engine: str,
    python: str | None,
    users: int,
    swaps: int,
    rollbacks: int,
    seconds: float,
    directory: Path | None,
) -> None:
    """Measure what users notice of a swap."""
    settings = [*ENGINES[EngineKind(engine)], *([f"engine.python={python}"] if python else [])]
    with ExitStack() as ending:
        place = directory or Path(ending.enter_context(tempfile.TemporaryDirectory()))
        state_dir = place / "state"
        state_dir.mkdir(parents=True)
        store = ending.enter_context(Store.open(state_dir))
        served = ending.enter_context(daemon(state_dir, settings))
        click.echo("making versions ...", err=True)
        scene = Scene(served, store, make(place / "versions", VERSIONS, store))
        result = asyncio.run(measure(scene, Plan(users, swaps, rollbacks, seconds)))
    print(json.dumps({"engine": engine, **result}))
    sys.exit(bool(result["failed"] or result["cut_off"] or result["wrong_header"]))


if __name__ == "__main__":
    main()
