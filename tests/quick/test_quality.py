"""How good a version's answers are, against numbers worked out by hand."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from ttrl.evaluation.estimates import Asked, Quality, Withheld, measure
from ttrl.evaluation.evidence import Answered
from ttrl.store import shapes


def asked(answers, right=None, cluster=None, tokens=10.0, **more):
    given = tuple(None if answer == "?" else answer for answer in answers)
    judged = None if right is None else tuple(answer == right for answer in answers)
    return Asked(cluster or answers, Answered(given, judged, tokens, 0.5), **more)


def test_by_hand():
    found = measure([asked("aabc"), asked("aaa?", right="a"), asked("bcbb", right="c")])
    assert found is not None
    assert (found.questions, found.labelled) == (3, 2)
    assert found.agreement == pytest.approx((2 / 4 + 3 / 4 + 3 / 4) / 3)
    assert found.consistency == pytest.approx((2 / 12 + 6 / 12 + 6 / 12) / 3)
    assert found.readable == pytest.approx((1 + 3 / 4 + 1) / 3)
    assert found.pass_at_1 == pytest.approx((3 / 4 + 1 / 4) / 2)
    assert found.pass_at_k == 1.0
    assert found.majority_right == 0.5
    assert (found.tokens, found.seconds, found.refused) == (10.0, 0.5, 0.0)
    assert found.estimate is None, "two labels are too few"


def test_near_duplicates_are_one():
    found = measure([asked("aaaa", cluster="x"), asked("abcd", cluster="x"), asked("abab")])
    assert found is not None
    assert found.agreement == pytest.approx(((1 + 0.25) / 2 + 0.5) / 2)


def test_without_labels_what_is_right_is_not_said():
    found = measure([asked("ab")])
    assert found is not None
    assert found.pass_at_1 is found.pass_at_k is found.majority_right is None


def test_labelled_probes_have_an_interval_however_few():
    for count, least in ((1, 0.0), (20, 0.75)):
        found = measure([asked("aa", right="a", cluster=str(n)) for n in range(count)])
        assert found is not None
        assert found.right is not None
        assert (found.right.value, found.right.labels) == (found.pass_at_1, count)
        assert least <= found.right.low < 0.9
        assert found.right.high == 1.0


@pytest.mark.parametrize(
    ("labels", "drawn", "share", "why"),
    [
        (19, True, "aa", Withheld.FEW),
        (50, False, "aa", Withheld.FEW),
        (50, True, "ab", Withheld.APART),
        (50, True, "aa", None),
    ],
)
def test_why_nothing_is_said_of_the_traffic(labels, drawn, share, why):
    known = [asked("aa", right="a", cluster=f"l{n}", drawn=drawn) for n in range(labels)]
    found = measure([*known, *(asked(share, cluster=f"u{n}") for n in range(50))])
    assert found is not None
    assert (found.withheld, found.speaking) == (why, labels if drawn else 0)
    assert (found.estimate is None) == (why is not None)


def test_nothing_asked_is_nothing_measured():
    assert measure([]) is None


def test_only_what_was_drawn_speaks_for_the_traffic():
    """Questions that the versions disagreed on are the hard ones."""
    drawn = [asked("aaaa", right="a", cluster=f"d{n}") for n in range(25)]
    hard = [
        asked("abcd", right="d", cluster=f"h{n}", drawn=False, tags=("hard",)) for n in range(25)
    ]
    found = measure([*drawn, *hard])
    assert found is not None
    assert found.pass_at_1 == pytest.approx(0.625)
    assert found.estimate is not None
    assert found.estimate.value == 1.0
    assert found.estimate.labels == 25
    assert found.tags["hard"].value == pytest.approx(0.25)


def test_the_store_can_keep_it():
    found = measure([asked("aa", right="a", cluster=str(n), tags=("t",)) for n in range(20)])
    assert found is not None
    assert found.tags["t"].value == 1.0
    assert shapes.load(Quality, json.loads(json.dumps(shapes.dump(found)))) == found


def rejecting(answers, wrong, **more):
    """Answers to a question of which only `wrong` ones are known."""
    one = asked(answers, **more)
    rejected = tuple(answer is None or answer in wrong for answer in one.answered.answers)
    return replace(one, answered=replace(one.answered, rejected=rejected))


def test_wrong_answers_alone_say_something_of_the_traffic():
    right = [asked("aaab", right="a", cluster=f"r{n}") for n in range(30)]
    wrong = [rejecting("ccd?", "c", cluster=f"w{n}") for n in range(10)]
    found = measure([*right, *wrong], (0, 99))
    assert found is not None
    assert (found.labelled, found.speaking) == (30, 40)
    assert found.pass_at_1 == 0.75, "of the labels that decide"
    assert found.undecided == pytest.approx(0.25 * 10 / 40)
    assert found.estimate is not None
    assert found.estimate.value == pytest.approx(0.75 * 30 / 40, abs=0.001)
    half = measure([*right, *wrong])
    assert half is not None
    assert half.estimate is not None
    assert half.estimate.value == pytest.approx((0.75 * 30 + 0.125 * 10) / 40)


def test_skipped_questions_widen_the_interval_unless_nothing_could_be_read():
    right = [asked("aaaa", right="a", cluster=f"r{n}") for n in range(30)]

    def of(*more):
        found = measure([*right, *more])
        assert found is not None
        assert found.estimate is not None
        return found.speaking, found.estimate

    assert of()[1].value == 1.0
    skipped = [rejecting("cccd", "", cluster=f"s{n}", skipped=True) for n in range(10)]
    speaking, found = of(*skipped)
    assert (speaking, found.value, found.high) == (30, 1.0, 1.0)
    assert found.low < 0.75
    blank = [rejecting("????", "", cluster=f"s{n}", skipped=True) for n in range(10)]
    speaking, found = of(*blank)
    assert (speaking, found.value) == (40, 0.75), "what cannot be read is wrong"


def test_what_was_labelled_for_being_hard_is_still_a_part_of_the_traffic():
    """Without it the others agree more than the traffic does."""
    labelled = [asked("aaab", right="a", cluster=f"r{n}") for n in range(20)]
    easy = [asked("aaaa", cluster=f"e{n}") for n in range(30)]
    hard = [asked("abcd", right="a", drawn=False, cluster=f"h{n}") for n in range(30)]
    found = measure([*labelled, *easy, *hard])
    assert found is not None
    assert found.withheld is Withheld.APART
    found = measure([*labelled, *easy, *(replace(each, traffic=True) for each in hard)])
    assert found is not None
    assert found.withheld is None
    assert found.estimate is not None
    assert found.estimate.unlabelled == 60


def test_near_duplicates_are_one_for_the_estimate():
    once = [asked("aaaa" if n % 2 else "bbbb", right="a", cluster=str(n)) for n in range(30)]
    thrice = [each for each in once for _ in range(3)]
    one, other = measure(once), measure(thrice)
    assert one is not None
    assert other is not None
    assert one.estimate == other.estimate
