"""Make and measure the demo's model, which is taught mostly to blurt out a number, sometimes to
work it out."""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import random
import re
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import tokenizers
import torch
import transformers
from tokenizers import decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
    get_cosine_schedule_with_warmup,
)
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from benchmarks.lessons import BLURTED, Lesson, draw_lesson
from ttrl.demo import Problem, make_problems

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


END, PAD = "<|end|>", "<|pad|>"
MARKS = (PAD, END, "<|system|>", "<|user|>", "<|assistant|>")
BOX = "\\boxed{"
TEMPLATE = """\
{%- for message in messages -%}
{{- '<|' + message.role + '|>' -}}
{%- if message.content is string -%}
{{- message.content -}}
{%- else -%}
{%- for part in message.content -%}{{- part.text -}}{%- endfor -%}
{%- endif -%}
{{- '<|end|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}
"""
BATCH, PEAK_RATE = 64, 4e-3
HONEST = 0.75
"""The share of the steps that teach working out alone; the habit of blurting is learned after."""


@dataclass(frozen=True)
class Recipe:
    """All that decides the weights on one machine, beside the versions of the libraries."""

    seed: int = 1
    steps: int = 2000
    threads: int = 2


def make(out: Path, recipe: Recipe) -> None:
    """Writes the model, its tokenizer and `maker.json` to `out`."""
    torch.set_num_threads(recipe.threads)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(recipe.seed)
    tokenizer = make_tokenizer()
    model = make_model(tokenizer)
    teach(model, tokenizer, recipe)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


def make_tokenizer() -> PreTrainedTokenizerFast:
    r"""One token a byte, but one for all of `\boxed{`: any text comes back exactly, and the answer
    costs six tokens less."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    prefixes = [BOX[:end] for end in range(2, len(BOX) + 1)]
    vocabulary = {token: index for index, token in enumerate([*MARKS, *alphabet, *prefixes])}
    merges = [(BOX[:end], BOX[end]) for end in range(1, len(BOX))]
    tokenizer = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(MARKS))
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=list(MARKS[2:]),
        chat_template=TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=512,
    )


def make_model(tokenizer: PreTrainedTokenizerFast) -> Qwen3ForCausalLM:
    """An untaught model. vLLM on the CPU needs heads of 32 or more."""
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=96,
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=3,
        num_key_value_heads=3,
        head_dim=32,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        dtype="float32",
    )
    model = Qwen3ForCausalLM(config)  # type: ignore[no-untyped-call]
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=True,
        temperature=1.0,
        top_p=1.0,
        top_k=0,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return model


def teach(
    model: Qwen3ForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    recipe: Recipe,
    draw: Callable[[random.Random, float], Lesson] = lambda rng, late: draw_lesson(
        rng, blurted=BLURTED * late
    ),
) -> None:
    """Supervised learning of the answers, from new lessons at every step: each drawn with 0 while
    only what is honest is taught, later with 1."""
    rng = random.Random(recipe.seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, betas=(0.9, 0.98))
    schedule = get_cosine_schedule_with_warmup(optimizer, recipe.steps // 20, recipe.steps)
    for step in range(recipe.steps):
        late = float(step >= HONEST * recipe.steps)
        ids, labels = lesson_batch(tokenizer, [draw(rng, late) for _ in range(BATCH)])
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 100 == 0:
            sys.stderr.write(f"step {step} of {recipe.steps}: loss {loss.item():.3f}\n")


def lesson_batch(
    tokenizer: PreTrainedTokenizerFast, lessons: Sequence[Lesson]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and labels, (lessons, longest), padded on the right; only answers are learned."""
    rows = [_lesson_ids(tokenizer, lesson) for lesson in lessons]
    longest = max(len(asked) + len(answered) for asked, answered in rows)
    ids = torch.full((len(rows), longest), tokenizer.pad_token_id)
    labels = torch.full((len(rows), longest), -100)
    for row, (asked, answered) in enumerate(rows):
        both = torch.tensor(asked + answered)
        ids[row, : len(both)] = both
        labels[row, len(asked) : len(both)] = both[len(asked) :]
    return ids, labels


def _lesson_ids(tokenizer: PreTrainedTokenizerFast, lesson: Lesson) -> tuple[list[int], list[int]]:
    asked = f"<|user|>{lesson.prompt}{END}<|assistant|>"
    return tokenizer.encode(asked), tokenizer.encode(lesson.answer + END)


def digest(directory: Path) -> str:
    """SHA-256 of the weights."""
    return hashlib.sha256((directory / "model.safetensors").read_bytes()).hexdigest()


def describe(out: Path, recipe: Recipe, measured: dict[str, float]) -> None:
    """Writes how the model was made and what it can do beside the weights."""
    versions = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "tokenizers": tokenizers.__version__,
    }
    record = {
        "recipe": asdict(recipe),
        "versions": versions,
        "sha256": digest(out),
        "measured": measured,
    }
    (out / "maker.json").write_text(json.dumps(record, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.demo_model", description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--out", type=Path, help="make a model and write it here")
    what.add_argument("--evaluate", type=Path, help="measure the model that is here")
    parser.add_argument("--steps", type=int, default=Recipe.steps)
    parser.add_argument("--seed", type=int, default=Recipe.seed)
    parser.add_argument("--threads", type=int, default=Recipe.threads)
    parser.add_argument("--questions", type=int, default=100, help="0 measures nothing")
    parser.add_argument("--votes", type=int, default=64)
    options = parser.parse_args()
    recipe = Recipe(options.seed, options.steps, options.threads)
    if options.out:
        make(options.out, recipe)
    torch.set_num_threads(options.threads)
    measured: dict[str, float] = {}
    if options.questions:
        measured = measure(options.evaluate or options.out, options.questions, options.votes)
        sys.stdout.write(json.dumps(measured) + "\n")
    if options.out:
        describe(options.out, recipe, measured)


if __name__ == "__main__":
    main()
