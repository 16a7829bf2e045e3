"""Everything that can be set, as one tree; `ttrl.config.loading` reads it."""

from __future__ import annotations

import base64
import os
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import platformdirs
from pydantic import Field, PositiveFloat, field_validator, model_validator

from ttrl.config.learning import (
    AnswerKind,
    Downsampling,
    JudgeBy,
    JudgeConfig,
    KlTo,
    MeaningBy,
    MeaningConfig,
    ScheduleConfig,
    SelectionConfig,
    SelectionOrder,
    Teacher,
    UpdateConfig,
    VerifyConfig,
    VoteConfig,
)
from ttrl.config.section import Above, HttpUrl, Patience, Positive, Ratio, Section
from ttrl.config.serving import (
    AdminConfig,
    EngineConfig,
    EngineKind,
    FeedbackConfig,
    GatewayConfig,
    KeepConfig,
    ModelConfig,
    RecordConfig,
    Rule,
    StoreConfig,
    parse,
)

__all__ = [
    "AnswerKind", "Config", "Downsampling", "EngineConfig", "EngineKind", "GateConfig",
    "GatewayConfig", "GuardConfig", "JudgeBy", "JudgeConfig", "KlTo", "MeaningBy",
    "MeaningConfig", "ModelConfig", "RecordConfig", "Rule", "ScheduleConfig", "Section",
    "SelectionConfig", "SelectionOrder", "ShadowConfig", "ShipPolicy", "Teacher", "UpdateConfig",
    "VerifyConfig", "VoteConfig", "WebhookConfig",
]  # fmt: skip


class ShipPolicy(StrEnum):
    """The verdict that a candidate needs to go live."""

    BETTER = "better"
    SHARPER = "sharper"


class GateConfig(Section):
    """The gate, which judges a candidate."""

    ship: ShipPolicy = ShipPolicy.BETTER
    """`better` requires labels that prove it; `sharper` accepts the model's own agreement."""
    holdout: Ratio = 0.1
    """Share of the recorded questions that is never trained on."""
    probes: Positive = 64
    """Maximum number of held-out questions to ask."""
    cohort: Patience = timedelta(days=7)
    """Time for which the same held-out questions are asked; then all but a core are drawn again."""
    random_labels: Annotated[int, Field(ge=0)] = 5
    """Randomly drawn held-out questions a week that `ttrl label` asks about; and the maximum
    number of questions with only wrong answers known that it asks about again."""
    min_probes: Positive = 16
    """Minimum number of probes for a verdict, and of users' questions to know how users sample."""
    samples: Annotated[int, Field(ge=2, le=256)] = 16
    """Samples of each version for each probe."""
    choosing: Ratio = 0.25
    """Share of the labelled probes (64 at most) that choose the best step of a run; the others
    judge it."""
    false_better_a_year: PositiveFloat = 1.0
    """Expected number of false `better` verdicts a year, at most. A tenth of it needs about a
    fifth more labels."""
    gates_a_year: Annotated[int, Field(ge=4)] = 52
    """Number of gates with labels that share a year's false verdicts; if there are more, each
    needs more labels."""
    proven_tags: tuple[str, ...] = ("safety",)
    """Tags of probes for which labels must prove that no more than `tag_margin` was lost."""
    tag_margin: Ratio = 0.1
    """Accuracy that the probes of a tag may lose against the base model; a larger loss, proven by
    labels, is `worse`."""
    base_margin: Ratio = 0.01
    """The same for all labelled probes together; from the second update on, labels must prove that
    no more was lost."""
    reach: Ratio = 0.05
    """Share of the labelled probes that may lose their last correct answer (pass@k)."""
    unreadable: Ratio = 0.02
    """Share of the answers that may become unreadable. Beyond this limit and the next three, a
    candidate that labels do not prove better is held."""
    length: Annotated[float, Field(gt=1)] = 5.0
    """Factor by which answers may be longer or shorter than the live version's. TTRL as
    published makes answers to easy questions almost four times shorter (arXiv 2504.16084, by
    MATH's levels)."""
    kl_base: PositiveFloat = 0.5
    """Limit of the KL divergence from the base model, in nats per token of pinned answers."""
    kl_live: PositiveFloat = 0.3
    """Limit of the KL divergence from the live version."""
    told_apart: Ratio = 0.9
    """Labelled probes are stale if a classifier tells them from recent traffic in more than this
    share of pairs; 0.5 is chance."""
    speaking: Ratio = 0.1
    """They are also stale if less than this share of them represents the traffic."""


class GuardConfig(Section):
    """The run monitor, which watches a run in progress; each limit belongs to the rule of that
    name."""

    false_stops: Annotated[float, Field(gt=0, lt=1)] = 0.01
    """Share of the runs without any change that may be stopped by chance, over all sequential
    rules together; a smaller share delays all stops."""
    window: Positive = 3
    """Number of steps that a per-step rule considers: most of them must exceed its limit."""
    mismatch: PositiveFloat = 0.2
    """Nats per token by which engine and trainer may differ."""
    effective: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Minimum effective sample size, as a share of the trained tokens, after correcting for that
    difference. Half is where particle filters take weights for degenerate (Liu and Chen, "Blind
    deconvolution via sequential imputations", 1995)."""
    unreadable: Above = 0.3
    """Share of the initially readable answers that may become unreadable or cut off."""
    short: Annotated[float, Field(gt=1)] = 8.0
    """Factor by which answers may become shorter. TTRL as published makes answers to easy questions
    almost four times shorter (arXiv 2504.16084, table 3)."""
    entropy: PositiveFloat = 1.0
    """Nats by which the entropy of the next token may rise."""
    alike: Above = 0.3
    """Share of the decided majority answers that may change to one and the same answer (the flip
    rate that TTRL-Guard tolerates, arXiv 2605.19444)."""
    flips: Above = 0.5
    """Share of them that may change to any other answer."""
    fall: Above = 0.3
    """Share of the initial agreement that may be lost."""
    kl: PositiveFloat = 0.3
    """Limit of the KL divergence from the start of the run, in nats per token. With short answers,
    the limit is twice what the majority answers require, if that is more: -ln(share) nats an
    answer."""


class ShadowConfig(Section):
    """The live monitor: a share of the traffic is sampled again from the live and the previous
    version, and compared."""

    share: Ratio = 0.02
    """Share of the chat questions; 0 turns the live monitor off."""
    samples: Annotated[int, Field(ge=2, le=64)] = 4
    """Samples of each version for each question."""
    pairs_a_minute: PositiveFloat = 2.0
    """Maximum number of questions a minute that are sampled again."""
    false_alarms_a_year: PositiveFloat = 1.0
    """Expected number of false alarms a year, at most; fewer delay all alarms."""


class MeasureConfig(Section):
    """How often the quality of the live version and the drift of the questions are measured."""

    every: Patience | None = timedelta(days=1)
    """Time without a gate after which the live version is evaluated on its own; null: never."""
    window: Patience = timedelta(days=7)
    """Period of the newest questions; they are compared with those of the four periods before."""


class WebhookConfig(Section):
    """Who is told of promotions, held and rejected candidates, failed runs and roll-backs."""

    url: HttpUrl | None = None
    """Gets a POST for each, signed as Standard Webhooks has it (standardwebhooks.com)."""
    secret: str | None = Field(default=None, repr=False)
    """The signing secret: `whsec_` and base64, as made by `openssl rand -base64 32`."""

    @model_validator(mode="after")
    def _signed(self) -> WebhookConfig:
        if self.url is None:
            return self
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


class Config(Section):
    recipe: str | None = None
    """A preset that the other settings override: `mathematics`, `choice`, `free-text`, `domain-qa`
    (see configs/recipes)."""
    state_dir: Path = Field(
        default_factory=lambda: Path(
            os.environ.get("STATE_DIRECTORY") or platformdirs.user_state_path("ttrl")
        ),
        validate_default=True,
    )
    """The state directory: the store, versions, logs and backups."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least severe level that the daemon logs."""
    log_format: Literal["auto", "text", "json"] = "auto"
    """`auto`: text on a terminal, otherwise one JSON object a line."""
    model: ModelConfig = ModelConfig()
    store: StoreConfig = StoreConfig()
    engine: EngineConfig = EngineConfig()
    gateway: GatewayConfig = GatewayConfig()
    admin: AdminConfig = AdminConfig()
    record: RecordConfig = RecordConfig()
    feedback: FeedbackConfig = FeedbackConfig()
    keep: KeepConfig = KeepConfig()
    vote: VoteConfig = VoteConfig()
    verify: VerifyConfig = VerifyConfig()
    meaning: MeaningConfig = MeaningConfig()
    judge: JudgeConfig = JudgeConfig()
    update: UpdateConfig = UpdateConfig()
    selection: SelectionConfig = SelectionConfig()
    guard: GuardConfig = GuardConfig()
    gate: GateConfig = GateConfig()
    shadow: ShadowConfig = ShadowConfig()
    measure: MeasureConfig = MeasureConfig()
    webhook: WebhookConfig = WebhookConfig()
    schedule: ScheduleConfig = ScheduleConfig()

    @field_validator("state_dir")
    @classmethod
    def _where_it_is(cls, value: Path) -> Path:
        # a link's own rights say nothing, and it may be turned elsewhere meanwhile
        return Path(os.path.realpath(value))

    @model_validator(mode="after")
    def _fits_together(self) -> Config:
        gateway, admin, url = self.gateway, self.admin, self.store.url
        if self.update.keep > self.vote.samples:
            raise ValueError(
                f"update.keep ({self.update.keep}) is more than vote.samples ({self.vote.samples})"
            )
        if (gateway.host, gateway.port) == (admin.host, admin.port) and admin.port:
            raise ValueError(
                f"gateway.port and admin.port are both {admin.port}: choose another admin.port, or "
                f"null for no page"
            )
        if self.vote.rewards.get("judge") and self.judge.by is None:
            raise ValueError("the reward judge needs a judge: set judge.by")
        if self.feedback.enabled and not self.record.enabled:
            raise ValueError("feedback.enabled needs record.enabled")
        if self.keep.bytes is not None and url and parse(url).get_backend_name() != "sqlite":
            raise ValueError("keep.bytes is for SQLite; in PostgreSQL use keep.questions")
        return self

    @property
    def served_name(self) -> str:
        return self.model.served_name or self.model.name
