"""`ttrl answers`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from pydantic import BaseModel, ValidationError

from jobs.process import known_answers, reader_for
from serve.cli.common import PATH, config_options
from serve.cli.output import fail, json_option, one_line, show
from serve.views import how_read
from ttrl import verifiers
from ttrl.answers.layers import EXAMPLES, Layer
from ttrl.config import Config
from ttrl.questions.question import from_prompt
from ttrl.votes import take_vote
from ttrl.words import counted


class Samples(BaseModel):
    """One line of the file."""

    question: str
    samples: list[str]


@click.command()
@click.argument("file", type=PATH)
@json_option
@config_options
def answers(config: Config, file: Path) -> None:
    """Show how the answers in FILE are read, checked and counted: a JSON object a line, with a
    "question" and its "samples", a list of texts. Nothing is asked or recorded."""
    reader, verifier = reader_for(config), verifiers.load(config.verify)
    references = known_answers(config)
    rows, found = list(_rows(file)), []
    for row in rows:
        reading = reader.read(row.question, row.samples)
        question = from_prompt(row.question)
        known = references.get(question.hash, ())
        reading = verifier.verified(reading, question, row.samples, known)
        vote = take_vote(
            reading.answers,
            layers=reading.layers,
            readable=config.vote.readable,
            floor=config.vote.floor,
            ceiling=config.vote.ceiling,
            verified_weight=config.verify.weight,
            kind=reading.kind,
        )
        said: dict[str | None, list[str]] = {}
        for answer, sample in zip(reading.answers, row.samples, strict=True):
            said.setdefault(answer, []).append(sample)
        found.append(
            {
                "question": row.question,
                "kind": reading.kind,
                "outcome": vote.outcome,
                "label": vote.label,
                "share": vote.share,
                "answers": {answer: said[answer] for answer, _ in vote.counts},
                "unreadable": said.get(None, []),
                "layers": reading.layers,
            }
        )
    show(found, _lines(rows, found))


def _rows(file: Path) -> Iterator[Samples]:
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        fail(f"cannot read {file}: {getattr(error, 'strerror', None) or 'it is not UTF-8 text'}")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            yield Samples.model_validate_json(line)
        except ValidationError:
            expected = json.dumps({"question": "...", "samples": ["...", "..."]})
            fail(f"{file}:{number}: expected {expected}", code=2)


def _lines(rows: Sequence[Samples], found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for given, row in zip(rows, found, strict=True):
        layers = dict(zip(given.samples, row["layers"], strict=True))
        yield one_line(row["question"]).plain
        outcome = f"no label ({row['outcome'].replace('_', ' ')})"
        if row["label"] is not None:
            outcome = f"label {one_line(row['label']).plain}"
        yield f"  read as {row['kind']}: {outcome}, largest share {row['share']:.0%}"
        yield f"  {how_read(Counter(row['layers']))}"
        for answer, samples in row["answers"].items():
            yield f"  {len(samples):>3}  {one_line(answer).plain}"
            yield from _examples(samples, layers)
        if row["unreadable"]:
            yield f"  {counted(len(row['unreadable']), 'sample')} could not be read"
            yield from _examples(row["unreadable"], layers)
        yield ""


def _examples(samples: Sequence[str], layers: Mapping[str, Layer]) -> Iterator[str]:
    for sample in list(dict.fromkeys(samples))[:EXAMPLES]:
        yield f"         {layers[sample].replace('_', ' ')}: {one_line(sample).plain}"
