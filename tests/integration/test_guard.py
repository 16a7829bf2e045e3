"""A run that collapses is stopped while users are served, and one that may spend little ends."""

from __future__ import annotations

import json

import pytest

from tests.integration.daemon import Daemon, record_questions, wait_until
from ttrl.store.runs import RunState

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

COLLAPSING = (
    "update.steps=40", "update.learning_rate=0.02", "update.grpo.lr_scheduler_type=constant",
    "vote.floor=0",
)  # fmt: skip
"""Steps so large that the model forgets how to answer within two or three."""


def test_a_collapsing_run_is_stopped_and_ships_nothing(tmp_path):
    state_dir = record_questions(tmp_path / "state")
    with Daemon(state_dir, *COLLAPSING) as daemon, daemon.store() as store:
        ended = json.loads(daemon.ttrl("adapt", "--json", code=4))
        run, ruling = store.runs.get(ended["id"]), ended_by(store, ended["id"])
        assert run.state is RunState.REJECTED
        assert run.reason.startswith(f"the guard says hold ({ruling['rule']}): steps ")
        assert run.steps < 20
        assert store.adapters.all() == [], "nothing ships"
        assert store.runs.verdicts(run.id) == [], "and nothing is left for the gate to judge"
        shown = daemon.ttrl("runs", "show", str(run.id))
        assert f"hold, by its rule {ruling['rule']}" in shown
        series = f'ttrl_guard_rulings_total{{action="hold",rule="{ruling["rule"]}"}}'
        wait_until(lambda: series in daemon.metrics(), "the ruling is counted")
        assert daemon.metric(series) == 1
        assert daemon.ask("What is 1 plus 1?")[1] == "base"


def ended_by(store, run_id):
    (found,) = [each for each in store.runs.observed(run_id=run_id) if each.kind == "guard"]
    return found.numbers


def test_a_run_takes_no_further_step_once_its_tokens_are_spent(tmp_path):
    state_dir = record_questions(tmp_path / "state")
    settings = ("update.max_tokens=1000", "gate.min_probes=1000")
    with Daemon(state_dir, *settings) as daemon, daemon.store() as store:
        ended = json.loads(daemon.ttrl("adapt", "--json", code=4))
        assert ended["steps"] == 1
        assert ended["tokens"] >= 1000
        assert "after 1 of 50 steps: update.max_tokens was reached" in ended["reason"]
        (step,) = [each for each in store.runs.observed() if each.kind == "step"]
        numbers = step.numbers
        assert numbers["kl"] == pytest.approx(0, abs=1e-6), "the first step's samples come from the start itself"
        assert numbers["masked"] == 0
        assert numbers["mismatch"] < 1e-4
