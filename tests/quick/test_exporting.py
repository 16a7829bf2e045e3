"""The model card says what the store knows, and quotes nobody."""

from __future__ import annotations

from dataclasses import replace

import pytest
import yaml
from click.testing import CliRunner

from serve.cli import main
from serve.cli.adapters import Merge, model_card
from tests.runs import QUALITY, judgement
from tests.stores import recorded
from tests.versions import publish
from ttrl.config import Config
from ttrl.engine.proof import Evidence, Proof
from ttrl.evaluation.drift import Drift
from ttrl.evaluation.evidence import Comparison
from ttrl.evaluation.gate import Check, Outcome, Rule, Verdict
from ttrl.store.adapters import AdapterRow, AdapterState
from ttrl.store.runs import Trigger
from ttrl.versions import Manifest

SECRET = "What is the code of the safe?"
DIGEST = "d" * 64
CHECK = Check(
    Rule.ACCURACY, Outcome.PASSED, "accuracy: 20% to 80%", Comparison(30, 30, 0.2, 0.8, 0.4, 0.7)
)
MERGED = Merge("bfloat16", Evidence(Proof.PROVEN, 0.02, ((1.0, 0.1),)))


def version(store, name="child", parent="parent", base="org/model"):
    """A version and its parent, each of a run of its own, with what is known of them."""
    found = recorded(store, SECRET, "another", "and one more")
    for number, (each, before, learned) in enumerate(
        ((parent, None, found[:1]), (name, parent, found[1:])), 1
    ):
        run = store.runs.create(Trigger.OPERATOR, {})
        begins = None if before else "no_parent"
        store.runs.start(run.id, parent=before, begins=begins)
        store.runs.note(run.id, steps=7, samples=1234)
        verdict = replace(judgement(Verdict.BETTER, **{"h": SECRET}), checks=(CHECK,))
        store.runs.add_verdict(run.id, each, base, verdict)
        state = AdapterState.APPROVED
        row = AdapterRow(each, "l", number, DIGEST, before, base, run.id, 16, state, SECRET, 1.0)
        store.adapters.publish(row, learned, author="run")
        store.runs.end(run.id, "published", SECRET, adapter=each)
    store.measurements.add(name, QUALITY)
    store.measurements.add(name, Drift(from_base=0.125))
    return Manifest(name, "l", 2, DIGEST, base, parent, run.id, 16, ("q",), 1.0)


def front(text):
    _, head, _ = text.split("---\n", 2)
    return yaml.safe_load(head)


def test_it_tells_of_the_versions_the_gate_and_the_settings(store):
    settings = Config(vote={"samples": 99}, admin={"key": "k" * 32})
    text = model_card(settings, store, version(store))
    for figure in (
        "| child | parent |", "| 2 | 2 | 7 | 1234 |", "base: there is no adapter to continue from",
        "**better** against org/model, on 2 probes, 30 of them labelled",
        "| passed | accuracy: 20% to 80% |", "answers 50.0% (35.0% to 65.0%) of 30 labelled probes",
        "0.125 nats per token", "| vote.samples | 99 |", "| ttrl | ", "The license",
    ):  # fmt: skip
        assert figure in text
    assert SECRET not in text
    assert "k" * 32 not in text
    assert "there were no labels" not in text


@pytest.mark.parametrize(
    ("base", "merged", "expected"),
    [
        ("org/model", None, ("org/model", "adapter", "peft")),
        ("org/model", MERGED, ("org/model", "finetune", "transformers")),
        ("/models/private/model", None, (None, "adapter", "peft")),
    ],
)
def test_its_front_matter_is_the_hubs(store, base, merged, expected):
    text = model_card(Config(), store, version(store, base=base), merged)
    found = front(text)
    keys = ("base_model", "base_model_relation", "library_name")
    assert tuple(map(found.get, keys)) == expected
    assert "license" not in found
    assert "private" not in text
    assert ("bfloat16; answers like the version, 0.02 nats" in text) is bool(merged)


def test_what_is_not_known_is_said(store):
    text = model_card(Config(), store, replace(version(store), run_id=99))
    assert "no verdict is kept" in text


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["--dtype", "float32"], 2, "--dtype is for --merged"),
        (["--merged"], 1, "cannot merge: base has not been downloaded"),
        ([], 1, "already exists"),
    ],
)
def test_what_cannot_be_exported_leaves_nothing(store, tmp_path, words, code, says):
    (name,) = publish(tmp_path)
    there = tmp_path / "exports" / "one"
    (there if says == "already exists" else there.parent).mkdir(parents=True)
    before = sorted(there.parent.iterdir())
    command = ["adapters", "export", name, str(there), *words, "--state-dir", str(tmp_path)]
    done = CliRunner().invoke(main, command)
    assert (done.exit_code, says in done.output) == (code, True), done.output
    assert sorted(there.parent.iterdir()) == before


def test_a_cell_cannot_break_the_table(store):
    manifest = version(store)
    broken = replace(judgement(), checks=(replace(CHECK, words="tag a|b\n# c: 1%"),))
    store.runs.add_verdict(manifest.run_id, "child", "base", broken)
    assert r"| passed | tag a\|b # c: 1% |" in model_card(Config(), store, manifest)
