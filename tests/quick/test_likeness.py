"""Which questions say nearly the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttrl.likeness import Guarded, gist
from ttrl.questions import Question, digest, from_prompt

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
    assert Guarded([one]).like(other)
    assert Guarded([other]).like(one)


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_other_numbers_signs_and_words_are_other_questions(one, other):
    assert not Guarded([one]).like(other)
    assert gist(one).key != gist(other).key


WORDS = st.sampled_from(["the", "pump", "is", "red", "and", "7", "8", "?"])
TEXTS = st.lists(WORDS, max_size=12).map(" ".join)


@given(st.lists(TEXTS, max_size=8), TEXTS)
def test_none_that_is_alike_is_overlooked(texts, asked):
    assert Guarded(texts).like(asked) == any(gist(each).alike(gist(asked)) for each in texts)


def chat(*turns):
    roles = ("user", "assistant")
    messages = [{"role": roles[n % 2], "content": turn} for n, turn in enumerate(turns)]
    body = {"messages": messages}
    return Question(body, digest(body))


def test_the_turns_of_a_conversation_are_one_cluster_whatever_greets_first():
    first = chat("hello", "Hi!", "How do I reset the red pump?")
    later = chat("hello", "Hi!", "How do I reset the red pump?", "Press it.", "And the blue one?")
    other = chat("hello", "Hi!", "When is the canteen open?")
    assert first.cluster == later.cluster != other.cluster
