"""What a model can do on the demo's questions, measured in this process."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from ttrl.demo.questions import Problem, make_problems

LONGEST = 64
"""Tokens of an answer, at most; worked answers have about 40."""
ROWS = 512
"""Answers that are drawn side by side."""
GREEDY = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
TEMPERATURES = (0.3, 0.5, 0.7, 0.85, 1.2)


def measure(directory: Path, questions: int, votes: int) -> dict[str, float]:
    """Shares of right answers by greedy decoding, by one sample at several temperatures, by a
    majority of 16 and of all votes, and whether any of 16 samples is right."""
    model: Any = AutoModelForCausalLM.from_pretrained(directory)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    problems = make_problems(questions, seed=7)
    torch.manual_seed(7)
    drawn = draw(model, tokenizer, problems, votes)
    cooler = {
        f"pass_at_1_t{temperature}": pass_at_1(
            problems, draw(model, tokenizer, problems, 8, temperature)
        )
        for temperature in TEMPERATURES
    }
    return {
        "questions": questions,
        "greedy": pass_at_1(problems, draw(model, tokenizer, problems, 1, 0.0)),
        "pass_at_1": pass_at_1(problems, drawn),
        "majority_16": majority(problems, drawn, 16),
        f"majority_{votes}": majority(problems, drawn, votes),
        "pass_at_16": pass_at_k(problems, drawn, 16),
        **cooler,
    }


@torch.no_grad()
def draw(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    problems: Sequence[Problem],
    count: int,
    temperature: float = 1.0,
) -> list[list[str | None]]:
    """`count` answers to each problem, None where nothing is boxed; temperature 0 is greedy."""
    choice = {"do_sample": True, "temperature": temperature} if temperature else GREEDY
    at_once = max(1, ROWS // count)
    read: list[str | None] = []
    for start in range(0, len(problems), at_once):
        batch = _prompts(tokenizer, problems[start : start + at_once])
        ids = model.generate(**batch, **choice, num_return_sequences=count, max_new_tokens=LONGEST)
        answers = ids[:, batch["input_ids"].shape[1] :]
        read += map(boxed, tokenizer.batch_decode(answers, skip_special_tokens=True))
    return [read[start : start + count] for start in range(0, len(read), count)]


def _prompts(tokenizer: PreTrainedTokenizerBase, problems: Sequence[Problem]) -> Any:
    chats = [[{"role": "user", "content": problem.prompt}] for problem in problems]
    return tokenizer.apply_chat_template(
        chats,
        add_generation_prompt=True,
        padding=True,
        tokenizer_kwargs={"padding_side": "left"},
        return_tensors="pt",
        return_dict=True,
    )


def boxed(text: str) -> str | None:
    """The number in the box that ends the text."""
    found = re.search(r"\\boxed\{(\d+)\}$", text)
    return found and found[1]


def pass_at_1(problems: Sequence[Problem], drawn: Sequence[Sequence[str | None]]) -> float:
    return mean(
        answer == problem.answer
        for problem, answers in zip(problems, drawn, strict=True)
        for answer in answers
    )


def pass_at_k(problems: Sequence[Problem], drawn: Sequence[Sequence[str | None]], k: int) -> float:
    return mean(
        problem.answer in answers[:k] for problem, answers in zip(problems, drawn, strict=True)
    )


def majority(problems: Sequence[Problem], drawn: Sequence[Sequence[str | None]], k: int) -> float:
    """The share of problems whose right answer has more of the first k votes than any other."""
    return mean(
        top_answer(answers[:k]) == problem.answer
        for problem, answers in zip(problems, drawn, strict=True)
    )


def top_answer(answers: Sequence[str | None]) -> str | None:
    """The answer with the most votes; None for a tie."""
    ranked = Counter(answer for answer in answers if answer).most_common(2)
    if not ranked or (len(ranked) == 2 and ranked[0][1] == ranked[1][1]):
        return None
    return ranked[0][0]
