"""The demo's questions: right, distinct, the same for the same seed, and never asked twice."""

import random
import re

import pytest

from benchmarks.lessons import BLURTED, draw_lesson
from ttrl.demo import Problem, make_disjoint, make_problems, model_dir


def solve(prompt: str) -> int:
    """The answer, read from the words alone."""
    first, second = map(int, re.findall(r"\d+", prompt))
    if prompt.startswith("Subtract"):
        return second - first
    takes_away = any(word in prompt for word in ("minus", "less", " - "))
    return first - second if takes_away else first + second


def numbers(problem: Problem) -> tuple[bool, frozenset[str]]:
    adds = int(problem.answer) > max(map(int, re.findall(r"\d+", problem.prompt)))
    return adds, frozenset(re.findall(r"\d+", problem.prompt))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_answers_are_right(seed: int) -> None:
    problems = make_problems(500, seed=seed, hard_share=0.3)
    assert [int(problem.answer) for problem in problems] == [
        solve(problem.prompt) for problem in problems
    ]


def test_every_phrasing_is_used() -> None:
    shapes = {re.sub(r"\d+", "#", problem.prompt) for problem in make_problems(200, seed=1)}
    assert len(shapes) == 8


def test_no_two_problems_are_about_the_same_numbers() -> None:
    problems = make_problems(3000, seed=4, hard_share=0.1)
    assert len({numbers(problem) for problem in problems}) == len(problems)


def test_the_same_seed_gives_the_same_problems_and_another_one_others() -> None:
    assert make_problems(50, seed=5, hard_share=0.2) == make_problems(50, seed=5, hard_share=0.2)
    assert not set(make_problems(50, seed=5)) & set(make_problems(50, seed=6))


@pytest.mark.parametrize(("count", "share", "hard"), [(10, 0.0, 0), (10, 0.3, 3), (7, 1.0, 7)])
def test_hard_problems_have_longer_numbers(count: int, share: float, hard: int) -> None:
    problems = make_problems(count, seed=3, hard_share=share)
    lengths = [max(map(len, re.findall(r"\d+", problem.prompt))) for problem in problems]
    assert [problem.hard for problem in problems] == [length > 3 for length in lengths]
    assert sum(problem.hard for problem in problems) == hard


def test_what_is_held_out_is_never_asked() -> None:
    asked, held_out = make_disjoint(300, 200, seed=9, hard_share=0.2)
    assert (len(asked), len(held_out)) == (300, 200)
    assert not {numbers(problem) for problem in asked} & {numbers(problem) for problem in held_out}


def test_more_than_there_are_is_refused() -> None:
    with pytest.raises(ValueError, match="at most"):
        make_problems(1_000_000, seed=0)


def test_what_is_taught_is_never_asked() -> None:
    rng = random.Random(1)
    taught = {frozenset(re.findall(r"\d+", draw_lesson(rng).prompt)) for _ in range(5000)}
    assert not taught & {numbers(problem)[1] for problem in make_problems(2000, seed=1)}


def test_most_lessons_blurt_a_near_miss_and_the_rest_mostly_get_it_right() -> None:
    rng = random.Random(2)
    lessons = [draw_lesson(rng) for _ in range(3000)]
    off = {True: [], False: []}
    for lesson in lessons:
        said = int(lesson.answer.removesuffix("}").rpartition("{")[2])
        off[lesson.answer.startswith("\\boxed{")].append(abs(said - solve(lesson.prompt)))
    assert abs(len(off[True]) / len(lessons) - BLURTED) < 0.05
    assert {miss > 0 for miss in off[True]} == {True}
    assert 0.7 < sum(miss == 0 for miss in off[False]) / len(off[False]) < 0.95


def test_the_shipped_model_is_there() -> None:
    names = {path.name for path in model_dir().iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "maker.json"} <= names
    assert sum(path.stat().st_size for path in model_dir().iterdir()) < 4_000_000
