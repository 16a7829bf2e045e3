"""Everything that can be set, as one tree; `ttrl.settings` reads it."""

from __future__ import annotations

import os
import re
from datetime import timedelta
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import platformdirs
from apscheduler.triggers.cron import CronTrigger
from pydantic import (
    BaseModel,
    ByteSize,
    ConfigDict,
    Field,
    FilePath,
    field_validator,
    model_validator,
)

from ttrl import rewards
from ttrl.answers.reading import AnswerKind
from ttrl.groups import Downsampling
from ttrl.store.url import parse
from ttrl.times import Duration, parse_window

Ratio = Annotated[float, Field(ge=0, le=1)]
Above = Annotated[float, Field(gt=0, le=1)]
Positive = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """Settings are read once and never change; a name that is not known is refused."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class ModelConfig(Section):
    """The base model."""

    name: str = ""
    """A model directory or a hub name, as vLLM takes it."""
    served_name: str = ""
    """The name that clients use; `name` when empty."""


class EngineKind(StrEnum):
    """What answers: vLLM, or the embedded engine for trying and testing."""

    VLLM = "vllm"
    EMBEDDED = "embedded"


class EngineConfig(Section):
    """The inference engine: started by us, or somebody else's at `url`."""

    kind: EngineKind = EngineKind.VLLM
    url: str | None = None
    """An engine that is already running; nothing is started then."""
    api_key: str | None = Field(default=None, repr=False)
    """The engine's own key, for us; clients never see it."""
    port: Annotated[int, Field(ge=0, le=65535)] = 0
    """Where our own engine listens on loopback; 0 picks a free port."""
    flags: tuple[str, ...] = ()
    """Handed to vLLM as they are."""
    python: str | None = None
    """The Python that has vLLM, when it is not the one that runs ttrl."""
    startup_timeout: Duration = timedelta(minutes=15)
    request_timeout: Duration = timedelta(minutes=10)
    canary_timeout: Duration = timedelta(seconds=60)
    """In which an engine must give one token, or generate for others; else it hangs and is started
    again."""
    proof_interval: Duration = timedelta(minutes=10)
    """How often the live version's log-probabilities are read back and compared with what the
    trainer computed for its weights."""
    max_loras: Annotated[int, Field(ge=5)] = 6
    """Adapters that may be in use at once: live, previous, one draining, two candidates, spare."""
    memory_plan: bool = True
    """Reckon before anything starts whether engine and trainer fit on the GPU; refuse if not."""

    @model_validator(mode="after")
    def _flags_for_vllm(self) -> EngineConfig:
        if self.flags and (self.url is not None or self.kind is EngineKind.EMBEDDED):
            raise ValueError("flags are for a vLLM that ttrl starts, and it starts none here")
        return self

    @field_validator("url")
    @classmethod
    def _usable_url(cls, value: str | None) -> str | None:
        if value is not None:
            parts = urlsplit(value)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError("an engine's address is written like http://127.0.0.1:8001")
            if parts.username is not None:
                raise ValueError("an engine's key goes into engine.api_key, not into its address")
        return value


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


class GatewayConfig(Section):
    """What clients meet."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    routes: tuple[str, ...] = (
        "/v1/responses",
        "/v1/messages",
        "/v1/embeddings",
        "/tokenize",
        "/detokenize",
    )
    """Further POST routes that are forwarded; nothing else is."""
    max_body: ByteSize = ByteSize(8 * 1024**2)
    max_n: Positive = 16
    drain_timeout: Duration = timedelta(seconds=30)


class RecordConfig(Section):
    """What is kept of the traffic."""

    enabled: bool = True
    max_chars: Positive = 32_000
    """Longer questions are answered, not recorded."""
    queue: Positive = 10_000
    only_keys: tuple[str, ...] = ()
    """SHA-256, in hexadecimal, of the keys whose questions are learned from; without any, all."""

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


class VoteConfig(Section):
    """How agreement is found."""

    kind: AnswerKind | None = None
    """How answers are read and compared: `math`, `choice`, `text` (short, word by word), `free`
    (sentences, by what they mean). Without one it is found for each question."""
    samples: Annotated[int, Field(ge=2, le=256)] = 32
    temperature: Annotated[float, Field(gt=0, le=2)] = 1.0
    max_tokens: Positive = 1024
    floor: Ratio = 0.0
    """A majority with a smaller share than this is no label."""
    ceiling: Above = 1.0
    """Nor is one with a larger share: what the model is so sure of teaches it little."""
    rounds: Positive = 1
    """The samples are asked for in so many rounds at most, and no further round once the vote is
    decided: 64 in 4 rounds are 8, 8, 16, 32."""
    sure: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """How certain it must be that the most common answer leads the next, to be decided."""
    in_flight: Positive = 16
    """Requests of a run that the engine may have at once, each for `samples` answers, while none
    of its users waits; fewer as soon as any does."""
    pause_waiting: Positive = 64
    """Answers waiting in the engine, users' and ours, at which a run asks for no more until there
    are fewer. Below `samples`, one request of ours on a small engine can be enough."""
    rewards: dict[str, float] = Field(default_factory=lambda: {"majority": 1.0})
    """The weight of each reward in the sum; your own are named `module:function`. If there are
    several, each is first brought to mean 0 and standard deviation 1 within its question."""

    @field_validator("rewards")
    @classmethod
    def _known_rewards(cls, value: dict[str, float]) -> dict[str, float]:
        for name in value:
            rewards.find(name)
        if not any(value.values()):
            raise ValueError("at least one reward needs a weight other than 0")
        return value


class MeaningConfig(Section):
    """How free texts are compared; numbers, names and negations that differ are never the same."""

    model: str = ""
    """A sentence-transformers model, a name or a directory (needs the extra `embed`). Without one
    texts are compared by the letters that they have in common, which knows no synonyms; so does the
    live guard at all times."""
    cross_encoder: bool = False
    """The model reads two texts together and scores the pair."""
    alike: Above | None = None
    """From which likeness on two texts may mean the same; the default is 0.25 by letters and 0.6 by
    a model. The more alike answers on different subjects are to a model, the higher it must be."""
    device: str = "cpu"
    """Where the model runs; on the GPU it takes memory from engine and trainer."""
    references: FilePath | None = None
    """JSONL of `prompt` (or `messages`) and `reference`, a text or a list of them: right answers to
    some of the questions, for the reward `reference`. Votes do not read them."""

    @field_validator("model")
    @classmethod
    def _installed(cls, value: str) -> str:
        if value and find_spec("sentence_transformers") is None:
            raise ValueError("a model for meanings needs: pip install 'ttrl[embed]'")
        return value

    @field_validator("references")
    @classmethod
    def _found_from_anywhere(cls, value: Path | None) -> Path | None:
        return value and value.absolute()

    @model_validator(mode="after")
    def _model_for_pairs(self) -> MeaningConfig:
        if self.cross_encoder and not self.model:
            raise ValueError("meaning.cross_encoder is a way to use meaning.model, which is empty")
        return self


RESERVED = frozenset(
    {
        "output_dir", "temperature", "num_generations", "generation_batch_size",
        "steps_per_generation", "per_device_train_batch_size", "gradient_accumulation_steps",
        "use_vllm", "save_strategy", "max_steps", "num_train_epochs", "report_to", "learning_rate",
        "beta", "seed", "max_completion_length", "remove_unused_columns", "push_to_hub",
        "deepspeed", "fsdp", "num_iterations", "loss_type", "scale_rewards", "top_entropy_quantile",
        "use_adaptive_entropy", "entropy_target",
    }
)  # fmt: skip
"""Settings of GRPOConfig that ours decide; passing them through would contradict the loop."""


class Loss(StrEnum):
    """What a token counts for, as TRL's `loss_type` has it. Losses that differ only in how they
    treat answers of an older policy are left out: here all are the present one's."""

    DAPO = "dapo"
    """Each token the same (DAPO, arXiv 2503.14476)."""
    GRPO = "grpo"
    """Each answer the same, so that a token of a long one counts for less (DeepSeekMath, arXiv
    2402.03300)."""
    DR_GRPO = "dr_grpo"
    """Each token the same whatever the others' length, as a part of `vote.max_tokens` (Dr. GRPO,
    arXiv 2503.20783). Steps are smaller: it wants a higher learning rate."""


class Scale(StrEnum):
    """What an answer's advantage over its question's mean is divided by."""

    GROUP = "group"
    """The standard deviation within its question: a narrow vote teaches as strongly as any."""
    BATCH = "batch"
    """That of the whole step (PPO Lite, arXiv 2508.08221)."""
    NONE = "none"
    """Nothing: the more a vote is divided, the more it teaches (Dr. GRPO, arXiv 2503.20783)."""


class KlTo(StrEnum):
    """What the KL term holds the policy to."""

    START = "start"
    """The version that the run started from."""
    BASE = "base"
    """The base model: the same weights with the adapter switched off."""


class UpdateConfig(Section):
    """The policy update: GRPO on a LoRA."""

    steps: Positive = 40
    questions_per_step: Positive = 8
    keep: Annotated[int, Field(ge=2)] = 16
    """Samples of each question that go into the update, of `vote.samples`."""
    downsampling: Downsampling = Downsampling.VARIANCE
    """Which ones: those whose rewards vary most, random ones, or the first."""
    replay: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Share of a step's questions whose samples are those of an earlier step, so that fewer need to
    be drawn; corrected by their log-probabilities under the version that drew them."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-5
    lora_rank: Literal[1, 8, 16, 32, 64, 128, 256] = 16
    lora_alpha: Positive = 32
    target_modules: str | tuple[str, ...] = "all-linear"
    loss: Loss = Loss.DAPO
    scale: Scale = Scale.GROUP
    kl: Annotated[float, Field(ge=0)] = 0.0
    """Weight of a KL term; it costs one more forward pass."""
    kl_to: KlTo = KlTo.START
    top_entropy: Above = 1.0
    """Only this share of a step's tokens is trained on, those at which the model was least sure
    ("Beyond the 80/20 rule", arXiv 2506.01939)."""
    entropy_target: Annotated[float, Field(gt=0)] | None = None
    """Nats a token: below it a bonus for entropy grows until it is reached again (Skywork-OR1,
    arXiv 2505.22312). `update.grpo` takes its bounds, such as entropy_coef_max."""
    micro_batch: Positive = 8
    """Sequences in one forward pass; only memory and speed depend on it."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    snapshots: Positive = 8
    """Steps, evenly spread, after which the weights are kept to choose the best from."""
    max_tokens: Positive = 100_000_000
    """Sampled tokens after which a run takes no further step."""
    time_limit: Duration = timedelta(hours=4)
    """Time after which a run takes no further step."""
    lineage_updates: Positive = 10
    """Updates stacked one on another before a run starts again from the base model."""
    seed: int = 0
    grpo: dict[str, Any] = Field(default_factory=dict)
    """Anything else that trl.GRPOConfig takes."""

    @property
    def modules(self) -> str:
        """`target_modules` in one line, whatever their order."""
        given = self.target_modules
        return given if isinstance(given, str) else " ".join(sorted(given))

    @field_validator("grpo")
    @classmethod
    def _not_reserved(cls, value: dict[str, Any]) -> dict[str, Any]:
        if taken := sorted(RESERVED & value.keys()):
            raise ValueError(
                f"{', '.join(taken)} cannot be passed through: ttrl's own settings decide it"
            )
        return value


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


class SelectionConfig(Section):
    """Which questions a run learns from."""

    max_questions: Positive = 128
    """Distinct questions of one run."""
    per_client: Annotated[float, Field(gt=0, le=1)] = 0.25
    """Share of `max_questions` that may come from one client, as soon as more than one has asked;
    those without a key count as one."""
    per_cluster: Positive = 2
    """Questions of one run that may say nearly the same."""
    tries: Positive = 1
    """Runs that ask a question which has no label before it is left alone; a later version may know
    it better."""
    anchors: Ratio = 0.0
    """Share of a run's questions that are drawn anew from those that the live version and those
    before it learned from, so that it does not forget them."""


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


class ScheduleConfig(Section):
    """When runs start by themselves."""

    every: Duration | None = timedelta(hours=6)
    cron: str | None = None
    """Five cron fields, instead of `every`."""
    timezone: str = "UTC"
    windows: tuple[str, ...] = ()
    """Hours in which a run may start, such as "22:00-06:00"; none means any time."""
    min_questions: Positive = 64
    """New questions without which there is nothing to do; those that wait for a cap of the last
    update do not count."""

    @field_validator("timezone")
    @classmethod
    def _known_timezone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError("no such time zone; one is written like Europe/Berlin") from None
        return value

    @field_validator("windows")
    @classmethod
    def _readable_windows(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for window in value:
            parse_window(window)
        return value

    @field_validator("cron")
    @classmethod
    def _readable_cron(cls, value: str | None) -> str | None:
        if value is not None:
            CronTrigger.from_crontab(value)
        return value


def _default_state_dir() -> Path:
    return Path(os.environ.get("STATE_DIRECTORY") or platformdirs.user_state_path("ttrl"))


class Config(Section):
    """Everything that can be set."""

    recipe: str | None = None
    """A preset that all other settings are put on top of: `mathematics`, `choice`, `free-text`,
    `domain-qa` (see configs/recipes)."""
    state_dir: Path = Field(default_factory=_default_state_dir)
    """Where all that is recorded and learned lives."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    model: ModelConfig = ModelConfig()
    store: StoreConfig = StoreConfig()
    engine: EngineConfig = EngineConfig()
    gateway: GatewayConfig = GatewayConfig()
    record: RecordConfig = RecordConfig()
    vote: VoteConfig = VoteConfig()
    meaning: MeaningConfig = MeaningConfig()
    update: UpdateConfig = UpdateConfig()
    selection: SelectionConfig = SelectionConfig()
    guard: GuardConfig = GuardConfig()
    gate: GateConfig = GateConfig()
    shadow: ShadowConfig = ShadowConfig()
    schedule: ScheduleConfig = ScheduleConfig()

    @model_validator(mode="after")
    def _keep_what_is_drawn(self) -> Config:
        if self.update.keep > self.vote.samples:
            raise ValueError(
                f"update.keep ({self.update.keep}) is more than vote.samples ({self.vote.samples})"
            )
        return self

    @property
    def served_name(self) -> str:
        """The stable name that clients use."""
        return self.model.served_name or self.model.name
