"""What is judged, watched and told."""

from __future__ import annotations

import base64
from datetime import timedelta
from enum import StrEnum
from typing import Annotated
from urllib.parse import SplitResult, urlsplit

from pydantic import Field, model_validator

from ttrl.config.section import Above, Positive, Ratio, Section
from ttrl.times import Duration


class ShipPolicy(StrEnum):
    """What the gate must say before a candidate serves users."""

    BETTER = "better"
    SHARPER = "sharper"


class GateConfig(Section):
    """The judge of a candidate."""

    ship: ShipPolicy = ShipPolicy.BETTER
    """`better` asks for labels that say so; `sharper` is content with the model's own consensus."""
    holdout: Ratio = 0.1
    """Share of the recorded questions that is never trained on."""
    probes: Positive = 64
    """Held-out questions asked at most."""
    cohort: Annotated[Duration, Field(gt=timedelta())] = timedelta(days=7)
    """So long the same held-out questions are asked; then all but a core are drawn anew."""
    random_labels: Annotated[int, Field(ge=0)] = 5
    """Held-out questions a week that `ttrl label` asks about whether versions disagree or not."""
    min_probes: Positive = 16
    samples: Annotated[int, Field(ge=2, le=256)] = 16
    choosing: Ratio = 0.25
    """Share of the labelled probes by which the best step of a run is chosen; the others judge
    it."""
    flips: Ratio = 0.05
    """Share of the probes' majority answers that may change, beyond what asking the live version
    twice changes, before the candidate is worse."""
    unreadable: Ratio = 0.02
    """Share of the answers that may become unreadable before the candidate is worse."""
    reach: Ratio = 0.05
    """Labels must show that no larger share of the probes has lost its last right answer
    (pass@k)."""
    length: Annotated[float, Field(gt=1)] = 5.0
    """Times that answers may be longer or shorter than the live version's. TTRL as published makes
    answers to easy questions almost four times shorter (arXiv 2504.16084, by MATH's levels)."""
    kl_base: Annotated[float, Field(gt=0)] = 0.5
    """Distance from the base model, in nats per token of pinned answers, that a lineage may go."""
    kl_live: Annotated[float, Field(gt=0)] = 0.3
    """Distance from the live version that one run may go."""
    base_margin: Ratio = 0.01
    """Labels must show that the candidate is not worse than the base model by more than this."""
    tag_margin: Ratio = 0.1
    """The same for the labelled probes of each tag."""
    told_apart: Ratio = 0.9
    """Labelled probes are stale when a classifier tells them from recent traffic in more than this
    share of pairs; 0.5 is chance."""
    speaking: Ratio = 0.1
    """And when less than this share of them speaks for the traffic."""


class GuardConfig(Section):
    """The judge of a run in progress; each bound is of the rule of that name."""

    window: Positive = 5
    """Steps that a rule looks at together."""
    mismatch: Annotated[float, Field(gt=0)] = 0.2
    """Nats a token by which engine and trainer may differ."""
    masked: Above = 0.5
    """Share of what is trained on that may count for nothing because they differ."""
    unreadable: Above = 0.3
    """Share of the answers readable in the beginning that may become unreadable or cut off."""
    short: Above = 0.75
    """Part of the beginning's length that answers may lose."""
    entropy: Annotated[float, Field(gt=0)] = 1.0
    """Nats by which the entropy of the next token may rise."""
    alike: Above = 0.5
    """Share of the pairs of different questions, answered differently in the beginning, that may
    come to have the same answer."""
    flips: Above = 0.3
    """Share of the questions asked again that may have another label than before."""
    fall: Above = 0.3
    """Part of its best value that agreement may lose."""
    kl: Annotated[float, Field(gt=0)] = 0.3
    """Nats a token that the model may go from where the run started."""
    no_signal: Above = 0.9
    """Share of the questions that may teach nothing."""


class ShadowConfig(Section):
    """The live guard: a part of the traffic is asked again of the live version and of the one
    before it, and compared."""

    share: Ratio = 0.02
    """Of the chat questions; 0 switches the guard off."""
    samples: Annotated[int, Field(ge=2, le=64)] = 4
    """Answers of each version to each question."""
    pairs_a_minute: Annotated[float, Field(gt=0)] = 2.0
    """Questions that are asked again, at most."""
    false_alarms_a_year: Annotated[float, Field(gt=0)] = 1.0
    """Alarms without cause in a year, at most, in expectation; fewer make all alarms later."""


class MeasureConfig(Section):
    """How often it is looked at how good the live version is, and whether the questions move."""

    every: Annotated[Duration, Field(gt=timedelta())] | None = timedelta(days=1)
    """After so long without a run's gate the live version is asked the probes by itself; null:
    never."""
    window: Annotated[Duration, Field(gt=timedelta())] = timedelta(days=7)
    """The newest questions are those of so long; they are compared with those of four times as long
    before."""


class WebhookConfig(Section):
    """Who is told of promotions, held and rejected candidates, failed runs and roll-backs."""

    url: str | None = None
    """Gets a POST for each, signed as Standard Webhooks has it (standardwebhooks.com)."""
    secret: str | None = Field(default=None, repr=False)
    """What they are signed with: `whsec_` and base64, as `openssl rand -base64 32` makes it."""

    @model_validator(mode="after")
    def _signed(self) -> WebhookConfig:
        if self.url is None:
            return self
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or not _port(parts):
            raise ValueError("a webhook's address is written like https://example.org/hook")
        try:
            key = base64.b64decode((self.secret or "").removeprefix("whsec_"), validate=True)
        except ValueError:
            key = b""
        if len(key) < 16:
            raise ValueError(
                "webhook.secret must be at least 16 bytes in base64; `openssl rand -base64 32` "
                "makes one"
            )
        return self


def _port(parts: SplitResult) -> int | None:
    try:
        return 80 if parts.port is None else parts.port
    except ValueError:
        return None
