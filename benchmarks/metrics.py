"""What a scrape costs: `python -m benchmarks.metrics`.

A daemon on the demo's model, with so many recorded questions, answers a few more over the routes
that clients use, and is scraped again and again. Ends with one line of JSON: the median time of a
scrape, its size, the series of our own in it, and how long the daemon takes to count what is in the
store.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import click
import httpx2
import openai

from serve.cli.demo import MODEL, daemon
from serve.daemon.housekeeping import STANDING, Observer
from ttrl.metrics import Metrics
from ttrl.questions.question import from_prompt
from ttrl.store import Store
from ttrl.store.questions import Recorded
from ttrl.store.runs import RunState, Trigger

BATCH = 1000
SETTLE_SECONDS = STANDING + 2.0


def fill(store: Store, questions: int) -> None:
    """Record so many distinct questions, as the daemon's recorder does, and a few runs."""
    now = time.time()
    asked = (Recorded(from_prompt(f"What is {n} plus {n % 97}?"), now) for n in range(questions))
    for batch in _batches(asked):
        store.questions.record(batch, holdout=0.1)
    for _ in range(20):
        run = store.runs.create(Trigger.SCHEDULE, {})
        store.runs.end(run.id, RunState.NOTHING, "the benchmark made it up")


def _batches(asked: Iterator[Recorded]) -> Iterator[list[Recorded]]:
    while batch := [each for _, each in zip(range(BATCH), asked, strict=False)]:
        yield batch


CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
ASKED: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "What is 2?"}]}
WRONG: tuple[tuple[int, str, dict[str, Any]], ...] = (
    (400, CHAT, {"content": b"{", "headers": {"content-type": "application/json"}}),
    (400, CHAT, {"json": {"model": MODEL, "messages": []}}),
    (400, COMPLETIONS, {"json": [MODEL]}),
    (404, CHAT, {"json": {**ASKED, "model": "another"}}),
    (404, COMPLETIONS, {"json": {"model": "another", "prompt": "What"}}),
    (413, CHAT, {"json": {**ASKED, "user": "x" * 2**24}}),
    (415, CHAT, {"content": b"What is 2?"}),
    (415, COMPLETIONS, {"content": b"What is 2?"}),
)
"""What clients do wrong: the status that it gets, the route, what is sent."""


def use(url: str) -> None:
    """Requests as they come, over several routes: answers, errors, and clients that go away."""
    with openai.OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0) as client:
        asked = [{"role": "user", "content": "What is 417 plus 286?"}]
        for _ in range(5):
            client.chat.completions.create(model=MODEL, messages=asked, max_tokens=8)  # type: ignore[arg-type]
            client.completions.create(model=MODEL, prompt="What", max_tokens=2)
        client.models.list()
    for path in ("/v1/nothing", "/health", "/readyz"):
        httpx2.get(f"{url}{path}", trust_env=False)
    with httpx2.Client(base_url=url, trust_env=False, timeout=60) as http:
        for status, path, sent in WRONG:
            got = http.post(path, **sent).status_code
            assert got == status, (path, got, str(sent)[:200])
        going = {**ASKED, "stream": True, "max_tokens": 64}
        with http.stream("POST", CHAT, json=going) as answer:
            next(answer.iter_raw())


def scrape(url: str, times: int) -> tuple[list[float], str]:
    """Milliseconds of each, and the page."""
    taken, page = [], ""
    with httpx2.Client(trust_env=False) as client:
        for _ in range(times):
            began = time.perf_counter()
            page = client.get(f"{url}/metrics").text
            taken.append(1000 * (time.perf_counter() - began))
    return taken, page


def standing_ms(store: Store, directory: Path) -> float:
    """What the daemon's look at how things stand takes, every few seconds, in its own thread."""
    observer = Observer(store, Metrics(), directory)
    taken = []
    for _ in range(5):
        began = time.perf_counter()
        observer.stand()
        taken.append(1000 * (time.perf_counter() - began))
    return median(taken)


@click.command()
@click.option("--questions", default=100_000, show_default=True)
@click.option("--scrapes", default=200, show_default=True)
def main(questions: int, scrapes: int) -> None:
    """Measure a scrape."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        with Store.open(directory) as store:
            fill(store, questions)
            standing = standing_ms(store, directory)
        with daemon(directory, []) as served:
            use(served.url)
            time.sleep(SETTLE_SECONDS)
            taken, page = scrape(served.url, scrapes)
    ours = [line for line in page.splitlines() if line.startswith("ttrl_")]
    assert 'ttrl_questions{state="new"}' in page
    print(
        json.dumps(
            {
                "questions": questions,
                "scrape_ms": round(median(taken), 2),
                "scrape_p95_ms": round(quantiles(taken, n=20)[-1], 2),
                "series": len(ours),
                "kib": round(len(page) / 1024, 1),
                "standing_ms": round(standing, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
