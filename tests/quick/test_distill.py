"""Distilling a judge: what it learns from, what it is graded by, and what refuses it."""

from __future__ import annotations

import math
import random
import re
from itertools import combinations

import pytest
from scipy import stats

from jobs import distill
from jobs.distill import Answer, DistillRefused, Training, best_answers, held_out
from tests.stores import recorded
from ttrl.answers.layers import Layer
from ttrl.engine.samples import Finish, Sample, SampleSet
from ttrl.evaluation.estimates import LEAST
from ttrl.evaluation.probes import Judged, Pair, ProbeOrigin, Side
from ttrl.judge import grading
from ttrl.judge.grading import Graded, grade
from ttrl.judge.pretenders import TEST, TRAINING, Pretender, pretenders
from ttrl.judge.records import Records, digest
from ttrl.questions.question import from_prompt
from ttrl.sampling.groups import Group, rows
from ttrl.store.questions import QuestionState, Recorded, StoredQuestion
from ttrl.store.runs import Trigger
from ttrl.votes import take_vote

# Grades


@pytest.mark.parametrize("ties", [2, 5, 1000])
def test_correlation_and_auc_are_those_of_scipy(ties):
    rng = random.Random(ties)
    one = [rng.randrange(ties) for _ in range(200)]
    other = [each + rng.randrange(ties) for each in one]
    assert grading.correlated(one, other) == pytest.approx(stats.spearmanr(one, other).statistic)
    right = [rng.random() < 0.4 for _ in one]
    positive = [value for value, each in zip(one, right, strict=True) if each]
    negative = [value for value, each in zip(one, right, strict=True) if not each]
    expected = stats.mannwhitneyu(positive, negative).statistic / len(positive) / len(negative)
    assert grading.auc(list(zip(right, one, strict=True))) == pytest.approx(expected)


def test_what_has_one_value_is_correlated_with_nothing():
    assert math.isnan(grading.correlated([1, 1, 1], [1, 2, 3]))
    assert grading.auc([(True, 1.0), (True, 2.0)]) is None
    assert grading.interval(0.9, 3) == pytest.approx((math.nan, math.nan), nan_ok=True)
    low, high = grading.interval(1.0, 50)
    assert 0.99 < low <= high <= 1


def judged(questions=30, each=4, *, right=lambda score, rng: score, seed=0):
    """Answers that a judge scores from 0 to 1, and a distilled one by `right`."""
    rng = random.Random(seed)
    scores = [(str(n), rng.random()) for n in range(questions) for _ in range(each)]
    return [Graded(cluster, score, right(score, rng)) for cluster, score in scores]


NOISY = judged(right=lambda score, rng: score + rng.gauss(0, 0.1))
GOOD = [(0.9, {"long": [0.1], "repeated": [0.2, None]})] * LEAST


def test_one_that_scores_as_its_judge_is_kept():
    grades = grade(NOISY, GOOD, [(True, 0.9, 1.0), (False, 0.1, 0.0)])
    assert grades.because() == ()
    assert (grades.answers, grades.questions, grades.good) == (120, 30, LEAST)
    assert grades.low < grades.spearman < grades.high
    assert grades.tried == {"long": LEAST, "repeated": LEAST}, "without those it cannot read"
    assert grades.won == {"long": 0, "repeated": 0}
    assert (grades.auc, grades.judge_auc, grades.labels) == (1.0, 1.0, 2)


@pytest.mark.parametrize(
    ("graded", "trials", "labelled", "because"),
    [
        (NOISY, GOOD[:-1], (), "too few held-out questions"),
        (judged(LEAST - 1), GOOD, (), "too few held-out questions"),
        ([], [], (), "too few held-out questions"),
        (judged(right=lambda _, rng: rng.random()), GOOD, (), "Spearman's correlation"),
        (judged(right=lambda *_: 0.5), GOOD, (), "Spearman's correlation"),
        (judged(right=lambda score, _: -score), GOOD, (), "orders like the judge: 0%"),
        (judged(each=1), GOOD, (), "orders like the judge: none"),
        (NOISY, [*GOOD, (0.9, {"long": [0.9]})], (), "pretenders score as high.*1 of 21 long"),
        (NOISY, GOOD, [(True, 0.1, 1.0), (False, 0.9, 0.0)], "by 2 labels it is no better"),
        (NOISY, GOOD, [(True, 0.5, None), (False, 0.5, None)], "by 2 labels it is no better"),
    ],
)
def test_what_refuses_a_distilled_judge(graded, trials, labelled, because):
    found = "; ".join(grade(graded, trials, labelled).because())
    assert re.search(because, found), found


def test_knowing_good_questions_from_bad_ones_is_not_enough():
    """Within a question it orders by chance, and only that counts as a reward."""
    rng = random.Random(1)
    graded = [
        Graded(str(n), n / 40 + rng.random() / 50, n / 40 + rng.random() / 50)
        for n in range(40)
        for _ in range(4)
    ]
    grades = grade(graded, GOOD)
    assert grades.low > 0.9
    (because,) = grades.because()
    assert because.startswith("pairs of answers to one question")


# Pretenders


def test_no_pretender_of_the_test_is_learned_from():
    question, rubric = "Why is the sky blue?", "- Correct: it is true."
    every = [
        {
            text
            for number in range(8)
            for texts in pretenders(question, rubric, None, number, which=which).values()
            for text in texts
        }
        for which in (TRAINING, TEST)
    ]
    assert not every[0] & every[1]
    (first, *_), (second, *_) = map(sorted, every)
    assert first != second
    kinds = pretenders(question, rubric, "Because.", 3, which=TEST)
    assert set(kinds) == set(Pretender)
    assert all(question in text for text in kinds[Pretender.REPEATED])
    assert any(rubric in text for text in kinds[Pretender.RUBRIC])


# What it learns from


def answers(count, each=3):
    return [
        Answer(from_prompt(f"What is {n} times {n + 1}?"), f"{n * (n + 1) + k}", None, 1 - k / each)
        for n in range(count)
        for k in range(each)
    ]


def test_near_duplicates_are_on_one_side():
    made = answers(400, 1)
    shares = [held_out(each.question) for each in made]
    assert 0.15 < sum(shares) / len(shares) < 0.35
    other = from_prompt(made[0].question.text.replace("What", "what"))
    assert held_out(other) == held_out(made[0].question)


def test_the_best_answer_is_one_that_the_judge_takes_to_be_right():
    question, other = from_prompt("What is 6 times 7?"), from_prompt("What is love?")
    made = [
        Answer(question, "41", "41", 0.2),
        Answer(question, "So 42", "42", 0.8),
        Answer(question, "42", "42", 1.0),
        Answer(other, "Nobody knows.", None, 0.6),
    ]
    assert [each.text for each in best_answers(made)] == ["42"]


@pytest.mark.parametrize("which", [TRAINING, TEST])
def test_what_is_right_for_two_questions_pretends_to_be_the_answer_to_neither(which):
    made = [
        Answer(from_prompt("What is 6 times 7?"), "It is 42.", "42", 1.0),
        Answer(from_prompt("How many are 40 swans and 2 geese?"), "42 birds", "42", 1.0),
        Answer(from_prompt("Which town is the capital of Japan?"), "Tokyo", "Tokyo", 1.0),
    ]
    found = {q.text: texts for texts, q in distill._pretenders(made, "rubric", which)}
    assert found["What is 6 times 7?"][Pretender.OTHER] == ["Tokyo"]
    assert found["Which town is the capital of Japan?"][Pretender.OTHER] == ["It is 42."]
    alone = distill._pretenders(made[:2], "rubric", which)
    assert all(Pretender.OTHER not in texts for texts, _ in alone)


def test_samples_that_have_a_score_are_learned_from(store, tmp_path):
    asked = [from_prompt(f"What is {n} plus {n}?") for n in range(3)]
    ids = recorded(store, *(each.text for each in asked))
    run_id = store.runs.create(Trigger.OPERATOR, {}).id
    texts = ("<think>hm</think>4", "4", "5")
    drawn = tuple(Sample(text, (1,), (0.0,), Finish.STOP) for text in texts)
    for key, question in zip(ids, asked, strict=True):
        stored = StoredQuestion(key, question, 1, False, QuestionState.NEW, None)
        vote = take_vote(["4", "4", "5"], layers=(Layer.WHOLE_TEXT,) * 3)
        group = Group(stored, SampleSet("v", (7,), drawn), vote, (1.0, 1.0, 0.0), (0, 2))
        store.votes.add([rows(group, run_id=run_id, step=1)])
    records = Records(tmp_path)
    records.add("j", [(digest(asked[0].hash, "4"), 0.9), (digest(asked[1].hash, "7"), 0.1)])
    (found,) = distill.answers_of(store, records.of("j"))
    assert (found.question.hash, found.text, found.score) == (asked[0].hash, "4", 0.9)


@pytest.mark.parametrize(
    ("judgement", "right"),
    [
        (Judged.LIVE, {"so 4": True, "so 5": False}),
        (Judged.CANDIDATE, {"so 4": False, "so 5": True}),
        (Judged.BOTH, {"so 4": True, "so 5": True}),
        (Judged.NEITHER, {"so 4": False, "so 5": False}),
        (Judged.CANNOT_TELL, {}),
    ],
)
def test_what_the_operator_judged_is_a_label(store, judgement, right):
    question = from_prompt("What is 2 plus 2?")
    store.questions.record([Recorded(question, 1.0)], holdout=1)
    (row,) = store.questions.page(1)
    run_id = store.runs.create(Trigger.OPERATOR, {}).id
    pair = Pair(row.id, ProbeOrigin.DISAGREEMENT, Side("so 4", "4"), Side("so 5", "5"))
    store.comparisons.add(run_id, [pair])
    assert distill.labels_of(store) == []
    (stored,) = store.comparisons.waiting()
    store.comparisons.judge(stored, judgement)
    found = distill.labels_of(store)
    assert {text: told for _, text, told in found} == right
    assert {each.hash for each, _, _ in found} <= {question.hash}


def run(store, state_dir, **more):
    out = state_dir / "out"
    return distill.run(store, state_dir, out, Training("nothing"), "rubric", **more)


def test_without_scores_there_is_nothing_to_distill(store, tmp_path):
    with pytest.raises(DistillRefused, match="no scores of a judge are recorded"):
        run(store, tmp_path)
    Records(tmp_path).add("j", [("of", 0.5)])
    with pytest.raises(DistillRefused, match="no scores of k are recorded; there are those of j"):
        run(store, tmp_path, judge="k")
    with pytest.raises(DistillRefused, match="0 scored samples, of 0 held-out questions; 20"):
        run(store, tmp_path)


def test_a_directory_of_somebody_else_is_not_replaced(tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(DistillRefused, match="is no distilled judge"):
        distill.distill(answers(200), [], {}, "j", tmp_path / "out", Training("nothing"), "rubric")
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]


def test_pairs_of_answers_are_compared_within_a_question():
    one, other = NOISY[0], NOISY[-1]
    assert one.cluster != other.cluster
    alike = [Graded("q", a, b) for a, b in ((0.1, 0.3), (0.2, 0.2), (0.3, 0.9))]
    shares = [float((b.judge - a.judge) * (b.distilled - a.distilled) > 0)
              for a, b in combinations(alike, 2)]  # fmt: skip
    assert grading._ordered(alike) == pytest.approx(sum(shares) / 3)
