"""What is said after thinking, and what is still thought."""

from __future__ import annotations

import pytest

from ttrl.answers import AnswerKind, Reader
from ttrl.answers.thoughts import MARKS, opened, spoken, without_thoughts

QUESTION = "What is 3 + 4?"


@pytest.mark.parametrize(("begin", "end"), MARKS)
def test_only_what_is_said_after_thinking_is_read(begin, end):
    thoughts = r"3 and 4 ... is it \boxed{8}? The answer is 8. No."
    texts = [
        rf"{begin}{thoughts}{end}\boxed{{7}}",
        rf"{thoughts}{end}\boxed{{7}}",  # the template opened it
        f"{begin}{thoughts}",
        rf"{begin}{thoughts}{end}",
    ]
    assert Reader().read(QUESTION, texts).answers == ("7", "7", None, None)
    assert spoken(texts[2]) is None
    assert spoken(texts[3]) == ""


@pytest.mark.parametrize(
    ("texts", "answers"),
    [
        (["Okay ... it must be 7", r"Okay so ... </think> \boxed{7}"], (None, "7")),
        ([r"so \boxed{8}", r"</think> \boxed{7}", r"</think> \boxed{7}"], (None, "7", "7")),
        # One in many that ends a thought has not shown that all had begun one.
        ([*[r"\boxed{7}"] * 3, r"</think> \boxed{7}"], ("7",) * 4),
        ([r"<think>a</think> \boxed{7}", r"\boxed{8}"], ("7", "8")),
        ([r"\boxed{7}", "", r"\boxed{8}"], ("7", None, "8")),
        (["", ""], (None, None)),
    ],
)
def test_where_the_prompt_began_to_think_who_does_not_end_it_still_does(texts, answers):
    assert Reader(AnswerKind.MATH).read(QUESTION, texts).answers == answers


@pytest.mark.parametrize(
    ("prompt", "mark"),
    [
        ("<|im_start|>assistant\n<think>\n", "<think>"),
        ("<|im_start|>assistant\n<think>\n\n</think>\n\n", ""),
        ("<|im_start|>assistant\n", ""),
        ("[INST]Hello[/INST][THINK]", "[THINK]"),
        ("", ""),
        ("What does <think> mean?\nassistant\n", ""),
    ],
)
def test_what_a_prompt_opens(prompt, mark):
    assert opened(prompt) == mark


def test_nothing_is_lost_of_texts_without_thoughts():
    texts = ["7", "", "The answer is 7.", "<think>a</think>7"]
    assert without_thoughts(texts) == texts
