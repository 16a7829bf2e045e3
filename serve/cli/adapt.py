"""`ttrl adapt`."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from jobs import outset
from serve.cli.common import (
    Resolve,
    ask_daemon,
    config_options,
    counted,
    fail,
    json_option,
    open_store,
    print_json,
    redacted,
    run_config,
    say,
    sentences,
    settle,
)
from serve.cli.daemon import share_card, waiting, with_model
from serve.cli.questions import REASONS
from serve.cli.runs import write_report
from serve.follow import Follower, screen
from serve.status import run_report
from ttrl import logs
from ttrl.config import Config
from ttrl.questions import Question
from ttrl.store import Store
from ttrl.store.questions import Origin, Recorded
from ttrl.store.runs import Run, RunState, Trigger

LOOK_SECONDS = 0.25
NOT_SHIPPED = 4
CODES = {
    RunState.PUBLISHED: 0,
    RunState.NOTHING: 0,
    RunState.HELD: NOT_SHIPPED,
    RunState.REJECTED: NOT_SHIPPED,
}


@click.command()
@click.option(
    "--questions",
    "file",
    type=click.Path(path_type=Path),
    help="Learn from these (JSONL or plain lines) instead of what users asked. They are recorded.",
)
@click.option("--model", help="The base model, when no daemon runs.")
@click.option("--steps", type=int, help="Optimizer steps at most.")
@click.option(
    "--report",
    type=click.Path(path_type=Path, dir_okay=False, writable=True),
    help="Write a page about the run here (HTML).",
)
@click.option("--dry-run", is_flag=True, help="Say what would be selected, sampled and spent.")
@json_option
@config_options
def adapt(
    resolve: Resolve,
    file: Path | None,
    model: str | None,
    steps: int | None,
    report: Path | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Adapt once: by the daemon if one runs on the state directory, else alone.

    A daemon's runs go by its settings; --steps and --set change some of them for this run.
    Interrupting stops the run; users are served all the while.
    """
    resolved = resolve({"model.name": model, "update.steps": steps})
    if report is not None and not report.resolve().parent.is_dir():
        fail(f"{report} cannot be written: there is no directory {report.parent}", code=2)
    with open_store(resolved.config, create=True) as store:
        with sentences():
            config, changes = run_config(resolved)
        questions = None if file is None else _read(file, config)
        if dry_run:
            with sentences():
                plan = _plan(config, store, questions)
            _say_plan(plan, as_json)
            return
        request = _request(config, store, questions, changes)
        with sentences():
            run = _by_daemon(config, store, request, as_json)
            if run is None:
                config = with_model(config)
                logs.configure("warning")
                config = share_card(config)
                run = _by_itself(config, request, as_json)
        _say_end(run, as_json)
        if report is not None:
            write_report(store, run.id, report)
    raise SystemExit(CODES.get(run.state, 1))


def _read(file: Path, config: Config) -> list[Question]:
    from ttrl import questionfile

    try:
        found = questionfile.read(file, max_chars=config.record.max_chars)
    except questionfile.QuestionsUnreadable as error:
        fail(str(error))
    return redacted(config, found)


def _request(
    config: Config,
    store: Store,
    questions: Sequence[Question] | None,
    changes: Mapping[str, Any],
) -> dict[str, Any]:
    overrides = {"overrides": changes} if changes else {}
    if questions is None:
        return overrides
    now = time.time()
    store.questions.record(
        [Recorded(question, now) for question in questions],
        holdout=config.gate.holdout,
        origin=Origin.FILE,
    )
    return {**overrides, "hashes": [question.hash for question in questions]}


def _plan(config: Config, store: Store, questions: Sequence[Question] | None) -> dict[str, Any]:
    """What a run would do; nothing is sampled or recorded."""
    from jobs import probe

    labelled, apart = store.probes.labelled(), probe.apart(store)
    probing = {row.question.hash for row in probe.traffic(store, config.gate, labelled)}
    descent, left_out = outset.descent(config, store), {}
    if questions is None:
        found = outset.candidates(config, store, descent)
        selected = outset.select(config, store, [r for r in found if not apart.like(r.question)])
        questions, left_out = [row.question for row in selected.chosen], selected.counts
    else:
        unseen = store.holdout.among(questions, share=config.gate.holdout)
        questions = [each for each in questions if each.hash not in unseen]
        probing |= unseen
    chosen = sum(not apart.like(each) for each in questions)
    steps = config.update.steps if chosen else 0
    held_out = min(len(probing), config.gate.probes)
    samples = steps * min(config.update.questions_per_step, chosen) * config.vote.samples
    from_base = store.adapters.serving().adapter is None
    probe_samples = probe.cost(config, len(labelled), held_out, from_base=from_base)
    return {
        "questions": chosen,
        "left_out": left_out,
        "probes": len(labelled) + held_out,
        "min_probes": config.gate.min_probes,
        "steps": steps,
        "samples": samples,
        "probe_samples": probe_samples,
        "tokens_at_most": (samples + probe_samples) * config.vote.max_tokens,
        "trained_sequences": steps * config.update.questions_per_step * config.update.keep,
        "ships_if": config.gate.ship,
        "from": descent.parent.name if descent.parent else "base",
        "lineage": descent.words,
    }


def _say_plan(plan: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(plan)
        return
    for why, count in plan["left_out"].items():
        click.echo(f"{count} wait for a later run: {REASONS[why]}.")
    if not plan["questions"]:
        click.echo("There are no new questions to learn from.")
        return
    whence = f"{plan['from']} ({plan['lineage']})" if plan["lineage"] else plan["from"]
    click.echo(
        f"{counted(plan['steps'], 'step')} at most, each with some of {plan['questions']} "
        f"questions, starting from {whence}:\n"
        f"  {plan['samples']} samples to vote on, {plan['trained_sequences']} sequences to train "
        f"on,\n"
        f"  {plan['probe_samples']} samples to judge the result on {plan['probes']} probes,\n"
        f"  {plan['tokens_at_most']} tokens at the very most.\n"
        f"It would ship if the gate finds it {plan['ships_if']}. Nothing was sampled."
    )
    if plan["probes"] < plan["min_probes"]:
        click.echo(
            f"With fewer than {plan['min_probes']} probes (gate.min_probes) it cannot: the gate "
            "holds too little evidence.",
            err=True,
        )


def _by_daemon(
    config: Config, store: Store, request: Mapping[str, Any], as_json: bool
) -> Run | None:
    """The run, once it has ended; None when no daemon is up."""
    with _interrupts() as interrupts:
        answer = ask_daemon(config, "POST", "/admin/runs", request)
        if answer is None:
            return None
        follower = Follower(store, answer["run"])
        with screen(silent=as_json) as shown:
            while not (news := follower.look()).run.state.ended:
                shown.show(news)
                if interrupts:
                    interrupts.clear()
                    ask_daemon(config, "POST", "/admin/runs/stop")
                if news.run.stale(time.time()):
                    fail(f"run {news.run.id} fell silent; `ttrl status` says if a daemon is up")
                time.sleep(LOOK_SECONDS)
            shown.show(news)
    if news.run.state is RunState.PUBLISHED:
        settle(config, store, news.run.adapter)
    return news.run


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """Ctrl-C adds to a list: as an exception it might come before it is known which run to stop, or
    be lost in somebody's callback."""
    found: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: found.append(number))
    try:
        yield found
    finally:
        signal.signal(signal.SIGINT, before)


def _by_itself(config: Config, request: Mapping[str, Any], as_json: bool) -> Run:
    try:
        return asyncio.run(_alone(config, request, as_json))
    except asyncio.CancelledError:
        fail("it was stopped; `ttrl runs list` says what became of the run")


async def _alone(config: Config, request: Mapping[str, Any], as_json: bool) -> Run:
    """Own the state directory and an engine for as long as the run takes."""
    from serve.core import core
    from serve.signals import on_signals

    this = asyncio.current_task()
    assert this is not None
    async with core(config) as parts:
        on_signals([this.cancel], [parts.end_now])
        await parts.start(waiting("the engine is starting"))
        run = await parts.runs.start(Trigger.OPERATOR, request)
        follower = Follower(parts.store, run.id)
        with screen(silent=as_json) as shown:
            while not (news := follower.look()).run.state.ended:
                shown.show(news)
                await asyncio.sleep(LOOK_SECONDS)
            shown.show(news)
        await parts.runs.wait()
        await parts.reconciler.settle()
    return news.run


def _say_end(run: Run, as_json: bool) -> None:
    if as_json:
        print_json(run_report(run))
    else:
        say(f"Run {run.id} ended: {run.state}. {run.reason}")
        if run.state is RunState.HELD:
            click.echo(f"Look at it with `ttrl adapters show {run.adapter}`, ", nl=False)
            click.echo(f"let it serve with `ttrl adapters promote {run.adapter}`.")
