"""A version that turns out to be bad once it serves is rolled back by itself; a good one is not."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import openai
import pytest

from tests.integration.daemon import LIGHT, Daemon, publish_random, record_questions, wait_until
from tests.versions import write_lora
from ttrl.demo import make_problems
from ttrl.store.adapters import AdapterState
from ttrl.store.questions import QuestionState

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

SETTINGS = (
    "shadow.share=1.0",
    "shadow.pairs_a_minute=6000",
    "shadow.false_alarms_a_year=2e6",  # of so many pairs a minute: once in a thousand pairs or more
    "vote.max_tokens=32",
)
QUIET_PAIRS = 25


@pytest.fixture
def harmless(tmp_path: Path) -> Path:
    """Answers as the base model does."""
    return write_lora(tmp_path / "harmless", b"harmless".ljust(64))


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """Talks nonsense."""
    return write_lora(tmp_path / "damaged", b"nonsense".ljust(64))


@contextmanager
def traffic(daemon: Daemon) -> Iterator[list[str]]:
    """A user who asks one thing after the other; the versions that answered, one by one. No request
    may fail."""
    prompts = itertools.cycle(problem.prompt for problem in make_problems(200, seed=8))
    done, seen, failures = threading.Event(), [], []

    def keep_asking() -> None:
        while not done.is_set():
            try:
                seen.append(daemon.ask(next(prompts))[1])
            except openai.OpenAIError as error:
                failures.append(error)

    user = threading.Thread(target=keep_asking)
    user.start()
    try:
        yield seen
    finally:
        done.set()
        user.join(30)
    assert failures == []


def compared(daemon: Daemon) -> int:
    """Pairs so far."""
    name = 'ttrl_shadow_questions_total{outcome="compared"} '
    lines = (line for line in daemon.metrics().splitlines() if line.startswith(name))
    return int(float(next(lines, "0").split()[-1]))


@pytest.mark.fault(
    "a version turns out worse on the traffic",
    sees="its answers until the live monitor is sure, then the version before again",
    keeps="everything; what it learned from is quarantined",
)
def test_a_regression_is_rolled_back_by_itself_and_a_good_version_is_not(
    tmp_path, harmless, damaged
):
    state_dir = record_questions(tmp_path / "state", 20)
    with Daemon(state_dir, *SETTINGS, environ=LIGHT) as daemon, daemon.store() as store:
        ids = [row.id for row in store.questions.new(10)]
        (good,) = publish_random(state_dir, [harmless], learned=ids[:2])
        daemon.wait_live(good)
        with traffic(daemon) as seen:
            wait_until(lambda: compared(daemon) >= QUIET_PAIRS, "enough is compared", 120)
            assert store.adapters.wanted().adapter == good
            assert "compared with base, quiet" in daemon.ttrl("status")
            (bad,) = publish_random(
                state_dir, [damaged], first=2, state=AdapterState.HELD, learned=ids[1:5]
            )
            daemon.ttrl("adapters", "promote", bad)
            wait_until(lambda: store.adapters.wanted().adapter == good, "it is rolled back", 120)
            daemon.wait_live(good)
            count = len(seen)
            wait_until(lambda: len(seen) > count + 6, "the user is answered")
        assert bad in seen
        assert set(seen[-3:]) == {good}
        shown = json.loads(daemon.ttrl("adapters", "show", bad, "--json"))
        assert shown["state"] == "rolled_back"
        assert shown["reason"].startswith("live monitor: ")
        assert f"pairs with {good}" in shown["reason"]
        assert shown["quarantined"] == 3, "one of the four the good version learned from as well"
        assert store.adapters.question_ids(bad, QuestionState.QUARANTINED) == sorted(ids[2:5])
        assert "ttrl_shadow_alarms_total{stream=" in daemon.metrics()
        quarantined = 'ttrl_questions{state="quarantined"}'
        wait_until(lambda: daemon.metric(quarantined) == 3, "it is counted")
