"""Recipes, free texts, references and the rest of a vote, in runs of a light model."""

from __future__ import annotations

import json
import re

import pytest

from tests.integration.alone import adapt, votes_of
from tests.integration.daemon import Daemon, publish_random
from tests.versions import write_lora
from ttrl.demo import make_problems
from ttrl.questions.question import from_prompt
from ttrl.store.questions import QuestionState, Recorded

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]


@pytest.fixture
def state(tmp_path):
    """A state directory with questions, and the problems that they ask."""
    problems = make_problems(24, seed=5)
    directory = tmp_path / "state"
    directory.mkdir()
    with Daemon(directory, start=False).store() as store:
        asked = [Recorded(from_prompt(problem.prompt), 1.0) for problem in problems]
        store.questions.record(asked[:4], holdout=1)
        store.questions.record(asked[4:], holdout=0)
    return directory, problems


def test_references_teach_free_texts(state, tmp_path):
    """The model states numbers up to 25 from the result at once; those above it are referred to
    here, and whoever states another one is worth nothing."""
    directory, problems = state
    file = tmp_path / "references.jsonl"
    rows = (
        {"prompt": p.prompt, "reference": [str(int(p.answer) + n) for n in range(1, 26)]}
        for p in problems
    )
    file.write_text("\n".join(map(json.dumps, rows)))
    run, alone = adapt(
        directory, "recipe=domain-qa", f"meaning.references={file}", "meaning.alike=0.05",
        "vote.rewards.soft_majority=0", "vote.rewards.consensus=0", "vote.rewards.overlong=0",
    )  # fmt: skip
    answers = {from_prompt(p.prompt).hash: p.answer for p in problems}
    assert run["steps"] >= 1
    with alone.store() as store:
        votes = votes_of(store)
        assert {vote["kind"] for vote, _ in votes} == {"free"}
        worth: dict[bool, list[float]] = {True: [], False: []}
        for vote, samples in votes:
            asked = store.questions.get(vote["question_id"]).question.hash
            for sample in samples:
                stated = re.fullmatch(r"\\boxed\{(\d+)\}", sample["text"])
                if stated:  # the others work it out
                    above = int(stated[1]) - int(answers[asked])
                    worth[0 < above <= 25].append(sample["reward"])
    assert min(len(worth[True]), len(worth[False])) > 5
    assert set(worth[False]) == {0.0}
    assert min(worth[True]) > 0


def test_votes_in_rounds_and_of_one_kind(state):
    directory, _ = state
    run, alone = adapt(
        directory, "recipe=mathematics", "vote.sure=0.6", "vote.floor=0",
        "update.questions_per_step=12", steps=1,
    )  # fmt: skip
    with alone.store() as store:
        votes = votes_of(store)
    assert {vote["kind"] for vote, _ in votes} == {"math"}
    sizes = {len(samples) for _, samples in votes}
    assert sizes <= {2, 4, 8, 16}
    assert min(sizes) < 16
    assert run["samples"] == sum(len(samples) for _, samples in votes)


@pytest.mark.parametrize("order", ["newest", "signal"])
def test_anchors_and_further_tries_are_asked_again(state, tmp_path, order):
    directory, _ = state
    with Daemon(directory, start=False).store() as store:
        rows = store.questions.new(20)
        learned, unlabelled, settled = rows[:8], rows[8:12], rows[12:14]
        for some, became in (
            (learned, QuestionState.LEARNED_FROM),
            (unlabelled, QuestionState.NO_LABEL),
            (settled, QuestionState.NO_SIGNAL),
        ):
            for row in some:
                store.questions.mark(row.id, became)
    publish_random(
        directory, [write_lora(tmp_path / "weights")], learned=[row.id for row in learned]
    )
    _, alone = adapt(
        directory, "selection.max_questions=16", "selection.anchors=0.25", "selection.tries=2",
        "update.questions_per_step=16", "update.keep=4", "gate.probes=1",
        f"selection.order={order}", steps=1,
    )  # fmt: skip
    with alone.store() as store:
        asked = {vote["question_id"] for vote, _ in votes_of(store)}
    assert len(asked & {row.id for row in learned}) == 4
    assert asked >= {row.id for row in unlabelled}
    assert not asked & {row.id for row in settled}


def test_shaping_tells_apart_what_the_majority_takes_for_the_same(state):
    """Of those that do not carry the label, the longer ones are worth more: they may only have
    thought too little. Alone they are all worth 0."""
    directory, _ = state
    _, alone = adapt(directory, "vote.rewards.length=0.5", "vote.floor=0", steps=1)
    worth = []
    with alone.store() as store:
        for vote, samples in votes_of(store):
            wrong = [s for s in samples if vote["label"] not in (None, s["answer"])]
            by_length = sorted(wrong, key=lambda sample: len(sample["text"]))
            worth += [(s[0]["reward"], s[-1]["reward"]) for s in [by_length] if s]
    assert worth
    assert all(shortest <= longest for shortest, longest in worth)
    assert any(shortest < longest for shortest, longest in worth)


def test_samples_of_earlier_steps_are_trained_on_again(state):
    """Half of each later step's: fewer are drawn, and the correction keeps the loss a number."""
    directory, _ = state
    fresh, _ = adapt(directory, "vote.floor=0", steps=1)
    run, alone = adapt(directory, "vote.floor=0", "update.replay=0.5", steps=3)
    assert run["steps"] == 3
    with alone.store() as store:
        drawn = [vote["step"] for vote, _ in votes_of(store) if vote["run_id"] == run["id"]]
        states = {row.state for row in store.questions.page(100)}
    assert QuestionState.LEARNED_FROM in states
    assert fresh["steps"] == 1
    assert drawn.count(1) >= 4 > drawn.count(max(drawn))
