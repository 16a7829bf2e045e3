"""`ttrl judge`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import click

from jobs.distill import Distilled, Training, run
from serve.cli.common import NOT_SHIPPED, PATH, look_store, require, standard_options
from serve.cli.output import Failure, show_value
from ttrl.config import Config
from ttrl.judge import FOLDER
from ttrl.words import counted

START = "sentence-transformers/all-MiniLM-L6-v2"


@click.group()
def judge() -> None:
    """Distill a judge from its recorded scores."""


@judge.command()
@click.option(
    "--out", type=PATH, help="Directory of the distilled judge; by default in the state directory."
)
@click.option(
    "--start",
    help=f"A sentence-transformers model to start from; meaning.model, or {START}.",
)
@click.option("--judge", "name", help="The judge to distill; by default the one with most scores.")
@click.option("--epochs", type=click.IntRange(min=1), default=4, show_default=True)
@click.option(
    "--learning-rate", type=click.FloatRange(min=0, min_open=True), default=1e-4, show_default=True
)
@standard_options
def distill(
    config: Config,
    out: Path | None,
    start: str | None,
    name: str | None,
    epochs: int,
    learning_rate: float,
) -> None:
    """Train a small cross-encoder on the scores that a judge gave to samples of runs.

    A quarter of the questions is held out. On them the distilled judge must order answers like its
    judge, and score no answer that only looks good as high as a good one; otherwise it is not kept,
    and the command exits with 4. Use it with judge.by=distilled.
    """
    require("distilling a judge", "judge", "sentence_transformers", "datasets", "accelerate")
    folder = (out or config.state_dir / FOLDER / "distilled").absolute()
    training = Training(
        start or config.meaning.model or START,
        epochs=epochs,
        learning_rate=learning_rate,
        device=config.judge.device,
        seed=config.update.seed,
    )
    with look_store(config) as store:
        done = run(store, config.state_dir, folder, training, config.judge.rubric, name)
    show_value(
        {**asdict(done), "kept": not done.refused, "folder": str(folder)}, _lines(done, folder)
    )
    if done.refused:
        raise Failure(f"the distilled judge was not kept: {'; '.join(done.refused)}", NOT_SHIPPED)


def _lines(done: Distilled, folder: Path) -> Iterator[str]:
    grades = done.grades
    yield f"judge        {done.judge}"
    yield f"learned from {counted(done.learned_from, 'answer')}"
    yield (
        f"held out     {counted(grades.answers, 'answer')} to "
        f"{counted(grades.questions, 'question')}"
    )
    yield f"Spearman     {grades.spearman:.2f} ({grades.low:.2f} to {grades.high:.2f})"
    if grades.ordered is not None:
        each = grades.ordered
        yield f"ordered      {each.value:.0%} ({each.low:.0%} to {each.high:.0%}) of pairs"
    if grades.auc is not None:
        theirs = "" if grades.judge_auc is None else f"; the judge {grades.judge_auc:.2f}"
        yield f"labels       AUC {grades.auc:.2f} on {counted(grades.labels, 'label')}{theirs}"
    for kind, tried in grades.tried.items():
        yield f"pretenders   {grades.won[kind]} of {tried} win: {kind}"
    yield f"latency      {1000 * grades.seconds:.1f} ms an answer"
    if not done.refused:
        yield f"kept         {folder}"
