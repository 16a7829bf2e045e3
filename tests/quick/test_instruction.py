"""Which prompts carry the instruction for the form of the answer, and where it stands in them."""

from __future__ import annotations

import pytest

from ttrl.answers.phrases import phrases
from ttrl.questions.question import Question, digest, from_prompt
from ttrl.sampling.prompts import instructed, names_a_form

BOXED = r"Put your final answer within \boxed{}."


def asks(messages, sampling=None, **fields):
    body = {"messages": messages, **fields}
    return Question(body, digest(body), sampling)


def turn(content, role="user"):
    return {"role": role, "content": content}


@pytest.mark.parametrize(
    "prompt",
    [
        "What is 2 plus 3?",
        "Tom has 12 apples and gives 5 of them to Ann. How many are left?",
        "If only the red balls count, in how many ways can two of them be drawn?",
        r"Find the area of triangle $ABC$ with $AB = 3$, $BC = 4$ and $x < 5$.",
        "Solve for x:\n2x + 3 = 11",
        "Is this review positive or negative?\nReview: the plot makes no sense at all .",
        "He promised to return it within 3 weeks. When is it due?",
        "Combien font 12 et 30 ?",
        "Wie viele Liter sind 3 Kanister mit je 5 Litern?",
        "一个盒子里有12个苹果，吃了5个，还剩几个？",
    ],
)
def test_a_plain_question_carries_it(prompt):
    question = from_prompt(prompt)
    found = instructed(question, BOXED, phrases())
    assert found.body["messages"] == [turn(f"{prompt}\n\n{BOXED}")]
    assert found.hash != question.hash


@pytest.mark.parametrize(
    "prompt",
    [
        r"What is 2 plus 3? Put it in \boxed{}.",
        "What is 2 plus 3? Finish with a line #### and the number.",
        "What is 2 plus 3? Use <answer> tags.",
        'What is 2 plus 3? {"sum": 5} is what it has to look like.',
        "What is 2 plus 3? FINAL ANSWER: [YOUR ANSWER]",
        "Q: What is 2 plus 3?\nA:",
        "Which is prime?\n(A) 4\n(B) 5\nAnswer (A/B):",
        "What is 2 plus 3? Respond in JSON.",
        "What is 2 plus 3? Answer with the number only.",
        "What is 2 plus 3? Your answer should be a single integer.",
        "What is 2 plus 3? The last line of your response must be of the form 'Answer: $N'.",
        "What is 2 plus 3?\nReply with the letter of the right option and nothing more.",
        "What is 2 plus 3? Express your answer as a common fraction.",
        "What is 2 plus 3? Just the number, please.",
        "Is 7 a prime? Yes or no?",
        "Was ist 2 plus 3? Antworte nur mit der Zahl.",
        "Combien font 2 et 3 ? Réponds avec un seul mot.",
        "¿Cuánto es 2 más 3? Responde solo con el número.",
        "2加3是多少？请用数字回答。",
    ],
)
def test_a_prompt_that_says_the_form_itself_does_not(prompt):
    assert instructed(from_prompt(prompt), BOXED, phrases()) is None


@pytest.mark.parametrize(
    ("question", "names"),
    [
        (asks([turn("You are a tutor.", "system"), turn("2 + 3?")]), False),
        (asks([turn("You reply with one number.", "system"), turn("2 + 3?")]), True),
        (asks([turn("1 + 1?"), turn("2", "assistant"), turn("2 + 3?")]), True),
        (asks([turn("2 + 3?")], chat_template_kwargs={"enable_thinking": False}), False),
        (asks([turn("2 + 3?")], response_format={"type": "json_object"}), True),
        (asks([turn("2 + 3?")], structured_outputs={"choice": ["5", "6"]}), True),
        (asks([turn("2 + 3?")], {"temperature": 0.3, "max_tokens": 9}), False),
        (asks([turn("2 + 3?")], {"stop": ["\n"]}), True),
        (asks([turn("2 + 3?")], tools=[{"type": "function"}]), True),
        (asks([turn("2 + 3?"), turn("5", "tool")]), True),
        (asks([turn([{"type": "text", "text": "2 + 3?"}])]), False),
        (asks([turn([{"type": "text", "text": "2 + 3? As JSON."}])]), True),
    ],
)
def test_what_else_a_request_says_of_the_form(question, names):
    assert names_a_form(question, phrases()) is names


def test_a_message_of_parts_gets_one_more():
    parts = [{"type": "text", "text": "2 + 3?"}]
    system = turn("You are a tutor.", "system")
    question = asks([system, turn(parts)], {"temperature": 0.3})
    found = instructed(question, BOXED, phrases())
    assert found.body["messages"] == [
        system,
        turn([*parts, {"type": "text", "text": BOXED}]),
    ]
    assert len(parts) == 1
    assert found.sampling == question.sampling


def test_without_an_instruction_nothing_changes():
    assert instructed(from_prompt("2 + 3?"), None, phrases()) is None


def test_users_words_for_forms_are_added(tmp_path):
    more = tmp_path / "more.yaml"
    more.write_text("formats: [kwa neno moja]\n")
    question = from_prompt("2 + 3? Jibu kwa neno moja.")
    assert not names_a_form(question, phrases())
    assert names_a_form(question, phrases(more))
