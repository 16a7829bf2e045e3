"""Whether a set of questions is worth a run: by its votes, and by its answers where it has some."""

from __future__ import annotations

import pytest

from jobs.measure import assess, why_not
from tests.answering import Engine, labels, sums
from ttrl.config import Config


@pytest.mark.parametrize(
    ("teachable", "no_label", "scores", "reason"),
    [
        (0.5, 0.2, [], ""),
        (0.05, 0.2, [], "too little"),
        (0.3, 0.6, [], "most questions have no majority"),
        (0.5, 0.2, [(True, 0.3)], ""),
        (0.5, 0.2, [(True, 0.9), (False, 0.1)], "correct, 50% of single samples"),
        (0.5, 0.2, [(True, 0.6), (False, 0.2)], ""),
        (0.5, 0.2, [(True, 0.6), (False, 0.1), (False, 0.1)], ": 33% of the majority"),
        (0.5, 0.2, [(True, 0.99), (True, 0.99), (False, 0.4)], ": 67% of the majority"),
    ],
)
def test_which_sets_are_worth_a_run(teachable, no_label, scores, reason):
    words = why_not(teachable, no_label, scores)
    assert bool(words) == bool(reason)
    assert reason in words


def assessed(answers):
    config = Config(vote={"samples": 16})
    return assess(Engine(), config, sums(12), version="live", limit=12, answers=answers)


def test_the_answers_of_a_file_tell_how_many_majorities_are_correct():
    right = {label.question.hash: label.accepted for label in labels(8)}
    found = assessed(right)
    assert (found.asked, found.labelled) == (12, 8)
    assert found.majority_right == 1.0
    assert found.pass_at_1 == pytest.approx(0.5, abs=0.15)
    assert found.worth_it


def test_a_set_whose_majorities_are_wrong_is_not_worth_a_run():
    wrong = {label.question.hash: ("1",) for label in labels(12)}
    found = assessed(wrong)
    assert (found.majority_right, found.pass_at_1) == (0.0, 0.0)
    assert "0% of the majority answers are correct" in found.why_not


def test_without_answers_the_votes_decide():
    found = assessed({})
    assert (found.labelled, found.majority_right) == (0, None)
    assert found.worth_it
