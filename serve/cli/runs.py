"""Training runs: `ttrl runs`, and `ttrl adapt`, which has one now and follows it."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
)

from jobs import selection
from serve.cli.common import (
    ID,
    NOT_SHIPPED,
    PATH,
    Resolve,
    ask_daemon,
    config_options,
    limit_option,
    look_store,
    model_option,
    no_daemon,
    open_store,
    redacted,
    resolve_options,
    run_config,
    settle,
    standard_options,
)
from serve.cli.daemon import run_alone
from serve.cli.output import (
    QUIET_SECONDS,
    fail,
    how_far,
    json_option,
    labels_words,
    list_rows,
    show_fields,
    show_value,
    tell,
    wants_json,
)
from serve.cli.questions import GROUNDS, REASONS
from serve.views import judge_cost, run_report, verdicts
from ttrl import events
from ttrl.config import Config
from ttrl.config.section import clock
from ttrl.engine.pacing import Pause, Resume
from ttrl.events import Event, Probed, Step
from ttrl.monitoring.run import Ruling
from ttrl.questions.question import Question
from ttrl.sampling.selection import Basis, Selection
from ttrl.store import Store
from ttrl.store.questions import Origin, Recorded
from ttrl.store.runs import Run, RunState, Trigger
from ttrl.words import counted, lasting

if TYPE_CHECKING:
    from serve.daemon.core import Core

LOOK_SECONDS = 0.25
CODES = {
    RunState.PUBLISHED: 0,
    RunState.NOTHING: 0,
    RunState.HELD: NOT_SHIPPED,
    RunState.REJECTED: NOT_SHIPPED,
}


@click.group()
def runs() -> None:
    """Manage runs."""


@runs.command("list")
@limit_option
@standard_options
def list_(config: Config, limit: int) -> None:
    """The newest runs first."""
    with look_store(config) as store:
        rows = [run_report(run) for run in store.runs.newest(limit)]
    ended = "ended", lambda row: row["finished"] and clock(row["finished"])[:16]
    # No more of them, so that there is room for the reason.
    columns = (("run", "id"), "state", "steps", "adapter", ended, "reason")
    list_rows(rows, *columns)


@runs.command()
@click.argument("run_id", type=ID)
@standard_options
def show(config: Config, run_id: int) -> None:
    """Show one run with the gate's evidence, and why the run monitor stopped it, if it did."""
    with look_store(config) as store:
        run = run_report(store.runs.get(run_id))
        run["verdicts"] = verdicts(store, run_id)
        seen = events.observed(store, run_id)
        asked = store.votes.instructions(run_id)
    run["instructions"] = [
        {"instruction": text, "votes": count, "of": sum(asked.values())}
        for text, count in asked.items()
        if text is not None
    ]
    run["judge"] = judge_cost(seen)
    run["guard"] = next((event for event in seen if isinstance(event, Ruling)), None)
    show_fields(run)


@runs.command()
@click.argument("run_id", type=ID)
@click.argument("file", type=PATH)
@config_options
def report(config: Config, run_id: int, file: Path) -> None:
    """Write a report of a run to FILE (HTML): the gate's evidence, the worst changes, the steps."""
    with look_store(config) as store:
        write_report(store, run_id, file)


def write_report(store: Store, run_id: int, file: Path) -> None:
    from serve.html import run_page

    file.write_text(run_page(store, run_id), encoding="utf-8")
    click.echo(f"Wrote the report of run {run_id} to {file}.", err=True)


@runs.command()
@standard_options
def stop(config: Config) -> None:
    """Stop the run in progress; users are served as before."""
    answer = ask_daemon(config, "POST", "/admin/runs/stop")
    if answer is None:
        no_daemon(config)
    words = "Stopped." if answer["stopped"] else "There is no run in progress."
    tell(words, stopped=answer["stopped"])


@contextmanager
def following(store: Store, run_id: int) -> Iterator[Callable[[], Run]]:
    """Hands over what looks at a run in the store, whoever carries it out, and shows what is new of
    it on standard error: a line for each step and pause, and on a terminal bars for its steps and
    its probes, else a line after each minute of silence; nothing with --json."""
    console, last = Console(stderr=True, quiet=wants_json(), highlight=False), 0
    said, probed, probing = time.monotonic(), None, 0.0
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    shown = console.is_terminal and not wants_json()
    bars = Progress(*columns, TimeElapsedColumn(), console=console, disable=not shown)
    steps = bars.add_task("update", total=None)
    probes = bars.add_task("probes", total=None, visible=False)

    def look() -> Run:
        nonlocal last, said, probed, probing
        run = store.runs.get(run_id)  # first: once it has ended, there is nothing more to come
        for row in store.runs.observed(after=last, run_id=run_id):
            last, event = row.id, events.read(row)
            if isinstance(event, Step):
                bars.update(steps, completed=event.step, total=event.steps)
            elif isinstance(event, Probed):
                bars.update(probes, completed=event.done, total=event.of, visible=True)
                if probed is None or event.done <= probed.done:  # others are asked now
                    probing = row.at
                probed = event
            if line := _line(event):
                console.print(line, markup=False, soft_wrap=True)
                said = time.monotonic()
        if not shown and time.monotonic() - said >= QUIET_SECONDS:
            said = time.monotonic()
            samples = sum(store.votes.layers(run_id).values())
            line = so_far(run, samples, bars.tasks[0].total, probed, probing, time.time())
            console.print(line, markup=False, soft_wrap=True)
        return run

    with bars:
        yield look


def so_far(
    run: Run, samples: int, steps: float | None, probed: Probed | None, probing: float, now: float
) -> str:
    """Return where a run is at the time `now`, for who waits; `steps` are those of all of it, None
    before the first, and its probes are asked since the time `probing`."""
    seconds = now - (run.started or run.created)
    if run.state is RunState.UPDATING:
        far = how_far(f"run {run.id}, steps", run.steps, steps, seconds)
        return f"{far}; {counted(samples, 'sample')} so far"
    if probed:
        return how_far(f"run {run.id}, answers to probes", probed.done, probed.of, now - probing)
    return f"run {run.id}: {run.state}, {lasting(seconds)} after it began"


def _line(event: Event | None) -> str | None:
    match event:
        case Step():
            mismatch, effective = event.mismatch, event.effective
            parts = (
                f"{event.share:.0%} agree",
                f"{event.informative:.0%} have a signal",
                f"{event.cut:.0%} cut off",
                f"{event.length:.0f} tokens each",
                "" if mismatch is None else f"mismatch {mismatch:.1e} nats",
                "" if effective is None else f"effective {effective:.0%}",
                "one step stale" if event.staleness else "",
                f"{event.seconds:.1f} s",
            )
            return f"step {event.step}/{event.steps}: {', '.join(filter(None, parts))}"
        case Pause():
            return f"pausing: {counted(round(event.waiting), 'answer')} waiting in the engine"
        case Resume():
            return f"resuming after {event.seconds:.0f} s"
    return None


@click.command()
@click.option(
    "--questions",
    "file",
    type=PATH,
    help="Train on these (JSONL, a JSON array, OpenAI batch lines, or plain lines) instead of the "
    "recorded questions; they are recorded too.",
)
@model_option
@click.option("--steps", "update__steps", type=int, help="Maximum number of optimizer steps.")
@click.option(
    "--report",
    type=click.Path(path_type=Path, dir_okay=False, writable=True),
    help="Write an HTML report of the run here.",
)
@click.option(
    "--dry-run", is_flag=True, help="Show what would be selected, sampled and spent; train nothing."
)
@json_option
@resolve_options
def adapt(resolve: Resolve, file: Path | None, report: Path | None, dry_run: bool) -> None:
    """Run one training run: in the daemon if one uses the state directory, else on its own.

    A daemon's runs go by its settings; --steps and --set change some of them for this run.
    Interrupting stops the run; users are served all the while.
    """
    from ttrl import datasets

    if report is not None and not report.resolve().parent.is_dir():
        fail(f"cannot write {report}: there is no directory {report.parent}", code=2)
    config, changes = run_config(resolve())
    questions = None
    if file is not None:
        questions = datasets.read_questions(file, max_chars=config.record.max_chars)
        questions = redacted(config, questions)
    if dry_run:
        with look_store(config, empty=True) as store:
            plan = _plan(config, store, questions)
        show_value(plan, _plan_lines(plan))
        return
    with open_store(config, create=True) as store:
        request: dict[str, Any] = {"overrides": changes} if changes else {}
        if questions is not None:
            now = time.time()
            store.questions.record(
                [Recorded(question, now) for question in questions],
                holdout=config.gate.holdout,
                origin=Origin.FILE,
            )
            request["hashes"] = [question.hash for question in questions]
        run = carry_out(config, store, request)
        if report is not None:
            write_report(store, run.id, report)
    raise SystemExit(CODES.get(run.state, 1))


def carry_out(config: Config, store: Store, request: Mapping[str, Any]) -> Run:
    """Have a run, in the daemon if there is one, and say how it ended."""
    run = _by_daemon(config, store, request)
    if run is None:
        run = run_alone(
            config,
            partial(_by_itself, request=request),
            hint="; see `ttrl runs list` for the state of the run",
        )
    lines = [f"Run {run.id} ended: {run.state}. {run.reason}"]
    if run.state is RunState.HELD:
        lines.append(
            f"Look at it with `ttrl adapters show {run.adapter}`, "
            f"serve it with `ttrl adapters promote {run.adapter}`."
        )
    show_value(run_report(run), lines)
    return run


def _plan(config: Config, store: Store, questions: Sequence[Question] | None) -> dict[str, Any]:
    """What a run would do; nothing is sampled or recorded."""
    from jobs import probes

    labelled = store.probes.labelled()
    traffic = probes.traffic(store, config.gate, labelled)
    probing = {row.question.hash: row.question for row in traffic}
    descent, selected = selection.descent(config, store), Selection(())
    if questions is None:
        selected, _ = selection.select(config, store, descent)
        chosen = len(selected.chosen)
    else:
        unseen = store.holdout.among(questions, share=config.gate.holdout)
        probing |= {question.hash: question for question in questions if question.hash in unseen}
        questions = [question for question in questions if question.hash not in unseen]
        apart = probes.apart(store, config.gate, questions)
        chosen = sum(not apart.like(question) for question in questions)
    steps = config.update.steps_over(chosen, descent.updates) if chosen else 0
    samples = steps * min(config.update.questions_per_step, chosen) * config.vote.samples
    last, minutes, tokens = store.runs.last_judged(), None, None
    if last and last.samples and last.started is not None and last.finished is not None:
        like_it = samples / last.samples  # all of that run goes into it
        minutes = round((last.finished - last.started) * like_it / 60, 1)
        tokens = round(last.tokens * like_it)
    usage = store.questions.usage(config.gate.min_probes)
    held_out = list(probing.values())[: config.gate.probes]
    from_base = store.adapters.serving().adapter is None
    evaluating = probes.samples_drawn(config, steps, labelled, held_out, usage, from_base=from_base)
    return {
        "questions": chosen,
        "left_out": selected.counts,
        "grounds": selected.grounds,
        "chosen": [
            {"id": row.id, "state": row.state}
            | (selected.estimates[row.id].report() if selected.estimates else {})
            for row in selected.chosen
        ],
        "probes": len(labelled) + len(held_out),
        "min_probes": config.gate.min_probes,
        "labels": probes.outlook(store, config.gate),
        "steps": steps,
        "samples": samples,
        "probe_samples": evaluating,
        "evaluated": str(usage),
        "minutes": minutes,
        "tokens": tokens,
        "tokens_at_most": (samples + evaluating) * config.vote.longest,
        "trained_sequences": steps * config.update.questions_per_step * config.update.keep,
        "ships_if": config.gate.ship,
        "from": descent.parent.name if descent.parent else "base",
        "lineage": descent.words,
    }


def _plan_lines(plan: Mapping[str, Any]) -> Iterator[str]:
    for why, count in plan["left_out"].items():
        yield f"{counted(count, 'question')} left for a later run: {REASONS[why]}."
    if grounds := plan["grounds"]:
        each = ", ".join(f"{count} by {GROUNDS[Basis(basis)]}" for basis, count in grounds.items())
        yield f"Chosen for how divided their votes are expected to be: {each}."
    if not plan["questions"]:
        yield "There are no new questions to train on."
        return
    pace = "how long it takes is not known yet (`ttrl assess` measures sampling)"
    if plan["minutes"] is not None:
        took = lasting(60 * plan["minutes"])
        pace = f"about {took} and {plan['tokens']:,} tokens of samples, going by the last run"
    whence = f"{plan['from']} ({plan['lineage']})" if plan["lineage"] else plan["from"]
    yield (
        f"{counted(plan['steps'], 'step')} at most, each with some of "
        f"{counted(plan['questions'], 'question')}, starting from {whence}:"
    )
    yield f"  {counted(plan['samples'], 'sample')} to vote on"
    yield f"  {counted(plan['trained_sequences'], 'sequence')} to train on"
    yield (
        f"  {counted(plan['probe_samples'], 'sample')} to evaluate the result on "
        f"{counted(plan['probes'], 'probe')}, sampled {plan['evaluated']}"
    )
    yield f"  {plan['tokens_at_most']:,} tokens at most; {pace}"
    yield f"It ships if the verdict of the gate is {plan['ships_if']}. Nothing was sampled."
    yield f"Labels: {labels_words(plan['labels'])}."
    if plan["probes"] < plan["min_probes"]:
        yield (
            f"With fewer than {plan['min_probes']} probes (gate.min_probes) it cannot ship: the "
            f"gate needs more evidence."
        )


def _by_daemon(config: Config, store: Store, request: Mapping[str, Any]) -> Run | None:
    # As an exception, Ctrl-C might come before it is known which run to stop, or be lost in
    # somebody's callback.
    interrupts: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: interrupts.append(number))
    try:
        answer = ask_daemon(config, "POST", "/admin/runs", request)
        if answer is None:
            return None
        with following(store, answer["run"]) as look:
            while not (run := look()).state.ended:
                if interrupts:
                    interrupts.clear()
                    ask_daemon(config, "POST", "/admin/runs/stop")
                if run.stale(time.time()):
                    fail(
                        f"run {run.id} has stopped reporting; check with `ttrl status` that a "
                        f"daemon is running"
                    )
                time.sleep(LOOK_SECONDS)
    finally:
        signal.signal(signal.SIGINT, before)
    if run.state is RunState.PUBLISHED:
        settle(config, store, run.adapter)
    return run


async def _by_itself(parts: Core, request: Mapping[str, Any]) -> Run:
    begun = await parts.runs.start(Trigger.OPERATOR, request)
    with following(parts.store, begun.id) as look:
        while not (run := look()).state.ended:  # noqa: ASYNC110 - another process
            await asyncio.sleep(LOOK_SECONDS)
    await parts.runs.wait()
    await parts.reconciler.settle()
    return run
