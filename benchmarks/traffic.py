"""A file of questions through a real daemon with the real OpenAI client: is each recorded once?

    python -m benchmarks.traffic FILE [--concurrency 32]

The daemon runs on the embedded engine and the demo's model. Ends with
one line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import click
import openai
import psutil

from serve.cli.demo import MODEL, Daemon, daemon
from serve.state import owner_of
from ttrl import datasets
from ttrl.config import RecordConfig
from ttrl.questions.question import from_prompt
from ttrl.store import Store

SETTLE_SECONDS = 30.0


async def ask(url: str, prompts: Sequence[str], concurrency: int) -> int:
    """Ask them all, so many at once; how many were answered."""
    free = asyncio.Semaphore(concurrency)
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0) as client:

        async def one(prompt: str) -> bool:
            async with free:
                answer = await client.chat.completions.create(
                    model=MODEL, messages=[{"role": "user", "content": prompt}], max_tokens=8
                )
            return bool(answer.choices)

        return sum(await asyncio.gather(*map(one, prompts)))


def recorded(served: Daemon, expected: int) -> tuple[int, int]:
    """How often questions were recorded, and how many distinct ones, once that settles."""
    deadline = time.monotonic() + SETTLE_SECONDS
    with Store.open(served.state_dir) as store:
        while store.questions.times_asked() < expected and time.monotonic() < deadline:
            time.sleep(0.1)
        return store.questions.times_asked(), sum(store.questions.counts().values())


def measure(prompts: Sequence[str], concurrency: int) -> dict[str, float]:
    """Ask through a daemon of our own and compare what it recorded."""
    distinct = len({from_prompt(prompt).hash for prompt in prompts})
    with tempfile.TemporaryDirectory() as state, daemon(Path(state), []) as served:
        owner = owner_of(served.state_dir)
        assert owner is not None
        process = psutil.Process(owner.pid)
        before = process.memory_info().rss
        began = time.monotonic()
        answered = asyncio.run(ask(served.url, prompts, concurrency))
        seconds = time.monotonic() - began
        times, found = recorded(served, len(prompts))
        after = process.memory_info().rss
    return {
        "asked": len(prompts),
        "answered": answered,
        "lost": len(prompts) - times,
        "distinct": distinct,
        "doubled": found - distinct,
        "seconds": round(seconds, 2),
        "requests_per_second": round(len(prompts) / seconds, 1),
        "daemon_mib_before": round(before / 2**20, 1),
        "daemon_mib_after": round(after / 2**20, 1),
    }


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--concurrency", default=32, show_default=True, help="Requests in flight.")
def main(file: Path, concurrency: int) -> None:
    """Ask a daemon on the demo's model all questions in FILE (JSONL with `prompt`, or plain lines),
    and see whether each is recorded once."""
    try:
        questions = datasets.read_questions(file, max_chars=RecordConfig().max_chars)
    except datasets.DatasetUnreadable as error:
        raise click.ClickException(str(error)) from None
    print(json.dumps(measure([question.text for question in questions], concurrency)))


if __name__ == "__main__":
    main()
