"""`ttrl measure` and `ttrl assess`: ask the engine much, and train nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TypeVar

import click

from jobs import measure as measure_job
from jobs.measure import Assessment, Measured
from jobs.process import engine_client
from serve import views
from serve.cli.common import (
    PATH,
    Resolve,
    ask_daemon,
    model_option,
    open_store,
    resolve_options,
    run_config,
)
from serve.cli.daemon import run_alone
from serve.cli.output import json_option, progress, samples_lines, show
from serve.gateway.live import BASE
from ttrl.config import Config
from ttrl.engine.client import EngineClient
from ttrl.evaluation.estimates import Quality
from ttrl.store import Store
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
    show(measured, _lines(measured))


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
    show({**vars(assessed), "worth_it": assessed.worth_it}, _assessed(assessed))


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
    if measured.quality is None:
        yield "quality      there are no probes"
    else:
        yield from quality_lines(measured.quality)
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


def quality_lines(quality: Quality) -> Iterator[str]:
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
            f"{quality.pass_at_k:.1%} with a correct one among all, {quality.majority_right:.1%} "
            f"correct majorities"
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
