"""Which questions say nearly the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttrl.evaluation.probes import Apart
from ttrl.questions.near_duplicates import LEAST_COMMON, Common, Known, gist
from ttrl.questions.question import Question, digest, from_prompt

SAME = [
    ("What is 417 plus 286?", "what is  417 plus 286"),
    ("What is 417 plus 286?", "417 plus 286 is what?!"),
    ("Wie hoch ist der Eiffelturm?", "wie hoch ist der EIFFELTURM"),
    ("東京の人口は?", "東京の人口は"),
]
NEAR = [
    (
        "Which valve of the boiler do I have to open first in winter?",
        "Which valve of the boiler do I need to open first in winter?",
    ),
    ("東京都の人口は何人ですか", "東京の人口は何人ですか?"),
]
DIFFERENT = [
    ("What is 417 plus 286?", "What is 417 plus 287?"),
    ("What is 417 minus 286?", "What is 286 minus 417?"),
    ("417 + 286 = ?", "417 - 286 = ?"),
    ("A pump of 2.5 kW", "A pump of 25 kW"),
    ("How tall is the Eiffel tower?", "How old is the tower of Pisa?"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_writing_alone_makes_no_difference(one, other):
    assert gist(one).key == gist(other).key
    assert from_prompt(one).cluster == from_prompt(other).cluster


@pytest.mark.parametrize(("one", "other"), NEAR + SAME)
def test_near_duplicates_of_a_probe_are_recognised(one, other):
    assert Known([one]).like(other)
    assert Known([other]).like(one)


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_other_numbers_signs_and_words_are_other_questions(one, other):
    assert not Known([one]).like(other)
    assert gist(one).key != gist(other).key


WORDS = st.sampled_from(["the", "pump", "is", "red", "and", "7", "8", "?"])
TEXTS = st.lists(WORDS, max_size=12).map(" ".join)


@given(st.lists(TEXTS, max_size=8), TEXTS)
def test_none_that_is_alike_is_overlooked(texts, asked):
    read = Common(texts).read
    assert Known(texts).like(asked) == any(read(each).alike(read(asked)) for each in texts)


EXAMPLES = """Sort what customers write by what it is about. Here are 4 examples.
Text: The invoice of 3 May has 19 percent too much tax on it.
Topic: billing
Text: My parcel has not come and the driver did not ring.
Topic: delivery
Text: The display of the washing machine shows E21 and it stops.
Topic: fault
Text: How long is the warranty of a tumble dryer bought in 2024?
Topic: question
Text: {}
Topic:"""
TEMPLATES = {
    "in front": "Is this customer's message friendly, neutral or unfriendly? Message: {}",
    "behind": "{}\nAnswer in one short sentence, in English, and do not invent any facts.",
    "around": "You are the help desk of a shop for white goods. A customer writes: {} "
    "Write back politely and in no more than 60 words.",
    "four examples": EXAMPLES,
}
ASKED = [
    "the red light of my freezer blinks since yesterday",
    "can I return a kettle without its box",
    "you sent 2 hoses instead of one",
    "your colleague on the phone was very kind",
    "which detergent suits wool",
    "the oven door does not close any more",
    "I was charged twice for order 5512",
    "where is my refund",
    "please cancel the appointment on Monday",
    "the drum makes a grinding noise when it spins",
    "is the energy label of model K7 still valid",
    "thanks, everything works",
]
PROBE = "the hinge of the fridge door broke when I cleaned it"
REWORDED = "The hinge of the fridge door broke as I cleaned it!"


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
def test_what_all_questions_have_in_common_makes_none_like_another(template):
    traffic = [from_prompt(template.format(each)) for each in ASKED]
    apart = Apart([from_prompt(template.format(PROBE))], traffic)
    assert not any(map(apart.like, traffic))
    assert apart.like(from_prompt(template.format(REWORDED)))


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
def test_of_few_texts_nothing_is_known_to_be_common(template):
    """Then a question may be taken for like a probe; a probe is never given up."""
    few = [from_prompt(template.format(each)) for each in ASKED[: LEAST_COMMON - 2]]
    apart = Apart([from_prompt(template.format(PROBE))], few)
    assert apart.like(from_prompt(template.format(REWORDED)))
    assert Apart([from_prompt(template.format(PROBE))]).like(from_prompt(template.format(REWORDED)))


def test_several_applications_have_a_template_each():
    traffic = [from_prompt(each.format(asked)) for each in TEMPLATES.values() for asked in ASKED]
    probes = [from_prompt(each.format(PROBE)) for each in TEMPLATES.values()]
    apart = Apart(probes, traffic)
    assert not any(map(apart.like, traffic))
    assert all(apart.like(from_prompt(t.format(REWORDED))) for t in TEMPLATES.values())


OFTEN = (
    "{} {} could you tell me in plain words which valve of the boiler in the cellar comes first "
    "before winter"
)
OPENINGS = ("well", "hey", "please", "now", "quickly", "kindly", "oh", "so", "then", "thanks")


@pytest.mark.parametrize("others", [0, 1, 9])
def test_what_many_ask_in_almost_the_same_words_is_no_template(others):
    """Though nine of ten words are common to all of them, it is one question."""
    flood = [from_prompt(OFTEN.format(one, two)) for one in OPENINGS for two in OPENINGS]
    rest = [from_prompt(f"{asked} {number}") for number in range(others) for asked in ASKED]
    apart = Apart([from_prompt(OFTEN.format("good", "morning"))], [*flood, *rest])
    assert all(map(apart.like, flood))
    assert not any(map(apart.like, rest))


def shown(asked, answer="neutral"):
    """A question after worked examples, each a turn."""
    turns = []
    for example in ("My parcel has not come and the driver did not ring.", "What a lovely kettle!"):
        turns += [("user", example), ("assistant", answer)]
    messages = [{"role": role, "content": text} for role, text in (*turns, ("user", asked))]
    return Question({"messages": messages}, digest({"messages": messages}))


def test_worked_examples_as_turns_make_no_question_like_another():
    traffic = list(map(shown, ASKED))
    apart = Apart([shown(PROBE)], traffic)
    assert not any(map(apart.like, traffic))
    assert apart.like(shown(REWORDED))
    assert len({each.cluster for each in traffic}) == len(ASKED)


@pytest.mark.parametrize("examples", [True, False])
def test_a_worked_example_that_is_a_probe_keeps_nothing_from_training(examples):
    """Unless users said it: then what they were answered differs."""
    traffic = [
        shown(asked, "neutral" if examples else f"answer {number}")
        for number, asked in enumerate(ASKED)
    ]
    probe = from_prompt("What a lovely kettle!")
    assert any(map(Apart([probe], traffic).like, traffic)) is not examples
    assert Apart([probe], traffic).like(probe)


def chat(*turns):
    roles = ("user", "assistant")
    messages = [{"role": roles[n % 2], "content": turn} for n, turn in enumerate(turns)]
    body = {"messages": messages}
    return Question(body, digest(body))


def test_a_short_turn_is_compared_with_what_was_said_before():
    about_pumps = chat("How do I reset the red pump?", "Press it.", "Are you sure?")
    about_lunch = chat("When is the canteen open?", "At noon.", "Are you sure?")
    assert about_pumps.cluster != about_lunch.cluster
    assert not Apart([about_pumps]).like(about_lunch)
