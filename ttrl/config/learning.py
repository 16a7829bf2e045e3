"""What runs learn from, how, and when."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from apscheduler.triggers.cron import CronTrigger
from pydantic import Field, FilePath, field_validator, model_validator

from ttrl import rewards
from ttrl.answers.reading import AnswerKind
from ttrl.config.section import Above, Positive, Ratio, Section
from ttrl.groups import Downsampling
from ttrl.times import Duration, parse_window


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

    @model_validator(mode="after")
    def _some_share_is_a_label(self) -> VoteConfig:
        if self.floor > self.ceiling:
            raise ValueError(
                f"vote.floor ({self.floor:g}) is above vote.ceiling ({self.ceiling:g}), so that no "
                "question could have a label"
            )
        return self


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
