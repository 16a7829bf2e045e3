"""What may come of a lesson: only weights that the guard trusts are chosen from."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.candidate import Candidate
from jobs.lesson import Distrusted, Lesson
from ttrl.answers import Reader
from ttrl.config import Config
from ttrl.engine.pacer import Pacer
from ttrl.guard import Action, Rule, Ruling
from ttrl.metrics import Metrics
from ttrl.policy import NothingLeft
from ttrl.questions import from_prompt
from ttrl.rollouts import Group
from ttrl.samples import Finish, Sample, SampleSet
from ttrl.store.questions import QuestionState, Recorded, StoredQuestion
from ttrl.store.runs import Trigger
from ttrl.votes import take_vote


class Engine:
    """Takes any adapter at once."""

    def load_adapter(self, name: str, directory: Path) -> None:
        assert directory.is_dir()

    def unload_adapter(self, name: str) -> None:
        pass


@pytest.fixture
def lesson(tmp_path):
    """After six steps, of which every other one was kept; the latest choice is always the best."""
    candidate = Candidate(Engine(), tmp_path, 1, "base", keep={2, 4, 6})
    for step in range(1, 7):
        candidate.deploy(Path.mkdir, step)
    return Lesson(Config(), None, Rolls(), 1, [], candidate, None, lambda steps, take: max(steps))


@pytest.mark.parametrize(
    ("ruling", "step"),
    [(Ruling(Action.GO_ON, trusted=6), 6), (Ruling(Action.HOLD, 5, Rule.KL, "far away"), 4)],
)
def test_the_last_trusted_step_is_the_last_to_choose_from(lesson, ruling, step):
    lesson.ruling = ruling
    assert lesson.settle().name.endswith(f"-{step}")


@pytest.mark.parametrize(
    "ruling",
    [Ruling(Action.HOLD, 1, Rule.KL, "far away"), Ruling(Action.ABORT, 0, Rule.MISMATCH, "others")],
)
def test_where_no_kept_step_is_trusted_there_is_no_result(lesson, ruling):
    lesson.ruling = ruling
    with pytest.raises(Distrusted, match=ruling.reason):
        lesson.settle()


def groups_of(texts, teaches=True):
    """A group for each question."""
    found = []
    for number, text in enumerate(texts):
        question = StoredQuestion(number, from_prompt(text), 1, False, QuestionState.NEW, None)
        samples = tuple(Sample(a, (number, 2), (-1.0, -1.0), Finish.STOP) for a in "557")
        vote = take_vote(["5", "5", "7"], floor=0.0 if teaches else 0.9)
        worth = (1.0, 1.0, 0.0) if teaches else (0.0, 0.0, 0.0)
        found.append(Group(question, SampleSet("v", (number,), samples), vote, worth, (0, 2)))
    return found


class Rolls:
    """Hands out a new group for each question it is asked."""

    reader = Reader()

    def __init__(self, teaches=True):
        self.asked = []
        self.teaches = teaches

    def roll(self, questions, *, version, draw, refused):
        self.asked.append(len(questions))
        known = groups_of([question.question.text for question in questions], self.teaches)
        return [replace(g, question=q) for g, q in zip(known, questions, strict=True)]


def lesson_on(store, directory, rolls, count, **update):
    """A lesson on so many new questions."""
    texts = [f"question {n}" for n in range(count)]
    store.questions.record([Recorded(from_prompt(text), 1.0) for text in texts], holdout=0)
    run = store.runs.create(Trigger.OPERATOR, {})
    config = Config(vote={"samples": 3}, update={"questions_per_step": 4, "keep": 2, **update})
    candidate = Candidate(Engine(), directory, run.id, "base", keep={1})
    pacer = Pacer(lambda: None, maximum=4, pause_waiting=8)
    return Lesson(config, store, rolls, run.id, store.questions.new(count), candidate, pacer, max)


def test_a_draw_that_teaches_nothing_is_counted(store, tmp_path):
    """Or nobody could tell from outside why nothing is learned."""
    with pytest.raises(NothingLeft):
        lesson_on(store, tmp_path, Rolls(teaches=False), 12).draw()
    (run,) = store.runs.newest()
    (seen,) = store.runs.observed()
    metrics = Metrics()
    metrics.observed(seen.kind, seen.numbers)
    found = metrics.registry.get_sample_value
    votes = found("ttrl_votes_total", {"outcome": "below_floor"})
    assert votes >= run.questions >= 4
    assert run.samples == found("ttrl_samples_total") == 3 * votes
    assert run.tokens == found("ttrl_sampled_tokens_total") == 6 * votes
    assert found("ttrl_groups_informative_ratio") == 0
    assert run.steps == found("ttrl_update_steps_total") == 0


@pytest.mark.parametrize(("replay", "fresh"), [(0.0, [4, 4, 4]), (0.5, [4, 2, 2])])
def test_samples_of_earlier_steps_stand_in_for_new_ones(store, tmp_path, replay, fresh):
    rolls = Rolls()
    lesson = lesson_on(store, tmp_path, rolls, 12, replay=replay)
    drawn = [lesson.draw() for _ in range(3)]
    assert rolls.asked == fresh
    assert [len(rows) for rows in drawn] == [8, 8, 8], "a step's rows are always as many"
    assert len(lesson.learned_from) == sum(fresh)


class Agreed(Rolls):
    """Every other question has these answers instead, and nothing is to be learned of it."""

    def __init__(self, answers, **bounds):
        super().__init__()
        self._vote = take_vote(answers, **bounds)
        self.times = Counter()

    def roll(self, questions, **how):
        self.times.update(question.id for question in questions)
        return [
            replace(group, vote=self._vote, rewards=(0.0,) * 3) if group.question.id % 2 else group
            for group in super().roll(questions, **how)
        ]


@pytest.mark.parametrize(
    ("answers", "bounds", "state", "again"),
    [
        ("555", {}, (QuestionState.NO_SIGNAL, "100% agree"), False),
        ("555", {"ceiling": 0.9}, (QuestionState.NO_LABEL, "above_ceiling"), False),
        ("556", {"ceiling": 0.6}, (QuestionState.NO_LABEL, "above_ceiling"), False),
        ("567", {}, (QuestionState.NO_LABEL, "tie"), True),
        ("556", {"floor": 0.9}, (QuestionState.NO_LABEL, "below_floor"), True),
    ],
)
def test_what_is_sure_of_itself_is_asked_once_in_a_run(
    store, tmp_path, answers, bounds, state, again
):
    """What has no label for want of agreement is asked in the next round, and after a step."""
    rolls = Agreed(answers, **bounds)
    lesson = lesson_on(store, tmp_path, rolls, 8)
    for _ in range(4):
        lesson.draw()
    agreed = [row for row in store.questions.page(8) if row.id % 2]
    assert {(row.state, row.reason) for row in agreed} == {state}
    assert all((rolls.times[row.id] > 1) is again for row in agreed)
    assert all(times > 1 for key, times in rolls.times.items() if not key % 2)
