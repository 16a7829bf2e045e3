"""A run's training loop against a stand-in engine: what is sampled, trained on, and trusted."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from threading import Semaphore

import pytest

from jobs.candidate import Candidate
from jobs.run import FAILED_DRAWS, PINS, VOTE_OUTCOMES, Run, Tally
from tests.standin import DEADLINE
from ttrl.answers import Reader
from ttrl.answers.layers import Layer
from ttrl.config import Config
from ttrl.engine.client import EngineRefused, EngineUnreachable, ModelCard
from ttrl.engine.pacing import Pacer, PacerClosed
from ttrl.engine.samples import Finish, Sample, SampleSet
from ttrl.events import read
from ttrl.metrics import Metrics
from ttrl.monitoring.run import LABELS, Action, Rule, Ruling
from ttrl.questions.question import from_prompt
from ttrl.rewards import RewardFailed
from ttrl.sampling.groups import Group
from ttrl.store import Store
from ttrl.store.questions import QuestionState, Recorded, StoredQuestion
from ttrl.store.runs import RunState, Trigger
from ttrl.training import TrainingEnded
from ttrl.votes import VoteOutcome, take_vote


class Engine:
    """Takes any adapter at once, under a name that is free, and keeps it until it is restarted."""

    def __init__(self) -> None:
        self.loaded: list[str] = []
        self.serves: set[str] = set()
        self.silent = 0
        """Times more that it does not say what it serves."""
        self.up = False
        """Whether it answers a plain prompt."""

    def prompt_logprobs(self, token_ids, *, model):
        if not self.up:
            raise GONE
        return (None,) * len(token_ids)

    def models(self) -> tuple[ModelCard, ...]:
        if self.silent:
            self.silent -= 1
            raise GONE
        return tuple(ModelCard(name, "base", None, None) for name in self.serves)

    def load_adapter(self, name: str, directory: Path) -> None:
        assert directory.is_dir()
        if name in self.serves:
            raise EngineRefused(400, f"{name} has already been loaded")
        self.loaded.append(name)
        self.serves.add(name)

    def unload_adapter(self, name: str) -> None:
        if name not in self.serves:
            raise EngineRefused(404, f"{name} cannot be found")
        self.serves.remove(name)

    def restart(self) -> None:
        self.serves.clear()


GONE = EngineUnreachable("the engine at http://127.0.0.1:1 cannot be reached")


@pytest.fixture
def run(store, tmp_path):
    """After six steps, of which every other one was kept."""
    run = run_on(store, tmp_path, Rolls(), 4, keep={2, 4, 6})
    for step in range(1, 7):
        run.candidate.deploy(Path.mkdir, step)
    return run


@pytest.mark.parametrize(
    ("ruling", "steps"),
    [
        (Ruling(Action.GO_ON, trusted=6), [2, 4, 6]),
        (Ruling(Action.HOLD, 5, Rule.KL, "far away"), [2, 4]),
        (Ruling(Action.HOLD, 1, Rule.KL, "far away"), []),
        (Ruling(Action.ABORT, 0, Rule.MISMATCH, "others"), []),
    ],
)
def test_only_trusted_steps_are_chosen_from(run, ruling, steps):
    run.ruling = ruling
    assert run.trusted_steps() == steps


@pytest.mark.parametrize("step", [6, 4])
@pytest.mark.parametrize(("restarted", "silent"), [(False, 0), (True, 0), (True, 1)])
def test_the_chosen_step_is_in_the_engine(run, step, restarted, silent):
    """Also in one that was restarted after the last draw: the gate asks it next."""
    if restarted:
        run.client.restart()
    run.client.silent = silent
    name = run.candidate.load(step)
    assert name.endswith(f"-{step}")
    assert run.client.serves == {name}


def test_the_last_steps_weights_stay_for_what_is_still_sampled(run, tmp_path):
    assert {name[-2:] for name in run.client.serves} == {"-5", "-6"}
    assert {path.name[-1] for path in tmp_path.glob("ttrl-cand-*")} == {"2", "4", "5", "6"}
    assert run.candidate.steps == [2, 4, 6], "to choose from"


def voted(answers, unread=Layer.NOTHING_FOUND, **bounds):
    """A vote on answers in boxes, and on others that were not read."""
    layers = [Layer.BOX if answer else unread for answer in answers]
    return take_vote(answers, layers=layers, **bounds)


def groups_of(texts, teaches=True):
    """A group for each question."""
    found = []
    for number, text in enumerate(texts):
        question = StoredQuestion(number, from_prompt(text), 1, False, QuestionState.NEW, None)
        samples = tuple(Sample(a, (number, 2), (-1.0, -1.0), Finish.STOP) for a in "557")
        vote = voted(["5", "5", "7"], floor=0.0 if teaches else 0.9)
        worth = (1.0, 1.0, 0.0) if teaches else (0.0, 0.0, 0.0)
        found.append(Group(question, SampleSet("v", (number,), samples), vote, worth, (0, 2)))
    return found


class Rolls:
    """Hands out a new group for each question it is asked."""

    teacher = None

    reader = Reader()

    def __init__(self, teaches=True):
        self.asked = []
        self.teaches = teaches

    def each(self, questions, **how):
        while questions:
            asked = list(questions)
            questions.clear()
            yield from self.roll(asked, **how)

    def roll(self, questions, *, version, draw, refused, failed):
        self.asked.append(len(questions))
        known = groups_of([question.question.text for question in questions], self.teaches)
        return [replace(g, question=q) for g, q in zip(known, questions, strict=True)]


def run_on(store, directory, rolls, count, keep=(1,), **update):
    """A run on so many new questions."""
    texts = [f"question {n}" for n in range(count)]
    store.questions.record([Recorded(from_prompt(text), 1.0) for text in texts], holdout=0)
    row = store.runs.create(Trigger.OPERATOR, {})
    steps = {"questions_per_step": 4, "keep": 2, "overlap": False, **update}
    config = Config(vote={"samples": 3}, update=steps)
    run = Run(config, store, Engine(), row.id)
    candidate = Candidate(run.client, directory, row.id, "base", keep=set(keep))
    pacer = Pacer(lambda: None, maximum=4, pause_waiting=8)
    run.prepare(store.questions.new(count), 99, candidate, rolls, pacer)
    run.save = Path.mkdir
    return run


def test_a_draw_that_teaches_nothing_is_counted(store, tmp_path):
    """Or nobody could tell from outside why nothing is learned."""
    with pytest.raises(TrainingEnded):
        run_on(store, tmp_path, Rolls(teaches=False), 12).next_batch(0, {})
    (run,) = store.runs.newest()
    (seen,) = store.runs.observed()
    metrics = Metrics()
    metrics.observed(read(seen))
    found = metrics.registry.get_sample_value
    votes = found("ttrl_votes_total", {"outcome": "below_floor"})
    assert votes >= run.questions >= 4
    assert run.samples == found("ttrl_samples_total", {"read": "box"}) == 3 * votes
    assert run.tokens == found("ttrl_sampled_tokens_total") == 6 * votes
    assert found("ttrl_groups_informative_ratio") == 0
    assert run.steps == found("ttrl_update_steps_total") == 0


class Collapsing(Rolls):
    """Each of the first questions gets an answer of its own, and all others the same one."""

    def roll(self, questions, **how):
        groups = super().roll(questions, **how)
        if sum(self.asked) > 28:
            vote = voted(["9"] * 3)
            return [replace(group, vote=vote, rewards=(0.0,) * 3) for group in groups]
        return [
            replace(group, vote=voted([f"{group.question.id}"] * 2 + ["x"])) for group in groups
        ]


def test_a_collapse_that_leaves_nothing_to_learn_is_seen_as_one(store, tmp_path):
    """All samples of all questions agree, so no further step will show it."""
    run = run_on(store, tmp_path, Collapsing(), 60)
    for step in range(4):
        run.next_batch(step, {})
    with pytest.raises(TrainingEnded):
        run.next_batch(4, {})
    assert (run.ruling.rule, run.ruling.collapse) == (Rule.ALIKE, True)
    assert run.ruling.trusted <= 3


def test_a_collapse_that_ends_the_run_is_seen_in_the_first_questions(store, tmp_path):
    """There are none left that were not asked before, and those are few."""
    run = run_on(store, tmp_path, Collapsing(), 28, passes=1)
    for step in range(4):
        run.next_batch(step, {})
    with pytest.raises(TrainingEnded):
        run.next_batch(4, {})
    assert run.ruling.rule is Rule.ALIKE
    again = run._seen[-1].visits
    assert len(again) == LABELS
    assert not any(visit.new for visit in again)


@pytest.mark.parametrize(("replay", "fresh"), [(0.0, [4, 4]), (0.5, [2, 2])])
def test_samples_of_earlier_steps_stand_in_for_new_ones(store, tmp_path, replay, fresh):
    rolls = Rolls()
    run = run_on(store, tmp_path, rolls, 60, replay=replay)
    drawn = [run.next_batch(step, {}) for step in range(3)]
    assert rolls.asked == [LABELS, *fresh], "the first step has as many as the monitor compares"
    assert [len(rows) for rows in drawn] == [8, 8, 8], "a step's rows are always as many"
    assert len(run.trained_on) == 4 + sum(fresh)


class Gated(Rolls):
    """Its draws after the first end when the trainer says so."""

    def __init__(self):
        super().__init__()
        self.versions = []
        self.begun, self.trained = Semaphore(0), Semaphore(0)

    def roll(self, questions, *, version, draw, **how):
        self.versions.append(version)
        self.begun.release()
        assert draw == 1 or self.trained.acquire(timeout=DEADLINE)
        return super().roll(questions, version=version, draw=draw, **how)

    def wait(self, draws):
        for _ in range(draws):
            assert self.begun.acquire(timeout=DEADLINE)


def test_the_next_step_is_sampled_while_one_is_trained(store, tmp_path):
    """From the weights before it, and no older ones."""
    rolls = Gated()
    run = run_on(store, tmp_path, rolls, 60, overlap=True)
    run.next_batch(0, {})
    rolls.wait(2)  # the trainer has the first step's samples, and the second's are being drawn
    for step in (1, 2, 3):
        rolls.trained.release()
        run.next_batch(step, {})
        rolls.wait(1)
    run.abandon()
    rolls.trained.release()
    assert [name[-2:] for name in rolls.versions] == ["se", "se", "-1", "-2", "-3"]
    assert [signs.staleness for signs in run._seen] == [0, 1, 1]


def test_the_same_is_trained_on_with_and_without_overlap(tmp_path):
    """Of an engine that answers the same whatever the weights."""

    def trained(overlap):
        directory = tmp_path / f"{overlap}"
        directory.mkdir()
        with Store.open(directory) as store:
            run = run_on(store, directory, Agreed("567"), 30, overlap=overlap)
            for step in range(6):
                rows = run.next_batch(step, {})
                yield [group.question.id for group in run._groups], [row.prompt_ids for row in rows]
            run.abandon()

    assert [*trained(True)] == [*trained(False)]


def test_what_is_still_sampled_when_a_run_ends_is_not_written_down(store, tmp_path):
    rolls = Gated()
    run = run_on(store, tmp_path, rolls, 60, overlap=True)
    run.next_batch(0, {})
    rolls.wait(2)
    run.abandon()
    rolls.trained.release()
    with pytest.raises(PacerClosed):
        run._sampling.groups.result(DEADLINE)
    assert run.tally.votes == LABELS
    assert sum(len(store.votes.newest(row.id)) for row in store.questions.page(60)) == LABELS


class Scarce(Rolls):
    """Of each step's questions, the first alone teaches; its prompt is the step's number."""

    def __init__(self):
        super().__init__()
        self.step, self.taught = 0, set()

    def roll(self, questions, **how):
        groups, teaches = super().roll(questions, **how), self.step not in self.taught
        self.taught.add(self.step)
        torn = voted("567")
        marked = [
            replace(group, drawn=replace(group.drawn, prompt_ids=(self.step,))) for group in groups
        ]
        return [
            group if teaches and not n else replace(group, vote=torn, rewards=(0.0,) * 3)
            for n, group in enumerate(marked)
        ]


@pytest.mark.parametrize(("replay", "steps", "ages"), [(0.0, 6, {0}), (0.5, 20, {0, 1, 2, 3, 4})])
def test_samples_are_replayed_up_to_four_steps_later(
    store, tmp_path, monkeypatch, replay, steps, ages
):
    """However few questions teach in a step; and nothing is held that is not replayed."""
    rolls, found = Scarce(), set()
    run = run_on(store, tmp_path, rolls, 12, replay=replay, steps=steps)
    monkeypatch.setattr(run, "_monitor", str)  # so little that teaches looks like a fall
    for rolls.step in range(1, steps + 1):
        found |= {rolls.step - row.prompt_ids[0] for row in run.next_batch(rolls.step - 1, {})}
    assert found == ages
    assert bool(run._replayable) is bool(replay)


class Agreed(Rolls):
    """Every other question has these answers instead, and nothing is to be learned of it."""

    def __init__(self, answers, **bounds):
        super().__init__()
        self._vote = voted(answers, **bounds)
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
    run = run_on(store, tmp_path, rolls, 8)
    for step in range(4):
        run.next_batch(step, {})
    agreed = [row for row in store.questions.page(8) if row.id % 2]
    assert {(row.state, row.reason) for row in agreed} == {state}
    assert all((rolls.times[row.id] > 1) is again for row in agreed)
    assert all(times > 1 for key, times in rolls.times.items() if not key % 2)


class Failing(Rolls):
    """Cannot get the first `lost` questions of each draw whose number is in `draws`."""

    def __init__(self, error, draws, lost=99):
        super().__init__()
        self._error, self._draws, self._lost = error, draws, lost
        self.first = lambda: None

    def roll(self, questions, *, draw, failed, **how):
        lost = questions[: self._lost] if draw in self._draws else []
        if lost:
            self.first()
        for question in lost:
            failed(question, self._error)
        return super().roll(questions[len(lost) :], draw=draw, failed=failed, **how)


@pytest.mark.parametrize(("draws", "lost", "asked"), [({1}, 2, [10]), ({1, 2}, 99, [0, 0, 4])])
def test_a_question_that_cannot_be_had_is_left_out_of_the_step(store, tmp_path, draws, lost, asked):
    rolls = Failing(GONE, draws, lost)
    run = run_on(store, tmp_path, rolls, 12)
    assert len(run.next_batch(0, {})) == 8
    assert rolls.asked == asked
    every = 2 if lost == 2 else 16
    assert run.tally.unanswered == every
    assert run.tally.remarks(99) == f"{every} sampling requests got no answer from the engine"
    metrics = Metrics()
    for seen in store.runs.observed():
        metrics.observed(read(seen))
    assert metrics.registry.get_sample_value("ttrl_questions_unanswered_total") == every
    assert len(run.trained_on) == 4
    assert len(store.questions.new(12)) == 12, "until a version is written, all is as new as before"


def test_a_question_that_cannot_be_had_keeps_its_pass(store, tmp_path):
    """Or a run of one pass would not ask it again."""
    run = run_on(store, tmp_path, Failing(GONE, {1}, lost=2), 4, passes=1)
    assert len(run.next_batch(0, {})) == 8
    assert len(run.trained_on) == 4
    with pytest.raises(TrainingEnded):
        run.next_batch(1, {})


class Poisoned(Rolls):
    """Cannot get the questions with these ids."""

    def __init__(self, error, ids, **how):
        super().__init__(**how)
        self._error, self._ids = error, ids

    def roll(self, questions, *, failed, **how):
        for question in questions:
            if question.id in self._ids:
                failed(question, self._error)
        good = [each for each in questions if each.id not in self._ids]
        return super().roll(good, failed=failed, **how)


def kept_back(store):
    return {(row.id, row.reason) for row in store.questions.page(99, kind="failed")}


@pytest.mark.fault(
    "the answers to one question cannot be had, read, scored or stored",
    sees="nothing",
    keeps="everything; the question is kept back as `failed`, and the run goes on",
)
@pytest.mark.parametrize(
    ("error", "reason", "times"),
    [
        (GONE, "EngineUnreachable", 2),
        (EngineRefused(500, "of this question"), "status 500", 2),
        (ValueError("its own words"), "ValueError", 0),
    ],
)
def test_a_question_that_can_never_be_had_does_not_hold_up_the_run(
    store, tmp_path, error, reason, times
):
    run = run_on(store, tmp_path, Poisoned(error, {1}, teaches=False), 4, passes=1)
    run.client.up = True
    with pytest.raises(TrainingEnded):
        run.next_batch(0, {})
    assert run.tally.unanswered == times
    assert kept_back(store) == {(1, reason)}
    assert store.questions.release([1]) == 1


@pytest.mark.parametrize(
    ("error", "but"), [(ValueError("of all"), set()), (RewardFailed("of all"), {1, 2, 3})]
)
def test_what_fails_with_every_question_is_the_runs_own_fault(store, tmp_path, error, but):
    """As a reward that raises, which is not asked about what has no label; one question is kept
    back, or the next run would be the same."""
    rolls = Poisoned(error, set(range(99)) - but, teaches=False)
    run = run_on(store, tmp_path, rolls, 12)
    with pytest.raises(type(error), match="of all"):
        run.next_batch(0, {})
    assert [reason for _, reason in kept_back(store)] == [type(error).__name__]
    assert len(store.questions.new(99)) == 11


def test_many_questions_that_can_never_be_had_do_not_end_each_run(store, tmp_path):
    """They come first, again and again, and the engine answers everything else."""
    first = [row.id for row in run_on(store, tmp_path, Rolls(), 60).rounds.take(3 * LABELS)]
    store.runs.end(1, RunState.FAILED, "")
    run = run_on(store, tmp_path, Poisoned(EngineRefused(500, "no"), set(first)), 60)
    run.client.up = True
    assert len(run.next_batch(0, {})) == 8
    back = {key for key, _ in kept_back(store)}
    assert len(back) == LABELS
    assert back < set(first)


def test_what_an_engine_that_is_gone_does_not_answer_stays_new(store, tmp_path):
    run = run_on(store, tmp_path, Failing(GONE, set(range(9))), 60)
    with pytest.raises(EngineUnreachable):
        run.next_batch(0, {})
    assert len(store.questions.new(99)) == 60


def test_samples_that_cannot_be_stored_cost_their_question(store, tmp_path):
    class Halved(Rolls):
        def roll(self, questions, **how):
            whole, *more = super().roll(questions, **how)
            half = replace(whole.drawn.samples[0], text="half a pair: \ud83d")
            drawn = replace(whole.drawn, samples=(half, *whole.drawn.samples[1:]))
            return [replace(whole, drawn=drawn), *more]

    run = run_on(store, tmp_path, Halved(), 12)
    assert len(run.next_batch(0, {})) == 8
    assert [reason for _, reason in kept_back(store)] == ["UnicodeEncodeError"]


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"passes": 2}, "each question with a training signal was sampled 2 times (update.passes)"),
        ({"steps": 2}, ""),
    ],
)
def test_the_end_of_a_run_is_told_as_it_is(store, tmp_path, how, said):
    """That its passes are used up is the usual one, and no question is to blame for it."""
    rolls = Rolls()
    run = run_on(store, tmp_path, rolls, 4, **how)
    for step in range(2):
        run.next_batch(step, {})
    rolls.teaches = False
    with pytest.raises(TrainingEnded) as raised:
        run.next_batch(2, {})
    assert str(raised.value) == said


def test_an_engine_that_is_gone_before_the_first_step_fails_the_run(store, tmp_path):
    rolls = Failing(GONE, range(99))
    with pytest.raises(EngineUnreachable, match="cannot be reached"):
        run_on(store, tmp_path, rolls, 12).next_batch(0, {})
    assert len(rolls.asked) == FAILED_DRAWS


def test_an_engine_that_is_gone_later_leaves_the_steps_to_be_judged(store, tmp_path):
    run = run_on(store, tmp_path, Failing(GONE, range(2, 99)), 12)
    run.next_batch(0, {})
    with pytest.raises(TrainingEnded, match=r"the engine stopped answering: .* cannot be reached"):
        run.next_batch(1, {})
    engine = run.client
    engine.restart()
    (step,) = run.trusted_steps()
    name = run.candidate.load(step)
    assert name.endswith("-1")
    assert engine.serves == {name}
    assert len(run.pins()) == PINS, "of the last draw that there was"


@pytest.mark.parametrize(
    ("error", "restored"), [(EngineRefused(404, "no such model"), True), (GONE, False)]
)
def test_an_engine_that_was_started_anew_gets_the_weights_again(store, tmp_path, error, restored):
    rolls = Failing(error, {2})
    run = run_on(store, tmp_path, rolls, 12)
    run.next_batch(0, {})
    if restored:
        rolls.first = run.client.restart
    assert len(run.next_batch(1, {})) == 8
    names = run.client.loaded
    assert len(names) == (2 if restored else 1)
    assert len(set(names)) == 1


def test_before_the_first_step_a_run_waits_until_users_are_served_again(
    store, tmp_path, monkeypatch
):
    """The engine was started anew; the daemon has not loaded yet what the run started from."""
    monkeypatch.setattr("jobs.candidate.LOOK_SECONDS", 0.01)
    rolls = Failing(EngineRefused(404, "no such model"), {1, 2, 3})
    run = run_on(store, tmp_path, rolls, 12)
    looks, models = [], run.client.models

    def loaded_at_the_third_look():
        looks.append(1)
        rolls._draws = {1}
        return models() if len(looks) < 3 else (ModelCard("base", None, None, None),)

    run.client.models = loaded_at_the_third_look
    assert len(run.next_batch(0, {})) == 8
    assert len(looks) == 3
    assert run.client.loaded == []


def test_a_run_in_which_all_was_cut_off_says_so():
    tally = Tally()
    for group in groups_of(["a", "b", "c"]):
        vote = voted([None] * 3, Layer.CUT_OFF)
        tally.add(replace(group, vote=vote, rewards=(0.0,) * 3, kept=()))
    assert tally.nothing(1024) == (
        "no question had a training signal; of 3 votes, 3 had no readable answer; "
        "100% of the samples were cut off at vote.max_tokens=1024; raise it"
    )
    assert tally.remarks(1024).startswith("100% of the samples were cut off")


def test_the_end_says_why_no_question_could_teach():
    tally, causes = Tally(unanswered=2), ["567", "556", "55555", "555", ("5", None, None)]
    (group,) = groups_of(["a"])
    for answers in causes:
        vote = voted(answers, floor=0.9, ceiling=0.99 if len(answers) == 5 else 1.0)
        tally.add(replace(group, vote=vote, rewards=(0.0,) * 3))
    assert tally.nothing(1024) == (
        "no question had a training signal; of 5 votes, 1 tied, "
        "1 had too small a majority (vote.floor), 1 had too large a majority (vote.ceiling), "
        "1 had equal rewards for all kept samples, "
        "1 had too few readable answers; 2 sampling requests got no answer from the engine"
    )


def test_a_run_that_went_well_has_no_remarks():
    tally = Tally()
    for group in groups_of(["a", "b"]):
        tally.add(group)
    assert (tally.remarks(1024), tally.uninformative) == ("", {})


def test_every_outcome_has_words():
    assert set(VOTE_OUTCOMES) == set(VoteOutcome)


def test_a_question_whose_answers_were_cut_off_fills_no_row(store, tmp_path):
    class Cut(Rolls):
        def roll(self, questions, **how):
            found = super().roll(questions, **how)
            vote = voted([None] * 3, Layer.CUT_OFF)
            return [
                replace(group, vote=vote, rewards=(0.0,) * 3, kept=()) if n else group
                for n, group in enumerate(found)
            ]

    run = run_on(store, tmp_path, Cut(), 8)
    drawn = run.next_batch(0, {})
    assert len(drawn) == 8
    assert {row.reward for row in drawn} == {0.0, 1.0}
