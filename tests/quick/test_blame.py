"""Whose fault it is that a question has no vote, draw by draw."""

from __future__ import annotations

import pytest

from jobs.run import FAILED_DRAWS, FAILURES, Draws
from ttrl.engine.client import EngineRefused, EngineUnreachable
from ttrl.rewards import RewardFailed

GONE, BROKEN, OURS = EngineUnreachable("gone"), EngineRefused(500, "no"), ValueError("some words")
REWARD = RewardFailed("the reward raised")


@pytest.mark.parametrize(
    ("faults", "voted", "labelled", "answers", "again", "kept_back", "ends"),
    [
        pytest.param([GONE], 3, 3, True, [0], [], None, id="one is not answered"),
        pytest.param([GONE, GONE], 0, 0, False, [0, 1], [], None, id="none is answered, once"),
        pytest.param([GONE, OURS], 0, 0, False, [0], [1], None, id="of two kinds"),
        pytest.param([OURS], 3, 3, False, [], [0], None, id="one cannot be read"),
        pytest.param([OURS], 0, 0, False, [], [0], None, id="the only one cannot be read"),
        pytest.param([OURS, OURS], 0, 0, False, [], [0], OURS, id="none can be read"),
        pytest.param([OURS, OURS], 1, 0, False, [], [0, 1], None, id="two of three cannot be read"),
        pytest.param([REWARD] * 2, 1, 0, False, [], [0], REWARD, id="a reward raises for each"),
        pytest.param([REWARD] * 2, 1, 1, False, [], [0, 1], None, id="a reward raises for two"),
        pytest.param([REWARD, OURS], 1, 0, False, [], [0, 1], None, id="not a reward alone"),
    ],
)
def test_of_one_draw(faults, voted, labelled, answers, again, kept_back, ends):
    blame = Draws().blame(
        list(enumerate(faults)), voted=voted, labelled=bool(labelled), answers=lambda: answers
    )
    assert list(blame.again) == again
    assert [key for key, _ in blame.kept_back] == kept_back
    assert blame.fault is ends


@pytest.mark.parametrize(
    ("voted", "answers", "draws", "kept_back", "ends"),
    [
        pytest.param(3, False, FAILURES, [7], None, id="others are answered"),
        pytest.param(0, True, FAILURES, [7], None, id="something else is answered"),
        pytest.param(0, False, FAILED_DRAWS, [], BROKEN, id="nothing is answered"),
    ],
)
def test_of_a_question_that_is_never_answered(voted, answers, draws, kept_back, ends):
    seen = Draws()

    def draw():
        return seen.blame([(7, BROKEN)], voted=voted, labelled=False, answers=lambda: answers)

    for _ in range(draws - 1):
        assert draw().again == [7]
    last = draw()
    assert [key for key, _ in last.kept_back] == kept_back
    assert last.fault is ends


def test_a_version_that_the_engine_lacks_is_no_questions_fault():
    seen, lacks = Draws(), EngineRefused(404, "no such model")
    for _ in range(2 * FAILURES):
        blame = seen.blame([(7, lacks)], voted=3, labelled=True, answers=lambda: True)
        assert blame.again == [7]


def test_an_engine_that_answers_again_begins_anew():
    seen = Draws()
    for voted in [0] * (FAILED_DRAWS - 1) + [1] + [0] * (FAILED_DRAWS - 1):
        blame = seen.blame([(voted, GONE)], voted=voted, labelled=False, answers=lambda: False)
        assert blame.fault is None
