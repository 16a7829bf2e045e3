"""What is kept, where, and for how long."""

from __future__ import annotations

import re
from datetime import timedelta
from importlib.util import find_spec
from typing import Annotated

from pydantic import ByteSize, Field, field_validator, model_validator

from ttrl import redaction
from ttrl.config.section import Positive, Section
from ttrl.store.url import parse
from ttrl.times import Duration


class StoreConfig(Section):
    """Where questions, votes, runs and adapters are written down."""

    url: str | None = Field(default=None, repr=False)
    """A SQLAlchemy URL such as postgresql+psycopg://user@host/db; without one, SQLite in the state
    directory."""

    @field_validator("url")
    @classmethod
    def _usable_url(cls, value: str | None) -> str | None:
        if value is not None:
            parse(value)
        return value


class RecordConfig(Section):
    """What is kept of the traffic."""

    enabled: bool = True
    max_chars: Positive = 32_000
    """Longer questions are answered, not recorded."""
    queue: Positive = 10_000
    only_keys: tuple[str, ...] = ()
    """SHA-256, in hexadecimal, of the keys whose questions are learned from; without any, all."""
    redact: bool | tuple[str, ...] = False
    """Replace what tells who somebody is by placeholders before a question is stored (needs the
    extra `privacy`): true is mail addresses, telephone, card, account and social security numbers,
    addresses of machines; or name the kinds, such as [EMAIL_ADDRESS, PERSON]."""
    redact_model: str = ""
    """A spaCy pipeline, a package or a directory, that finds names of people; true takes them out
    as well then."""

    @field_validator("only_keys")
    @classmethod
    def _digests(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for key in value:
            if not re.fullmatch("[0-9a-fA-F]{64}", key):
                raise ValueError(
                    "a key is named by its SHA-256, 64 hexadecimal digits; "
                    "`printf %s KEY | sha256sum` prints it"
                )
        return tuple(key.lower() for key in value)

    @property
    def entities(self) -> tuple[str, ...]:
        """The kinds of words that are redacted."""
        if isinstance(self.redact, tuple):
            return self.redact
        names = ("PERSON",) if self.redact_model else ()
        return (*redaction.PATTERNS, *names) if self.redact else ()

    @model_validator(mode="after")
    def _can_redact(self) -> RecordConfig:
        if unknown := sorted(set(self.entities) - set(redaction.ENTITIES)):
            raise ValueError(
                f"there is no {', '.join(unknown)}; there are {', '.join(redaction.ENTITIES)}"
            )
        if self.entities and find_spec("presidio_analyzer") is None:
            raise ValueError("record.redact needs: pip install 'ttrl[privacy]'")
        names = sorted(set(self.entities) & set(redaction.BY_MODEL))
        if names and not self.redact_model:
            raise ValueError(f"only a model finds {', '.join(names)}: name a record.redact_model")
        return self


class KeepConfig(Section):
    """How long what was recorded and learned is kept; what is older goes by itself."""

    questions_for: Annotated[Duration, Field(gt=timedelta())] | None = timedelta(days=90)
    """Since a question was last asked; null: for ever."""
    questions: Positive | None = None
    """Questions at most, besides those that are held out: the oldest go."""
    bytes: Annotated[ByteSize, Field(ge=64 * 2**20)] | None = None
    """Size of the store at most, of SQLite's: the oldest samples go, then the oldest questions."""
    runs_for: Annotated[Duration, Field(gt=timedelta())] | None = timedelta(days=30)
    """Samples, observations and log of a run since it ended; null: for ever."""
    adapters: Positive = 10
    """The newest versions whose files stay, and as many of those that were held; with what serves
    or may serve again."""
