"""What a run reads answers with, as it is configured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jobs import interruption
from ttrl.answers import Reader
from ttrl.config import Config, MeaningConfig
from ttrl.meaning import Letters, Likeness
from ttrl.references import read


class MeaningRefused(Exception):
    """The model that texts are to be compared with cannot be loaded; says why."""


def reader(config: Config) -> Reader:
    """Raises MeaningRefused."""
    return Reader(config.vote.kind, _likeness(config.meaning))


def references(config: Config) -> Mapping[str, Sequence[str]]:
    """Right answers by the hashes of their questions. Raises ReferencesUnreadable."""
    file = config.meaning.references
    return read(file, max_chars=config.record.max_chars) if file else {}


def _likeness(settings: MeaningConfig) -> Likeness:
    if not settings.model:
        return Letters(settings.alike)
    with interruption.put_off():
        from ttrl.meaning.embeddings import Embeddings, Pairs  # imports torch
    made = Pairs if settings.cross_encoder else Embeddings
    try:
        return made(settings.model, settings.alike, settings.device)
    except (OSError, ValueError, RuntimeError) as error:
        said = str(error).partition("\n")[0]
        raise MeaningRefused(f"meaning.model {settings.model}: {said}") from error
