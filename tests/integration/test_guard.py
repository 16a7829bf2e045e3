"""A run that collapses is stopped while users are served, and one that may spend little ends."""

from __future__ import annotations

import json

import pytest

from tests.integration.daemon import Daemon, record_questions, wait_until
from ttrl.demo import make_problems
from ttrl.events import Step, observed
from ttrl.monitoring.run import Ruling
from ttrl.questions.question import from_prompt
from ttrl.store.questions import Recorded
from ttrl.store.runs import RunState

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

COLLAPSING = (
    "update.steps=40", "update.learning_rate=2e-2", "update.grpo.lr_scheduler_type=constant",
    "vote.floor=0", "update.snapshots=1", "guard.window=3",
)  # fmt: skip
"""Steps so large that the model forgets how to answer within four or five, which is too soon for a
longer window: with no answer left that can be read, the run would end by itself, for the gate to
judge. Nothing is kept of the steps before the last, which the gate could."""
MORE = make_problems(40, seed=31)


def test_a_collapsing_run_is_stopped_and_ships_nothing(tmp_path):
    state_dir = record_questions(tmp_path / "state")
    with Daemon(state_dir, *COLLAPSING) as daemon, daemon.store() as store:
        ended = json.loads(daemon.ttrl("adapt", "--json", code=4))
        run = store.runs.get(ended["id"])
        assert run.state is RunState.REJECTED, run.reason
        ruling = ended_by(store, ended["id"])
        assert run.reason.startswith(f"stopped by the run monitor ({ruling.rule}): steps ")
        assert run.steps < 40, "all that it was to take"
        assert store.adapters.all() == [], "nothing ships"
        assert store.runs.verdicts(run.id) == [], "and nothing is left for the gate to judge"
        blamed = store.questions.quarantined_by(run.id)
        assert bool(blamed) is (ruling.rule != "kl"), "distance alone blames no question"
        shown = daemon.ttrl("runs", "show", str(run.id))
        assert f"hold, rule {ruling.rule}" in shown
        series = f'ttrl_guard_rulings_total{{action="hold",rule="{ruling.rule}"}}'
        wait_until(lambda: series in daemon.metrics(), "the ruling is counted")
        assert daemon.metric(series) == 1
        assert daemon.ask("What is 1 plus 1?")[1] == "base"


def ended_by(store, run_id):
    (found,) = [event for event in observed(store, run_id) if isinstance(event, Ruling)]
    return found


def test_tokens_bound_a_run_and_distance_is_from_the_version_it_started_from(tmp_path):
    state_dir = record_questions(tmp_path / "state", 240)
    settings = ("update.learning_rate=5e-3", "gate.kl_base=10", "gate.kl_live=10")
    with Daemon(state_dir, *settings) as daemon, daemon.store() as store:
        first = json.loads(daemon.ttrl("adapt", "--json", "--set", "update.max_tokens=1000"))
        assert (first["state"], first["steps"]) == ("published", 1), first["reason"]
        assert first["tokens"] >= 1000
        assert "after 1 of 50 steps: update.max_tokens was reached" in first["reason"]
        daemon.wait_live(first["adapter"])
        store.questions.record([Recorded(from_prompt(p.prompt), 2.0) for p in MORE], holdout=0)
        words = ("adapt", "--json", "--steps", "2", "--set", "gate.min_probes=1000")
        second = json.loads(daemon.ttrl(*words, code=4))
        assert second["parent"] == first["adapter"]
        start, moved = (step.kl for step in steps_of(store, second["id"]))
        assert start == pytest.approx(0, abs=1e-6), "its samples come from the parent itself"
        assert moved > 1e-4


def steps_of(store, run_id):
    return [event for event in observed(store, run_id) if isinstance(event, Step)]
