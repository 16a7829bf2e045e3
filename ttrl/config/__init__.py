"""Everything that can be set, as one tree; `ttrl.config.loading` reads it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import platformdirs
from pydantic import Field, field_validator, model_validator

from ttrl.config.judging import (
    GateConfig,
    GuardConfig,
    MeasureConfig,
    ShadowConfig,
    ShipPolicy,
    WebhookConfig,
)
from ttrl.config.learning import (
    AnswerKind,
    Downsampling,
    KlTo,
    Loss,
    MeaningConfig,
    Scale,
    ScheduleConfig,
    SelectionConfig,
    UpdateConfig,
    VoteConfig,
)
from ttrl.config.section import Section
from ttrl.config.serving import (
    AdminConfig,
    EngineConfig,
    EngineKind,
    GatewayConfig,
    KeepConfig,
    ModelConfig,
    RecordConfig,
    StoreConfig,
    parse,
)

__all__ = [
    "AdminConfig",
    "AnswerKind",
    "Config",
    "Downsampling",
    "EngineConfig",
    "EngineKind",
    "GateConfig",
    "GatewayConfig",
    "GuardConfig",
    "KeepConfig",
    "KlTo",
    "Loss",
    "MeaningConfig",
    "MeasureConfig",
    "ModelConfig",
    "RecordConfig",
    "Scale",
    "ScheduleConfig",
    "Section",
    "SelectionConfig",
    "ShadowConfig",
    "ShipPolicy",
    "StoreConfig",
    "UpdateConfig",
    "VoteConfig",
    "WebhookConfig",
]


def _default_state_dir() -> Path:
    return Path(os.environ.get("STATE_DIRECTORY") or platformdirs.user_state_path("ttrl"))


class Config(Section):
    """Everything that can be set."""

    recipe: str | None = None
    """A preset that the other settings override: `mathematics`, `choice`, `free-text`, `domain-qa`
    (see configs/recipes)."""
    state_dir: Path = Field(default_factory=_default_state_dir, validate_default=True)
    """The state directory: the store, versions, logs and backups."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "text", "json"] = "auto"
    """`auto`: text on a terminal, otherwise one JSON object a line."""
    model: ModelConfig = ModelConfig()
    store: StoreConfig = StoreConfig()
    engine: EngineConfig = EngineConfig()
    gateway: GatewayConfig = GatewayConfig()
    admin: AdminConfig = AdminConfig()
    record: RecordConfig = RecordConfig()
    keep: KeepConfig = KeepConfig()
    vote: VoteConfig = VoteConfig()
    meaning: MeaningConfig = MeaningConfig()
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
        """A link's own rights say nothing, and it may be turned elsewhere meanwhile."""
        return Path(os.path.realpath(value))

    @model_validator(mode="after")
    def _keep_what_is_drawn(self) -> Config:
        if self.update.keep > self.vote.samples:
            raise ValueError(
                f"update.keep ({self.update.keep}) is more than vote.samples ({self.vote.samples})"
            )
        return self

    @model_validator(mode="after")
    def _each_its_own_address(self) -> Config:
        ours, desk = (self.gateway.host, self.gateway.port), (self.admin.host, self.admin.port)
        if ours == desk and desk[1]:
            raise ValueError(
                f"gateway.port and admin.port are both {desk[1]}: choose another admin.port, or "
                f"null for no page"
            )
        return self

    @model_validator(mode="after")
    def _measured_by_us(self) -> Config:
        url = self.store.url
        if self.keep.bytes is not None and url and parse(url).get_backend_name() != "sqlite":
            raise ValueError("keep.bytes is for SQLite; in PostgreSQL use keep.questions")
        return self

    @property
    def served_name(self) -> str:
        """The stable name that clients use."""
        return self.model.served_name or self.model.name
