"""How busy an engine says it is."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2

from tests.contract.served import BASE, Served
from ttrl.engine.client import EngineClient, Load

DEADLINE = 30.0
ANSWERS = 8


def load_of(client: EngineClient) -> Load:
    load = client.load()
    assert load is not None
    return load


def wait_idle(client: EngineClient) -> Load:
    deadline = time.monotonic() + DEADLINE
    while (load := load_of(client)).running or load.waiting:
        assert time.monotonic() < deadline, f"never idle: {load}"
        time.sleep(0.01)
    return load


@contextmanager
def work(engine: Served, priority: int = 0) -> Iterator[None]:
    """One request after the other, each for several long answers."""
    over = threading.Event()
    body = {
        "model": BASE,
        "messages": [{"role": "user", "content": "what is one plus two?"}],
        "n": ANSWERS,
        "ignore_eos": True,
        "max_tokens": 200,
        "priority": priority,
    }

    def ask() -> None:
        while not over.is_set():
            answer = httpx2.post(f"{engine.url}/v1/chat/completions", json=body, timeout=60)
            assert answer.status_code == 200

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(60)


def test_work_shows_in_the_metrics(client: EngineClient, engine: Served) -> None:
    idle = wait_idle(client)
    with work(engine):
        deadline = time.monotonic() + DEADLINE
        while not (busy := load_of(client)).running:
            assert time.monotonic() < deadline, "nothing ever runs"
        assert busy.running <= ANSWERS, "each answer counts, and nothing else"
        while load_of(client).tokens < busy.tokens + 100:
            assert time.monotonic() < deadline, "the tokens do not grow"
    after = wait_idle(client)
    assert after.tokens >= idle.tokens + ANSWERS * 200
    assert wait_idle(client).tokens == after.tokens


def test_metrics_need_no_key(engine: Served) -> None:
    page = httpx2.get(f"{engine.url}/metrics")
    assert page.headers["content-type"].startswith("text/plain")
    assert "# TYPE vllm:num_requests_waiting gauge" in page.text
