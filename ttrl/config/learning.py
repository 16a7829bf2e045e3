"""What runs learn from, how, and when."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import timedelta
from difflib import get_close_matches
from enum import StrEnum
from importlib.metadata import entry_points
from importlib.util import find_spec
from math import ceil
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    FilePath,
    HttpUrl,
    NonNegativeFloat,
    PositiveFloat,
    TypeAdapter,
    field_validator,
    model_validator,
)

from ttrl.config.section import (
    Above,
    Duration,
    FromAnywhere,
    Patience,
    Positive,
    Ratio,
    Section,
    checked,
    parse_window,
    triggers,
)
from ttrl.config.section import HttpUrl as Url
from ttrl.words import install

LONGEST_ANSWER = 8192
"""Tokens, thoughts included. Models that think need thousands on an ordinary question; TTRL was
published with 3072 for those that do not and 32768 for those that do (arXiv 2504.16084), of which
the trainer keeps what memory it needs, in proportion, for the longest answer of a step."""
READABLE = 0.5
"""Share of the samples that must have a readable answer: a minority of them is no majority."""
REWARDS = (
    "majority", "soft_majority", "centrality", "consensus", "reference", "novelty", "readable",
    "length", "overlong", "repetition", "echo", "minority_preserving", "judge",
)  # fmt: skip
"""The built-in ones; `ttrl.rewards` has the functions."""
OFFERED_REWARDS = "ttrl.rewards"
"""The entry point under which a package offers rewards."""


AbsoluteFile = Annotated[FilePath, AfterValidator(Path.absolute)]
CHECKS = ("arithmetic", "citation", "code", "json_schema", "sql")
"""The built-in ones; `ttrl.verifiers` has the functions."""
OFFERED_CHECKS = "ttrl.verifiers"
"""The entry point under which a package offers checks."""
OFFERED_REPHRASERS = "ttrl.rephrasers"
"""The entry point under which a package offers other wordings."""


class AnswerKind(StrEnum):
    """How the final answers of a question are read and compared."""

    MATH = "math"
    """A value, an expression, a set, an interval: equal when they mean the same."""
    CHOICE = "choice"
    TEXT = "text"
    """Words: equal when they are the same but for case, spaces and final punctuation."""
    FREE = "free"
    """Sentences: equal when they mean the same (see ttrl.meaning)."""


class Downsampling(StrEnum):
    """How fewer samples than voted are chosen to be trained on."""

    VARIANCE = "variance"
    """Those whose rewards vary most (PODS, arXiv 2504.13818)."""
    RANDOM = "random"
    """Any (TTRL as published, arXiv 2504.16084)."""
    FIRST = "first"


def _check_names(what: str, names: Iterable[str], builtin: Sequence[str], group: str) -> None:
    known = [*builtin, *(point.name for point in entry_points(group=group))]
    for name in names:
        if name not in known and not re.fullmatch(r"[\w.]+:[\w.]+", name):
            near = get_close_matches(name, known, n=1)
            raise ValueError(
                f"unknown {what} {name!r}{f'; did you mean {near[0]!r}?' if near else ';'} "
                f"built-in {what}s: {', '.join(known)}; custom {what}s are given as "
                "module:function"
            )


class Teacher(StrEnum):
    """Whose samples vote on what an answer is worth."""

    CANDIDATE = "candidate"
    """Those of the version that is trained, at each step anew (TTRL, arXiv 2504.16084)."""
    LIVE = "live"
    """Those of the version from which the run starts, once in the run."""
    BASE = "base"
    """Those of the base model, once in the run."""


class VoteConfig(Section):
    """How agreement is found."""

    kind: AnswerKind | None = None
    """How answers are extracted and compared: `math`, `choice`, `text` (short, word by word),
    `free` (sentences, by meaning). If unset, it is detected for each question."""
    phrases: FilePath | None = None
    """A YAML file with further words by which answers are announced, hedged or denied, in the form
    of `ttrl/answers/phrases.yaml`. `ttrl answers FILE` shows how samples are read with it."""
    instruction: Annotated[str, Field(min_length=1)] | None = None
    """A request for the form of the answer, added as a last paragraph to the prompts of the samples
    that a run trains on, such as "Put your final answer within \\boxed{}." (as TTRL does). Prompts
    that say themselves what their answer is to look like are left as they are, and so is whatever
    users, the gate and the live monitor ask."""
    samples: Annotated[int, Field(ge=2, le=256)] = 32
    """Number of samples of a question that vote."""
    teacher: Teacher = Teacher.CANDIDATE
    """Whose samples vote: the trained version's (`candidate`), or once in a run those of the
    version that it starts from (`live`) or the base model (`base`). Then labels cannot drift with
    what they train (as Co-rewarding's slow teacher, arXiv 2508.00410), and each further visit to a
    question draws `update.keep` samples."""
    only_reliable: bool = True
    """Leave out questions of a kind (`math`, `choice`, `text`, `free`) whose majority is wrong more
    often than right, if labelled probes show that; `ttrl status` says which, as of the last
    `ttrl measure`. What a check finds right is trained on all the same."""
    views: Annotated[int, Field(ge=1, le=8)] = 1
    """Number of wordings of a question that vote, its own included; `samples` are shared among
    them. An answer has the harmonic mean of its shares in all wordings, so that one which only a
    wording brings about does not win (Self-Harmony, arXiv 2511.01191). Its own samples alone are
    trained on. Wordings with other numbers or names are left out."""
    rephrase: str | None = None
    """What makes the other wordings: a function from the question's text to a list of texts, as
    `module:function`. If unset, the version that is sampled is asked for them, once in a run."""
    penalty: NonNegativeFloat = 0.0
    """What the advantages of all samples of a question are lowered by if they tie or their majority
    is too small for a label (RESTRAIN, arXiv 2510.02172). At 0 such a question trains nothing."""
    flip_discount: Ratio = 0.0
    """How much less a question trains at a visit whose label is not that of the visit before, as a
    share of its advantages; 0.5 as published (TTRL-Guard, arXiv 2605.19444)."""
    temperature: Annotated[float, Field(gt=0, le=2)] = 1.0
    """Temperature at which they are drawn."""
    max_tokens: Positive | None = None
    """Token limit of a sample, including its reasoning. If unset: what the engine's context leaves
    beside a prompt of 2048 tokens (or of half the context, if that is less), 8192 at most, and no
    more than the trainer has memory for."""
    readable: Above = READABLE
    """Minimum share of samples with a readable answer for a label."""
    floor: Ratio | None = None
    """Minimum share of the majority, of the samples that were not cut off, for a label. If unset,
    its lead over the next answer must be certain to 77%."""
    ceiling: Above = 1.0
    """Maximum share of the majority for a label: a larger one has little training signal."""
    rounds: Positive = 1
    """Maximum number of rounds in which the samples are drawn; sampling ends once the vote is
    decided. 64 samples in 4 rounds are 8, 8, 16, 32."""
    sure: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Certainty that the most common answer leads the next, at which a vote is decided."""
    in_flight: Positive = 16
    """Maximum number of a run's questions in the engine at once, each with `samples` answers,
    while no user's request waits; fewer as soon as one does."""
    pause_waiting: Positive = 64
    """Number of answers waiting in the engine, for users and for the run, at which a run pauses.
    If it is below `samples`, one request of the run can reach it on a small engine."""
    rewards: dict[str, float] = Field(default_factory=lambda: {"majority": 1.0})
    """The weight of each reward in the sum; custom rewards are given as `module:function`. Several
    rewards are first normalized to mean 0 and standard deviation 1 within a question."""

    @field_validator("rewards")
    @classmethod
    def _known_rewards(cls, value: dict[str, float]) -> dict[str, float]:
        """By name alone: a module of one's own is imported by what computes rewards."""
        _check_names("reward", value, REWARDS, OFFERED_REWARDS)
        if not any(value.values()):
            raise ValueError("at least one reward needs a weight other than 0")
        return value

    @field_validator("rephrase")
    @classmethod
    def _known_rephraser(cls, value: str | None) -> str | None:
        _check_names("rephraser", [value] if value else [], (), OFFERED_REPHRASERS)
        return value

    @property
    def longest(self) -> int:
        """`max_tokens`, or the most that it is taken to be (see ttrl.engine.samples)."""
        return self.max_tokens or LONGEST_ANSWER

    @model_validator(mode="after")
    def _some_share_is_a_label(self) -> VoteConfig:
        if self.floor is not None and self.floor > self.ceiling:
            raise ValueError(
                f"vote.floor ({self.floor:g}) is above vote.ceiling ({self.ceiling:g}), so no "
                f"question could get a label"
            )
        if self.views > 1 and self.rounds > 1:
            raise ValueError("vote.rounds must be 1 with vote.views: wordings are compared whole")
        if self.samples < 2 * self.views:
            raise ValueError(
                f"vote.samples ({self.samples}) must be at least twice vote.views ({self.views})"
            )
        return self


class VerifyConfig(Section):
    """What can say of one answer that it is right or wrong, whatever the other samples say."""

    checks: dict[str, Annotated[str, BeforeValidator(lambda value: value or "")]] = Field(
        default_factory=dict
    )
    """Checks of a run's samples, each with a regular expression that its questions match (empty:
    all): `arithmetic`, `citation`, `code`, `json_schema`, `sql`, custom ones as `module:function`,
    and services as `http://...`. Right answers are the label, and wrong ones do not vote."""
    weight: Positive | None = None
    """Votes that a right answer has, instead of being the label; wrong ones then vote like others.
    For checks that are not certain; 5 was best as published (T3RL, arXiv 2603.02203)."""
    json_schema: AbsoluteFile | None = None
    """The JSON schema that answers must fit, for `json_schema`; if unset, that of the request's
    `response_format`."""
    database: AbsoluteFile | None = None
    """The SQLite database that `sql` runs answers on, which it only reads."""
    seconds: PositiveFloat = 10.0
    """Time that one answer may run, or that a service may take over the answers to a question."""

    @model_validator(mode="after")
    def _has_what_checks_need(self) -> VerifyConfig:
        services = [name for name in self.checks if name.startswith(("http://", "https://"))]
        for name in services:
            TypeAdapter(HttpUrl).validate_python(name)
        named = [name for name in self.checks if name not in services]
        _check_names("check", named, CHECKS, OFFERED_CHECKS)
        for pattern in self.checks.values():
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"verify.checks has {pattern!r}: {error}") from None
        if "sql" in self.checks and self.database is None:
            raise ValueError("the check sql needs verify.database, which is not set")
        if "json_schema" in self.checks and find_spec("jsonschema_rs") is None:
            raise ValueError(f"the check json_schema needs the extra `verify`: {install('verify')}")
        return self


class MeaningBy(StrEnum):
    """What tells whether two texts mean the same."""

    LETTERS = "letters"
    """The letters that they have in common."""
    EMBEDDINGS = "embeddings"
    """The similarity of their embeddings."""
    PAIRS = "pairs"
    """A cross-encoder that reads both: one for natural language inference (NLI), whether each
    follows from the other, or one that gives a similarity."""
    ENGINE = "engine"
    """The base model in the engine, asked whether each follows from the other."""


class MeaningConfig(Section):
    """How free texts are compared; texts with different numbers or names are never equal."""

    by: MeaningBy | None = None
    """What compares texts: `letters` (no synonyms), `embeddings` or `pairs` (a cross-encoder) of
    `model`, or `engine` (asks the base model; also for short texts in several wordings). If unset:
    `embeddings` with a model, else `letters`. The live monitor always compares by letters."""
    model: str = ""
    """A sentence-transformers model, a name or a directory (needs the extra `embed`)."""
    alike: Above | None = None
    """Minimum similarity of two texts with the same meaning; default 0.25 by letters, 0.6 with a
    model. Raise it for a model that finds answers on different subjects similar."""
    pairs: Positive = 128
    """Maximum number of pairs of one vote that `pairs` or `engine` compares, the latter by one or
    two requests of one token; further ones are compared by letters."""
    device: str = "cpu"
    """Device of the model; on the GPU it takes memory from engine and trainer."""
    references: AbsoluteFile | None = None
    """JSONL of `prompt` (or `messages`) and `reference`, a text or a list of them: correct answers
    to some of the questions, for the reward `reference`. Votes do not read them."""

    @model_validator(mode="after")
    def _has_its_model(self) -> MeaningConfig:
        if self.model and find_spec("sentence_transformers") is None:
            raise ValueError(f"meaning.model needs the extra `embed`: {install('embed')}")
        if self.by in (MeaningBy.EMBEDDINGS, MeaningBy.PAIRS) and not self.model:
            raise ValueError(f"meaning.by={self.by} needs meaning.model, which is not set")
        return self

    @property
    def compared_by(self) -> MeaningBy:
        return self.by or (MeaningBy.EMBEDDINGS if self.model else MeaningBy.LETTERS)


class JudgeBy(StrEnum):
    """What scores answers."""

    MODEL = "model"
    """The model `judge.model` at `judge.url`."""
    BASE = "base"
    """The base model in the engine."""
    DISTILLED = "distilled"
    """The cross-encoder that `ttrl judge distill` made."""


RUBRIC = """\
- Correct: what the answer says is true and follows from the question.
- Complete: it answers all that was asked.
- To the point: it says little else, and does not hedge where the question has an answer."""


class JudgeConfig(Section):
    """A judge: a model that scores one answer at a time on a rubric. It is used by the reward
    `judge`, by `weight` and by the gate."""

    by: JudgeBy | None = None
    """What scores answers: `model` (any OpenAI-compatible API), `base` (the base model in the
    engine), or `distilled` (made by `ttrl judge distill`). If unset, there is no judge."""
    url: Url | None = None
    """URL of the API, with or without its `/v1`. Questions and answers of users are sent there."""
    model: str = ""
    """Name of the model there."""
    api_key: str | None = Field(default=None, repr=False)
    """The API key."""
    rubric: Annotated[str, Field(min_length=1, max_length=20_000)] = RUBRIC
    """What a good answer is, in the words that the judge is given."""
    scale: Annotated[int, Field(ge=1, le=100)] = 10
    """The highest score; the lowest is 0."""
    max_tokens: Positive = 512
    """Token limit of the judge's reply, including its reasoning."""
    timeout: Patience = timedelta(seconds=60)
    """Time limit of a request."""
    in_flight: Positive = 4
    """Maximum number of concurrent requests to `url`; those to the base model are paced like a
    run's."""
    requests_per_minute: Positive | None = None
    """Maximum number of requests a minute."""
    requests: Positive = 20_000
    """Maximum number of requests of one run or measurement; further answers get no score."""
    weight: Ratio = 0.0
    """Share of a sample's vote that depends on its score: 0 counts samples, 1 adds up scores."""
    gate: Annotated[int, Field(ge=0, le=64)] = 2
    """Answers of each version to each probe that the gate has scored; 0 leaves the judge out."""
    distilled: FromAnywhere | None = None
    """Directory of the distilled judge; if unset, `judge/distilled` in the state directory."""
    device: str = "cpu"
    """Device of the distilled judge."""

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> JudgeConfig:
        if self.by is JudgeBy.MODEL and not (self.url and self.model):
            raise ValueError("judge.by=model needs judge.url and judge.model")
        if self.url is not None and urlsplit(self.url).username is not None:
            raise ValueError("do not put the key into judge.url; set judge.api_key")
        if self.by is JudgeBy.DISTILLED and find_spec("sentence_transformers") is None:
            raise ValueError(f"judge.by=distilled needs the extra `judge`: {install('judge')}")
        return self


RESERVED = frozenset(
    {
        "output_dir", "temperature", "num_generations", "generation_batch_size",
        "steps_per_generation", "per_device_train_batch_size", "gradient_accumulation_steps",
        "use_vllm", "save_strategy", "logging_strategy", "logging_steps", "max_steps",
        "num_train_epochs", "report_to", "learning_rate",
        "beta", "seed", "max_completion_length", "remove_unused_columns", "push_to_hub",
        "deepspeed", "fsdp", "num_iterations", "loss_type", "scale_rewards", "top_entropy_quantile",
        "use_adaptive_entropy", "entropy_target",
    }
)  # fmt: skip
"""Settings of GRPOConfig that ours decide; passing them through would contradict the loop."""


def _not_reserved(value: dict[str, Any]) -> dict[str, Any]:
    if taken := sorted(RESERVED & value.keys()):
        raise ValueError(f"cannot set {', '.join(taken)} in update.grpo: ttrl sets it itself")
    return value


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
    BASE = "base"
    """The base model: the same weights with the adapter switched off."""


class UpdateConfig(Section):
    """The policy update: GRPO on a LoRA."""

    passes: Positive = 10
    """Number of times that each question of a run is sampled, and trained on if it has a training
    signal. TTRL as published makes 80 over 30 questions, 30 over 83 and 10 over 500 (arXiv
    2504.16084)."""
    steps: Positive | None = None
    """Maximum number of optimizer steps, instead of `passes`; a run with few questions then
    samples them more often."""
    questions_per_step: Positive = 8
    """Number of questions that an optimizer step trains on."""
    keep: Annotated[int, Field(ge=2)] = 16
    """Samples of each question that are trained on, of `vote.samples`. If fewer were not cut off,
    the largest available divisor of this number is used and repeated: for 16, 8 samples twice. A
    prime number has none, so such a question is not trained on."""
    downsampling: Downsampling = Downsampling.VARIANCE
    """Which samples are kept: those whose rewards vary most, random ones, or the first."""
    overlap: bool = True
    """Sample the questions of the next step while a step is trained, from the weights before it:
    one step off-policy, which their log-probabilities under these weights correct."""
    replay: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Share of a step's questions that reuse the samples of an earlier step; corrected by their
    log-probabilities under the version that drew them."""
    learning_rate: PositiveFloat = 2e-5
    """TTRL's 5e-7 for whole models is 5e-6 to 7.5e-6 for a LoRA, which wants 10 to 15 times as much
    (Schulman et al., "LoRA Without Regret", 2025), and twice that for steps of 128 sequences
    instead of 32 (by the square root, Malladi et al., arXiv 2205.10287): 1e-5 to 1.5e-5. Our runs
    have a fraction of its steps, so it is a little more."""
    lora_rank: Literal[1, 8, 16, 32, 64, 128, 256] = 16
    """Rank of the LoRA adapter: the ranks that vLLM serves."""
    lora_alpha: Positive = 32
    """The adapter's scale is alpha / rank."""
    target_modules: str | tuple[str, ...] = "all-linear"
    """Layers that get an adapter, as PEFT names them."""
    loss: Loss = Loss.DAPO
    """What a token counts for: the same in a step (`dapo`), less in a long answer (`grpo`), or a
    fixed part of `vote.max_tokens` (`dr_grpo`)."""
    scale: Scale = Scale.GROUP
    """Standard deviation that advantages are divided by: of the question's samples (`group`), of
    the step (`batch`), or none."""
    kl: NonNegativeFloat = 0.0
    """Weight of the KL term; it costs one more forward pass."""
    kl_to: KlTo = KlTo.START
    """What the KL term holds the policy to: the start of the run, or the base model."""
    top_entropy: Above = 1.0
    """Share of a step's tokens that is trained on, those with the highest entropy ("Beyond the
    80/20 rule", arXiv 2506.01939)."""
    entropy_target: PositiveFloat | None = None
    """Target entropy in nats per token: below it an entropy bonus grows until it is reached again
    (Skywork-OR1, arXiv 2505.22312). `update.grpo` takes its limits, such as entropy_coef_max."""
    micro_batch: Positive = 8
    """Sequences in one forward pass; affects only memory and speed."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Number format of the weights in training; `auto`: bfloat16 on a GPU, else float32."""
    snapshots: Positive = 8
    """Number of checkpoints, evenly spread, of which the best is chosen."""
    max_tokens: Positive = 100_000_000
    """Sampled tokens after which a run stops training."""
    time_limit: Duration = timedelta(hours=8)
    """Time after which a run stops training."""
    lineage_distance: Above = 0.5
    """Share of `gate.kl_base` up to which each run continues from the live version. Beyond it,
    every other run starts again from the base model."""
    seed: int = 0
    """Seed of all that a run draws at random."""
    grpo: Annotated[dict[str, Any], AfterValidator(_not_reserved)] = Field(default_factory=dict)
    """Other fields of trl.GRPOConfig."""

    def steps_over(self, questions: int, updates: int = 1) -> int:
        """Optimizer steps at most of a run over so many questions, in place of so many updates."""
        if self.steps is not None:
            return self.steps * updates
        return ceil(self.passes * questions / self.questions_per_step)

    @property
    def modules(self) -> str:
        given = self.target_modules
        return given if isinstance(given, str) else " ".join(sorted(given))


class SelectionOrder(StrEnum):
    """Which of each client's questions come first."""

    NEWEST = "newest"
    """The newest that no run has asked; what taught once does not come again."""
    SIGNAL = "signal"
    """Those whose majority has a share near one half, by earlier votes; also again."""


class SelectionConfig(Section):
    """Which questions a run trains on."""

    order: SelectionOrder = SelectionOrder.NEWEST
    """Which of each client's questions come first: `newest`, or `signal`, those whose votes are
    expected to be most divided, also again, and the easiest first within the run."""
    max_questions: Positive = 128
    """Maximum number of distinct questions of a run."""
    per_client: Above = 0.25
    """Share of `max_questions` that may come from one client, if there are several; requests
    without a key count as one client."""
    per_cluster: Positive = 2
    """Maximum number of near-duplicates in a run."""
    tries: Positive = 4
    """Number of runs, each from another version, that sample a question without getting a label
    before it is dropped."""
    anchors: Ratio = 0.0
    """Share of a run's questions drawn from those that the live version and its ancestors were
    trained on, against forgetting."""


class ScheduleConfig(Section):
    """When scheduled runs start."""

    every: Duration | None = timedelta(hours=6)
    """Time between the starts of scheduled runs; null: none, unless `cron` is set."""
    cron: Annotated[str, checked(triggers)] | None = None
    """A cron expression with five fields, instead of `every`. A time of day comes once a day, also
    where summer time begins or ends."""
    timezone: ZoneInfo = ZoneInfo("UTC")
    """Time zone of `cron` and `windows`."""
    windows: tuple[Annotated[str, checked(parse_window)], ...] = ()
    """Hours in which a run may start, such as "22:00-06:00"; none means any time."""
    min_questions: Positive = 64
    """Minimum number of new questions for a run; those set aside by a cap of the last run do not
    count."""
