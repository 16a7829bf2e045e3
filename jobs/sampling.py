"""What a job samples with: how answers are read, how long they may be, and known answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jobs.process import signals_deferred
from ttrl import datasets
from ttrl.answers import Reader
from ttrl.config import Config
from ttrl.engine.client import EngineClient
from ttrl.engine.memory import fit_to_card
from ttrl.meaning import Letters, Likeness
from ttrl.sampling.groups import with_length


class MeaningRefused(Exception):
    """The model that texts are to be compared with cannot be loaded; says why."""


def sized(config: Config, client: EngineClient) -> Config:
    """Return the settings with a number for vote.max_tokens: the operator's, or the longest answer
    that both the trainer's memory and the engine's context have room for. Raises MemoryRefused,
    EngineUnreachable."""
    if config.engine.url is None:  # our own engine was planned for before it was started
        return with_length(config, client)
    # The plan knows only the model's context, of which an operator may serve a part.
    return with_length(config, client, fit_to_card(config).vote.max_tokens)


def reader_for(config: Config) -> Reader:
    """Return what reads and compares answers, as configured. Raises MeaningRefused."""
    return Reader(config.vote.kind, _likeness(config))


def known_answers(config: Config) -> Mapping[str, Sequence[str]]:
    """Return the reference answers by the hashes of their questions. Raises
    ReferencesUnreadable."""
    file = config.meaning.references
    return datasets.read_references(file, max_chars=config.record.max_chars) if file else {}


def _likeness(config: Config) -> Likeness:
    settings = config.meaning
    if not settings.model:
        return Letters(settings.alike)
    with signals_deferred():
        from ttrl.meaning.embeddings import Embeddings, Pairs  # imports torch
    model = Pairs if settings.cross_encoder else Embeddings
    try:
        return model(settings.model, settings.alike, settings.device)
    except (OSError, ValueError, RuntimeError) as error:
        first_line = str(error).partition("\n")[0]
        raise MeaningRefused(f"meaning.model {settings.model}: {first_line}") from error
