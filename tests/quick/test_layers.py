"""By which layer a text is read, or why it is not, and how that is told."""

from __future__ import annotations

import pytest

from serve.views import TO_READ_MORE, how_read, unread_warning
from ttrl.answers import AnswerKind, Reader
from ttrl.answers.extraction import MAX_CHARS
from ttrl.answers.layers import UNREAD, Layer

LONG = "The sum of both is what the two of them have together, which is 5."
CASES = [
    (AnswerKind.MATH, '{"answer": 5}', Layer.JSON),
    (AnswerKind.MATH, "```yaml\nanswer: 5\n```", Layer.YAML),
    (AnswerKind.MATH, "so <answer>5</answer>", Layer.TAG),
    (AnswerKind.MATH, r"**4** or \boxed{5}", Layer.BOX),
    (AnswerKind.MATH, "2 and 3\n#### 5", Layer.MARK),
    (AnswerKind.MATH, "The **first**: the answer is 5.", Layer.PHRASE),
    (AnswerKind.MATH, "That makes, when both are put together, **5** apples.", Layer.BOLD),
    (AnswerKind.MATH, f"**All together**\n{LONG}", Layer.SENTENCE),
    (AnswerKind.MATH, "5", Layer.WHOLE_TEXT),
    (AnswerKind.TEXT, "Canberra", Layer.WHOLE_TEXT),
    (AnswerKind.TEXT, "That is the city of **Canberra** in the south of it.", Layer.BOLD),
    (AnswerKind.TEXT, "It is the city of Canberra in the very south of it.", Layer.SENTENCE),
    (AnswerKind.CHOICE, "I choose option B, since nothing else is as blue.", Layer.LETTER),
    (AnswerKind.FREE, LONG, Layer.MEANING),
    (AnswerKind.MATH, "<think>5", Layer.THOUGHTS_NOT_ENDED),
    (AnswerKind.MATH, "5 " * MAX_CHARS, Layer.TOO_LONG),
    (AnswerKind.MATH, " \n", Layer.EMPTY),
    (AnswerKind.MATH, "<think>5</think>", Layer.EMPTY),
    (AnswerKind.MATH, "I don't know.", Layer.DECLINED),
    (AnswerKind.FREE, "I don't know.", Layer.DECLINED),
    (AnswerKind.MATH, "Let us put them together and see.", Layer.NOTHING_FOUND),
    (AnswerKind.MATH, r"\boxed{}", Layer.NOTHING_FOUND),
]


@pytest.mark.parametrize(("kind", "text", "layer"), CASES)
def test_every_text_has_a_layer(kind, text, layer):
    reading = Reader(kind).read("What are they?", [text])
    assert reading.layers == (layer,)
    assert (reading.answers == (None,)) is (layer in UNREAD)


def test_yes_in_a_sentence_is_yes():
    texts = ["Yes", "No", "Yes, because the one of them is as blue as the other."]
    assert Reader().read("Are they?", texts).layers[2] is Layer.YES_NO


def test_thoughts_that_the_prompt_began_are_none_where_others_end_them():
    texts = ["2 and 3</think>5", "so</think>5", "2 and 3, which"]
    layers = Reader(AnswerKind.MATH).read("2 + 3?", texts).layers
    assert layers == (Layer.WHOLE_TEXT, Layer.WHOLE_TEXT, Layer.THOUGHTS_NOT_ENDED)


def test_every_layer_is_met_here():
    met = {layer for *_, layer in CASES}
    elsewhere = {Layer.CUT_OFF, Layer.YES_NO, Layer.FAILED}  # the sampler, below, test_bounded
    elsewhere |= {Layer.VERIFIED, Layer.REFUTED, Layer.COMES_TO}  # test_verifiers
    assert set(Layer) - met == elsewhere


def test_shares_are_of_all_samples_and_the_largest_first():
    layers = {"phrase": 22, "cut_off": 3, "thoughts_not_ended": 2, "nothing_found": 12, "box": 61}
    assert how_read(layers) == (
        "read 83% (box 61%, phrase 22%); cut off 3%; "
        "not read 14%: nothing found 12%, thoughts not ended 2%"
    )
    assert how_read({"cut_off": 2}) == "read 0%; cut off 100%"
    assert how_read({"box": 2}) == "read 100% (box 100%)"


@pytest.mark.parametrize(
    ("layers", "does"),
    [
        ({"box": 5, "nothing_found": 5}, ""),
        ({"box": 4, "nothing_found": 3, "cut_off": 2}, "set vote.kind"),
        ({"box": 4, "nothing_found": 2, "cut_off": 3}, "raise vote.max_tokens"),
        ({"box": 4, "thoughts_not_ended": 5}, "raise vote.max_tokens"),
        ({"declined": 1}, "look at them"),
        ({}, ""),
    ],
)
def test_who_reads_too_little_is_told_what_to_do(layers, does):
    assert unread_warning(layers).removeprefix("too few answers can be read: ")[: len(does)] == does
    assert bool(unread_warning(layers)) is bool(does)
    assert set(TO_READ_MORE) < set(UNREAD)
