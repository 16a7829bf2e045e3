"""From questions to groups: rounds of samples, the vote, what is kept."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import replace

import pytest

from ttrl.answers import Reader
from ttrl.answers.layers import Layer
from ttrl.config import Config, UpdateConfig, VoteConfig
from ttrl.engine.client import EngineError, EngineRefused, EngineUnreachable, ModelCard
from ttrl.engine.samples import Finish, Sample, SampleSet, longest_answer
from ttrl.questions.question import from_prompt
from ttrl.sampling.groups import Roller, cut_off, pacer_for, rows, to_learn_from, with_length
from ttrl.store.questions import QuestionState, StoredQuestion
from ttrl.votes import Stop, VoteOutcome

QUESTION = StoredQuestion(1, from_prompt("What is 2 plus 3?"), 1, False, QuestionState.NEW, None)


class Engine:
    """Gives these answers, one after the other, "-" being cut off and "?" unreadable; `asked` are
    the sizes of its rounds, `prompts` what it was asked."""

    def __init__(self, answers):
        self._answers = deque(answers)
        self.asked = []
        self.prompts = set()
        self.limit = None

    def load(self):
        return None

    def sample(self, question, *, model, n, sampling, **_how):
        self.asked.append(n)
        self.prompts.add(question.text)
        self.limit = sampling.max_tokens
        samples = (one_sample(self._answers.popleft()) for _ in range(n))
        return SampleSet(model, (7,), tuple(samples))


def one_sample(answer):
    finish = Finish.LENGTH if answer == "-" else Finish.STOP
    text = "no idea" if answer == "?" else rf"\boxed{{{answer}}}"
    return Sample(text, (1, 2), (-0.1, -0.2), finish)


def fail(_question, error):
    raise error


def rolled(answers, references=None, **vote):
    engine = Engine(answers)
    settings = VoteConfig(**{"samples": 16, "rounds": 3, **vote})
    with pacer_for(engine, settings) as pacer:
        roller = Roller(engine, settings, UpdateConfig(keep=8), pacer, Reader(), references or {})
        (group,) = roller.roll([QUESTION], version="v", draw=1, refused=fail, failed=fail)
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


def test_samples_end_where_the_users_answer_does_and_are_drawn_as_the_trainer_computes():
    sent = {"temperature": 0.2, "top_p": 0.9, "stop": ["#"], "max_tokens": 7, "ignore_eos": True}
    question = replace(QUESTION.question, sampling=sent)
    fields = to_learn_from(question, VoteConfig(temperature=0.8, max_tokens=50)).fields
    assert fields["stop"] == ["#"]
    assert "ignore_eos" not in fields
    assert (fields["temperature"], fields["top_p"], fields["max_tokens"]) == (0.8, 1.0, 50)


@pytest.mark.parametrize(
    ("prompt", "sampled", "recorded"),
    [
        ("What is 2 plus 3?", "What is 2 plus 3?\n\nBox it.", "Box it."),
        ("What is 2 plus 3? As JSON.", "What is 2 plus 3? As JSON.", None),
    ],
)
def test_samples_are_drawn_with_the_instruction_and_the_vote_says_so(prompt, sampled, recorded):
    engine, settings = Engine("56" * 8), VoteConfig(samples=16, instruction="Box it.")
    question = replace(QUESTION, question=from_prompt(prompt))
    with pacer_for(engine, settings) as pacer:
        roller = Roller(engine, settings, UpdateConfig(keep=8), pacer, Reader())
        (group,) = roller.roll([question], version="v", draw=1, refused=fail, failed=fail)
    assert engine.prompts == {sampled}
    assert group.question is question
    vote, _ = rows(group, run_id=1, step=1)
    assert vote["instruction"] == recorded


class Versions(Engine):
    """Each version's samples say something else."""

    def sample(self, question, *, model, n, sampling, **how):
        self.asked.append((model, n))
        return SampleSet(model, (7,), tuple(map(one_sample, self.says[model][:n])))


@pytest.mark.parametrize(
    ("says", "outcome", "label", "rewarded"),
    [
        ({"old": "5" * 12 + "7" * 4, "new": "7" * 6 + "5" * 2}, VoteOutcome.LABEL, "5", 2),
        ({"old": "5" * 8 + "7" * 8, "new": "5" * 8}, VoteOutcome.TIE, None, 0),
        ({"old": "-" * 16, "new": "5" * 8}, VoteOutcome.UNREADABLE, None, 0),
    ],
)
def test_a_teachers_samples_vote_once_on_what_the_candidates_are_worth(
    says, outcome, label, rewarded
):
    engine, settings = Versions(""), VoteConfig(samples=16)
    engine.says = says
    with pacer_for(engine, settings) as pacer:
        update = UpdateConfig(keep=8)
        roller = Roller(engine, settings, update, pacer, Reader(), teacher="old")
        groups = [
            group
            for version in ("old", "new", "new")
            for group in roller.roll([QUESTION], version=version, draw=1, refused=fail, failed=fail)
        ]
    assert engine.asked == [("old", 16), ("new", 8), ("new", 8)]
    assert {group.vote.outcome for group in groups} == {outcome}
    assert {group.vote.label for group in groups} == {label}
    assert [len(group.vote.answers) for group in groups] == [16, 8, 8]
    assert sum(groups[1].rewards) == rewarded


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


@pytest.mark.parametrize(
    ("answers", "outcome", "kept"),
    [
        ("7798" + "-" * 28, VoteOutcome.TOO_FEW_READABLE, 4),
        ("7" * 12 + "8" * 8 + "-" * 12, VoteOutcome.LABEL, 8),
        ("-" * 12 + "8" * 8 + "7" * 12, VoteOutcome.LABEL, 8),
        ("7" * 12 + "????" + "-" * 16, VoteOutcome.TOO_FEW_READABLE, 8),
        ("7" * 16 + "?" * 4 + "-" * 12, VoteOutcome.LABEL, 8),
        ("-" * 32, VoteOutcome.UNREADABLE, 0),
        ("-" * 31 + "7", VoteOutcome.TOO_FEW_READABLE, 1),
    ],
)
def test_what_was_cut_off_is_not_trained_on(answers, outcome, kept):
    """Neither as right nor as wrong; and of what can be read alone there is no majority."""
    group, _ = rolled(answers, samples=32, rounds=1)
    finishes = {group.drawn.samples[place].finish for place in group.kept}
    assert (group.vote.outcome, len(group.kept)) == (outcome, kept)
    assert finishes <= {Finish.STOP}
    assert group.informative is (outcome is VoteOutcome.LABEL)
    assert all(not group.rewards[n] for n, answer in enumerate(answers) if answer == "-")


def test_all_that_can_be_trained_on_agrees():
    group, _ = rolled("7" * 20 + "-" * 12, samples=32, rounds=1)
    assert group.vote.label == "7"
    assert group.fate == (QuestionState.NO_SIGNAL, "100% agree")


def test_a_first_round_that_was_cut_off_does_not_decide():
    group, sizes = rolled("--55" + "5556" + "6" * 8)
    assert sizes == [4, 4, 8]
    assert group.vote.stop is Stop.ALL


def test_only_what_may_be_trained_on_is_stored_token_by_token():
    group, _ = rolled("7" * 12 + "8" * 8 + "-" * 12, samples=32, rounds=1)
    _, drawn = rows(group, run_id=1, step=1)
    assert [bool(row["token_ids"]) for row in drawn] == [row["kept"] for row in drawn]
    assert [bool(row["logprobs"]) for row in drawn] == [row["kept"] for row in drawn]
    assert all(row["text"] for row in drawn)
    unanimous, _ = rolled("7" * 32, samples=32, rounds=1)
    _, drawn = rows(unanimous, run_id=1, step=1)
    assert not any(row["token_ids"] or row["logprobs"] for row in drawn)


class Ailing(Engine):
    """Fails for some questions."""

    def __init__(self, errors):
        super().__init__("5" * 40 + "6" * 60)
        self._errors = errors

    def sample(self, question, **how):
        if question.text in self._errors:
            raise self._errors[question.text]
        return super().sample(question, **how)


def test_a_question_that_cannot_be_had_costs_only_itself():
    errors = {
        "busy": EngineRefused(503, "busy"),
        "late": EngineUnreachable("late"),
        "strange": EngineError("in an unknown form"),
        "nobody": EngineRefused(404, "no such model"),
        "long": EngineRefused(400, "too long"),
    }
    engine, told = Ailing(errors), []
    questions = [
        StoredQuestion(number, from_prompt(text), 1, False, QuestionState.NEW, None)
        for number, text in enumerate(["What is 2 plus 3?", *errors, "What is 3 plus 3?"])
    ]
    settings = VoteConfig(samples=16)
    with pacer_for(engine, settings) as pacer:
        roller = Roller(engine, settings, UpdateConfig(), pacer, Reader())
        groups = roller.roll(
            questions,
            version="v",
            draw=1,
            refused=lambda question, _: told.append(("refused", question.question.text)),
            failed=lambda question, _: told.append(("failed", question.question.text)),
        )
    assert [group.question.id for group in groups] == [0, 6]
    assert told == [("refused" if text == "long" else "failed", text) for text in errors]


def test_a_question_whose_prompt_changes_between_two_rounds_cannot_be_had():
    class Dated(Engine):
        def sample(self, question, **how):
            return replace(super().sample(question, **how), prompt_ids=(len(self.asked),))

    engine, settings, told = Dated("56" * 8), VoteConfig(samples=16, rounds=3), []
    with pacer_for(engine, settings) as pacer:
        roller = Roller(engine, settings, UpdateConfig(keep=8), pacer, Reader())
        found = roller.roll(
            [QUESTION],
            version="v",
            draw=1,
            refused=fail,
            failed=lambda _, error: told.append(str(error)),
        )
    assert found == []
    assert told[0].startswith("the prompt's tokens differ between two requests for one question")


@pytest.mark.parametrize(
    ("samples", "cut", "says"),
    [
        (100, 62, "62% of the samples were cut off at vote.max_tokens=1024; raise it"),
        (100, 10, ""),
        (0, 0, ""),
    ],
)
def test_what_is_cut_off_is_said(samples, cut, says):
    layers = Counter({Layer.BOX: samples - cut, Layer.CUT_OFF: cut})
    assert cut_off(layers, 1024) == says


@pytest.mark.parametrize(
    ("context", "longest"),
    [(40_960, 8192), (8192, 6144), (4096, 2048), (2048, 1024), (512, 256), (1, 1), (None, 8192)],
)
def test_how_long_an_answer_may_be_follows_from_the_context(context, longest):
    assert longest_answer(context) == longest


def test_a_number_that_was_given_is_taken():
    class Engine:
        def base_model(self):
            return ModelCard("m", None, None, 4096)

    assert with_length(Config(), Engine()).vote.longest == 2048
    assert with_length(Config(vote={"max_tokens": 77}), None).vote.longest == 77


def test_a_question_whose_answers_cannot_be_read_is_left_out():
    class Choking(Reader):
        def read(self, question, texts):
            if question == QUESTION.question.text:
                raise ValueError("what it choked on")
            return super().read(question, texts)

    engine, settings, failed = Engine("5" * 16), VoteConfig(samples=4, rounds=1), []
    with pacer_for(engine, settings) as pacer:
        roller = Roller(engine, settings, UpdateConfig(keep=4), pacer, Choking())
        other = replace(QUESTION, id=2, question=from_prompt("What is 1 plus 4?"))
        groups = roller.roll(
            [QUESTION, other], version="v", draw=1, refused=fail,
            failed=lambda question, error: failed.append((question.id, type(error))),
        )  # fmt: skip
    assert [group.question.id for group in groups] == [2]
    assert failed == [(1, ValueError)]
