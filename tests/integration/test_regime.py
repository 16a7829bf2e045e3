"""What a user sends with a question reaches its evaluation and its samples."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.integration.daemon import LIGHT, MODEL, Daemon, wait_until
from ttrl.demo import make_problems

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

PROMPTS = [problem.prompt for problem in make_problems(12, seed=23)]


def use(daemon: Daemon, prompts: list[str], **fields: Any) -> None:
    with daemon.store() as store:
        before = store.questions.times_asked()
    for prompt in prompts:
        daemon.client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": prompt}], **fields
        )
    with daemon.store() as store:
        wait_until(lambda: store.questions.times_asked() == before + len(prompts), "recorded")


def measured(daemon: Daemon) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(daemon.ttrl("measure", "--json"))["quality"]
    return found


def test_temperature_and_stop_strings_reach_evaluation(tmp_path):
    settings = ("gate.holdout=1", "gate.samples=8", "gate.min_probes=12", "shadow.share=0")
    with Daemon(tmp_path / "state", *settings, environ=LIGHT) as daemon:
        use(daemon, PROMPTS, temperature=0, max_tokens=48)
        assert daemon.status()["evaluated"] == "as users ask: temperature 0 (100%)"
        cold = measured(daemon)
        assert cold["consistency"] == cold["readable"] > 0.6, "all that can be read say the same"
        use(daemon, PROMPTS, stop=["{"], max_tokens=48)
        assert daemon.status()["evaluated"] == "as users ask: engine default (100%)"
        warm = measured(daemon)
        assert warm["readable"] < 0.6, "nothing is ever boxed"
        assert warm["tokens"] < cold["tokens"]


def test_a_stop_string_ends_the_samples_of_a_run(tmp_path):
    with Daemon(tmp_path / "state", "gate.holdout=0", "shadow.share=0", environ=LIGHT) as daemon:
        use(daemon, PROMPTS, temperature=0, stop=["}"], max_tokens=48)
        daemon.ttrl("adapt", "--json", "--steps", "1", code=None)
        with daemon.store() as store:
            asked = [row.id for row in store.questions.page(99)]
            votes = [vote for each in asked for vote in store.votes.newest(each)]
            drawn = [sample for vote in votes for sample in store.votes.samples(vote["id"])]
        assert drawn
        assert not any("}" in sample["text"] for sample in drawn)
        assert any("\\boxed{" in sample["text"] for sample in drawn)
