"""From questions to groups: rounds of samples, the vote, what is kept."""

from __future__ import annotations

from collections import deque

import pytest

from ttrl.answers import Reader
from ttrl.config import UpdateConfig, VoteConfig
from ttrl.questions import from_prompt
from ttrl.rollouts import NONE, Roller, pacer_for
from ttrl.samples import Finish, Sample, SampleSet
from ttrl.stopping import Stop
from ttrl.store.questions import QuestionState, StoredQuestion
from ttrl.votes import VoteOutcome

QUESTION = StoredQuestion(1, from_prompt("What is 2 plus 3?"), 1, False, QuestionState.NEW, None)


class Engine:
    """Gives these answers, one after the other; `asked` are the sizes of its rounds."""

    def __init__(self, answers):
        self._answers = deque(answers)
        self.asked = []

    def load(self):
        return None

    def sample(self, _question, *, model, n, **_how):
        self.asked.append(n)
        texts = [rf"\boxed{{{self._answers.popleft()}}}" for _ in range(n)]
        samples = (Sample(text, (1, 2), (-0.1, -0.2), Finish.STOP) for text in texts)
        return SampleSet(model, (7,), tuple(samples))


def rolled(answers, references=NONE, **vote):
    engine = Engine(answers)
    settings = VoteConfig(samples=16, rounds=3, **vote)
    with pacer_for(engine, settings) as pacer:
        roller = Roller(engine, settings, UpdateConfig(keep=8), pacer, Reader(), references)
        (group,) = roller.roll([QUESTION], version="v", draw=1, refused=pytest.fail)
    return group, engine.asked


@pytest.mark.parametrize(
    ("answers", "asked", "stop", "share"),
    [
        ("5555" + "6" * 12, [4], Stop.DECIDED, 1.0),
        ("5556" + "5556" + "6" * 8, [4, 4, 8], Stop.ALL, 10 / 16),
        ("5556" + "5555" + "6" * 8, [4, 4], Stop.DECIDED, 7 / 8),
        ("56" * 8, [4, 4, 8], Stop.ALL, 0.5),
    ],
)
def test_no_further_round_once_the_vote_is_decided(answers, asked, stop, share):
    group, sizes = rolled(answers)
    assert sizes == asked
    assert (group.vote.stop, group.vote.share) == (stop, share)
    assert len(group.drawn.samples) == len(group.vote.answers) == len(group.rewards) == sum(asked)


def test_how_sure_is_a_setting():
    assert rolled("5556" + "5556" + "6" * 8, sure=0.9)[1] == [4, 4]
    assert rolled("5555" + "5" * 12, sure=0.97)[1] == [4, 4]


def test_what_the_model_is_too_sure_of_has_no_label():
    group, _ = rolled("5556" + "5555" + "5" * 8, ceiling=0.8)
    assert group.vote.outcome is VoteOutcome.ABOVE_CEILING
    assert group.fate == (QuestionState.NO_LABEL, "above_ceiling")


@pytest.mark.parametrize(
    ("answers", "asked", "outcome"),
    [
        ("5555" + "5555" + "5" * 8, [4, 4, 8], VoteOutcome.ABOVE_CEILING),
        ("5555" + "5556" + "6" * 8, [4, 4], VoteOutcome.LABEL),
        ("5555" + "5555" + "56" * 4, [4, 4, 8], VoteOutcome.LABEL),
    ],
)
def test_only_the_share_of_all_samples_is_above_the_ceiling(answers, asked, outcome):
    """That of a few is so by chance; where it is below, the vote may be decided as ever."""
    group, sizes = rolled(answers, ceiling=0.9)
    assert (group.vote.outcome, sizes) == (outcome, asked)
    if outcome is VoteOutcome.ABOVE_CEILING:
        assert group.vote.stop is Stop.ALL


def test_without_a_label_only_a_reference_teaches():
    tied = "56" * 8
    group, _ = rolled(tied, rewards={"readable": 1.0, "reference": 1.0})
    assert group.fate == (QuestionState.NO_LABEL, "tie")
    known = {QUESTION.question.hash: ("5",)}
    group, _ = rolled(tied, known, rewards={"readable": 1.0, "reference": 1.0})
    assert group.fate == (QuestionState.LEARNED_FROM, None)
    assert group.rewards[0] > group.rewards[-1]
