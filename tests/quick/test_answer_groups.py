"""Ordinary wordings of answers, and near misses, are counted as what they say."""

from __future__ import annotations

import json
from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest

from benchmarks.answers import pairs
from ttrl.answers import Reader

DATA = Path(__file__).parents[2] / "benchmarks" / "data"


@pytest.mark.integration
@pytest.mark.parametrize(
    ("file", "precision", "recall"),
    [("answers.jsonl", 0.99, 0.93), ("answers_odd.jsonl", 0.98, 0.7)],
)
def test_wordings_that_were_written_without_the_rules_in_sight(file, precision, recall):
    total: Counter[str] = Counter()
    for line in (DATA / file).read_text(encoding="utf-8").splitlines():
        group = json.loads(line)
        total += pairs(Reader().read(group["question"], group["samples"]).answers, group["classes"])
    assert total["right"] / (total["right"] + total["wrong"]) >= precision
    assert total["right"] / (total["right"] + total["missed"]) >= recall


@pytest.mark.parametrize(
    ("question", "groups"),
    [
        ("Simplify it.", ([r"\boxed{2(x+1)}"] * 2, [r"\boxed{2(x+3)}"])),
        ("Which complexity has it?", (["O(n)", "O(n)"], ["O(n^2)"], ["O(log n)"])),
        ("What is 3 - 6?", (["- 3", "-3"], ["3", "The answer is 3."])),
        ("How much is it?", (["5 × 10^3 kg"], ["7 × 10^3 kg"])),
        ("Derive x^2 + x.", (["The derivative is 2x + 1."], ["3x + 1", "3x+1"])),
        ("Where is the vertex?", (["The vertex is (1, 2)."], ["The vertex is at (2, 1)."])),
        ("How likely is it?", (["1 in 6", "1 in 6"], ["5 in 6"])),
        ("What is the ratio?", (["The ratio is 2:3."], ["The ratio is 5:3."])),
        ("What is the score?", (["Brazil won 3-2"], ["Brazil won 4-2"], ["2"])),
        ("What does it cost?", (["2 pens at $3, so $6.", "$6"], ["2 pens at $3, so $7.", "$7"])),
        ("What is 5 + 6?", (["It is 11, not 14.", "11"], ["It's 14, not 11.", "14"])),
        ("Which is heavier?", (["Iron is heavier than lead."], ["Lead is heavier than iron."])),
        ("Which book is it?", (["War and Peace"], ["Peace"])),
        ("Who is it?", (["Will Smith"], ["May Smith"], ["Smith"])),
        ("How many?", (["over 5"], ["5"], ["5 or more"], ["at most 5"], ["under 5"])),
        ("When was it?", (["before 2024"], ["after 2024"], ["2024"])),
        ("How did it change?", (["20% increase"], ["20% decrease"])),
        ("When did it end?", (["It ended on May 6, 1945."], ["It ended on June 6, 1945."])),
        ("What is 8 + 8?", (["We get 16 [1].", "16"], ["17", "17"])),
        ("May I return it?", (["You cannot return it.", "No", "No."], ["Yes", "Yes, I think."])),
        ("What is the connective?", ([r"$p \land q$"], [r"$p \lor q$"])),
        ("What is the line?", (["x = 3", r"\boxed{x = 3}"], ["y = 3", r"\boxed{y = 3}"])),
        ("Which expression is it?", (["xs[0]", "`xs[0]`"], ["xs[1]", "`xs[1]`"], ["xs[-1]"])),
        ("What did he make?", (["+$50", "$50"], ["-$50"])),
        ("Where is it?", (["museum of art"], ["museum of history"], ["the museum", "museum"])),
        ("Which city is it?", (["St. Louis"], ["Louis"])),
        ("Can penguins fly?", (["Certainly! Penguins cannot fly.", "No."], ["Yes."])),
        ("What is 23 * 19?", (["The answer is 417... no, sorry, 437.", "437"], ["417"])),
        ("When is it?", (["half past three in the afternoon"], ["half past three at night"])),
        ("How far is it?", (["It is 15 miles.", "15 miles"], ["15000", "1000"])),
        ("有多少人？", (["12万人", "120000人"], ["12人", "12"])),
        ("Where is it true?", (["[-3, 5]"], ["(-3, 5)"], [r"(-\infty, -3] \cup [5, \infty)"])),
        ("How many are left?", (["four hundred seven cards"], ["four hundred cards", "400"])),
        ("What is 2.5 kg more?", (["1.2 kg"], ["1.2 g"], ["1.2 lb"])),
        ("Sort them, ascending: 3 1 2", (["1, 2, 3"], ["3, 2, 1"])),
    ],
)
def test_what_differs_is_never_one_answer(question, groups):
    answers = iter(Reader().read(question, [text for group in groups for text in group]).answers)
    found = [{next(answers) for _ in group} - {None} for group in groups]
    assert all(one.isdisjoint(other) for one, other in combinations(found, 2)), found


def test_a_choice_in_bold_and_prose_is_read():
    question = "Pick one:\nA. red\nB. blue\nC. green"
    texts = ["**Reasoning** first.\nIt must be B.", "B", "Hence C"]
    assert Reader().read(question, texts).answers == ("B", "B", "C")
