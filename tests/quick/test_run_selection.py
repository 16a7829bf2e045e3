"""What a run sets out with, read from the state directory."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace

import pytest

from jobs import selection
from jobs.selection import Descent
from tests.versions import write_lora
from ttrl import versions
from ttrl.config import Config, ModelConfig
from ttrl.config.loading import override
from ttrl.evaluation.drift import Drift
from ttrl.questions.question import from_prompt
from ttrl.store.adapters import AdapterRow, AdapterState
from ttrl.store.forgetting import Doomed
from ttrl.store.questions import QuestionState, Recorded
from ttrl.store.runs import RunState, Trigger
from ttrl.versions import Manifest, identify


@pytest.fixture
def config(tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    return Config(state_dir=tmp_path, model=ModelConfig(name=str(model)))


@pytest.fixture
def manifest(config, store, tmp_path):
    """Of a version that is wanted, made on that model."""
    source, base = write_lora(tmp_path / "source"), identify(config.model.name)
    digest = versions.digest_of(source)
    name = versions.version_name("l", 1, digest)
    made = Manifest(
        name, "l", 1, digest, base.name, None, 1, 16, ("q_proj",), 1.0,
        "all-linear", base.weights, base.text,
    )  # fmt: skip
    versions.publish(source, tmp_path / "adapters", made)
    row = AdapterRow(
        name, "l", 1, digest, None, base.name, None, 16, AdapterState.APPROVED, "better", 1.0
    )
    store.adapters.publish(row, [], author="run")
    return made


def test_a_run_goes_on_from_what_serves(config, store, manifest):
    assert selection.descent(config, store).begins == "no_parent", "it does not serve yet"
    store.adapters.served(manifest.name, "as wanted")
    assert selection.descent(config, store).parent == manifest


def test_what_is_wanted_but_belongs_to_another_base_begins_a_lineage(config, store, manifest):
    """It was not loaded, so that the base serves; its questions are learned from again."""
    told = asdict(replace(manifest, weights="f" * 64))
    (config.state_dir / "adapters" / manifest.name / "manifest.json").write_text(json.dumps(told))
    found = selection.descent(config, store)
    assert (found.parent, found.begins, found.again) == (None, "base_changed", (manifest.name,))


def test_nothing_goes_on_from_what_is_tainted(config, store, manifest, tmp_path):
    """But from the newest version before it that is not, or from the base with what is left."""
    other = tmp_path / "source2"
    shutil.copytree(tmp_path / "source", other)
    second = replace(manifest, name="ttrl-l-2-second", number=2, parent=manifest.name)
    versions.publish(other, tmp_path / "adapters", second)
    (key,) = _recorded(store, "a")
    row = replace(
        store.adapters.get(manifest.name), name=second.name, number=2, parent=manifest.name
    )
    store.adapters.publish(row, [key], author="run")
    store.adapters.served(second.name, "as wanted")
    store.forgetting.purge(Doomed([key]), keep_serving=True)
    found = selection.descent(config, store)
    assert (found.parent, found.stacked) == (manifest, (manifest.name,))
    store.forgetting.retire([manifest.name])
    found = selection.descent(config, store)
    assert (found.parent, found.begins) == (None, "tainted")
    assert found.again == (second.name, manifest.name)
    assert "purged" in found.words


@pytest.mark.parametrize(
    ("distance", "earlier", "begins"),
    [
        pytest.param(None, [], None, id="never measured"),
        pytest.param(0.24, [], None, id="near the base"),
        pytest.param(0.25, [], "lineage_full", id="half of what the gate allows"),
        pytest.param(0.4, [("lineage_full", "rejected")], None, id="that has just been tried"),
        pytest.param(
            0.4, [("lineage_full", "held")], None, id="its outcome waits for the operator"
        ),
        pytest.param(
            0.4,
            [("lineage_full", "held"), (None, "rejected")],
            "lineage_full",
            id="every other run",
        ),
        pytest.param(
            0.4,
            [("lineage_full", "rejected"), (None, "failed")],
            None,
            id="a failed run is no turn",
        ),
        pytest.param(0.4, [("lineage_full", "aborted")], "lineage_full", id="nor is one cut short"),
    ],
)
def test_far_from_the_base_every_other_run_begins_there(
    config, store, manifest, distance, earlier, begins
):
    store.adapters.served(manifest.name, "as wanted")
    if distance is not None:
        store.measurements.add(manifest.name, Drift(from_base=distance))
    for began, ended in earlier:
        run = store.runs.create(Trigger.SCHEDULE, {})
        store.runs.start(run.id, parent=None if began else manifest.name, begins=began)
        store.runs.end(run.id, RunState(ended), "")
    found = selection.descent(config, store)
    assert found.begins is begins
    assert found.again == ((manifest.name,) if begins else ())


def test_what_replaces_several_updates_gets_their_questions_and_steps(config, store):
    _recorded(store, *(f"what is {n} plus {m}?" for n in range(40) for m in range(3)))
    settings = override(config, {"selection.max_questions": 16, "update.passes": 2})
    for again, room in (((), 16), (("b", "a"), 32)):
        descent = Descent(None, "lineage_full" if again else None, again=again)
        chosen = selection.select(settings, store, descent)[0].chosen
        assert len(chosen) == room
        assert settings.update.steps_over(len(chosen), descent.updates) == room * 2 / 8
    assert override(config, {"update.steps": 5}).update.steps_over(32, 2) == 10


def _recorded(store, *prompts):
    store.questions.record([Recorded(from_prompt(p), 1.0) for p in prompts], holdout=0)
    return [row.id for row in store.questions.new(None)]


def test_what_is_wanted_but_gone_is_no_lineage(config, store, manifest):
    shutil.rmtree(config.state_dir / "adapters" / manifest.name)
    assert selection.descent(config, store).begins == "no_parent"


def test_anchors_are_drawn_of_what_was_learned_from(config, store, manifest):
    store.questions.record([Recorded(from_prompt(f"q{n}"), 1.0) for n in range(20)], holdout=0)
    rows = store.questions.new(20)
    learned, fresh = rows[:12], rows[12:]
    for row in learned:
        store.questions.mark(row.id, QuestionState.LEARNED_FROM)
    second = replace(store.adapters.get(manifest.name), name="second", parent=manifest.name)
    store.adapters.publish(second, [row.id for row in learned], author="run")
    settings = override(config, {"selection.anchors": 0.25, "selection.max_questions": 16})
    descent = Descent(manifest, stacked=("second", manifest.name))
    selected = selection.select(settings, store, descent)
    assert selection.select(settings, store, descent) == selected, "a dry run names those of it"
    chosen = selected[0].chosen
    assert {row.id for row in chosen[:4]} < {row.id for row in learned}
    assert {row.id for row in chosen[4:]} == {row.id for row in fresh}
    assert [row.state for row in chosen] == ["learned_from"] * 4 + ["new"] * 8
    for row in fresh:
        store.questions.mark(row.id, QuestionState.NO_SIGNAL)
    chosen = selection.select(settings, store, descent)[0].chosen
    assert chosen == (), "anchors alone are no reason to run"


SAMPLE = {
    "position": 0, "layer": "boxed", "text": "so it is", "answer": "1", "finish": "stop",
    "reward": 1.0, "kept": False, "token_ids": b"", "logprobs": b"",
}  # fmt: skip


@pytest.fixture
def voted(config, store):
    """The ids of questions that a run asked, by what its votes said, beside six new ones."""
    states = {
        "divided": (QuestionState.LEARNED_FROM, "label", 0.55),
        "solved": (QuestionState.NO_SIGNAL, "label", 1.0),
        "tied": (QuestionState.NO_LABEL, "tie", 0.4),
        "quarantined": (QuestionState.QUARANTINED, "label", 0.5),
    }
    ids = dict(zip(states, _recorded(store, *states), strict=True))
    run = store.runs.create(Trigger.SCHEDULE, {})
    store.runs.start(run.id, parent=None)
    for name, (state, outcome, share) in states.items():
        vote = {
            "run_id": run.id, "question_id": ids[name], "version": "base", "step": 1, "at": 1.0,
            "kind": "text", "outcome": outcome, "share": share, "entropy": 0.5, "counts": [],
            "stop": "all",
        }  # fmt: skip
        store.votes.add([(vote, [SAMPLE])])
        store.questions.mark(ids[name], state)
    store.runs.end(run.id, RunState.REJECTED, "")
    _recorded(store, *(f"Why {n}?" for n in range(6)))
    return ids


@pytest.mark.parametrize(("order", "names"), [("newest", set()), ("signal", {"divided"})])
def test_what_was_divided_comes_again_by_signal(config, store, voted, order, names):
    settings = override(config, {"selection.order": order, "selection.max_questions": 20})
    selected, _ = selection.select(settings, store, Descent(None))
    ids = [row.id for row in selected.chosen]
    assert {name for name, key in voted.items() if key in ids} == names
    assert len(ids) == 6 + len(names)
    assert selection.select(settings, store, Descent(None))[0] == selected, "as a dry run says"
    shares = [selected.estimates[key].share for key in ids if selected.estimates]
    assert shares == sorted(shares, reverse=True), "the easiest first"
    grounds = {"own_vote": 1, "all_votes": 6} if order == "signal" else {}
    assert selected.grounds == grounds


def test_what_comes_again_is_of_those_who_opted_in(config, store, voted):
    changes = {"selection.order": "signal", "record.only_keys": ["f" * 64]}
    selected, _ = selection.select(override(config, changes), store, Descent(None))
    assert selected.chosen == ()
