"""What the run monitor is told by a real update: a collapse, and how far the weights have moved."""

from __future__ import annotations

import json

import pytest

from tests.integration.alone import SMALL
from tests.integration.daemon import Daemon, publish_random, record_questions, sets, wait_until
from tests.versions import reconfigured
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


def test_a_collapse_is_stopped_and_distance_is_from_the_version_that_a_run_starts_from(
    tmp_path, random_adapters
):
    state_dir = record_questions(tmp_path / "state")
    with Daemon(state_dir) as daemon, daemon.store() as store:
        _collapses(daemon, store)
        near = reconfigured(random_adapters[0], tmp_path / "near the base", {"lora_alpha": 2})
        (parent,) = publish_random(state_dir, [near])
        daemon.wait_live(parent)
        # A collapse leaves few questions that a run would ask.
        store.questions.record([Recorded(from_prompt(p.prompt), 2.0) for p in MORE], holdout=0)
        words = ("--steps", "2", *sets(*SMALL, "gate.min_probes=1000"))
        run = json.loads(daemon.ttrl("adapt", "--json", *words, code=4))
        assert (run["parent"], run["steps"]) == (parent, 2), run["reason"]
        start, moved = (event.kl for event in observed(store, run["id"]) if isinstance(event, Step))
        assert start == pytest.approx(0, abs=1e-6), "its samples come from the parent itself"
        assert moved > 1e-5


def _collapses(daemon, store):
    """A run does, is stopped meanwhile, and ships nothing; users are served."""
    ended = json.loads(daemon.ttrl("adapt", "--json", *sets(*COLLAPSING), code=4))
    run = store.runs.get(ended["id"])
    assert run.state is RunState.REJECTED, run.reason
    (ruling,) = (event for event in observed(store, run.id) if isinstance(event, Ruling))
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
