"""`ttrl measure` and `ttrl assess`: ask the engine much, and train nothing. `ttrl answers`: how
answers that are there already are read."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TypeVar

import click
from pydantic import BaseModel, ValidationError

from jobs import measure as measure_job
from jobs.measure import Assessment, Measured
from jobs.process import engine_client, known_answers, reader_for
from serve import views
from serve.cli.common import (
    PATH,
    Resolve,
    ask_daemon,
    config_options,
    model_option,
    open_store,
    resolve_options,
    run_config,
)
from serve.cli.daemon import run_alone
from serve.cli.output import fail, json_option, one_line, progress, samples_lines, show_value
from serve.gateway.live import BASE
from serve.views import how_read
from ttrl import verifiers
from ttrl.answers.layers import EXAMPLES, Layer
from ttrl.config import Config
from ttrl.engine.client import EngineClient
from ttrl.questions.question import from_prompt
from ttrl.store import Store
from ttrl.votes import take_vote
from ttrl.words import counted, lasting

T = TypeVar("T")


@click.command()
@model_option
@json_option
@resolve_options
def measure(resolve: Resolve) -> None:
    """Sample the live version on every probe, and report how good its answers are and whether the
    questions have drifted. The daemon does this once a day, and so does the gate of each run."""
    config, _ = run_config(resolve())

    def work(client: EngineClient, _live: str, own: Store | None) -> Measured:
        opened = nullcontext(own) if own is not None else open_store(config)
        with opened as store, progress("asking") as move:
            return measure_job.run(
                config, store, client, lambda done, of: move(completed=done, total=of)
            )

    measured = _with_engine(config, work)
    show_value(measured, _lines(measured))


@click.command()
@click.argument("file", type=PATH)
@model_option
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    help="Number of questions to vote on, drawn at random.",
)
@json_option
@resolve_options
def assess(resolve: Resolve, file: Path, limit: int) -> None:
    """Read a log of questions (JSONL, a JSON array, OpenAI batch lines, or plain lines) and
    estimate what share of them has a training signal for the live version, and what a run would
    cost. Answers in the file (`answers` or `answer`) say how many majorities are correct. Nothing
    is trained or recorded."""
    from ttrl import datasets

    config, _ = run_config(resolve())
    questions = datasets.read_questions(file, max_chars=config.record.max_chars)
    answers = datasets.read_answers(file, max_chars=config.record.max_chars)

    def work(client: EngineClient, live: str, _: Store | None) -> Assessment:
        with progress("voting") as move:
            return measure_job.assess(
                client,
                config,
                questions,
                version=None if live == BASE else live,
                limit=limit,
                progress=lambda done, of: move(completed=done, total=of),
                answers=answers,
            )

    assessed = _with_engine(config, work)
    show_value({**vars(assessed), "worth_it": assessed.worth_it}, _assessed(assessed))


def _with_engine(config: Config, work: Callable[[EngineClient, str, Store | None], T]) -> T:
    """Do work with the engine of the running daemon, or else with one of our own and its store; it
    is told which version serves."""
    status = ask_daemon(config, "GET", "/admin/status")
    if status is None:
        return run_alone(
            config,
            lambda parts: asyncio.to_thread(
                work, parts.engine.client, parts.live.current.version, parts.store
            ),
        )
    with engine_client(config, status["engine_url"]) as client:
        return work(client, status["live"], None)


def _lines(measured: Measured) -> Iterator[str]:
    yield f"version      {measured.version or BASE}"
    if (quality := measured.quality) is None:
        yield "quality      there are no probes"
    else:
        yield f"asked        {counted(quality.questions, 'question')}, {quality.labelled} labelled"
        yield f"agreement    {quality.agreement:.1%} of the answers match their majority"
        yield f"consistency  {quality.consistency:.1%} of answer pairs agree"
        yield (
            f"answers      {quality.tokens:.0f} tokens, {quality.seconds:.2g} s; "
            f"{quality.readable:.1%} readable, {quality.refused:.1%} declined"
        )
        if quality.right is not None:
            yield (
                f"labelled     {views.share(quality.right, 1)} correct (pass@1), "
                f"{quality.pass_at_k:.1%} with a correct one among all, "
                f"{quality.majority_right:.1%} correct majorities"
            )
        if quality.estimate is None:
            yield f"accuracy     not known: {views.withheld(quality)}"
        else:
            yield (
                f"accuracy     {views.share(quality.estimate, 1)} correct on the traffic, "
                f"by {counted(quality.estimate.labels, 'label')}"
            )
            if open_ := views.undecided(quality):
                yield f"             {open_}"
        for tag, share in quality.tags.items():
            yield f"tag          {tag} {share.value:.1%}"
    if measured.remarks:
        yield f"remarks      {measured.remarks}"
    if measured.signals is not None:
        yield from (f"signal       {line}" for line in views.reliable_lines(measured.signals))
    if (shift := measured.questions) is None:
        yield "questions    too few questions to detect drift"
    else:
        words = "have shifted" if shift.moved else "have not shifted"
        by_chance = f"by chance up to {shift.by_chance:.2f}"
        yield f"questions    {words} (PSI {shift.psi:.2f}; {by_chance})"


def _assessed(found: Assessment) -> Iterator[str]:
    yield f"Voted on {found.asked} of {counted(found.questions, 'question')}:"
    yield (
        f"  {found.teachable:.0%} have a training signal (a majority, and answers that differ from "
        f"it)"
    )
    yield f"  {found.unanimous:.0%} are already unanimous"
    reasons = ", ".join(f"{reason} {count}" for reason, count in found.no_label_reasons.items())
    yield f"  {found.no_label:.0%} have no majority label" + (f" ({reasons})" if reasons else "")
    yield f"  the majority answer has {found.mean_share:.0%} of the samples on average"
    if found.majority_right is not None:
        yield (
            f"  {found.labelled} have an answer in the file: the majority is correct for "
            f"{found.majority_right:.0%}, a single sample for {found.pass_at_1:.0%}"
        )
    yield from (f"  {line}" for line in samples_lines(vars(found)) if found.layers)
    if found.cut_off_words:
        yield f"  {found.cut_off_words}"
    if found.failed:
        yield f"  {found.failed} got no answer from the engine"
    yield (
        f"A run over them draws about {counted(found.samples_per_run, 'sample')}, "
        f"{found.samples_per_run * found.tokens_per_sample:,.0f} tokens in all; sampling alone "
        f"takes about {lasting(found.seconds_per_run)} at the speed measured here."
    )
    yield "Worth a run." if found.worth_it else f"Not worth a run: {found.why_not}."


class Samples(BaseModel):
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
    show_value(found, _read_lines(rows, found))


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


def _read_lines(rows: Sequence[Samples], found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
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
