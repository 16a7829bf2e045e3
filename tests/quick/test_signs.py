"""What is counted of a step: flips, questions that look alike, lengths, what cannot be read."""

from __future__ import annotations

import pytest

from ttrl.answers import AnswerKind, Reader
from ttrl.engine.samples import Finish, Sample, SampleSet
from ttrl.monitoring.signs import Signs, Watch
from ttrl.questions.question import from_prompt
from ttrl.sampling.groups import Group
from ttrl.store.questions import QuestionState, StoredQuestion
from ttrl.votes import take_vote


def group(key: int, answers: str, *, tokens: int = 4) -> Group:
    """A question whose samples gave these one-letter answers; `-` was cut off, `?` is unreadable.
    Those that agree with the first are worth something, and all are kept."""
    asked = StoredQuestion(key, from_prompt(f"q{key}"), 1, False, QuestionState.NEW, None)
    samples = tuple(
        Sample(each, (1,) * tokens, (-0.5,) * tokens, Finish.LENGTH if each == "-" else Finish.STOP)
        for each in answers
    )
    vote = take_vote([None if each in "-?" else each for each in answers])
    worth = tuple(float(each == answers[0]) for each in answers)
    kept = tuple(range(len(answers)))
    return Group(asked, SampleSet("base", (1,), samples), vote, worth, kept)


def read(*steps: list[Group]) -> list[Signs]:
    watch = Watch(Reader())
    return [watch.read(step, groups, {}) for step, groups in enumerate(steps, 1)]


def test_a_label_flips_against_the_last_one_that_the_question_had():
    signs = read(
        [group(1, "aab"), group(2, "ccd")],
        [group(1, "ab"), group(2, "ddd")],  # the first is a tie: no label, and none forgotten
        [group(1, "bba"), group(2, "ddc"), group(3, "eee")],
        [group(1, "bbb")],
    )
    assert [each.asked_again for each in signs] == [0, 1, 2, 1]
    assert [each.flipped for each in signs] == [0, 1, 1, 0]
    assert [visit.last_step for visit in signs[2].visits] == [1, 2, None]
    assert [visit.new for visit in signs[2].visits] == [False, False, True]
    assert [visit.last_share for visit in signs[3].visits] == [pytest.approx(2 / 3)]
    assert len({visit.label for visit in signs[2].visits}) == 3


def test_only_votes_that_were_decided_can_change():
    sure, other, unsure = "aaaaaaaa", "bbbbbbbb", "aaabbcdd"
    (_, again, now, last, same) = read(
        [group(1, sure)], [group(1, unsure)], [group(1, other)], [group(1, sure)],
        [group(1, sure)],
    )  # fmt: skip
    (again, now, last, same) = (each.visits[0] for each in (again, now, last, same))
    assert (again.sure, again.changed) == (False, None)
    assert (now.sure, now.changed) == (True, None), "the vote before was not decided"
    assert (last.changed, same.changed) == (True, False)
    assert last.label == same.label == 0


def test_a_question_is_compared_with_its_first_vote_even_if_that_had_no_label():
    first, again = read([group(1, "ab-?", tokens=9)], [group(1, "aaa-", tokens=3)])
    assert first.visits[0].new
    (visit,) = again.visits
    assert (visit.first_unreadable, visit.first_length, visit.length) == (0.5, 9, 3)
    assert (visit.new, visit.last_step, visit.changed) == (False, None, None)


def test_the_signs_hold_no_text():
    (signs,) = read([group(1, "aab"), group(2, "ccd")])
    assert "a" not in {str(value) for visit in signs.visits for value in vars(visit).values()}


def test_a_question_drawn_twice_in_a_step_counts_once():
    (signs,) = read([group(1, "aab"), group(1, "bba"), group(2, "bbc")])
    assert (signs.asked_again, signs.flipped) == (0, 0)
    assert signs.alike == 1, "two questions, and both have b in the end"


@pytest.mark.parametrize(
    ("labels", "alike"),
    [("abcd", 0), ("aaaa", 1), ("aabb", 1 / 3), ("a", None), ("", None)],
)
def test_pairs_of_questions_with_one_label(labels, alike):
    groups = [group(key, label * 3) for key, label in enumerate(labels)] + [group(99, "??")]
    assert read(groups)[0].alike == (alike if alike is None else pytest.approx(alike))


def test_means_are_over_samples_and_the_trainers_numbers_pass():
    groups = [group(1, "aa?-", tokens=10), group(2, "bbbb", tokens=2)]
    numbers = {
        "entropy": 0.5,
        "effective_tokens": 0.9,
        "effective_sequences": 0.7,
        "mismatch": 0.25,
    }
    signs = Watch(Reader()).read(3, groups, numbers)
    assert (signs.step, signs.length, signs.unreadable, signs.cut) == (3, 6, 0.25, 0.125)
    assert (signs.share, signs.no_signal) == (0.75, 0.5)
    assert (signs.token_entropy, signs.mismatch, signs.effective, signs.kl) == (
        0.5,
        0.25,
        0.7,
        None,
    )


def test_a_label_said_in_other_words_is_no_flip():
    def said(key, text):
        drawn = tuple(Sample(text, (1,), (-0.5,), Finish.STOP) for _ in range(2))
        vote = take_vote([text, text], kind=AnswerKind.FREE)
        asked = StoredQuestion(key, from_prompt("How long?"), 1, False, QuestionState.NEW, None)
        return Group(asked, SampleSet("base", (1,), drawn), vote, (1.0, 1.0), (0, 1))

    first, again = "You may return it within 30 days.", "It may be returned within 30 days."
    signs = read([said(1, first)], [said(1, again), said(2, again)], [said(1, "For 14 days.")])
    assert [each.flipped for each in signs] == [0, 0, 1]
    assert signs[1].alike == 1
