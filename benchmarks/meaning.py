"""Do clusters by meaning match the truth? `python -m benchmarks.meaning [--model NAME]
[--cross-encoder NAME] [--engine URL]`.

Answers to questions that were written for this (`benchmarks/data/freetext.jsonl`): of each, four
phrasings of the right answer, which belong together, and near misses, each of which stands alone.
Pairs of one question's answers are counted: precision is the share of the pairs put together that
belong together, recall the share of those that belong together that were put together. `far` are
answers to other questions that were put together with one. Nothing is fitted here; the bounds that
texts are compared with were chosen on the questions with even numbers, the figures are of the odd,
but the rules were written with all in sight.

Then each group is joined by answers made to look like the others (on another subject, padded, said
twice, the question again, hedging), which are to win by no similarity reward and by no recipe's
total. The table is on standard error, the last line on standard output is JSON.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from ttrl.answers import AnswerKind, Reader
from ttrl.config import MeaningConfig, VoteConfig
from ttrl.config.loading import load
from ttrl.engine.client import EngineClient
from ttrl.engine.samples import Finish, Sample
from ttrl.meaning import Judge, Letters, Likeness, agreement, cluster
from ttrl.rewards import REWARDS, Ballot, total
from ttrl.sampling.groups import pacer_for
from ttrl.sampling.judge import EngineJudge
from ttrl.votes import take_vote

DATA = Path(__file__).with_name("data") / "freetext.jsonl"
SIMILARITY = ("centrality", "consensus", "reference")
HEDGES = {
    "en": "It depends on many factors; perhaps one, perhaps the other, so it is hard to say.",
    "de": "Es kommt darauf an; vielleicht das eine, vielleicht das andere, schwer zu sagen.",
    "zh": "这要看情况,也许是这样,也许是那样,不好说。",
}
FILLERS = {
    "en": "I hope that this helps, and please let me know if you have any further questions.",
    "de": "Ich hoffe, dass Ihnen das hilft; melden Sie sich gern, wenn Sie noch Fragen haben.",
    "zh": "希望这对您有帮助,如果还有其他问题,请随时告诉我。",
}
RECIPES = ("free-text", "domain-qa")
MOST = MeaningConfig().pairs


@dataclass(frozen=True)
class Item:
    """A question with its answers: right ones, and near misses by what is wrong with each."""

    question: str
    language: str
    right: tuple[str, ...]
    near: tuple[tuple[str, str], ...]

    @property
    def texts(self) -> tuple[str, ...]:
        """The right ones first."""
        return (*self.right, *(text for text, _ in self.near))


def read(path: Path) -> list[Item]:
    """The items of a file."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [
        Item(
            row["question"],
            row["language"],
            tuple(row["right"]),
            tuple((near["text"], near["why"]) for near in row["near"]),
        )
        for row in rows
    ]


def count(
    items: Sequence[Item], likeness: Likeness, judge: Judge | None = None, *, marks: bool = True
) -> Counter[str]:
    """Pairs: right (together and belonging so), missed, wrong, wrong by what was wrong, and far."""
    pairs: Counter[str] = Counter()
    for item, other in zip(items, [*items[1:], items[0]], strict=True):
        texts = [*item.texts, *other.right[:1]]
        agree = agreement(texts, item.question, likeness, judge)
        if not marks:
            alike = likeness.compare(texts)
            agree = [[each * (each >= likeness.alike) for each in row] for row in alike]
        *numbers, far = cluster(agree)
        pairs["far"] += far in numbers
        why = [None] * len(item.right) + [each for _, each in item.near]
        for a, b in combinations(range(len(why)), 2):
            belong, joined = b < len(item.right), numbers[a] == numbers[b]
            pairs["right"] += belong and joined
            pairs["missed"] += belong and not joined
            pairs["wrong"] += joined and not belong
            pairs[f"wrong {why[b]}"] += joined and not belong
    return pairs


def scores(pairs: Counter[str]) -> dict[str, object]:
    """Precision, recall, F1, and what was wrongly put together."""
    right = pairs["right"]
    precision = right / max(right + pairs["wrong"], 1)
    recall = right / max(right + pairs["missed"], 1)
    f1 = 2 * right / max(2 * right + pairs["wrong"] + pairs["missed"], 1)
    figures = {"precision": round(precision, 3), "recall": round(recall, 3), "f1": round(f1, 3)}
    wrong = {key[6:]: n for key, n in sorted(pairs.items()) if key.startswith("wrong ") and n}
    return {**figures, "wrong": wrong, "far": pairs["far"]}


def pretenders(item: Item, other: Item) -> dict[str, str]:
    """Answers that only look like one."""
    return {
        "off topic": other.right[0],
        "padded": " ".join((item.right[0], *other.right, *other.right)),
        "filler": f"{item.right[0]} {FILLERS[item.language]}",
        "said twice": f"{item.right[0]} {item.right[1]}",
        "half the question": f"{item.question[: len(item.question) // 2]} {item.right[0]}",
        "copied": item.question,
        "hedging": HEDGES[item.language],
        "everything": " ".join((item.right[0], *(text for text, _ in item.near))),
    }


def wins(items: Sequence[Item], likeness: Likeness) -> dict[str, dict[str, int]]:
    """How often each pretender, among all of a question's answers, has the highest reward, by each
    similarity and by the recipes' totals."""
    won: dict[str, Counter[str]] = {by: Counter() for by in (*SIMILARITY, *RECIPES)}
    for item, other in zip(items, [*items[1:], items[0]], strict=True):
        for name, text in pretenders(item, other).items():
            ballot = _ballot(item, [*item.texts, text], likeness)
            worth = {by: REWARDS[by](ballot) for by in SIMILARITY}
            worth |= {by: total(ballot, _weights(by)) for by in RECIPES}
            for by, (*others, last) in worth.items():
                won[by][name] += last > min(others) and last >= max(others)
    return {by: {name: n for name, n in sorted(counts.items()) if n} for by, counts in won.items()}


@cache
def _weights(recipe: str) -> Mapping[str, float]:
    overrides = {"model.name": "any", "recipe": recipe}
    return load(environ={}, overrides=overrides).config.vote.rewards


def _ballot(item: Item, texts: Sequence[str], likeness: Likeness) -> Ballot:
    samples = tuple(
        Sample(text, tuple(range(len(text))), (0.0,) * len(text), Finish.STOP) for text in texts
    )
    reader = Reader(AnswerKind.FREE, likeness)
    vote = take_vote(reader.read(item.question, texts).answers, kind=AnswerKind.FREE)
    return Ballot(item.question, samples, vote, 10_000, reader, item.right[:1])


def measure(items: Sequence[Item], likeness: Likeness) -> dict[str, object]:
    """All figures of one likeness."""
    held_out = items[1::2]
    languages = sorted({item.language for item in items})
    return {
        "by": likeness.words,
        "alike": likeness.alike,
        "marks": scores(count(held_out, likeness)),
        "likeness alone": scores(count(held_out, likeness, marks=False)),
        "f1_by_language": {
            language: scores(count(_in(items, language), likeness))["f1"] for language in languages
        },
        "pretenders": len(pretenders(items[0], items[1])) * len(items),
        "pretenders_won": wins(items, likeness),
    }


def judged(items: Sequence[Item], judge: Judge) -> dict[str, object]:
    """The figures of a judge, and what it was asked: no pretenders, which take all the time."""
    found = scores(count(items[1::2], Letters(), judge))
    counts = {"asked": judge.asked, "pairs": judge.pairs, "undecided": judge.undecided}
    return {"by": judge.words, "marks": found, "likeness alone": {}, **counts}


def _in(items: Iterable[Item], language: str) -> list[Item]:
    return [item for item in items if item.language == language]


@click.command()
@click.option("--model", help="A sentence-transformers model: a name or a directory.")
@click.option("--cross-encoder", help="A cross-encoder: a name or a directory.")
@click.option("--engine", help="The URL of an engine, whose base model judges.")
@click.option("--data", type=click.Path(path_type=Path, exists=True), default=DATA)
def main(model: str | None, cross_encoder: str | None, engine: str | None, data: Path) -> None:
    """Measure how well clusters by meaning match the truth."""
    items = read(data)
    found = {"letters": measure(items, Letters())}
    if model:
        from ttrl.meaning.embeddings import Embeddings

        found["embeddings"] = measure(items, Embeddings(model))
    if cross_encoder:
        from ttrl.meaning.embeddings import Pairs

        found["pairs"] = judged(items, Pairs(cross_encoder, MOST))
    if engine:
        vote = VoteConfig()
        with EngineClient(engine) as client, pacer_for(client, vote) as pacer:
            found["engine"] = judged(items, EngineJudge(client, pacer, MOST))
    table = Table(title=f"{len(items)} questions, every other one counted")
    for heading in ("by", "and", "precision", "recall", "F1", "wrongly together", "far"):
        table.add_column(heading)
    for by, rows in found.items():
        for name in ("marks", "likeness alone"):
            row = rows[name]
            assert isinstance(row, dict)
            table.add_row(by, name, *map(str, row.values()))
    Console(stderr=True, width=150).print(table)
    print(json.dumps({"questions": len(items), **found}, ensure_ascii=False))


if __name__ == "__main__":
    main()
