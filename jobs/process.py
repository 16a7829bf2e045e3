"""What every job begins with: configuration, engine, reader of answers, signals.

The configuration comes on standard input: arguments would show its secrets.
"""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType

from ttrl import ReportedError, datasets, logs
from ttrl.answers import Reader
from ttrl.answers.bounded import BoundedReader
from ttrl.answers.phrases import phrases
from ttrl.config import Config, MeaningBy
from ttrl.engine.client import EngineClient
from ttrl.engine.memory import fit_to_card
from ttrl.engine.pacing import Pacer
from ttrl.meaning import Judge, Letters, Likeness
from ttrl.sampling.groups import with_length
from ttrl.sampling.judge import EngineJudge

STOPPED_BECAUSE = {
    signal.SIGINT: "the run was stopped",
    signal.SIGTERM: "stopped by SIGTERM: the daemon has exited, or the run was ended in the store",
}
"""The daemon stops a run with SIGINT; its watchdog sends SIGTERM when the daemon is gone."""
log = logging.getLogger(__name__)

CLEANUP_SECONDS = 30
"""To clean up after a signal. A process that takes longer hangs with its engine and is killed; its
owner or the next run cleans up."""


class Stopped(BaseException):
    """The job was asked to stop. Not an Exception, which libraries may swallow."""


def configure(run: int | None = None) -> Config:
    config = Config.model_validate_json(sys.stdin.read())
    ids = {} if run is None else {"run": run}
    logs.configure(config.log_level, config.log_format, **ids)
    return config


def engine_client(config: Config, url: str) -> EngineClient:
    return EngineClient(
        url,
        api_key=config.engine.api_key,
        timeout=config.engine.request_timeout.total_seconds(),
        retries=config.engine.retries,
    )


class MeaningRefused(ReportedError):
    """The model that texts are to be compared with cannot be loaded; says why."""


def sized(config: Config, client: EngineClient) -> Config:
    """Return the settings with a number for vote.max_tokens: the operator's, or the longest answer
    that both the trainer's memory and the engine's context have room for. Raises MemoryRefused,
    EngineUnreachable."""
    if config.engine.url is None:  # our own engine was planned for before it was started
        return with_length(config, client)
    # The plan knows only the model's context, of which an operator may serve a part.
    return with_length(config, client, fit_to_card(config).vote.max_tokens)


def reader_for(
    config: Config, client: EngineClient | None = None, pacer: Pacer | None = None
) -> Reader:
    """Return what reads and compares answers, as configured; without an engine that might judge
    them, by letters. Raises MeaningRefused, PhrasesUnreadable."""
    settings = config.meaning
    likeness: Likeness = Letters(settings.alike)
    judge: Judge | None = None
    by = settings.compared_by
    if by is MeaningBy.ENGINE and client is not None and pacer is not None:
        judge = EngineJudge(client, pacer, settings.pairs)
    elif by in (MeaningBy.EMBEDDINGS, MeaningBy.PAIRS):
        with signals_deferred():
            from ttrl.meaning.embeddings import Embeddings, Pairs  # imports torch
        name, alike, device = settings.model, settings.alike, settings.device
        try:
            if by is MeaningBy.PAIRS:
                judge, likeness = Pairs(name, settings.pairs, alike, device), Letters()
            else:
                likeness = Embeddings(name, alike, device)
        except (OSError, ValueError, RuntimeError) as error:
            first_line = str(error).partition("\n")[0]
            raise MeaningRefused(f"cannot load meaning.model {name}: {first_line}") from error
    log.info("comparing free-text answers by %s", (judge or likeness).words)
    return BoundedReader(config.vote.kind, likeness, phrases(config.vote.phrases), judge)


def known_answers(config: Config) -> Mapping[str, Sequence[str]]:
    """Return the reference answers by the hashes of their questions. Raises
    DatasetUnreadable."""
    file = config.meaning.references
    return datasets.read_references(file, max_chars=config.record.max_chars) if file else {}


def raise_on_signals() -> None:
    """Raise Stopped in the main thread on the first of the signals; ignore further ones."""

    def stop(number: int, _frame: FrameType | None) -> None:
        for each in STOPPED_BECAUSE:
            signal.signal(each, signal.SIG_IGN)
        signal.alarm(CLEANUP_SECONDS)
        raise Stopped(STOPPED_BECAUSE[signal.Signals(number)])

    for number in STOPPED_BECAUSE:
        signal.signal(number, stop)


@contextmanager
def signals_deferred() -> Iterator[None]:
    """Deliver signals at the end of the block. For imports: torch and numpy drop what is raised
    while others are imported, or make it an ImportError.

    A signal mask belongs to one thread, and Python hands what others receive to the main one."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []

    def remember(number: int, _frame: FrameType | None) -> None:
        received.append(number)

    before = {number: signal.signal(number, remember) for number in STOPPED_BECAUSE}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if received:
            signal.raise_signal(received[0])
