"""Other wordings that vote, and labels that are weak, change, or are unreliable."""

from collections import Counter

import pytest

from jobs.measure import reliability_of
from jobs.probes import Item
from ttrl import rewards
from ttrl.answers import Reader
from ttrl.answers.layers import Layer
from ttrl.config import AnswerKind, UpdateConfig, VoteConfig
from ttrl.engine.samples import Finish, Sample, SampleSet
from ttrl.evaluation.evidence import Answered
from ttrl.evaluation.probes import LabelledProbe, ProbeOrigin
from ttrl.questions.question import from_prompt
from ttrl.sampling import prompts
from ttrl.sampling.groups import Roller, pacer_for
from ttrl.sampling.prompts import Views, reworded
from ttrl.store.questions import QuestionState, StoredQuestion
from ttrl.verifiers import Verifier
from ttrl.votes import View, VoteOutcome, take_vote

PROMPT = "What is 12 plus 30?"
QUESTION = StoredQuestion(1, from_prompt(PROMPT), 1, False, QuestionState.NEW, None)


@pytest.mark.parametrize(
    ("own", "others", "label"),
    [
        # 6/8 and 1/8 have the harmonic mean 3/14, 2/8 and 7/8 have 7/18
        ("5" * 6 + "7" * 2, ["5" + "7" * 7], "7"),
        ("5" * 8, ["7" * 8], None),
        ("5" * 6 + "7" * 2, ["5" * 8], "5"),
        ("5" * 5 + "7" * 3, ["5" * 3 + "7" * 5], None),  # a tie
        ("5" * 8, ["5" * 8, "5" * 8, "7" * 8], None),
        ("5" * 8, ["-" * 8], None),
        ("-" * 8, ["5" * 8], None),
        ("5" * 6 + "7" * 2, [], "5"),
    ],
)
def test_an_answer_wins_by_what_it_has_in_all_wordings(own, others, label):
    def read(answers):
        return [None if answer == "-" else answer for answer in answers]

    ways = [View(read(each), (Layer.WHOLE_TEXT,) * len(each)) for each in others]
    vote = take_vote(read(own), views=ways, floor=0.1)
    assert vote.label == label
    assert vote.answers == tuple(read(own))
    assert dict(vote.counts) == Counter(filter(None, read(own)))
    assert take_vote(read(own), views=ways[::-1], floor=0.1) == vote


def test_what_was_found_wrong_has_no_share_in_any_wording():
    others = [View("5" * 6 + "7" * 2, [Layer.REFUTED] * 6 + [Layer.WHOLE_TEXT] * 2)]
    assert take_vote("5" * 6 + "7" * 2, views=others, floor=0.1).label == "7"
    right = [Layer.VERIFIED] + [Layer.WHOLE_TEXT] * 7
    assert take_vote("5" * 6 + "7" * 2, layers=right, views=others, floor=0.1).label == "5"


@pytest.mark.parametrize(
    ("text", "keeps"),
    [
        ("How much do 12 and 30 make together?", True),
        ("Add 30 to 12.", True),
        ("12 + 30 = ?", True),
        ("what is 12 plus 30", False),  # the same
        ("What is 12 plus 31?", False),
        ("What is 12 plus 30 plus 5?", False),
        ("How much does Alice have, who had 12 and got 30?", False),
        ("It is 42.", False),
        (" ", False),
    ],
)
def test_a_wording_keeps_the_facts_and_is_another(text, keeps):
    assert [each.text for each in reworded(QUESTION.question, [text])] == [text] * keeps


def test_only_a_users_plain_last_words_are_said_otherwise():
    pictured = {"messages": [{"role": "user", "content": [{"type": "text", "text": PROMPT}]}]}
    after_a_tool = {
        "messages": [
            {"role": "user", "content": PROMPT},
            {"role": "tool", "tool_call_id": "a", "content": "42"},
        ]
    }
    for body in (pictured, after_a_tool):
        question = from_prompt(PROMPT)
        question = type(question)(body, "hash")
        assert reworded(question, ["Add 12 and 30."]) == []
    before = [{"role": "system", "content": "Be short."}]
    question = type(question)(
        {"messages": [*before, {"role": "user", "content": PROMPT}]}, "hash", {"top_p": 0.5}
    )
    (other,) = reworded(question, ["Add 12 and 30.", "add 12 and 30"])
    assert other.body["messages"][0] == before[0]
    assert (other.text, other.sampling) == ("Add 12 and 30.", question.sampling)


class Engine:
    """Answers by the words of the prompt, and says which prompts were asked how often."""

    def __init__(self, says):
        self._says, self.asked = says, []

    def load(self):
        return None

    def sample(self, question, *, model, n, sampling, **how):
        self.asked.append((question.text, model, n))
        found = next(answers for part, answers in self._says.items() if part in question.text)
        answers = found.pop(0) if isinstance(found, list) else found
        texts = (answers * n)[:n] if isinstance(answers, str) else answers
        return SampleSet(
            model, (7,), tuple(Sample(t, (1, 2), (-0.1, -0.2), Finish.STOP) for t in texts)
        )


def fail(_question, error):
    raise error


def rolled(says, visits=1, *, versions=("v",), made=None, teacher=None, fooled=(), **vote):
    engine, settings = Engine(says), VoteConfig(**{"samples": 16, "floor": 0.1, **vote})
    with pacer_for(engine, settings) as pacer:
        roller = Roller(
            engine,
            settings,
            UpdateConfig(keep=8),
            pacer,
            Reader(),
            teacher=teacher,
            views=made or prompts.load(settings),
            fooled=fooled,
        )
        groups = [
            group
            for visit in range(visits)
            for group in roller.roll(
                [QUESTION],
                version=versions[visit % len(versions)],
                draw=visit,
                refused=fail,
                failed=fail,
            )
        ]
    return groups, engine.asked


def test_the_engine_is_asked_once_for_other_words_and_the_samples_are_shared():
    wordings = ["Add 12 and 30.", "What is 12 plus 31?"]
    says = {"other words": [wordings], "Add": "5557", "What": "7775"}
    groups, asked = rolled(says, visits=2, views=2)
    assert [each[1:] for each in asked] == [("v", 2), *[("v", 8)] * 4]
    assert [each[0] for each in asked[1:]] == ["Add 12 and 30.", PROMPT] * 2
    assert groups[0].vote.outcome is VoteOutcome.TIE  # 6/8 and 2/8 in turns
    assert [len(group.drawn.samples) for group in groups] == [8, 8]
    assert [group.tokens for group in groups] == [2 * (2 + 16), 2 * 16]


def test_without_other_words_all_samples_are_the_questions_own():
    made = Views(2, lambda text: [text.upper(), "What is 12 plus 99?"])
    (group,), asked = rolled({"What": "5557"}, views=3, made=made)
    assert [each[1:] for each in asked] == [("v", 16)]
    assert group.vote.label == "5"
    assert made.remark() == "1 of 1 questions had too few other wordings"


def test_a_teacher_votes_in_all_wordings_once():
    made = Views(1, lambda _: ["Add 12 and 30."])
    says = {"Add": "55", "What": ["55557777", "77", "77"]}
    groups, asked = rolled(says, visits=2, versions=("new",), made=made, teacher="old", views=2)
    assert asked == [
        (PROMPT, "old", 8),
        ("Add 12 and 30.", "old", 8),
        (PROMPT, "new", 8),
        (PROMPT, "new", 8),
    ]
    assert [group.vote.label for group in groups] == ["5", "5"]
    assert [sum(group.rewards) for group in groups] == [0, 0]


def test_samples_without_a_majority_are_lowered_together():
    (group,), _ = rolled({"What": "12345678"}, floor=0.5, penalty=0.4)
    assert group.informative
    assert (group.penalty, group.fate) == (0.4, (QuestionState.LEARNED_FROM, None))
    (group,), _ = rolled({"What": "12345678"}, floor=0.5)
    assert not group.informative


def test_a_changed_label_trains_less_and_keeps_what_a_minority_says():
    answers = ["5" * 12 + "7" * 4, "7" * 10 + "5" * 6, *["7" * 12 + "5" * 4] * 3]
    groups, _ = rolled(
        {"What": answers},
        visits=5,
        flip_discount=0.5,
        rewards={"minority_preserving": 1.0},
    )
    assert [group.scale for group in groups] == [1.0, 0.5, 1.0, 1.0, 1.0]
    assert [sorted(set(group.rewards)) for group in groups] == [
        [0, 1], [rewards.MINORITY, 1], [rewards.MINORITY, 1], [rewards.MINORITY, 1], [0, 1],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"views": 2, "rounds": 2}, "vote.rounds must be 1"),
        ({"views": 4, "samples": 6}, "at least twice vote.views"),
        ({"rephrase": "other"}, "module:function"),
    ],
)
def test_settings_that_contradict(settings, says):
    with pytest.raises(ValueError, match=says):
        VoteConfig(**settings)


def item(number, origin=ProbeOrigin.OPERATOR, tags=()):
    probe = LabelledProbe(
        from_prompt(f"{number}?"), ("right",), None, tags,
        id=number, cluster="", origin=origin, added=0.0, exposures=0,
    )  # fmt: skip
    return Item(number, probe.question, probe)


def answered(says, kind=AnswerKind.TEXT):
    return Answered(tuple(says), tuple(each == "right" for each in says), texts=says, kind=kind)


RIGHT, WRONG = ("right", "right", "no"), ("no", "no", "right")


@pytest.mark.parametrize(
    ("asked", "kinds", "fooled"),
    [
        ([(item(n), answered(WRONG)) for n in range(8)], {"text": 0.0}, {"text"}),
        ([(item(n), answered(RIGHT)) for n in range(8)], {"text": 1.0}, set()),
        ([(item(n), answered(WRONG)) for n in range(2)], {"text": 0.0}, set()),  # may be chance
        (
            [(item(n), answered(WRONG, AnswerKind.MATH)) for n in range(8)]
            + [(item(n), answered(RIGHT)) for n in range(8)],
            {"math": 0.0, "text": 1.0},
            {"math"},
        ),
        # They are labelled because somebody said that they are wrong.
        ([(item(n, ProbeOrigin.FEEDBACK), answered(WRONG)) for n in range(8)], {}, set()),
        ([(item(n), answered(("right", "no"))) for n in range(8)], {}, set()),  # a tie
    ],
)
def test_how_often_majorities_are_right_is_measured_by_kind(asked, kinds, fooled):
    found = reliability_of(Verifier(), asked)
    assert {kind: each.value for kind, each in found.kinds.items()} == kinds
    assert found.fooled == fooled


def test_and_by_the_probes_tags():
    asked = [
        (item(n, tags=("sums", str(n % 2))), answered((RIGHT, WRONG)[n % 2])) for n in range(8)
    ]
    found = reliability_of(Verifier(), asked)
    assert {tag: each.value for tag, each in found.tags.items()} == {"sums": 0.5, "0": 1, "1": 0}


@pytest.mark.parametrize(
    ("fooled", "outcome"),
    [
        ({AnswerKind.MATH}, VoteOutcome.UNRELIABLE),
        ({AnswerKind.FREE}, VoteOutcome.LABEL),
        ((), VoteOutcome.LABEL),
    ],
)
def test_no_majority_of_an_unreliable_kind_is_a_label(fooled, outcome):
    (group,), _ = rolled({"What": "5557"}, fooled=fooled)
    assert group.vote.outcome is outcome
    assert group.informative == (outcome is VoteOutcome.LABEL)


def test_a_majority_that_other_signals_contradict_is_told():
    made = Views(1, lambda _: ["Add 12 and 30."])
    groups, _ = rolled({"Add": "5", "What": "55577777"}, made=made, views=2)
    assert [(g.vote.label, g.contradicted) for g in groups] == [("5", True)]
    groups, _ = rolled({"Add": "7", "What": "55577777"}, made=made, views=2)
    assert [(g.vote.label, g.contradicted) for g in groups] == [("7", False)]
