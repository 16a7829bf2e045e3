"""What the settings ask for, as far as it takes memory."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ttrl.config import Config, UpdateConfig
from ttrl.engine.process import LORA_RANKS
from ttrl.memory.shape import CannotPlan, Shape

GIB = 1024**3
UTILIZATION = 0.92
"""vLLM 0.32's own --gpu-memory-utilization (vllm/config/cache.py)."""
SHARE_FLAGS = ("--gpu-memory-utilization", "--kv-cache-memory-bytes")
LONGEST_PLANNED_PROMPT = 2048
"""Tokens. What a prompt may be at most, the engine's --max-model-len, would plan for a batch that
hardly ever comes, and refuse cards that do well. A run that meets longer ones may run out of memory
after all; it then ends with that reason, and users are served on."""
NOT_UNDERSTOOD = (
    "--quantization", "-q", "--cpu-offload-gb", "--kv-offloading-size", "--speculative-config",
    "--hf-overrides", "--config", "--rope-scaling", "--fully-sharded-loras",
)  # fmt: skip
SPREAD = (
    "--tensor-parallel-size", "-tp", "--pipeline-parallel-size", "-pp", "--data-parallel-size",
    "-dp",
)  # fmt: skip


@dataclass(frozen=True)
class Card:
    """A GPU and its memory in bytes; `free` is what nobody uses at the moment."""

    name: str
    total: int
    free: int


@dataclass(frozen=True)
class Asked:
    """What engine and trainer were asked to do, in numbers. Lengths are in tokens."""

    utilization: float
    cache_bytes: int | None
    """--kv-cache-memory-bytes; the utilization means nothing then."""
    max_model_len: int | None
    """None lets vLLM choose what fits."""
    longest: int
    engine_bytes_per_value: int
    cache_bytes_per_value: int
    batched_tokens: int
    sequences: int
    slots: int
    slot_rank: int
    graphs: bool
    rows: int
    """Sequences in one optimizer step."""
    micro_batch: int
    prompt: int
    completion: int
    trainer_bytes_per_value: int
    lora_parameters: int
    reference: bool
    checkpointing: bool


def ask(config: Config, shape: Shape, card: Card) -> Asked:
    """The settings for a model on a card. Raises CannotPlan."""
    flags = _flags(config.engine.flags)
    _refuse_unknown(flags)
    batched, sequences = _batch_defaults(card)
    given = flags.get("--max-model-len")
    chosen = None if given in ("-1", "auto") else _number(flags, "--max-model-len", shape.longest)
    longest = shape.longest if chosen is None else chosen
    completion = min(config.vote.max_tokens, longest - 1)
    update = config.update
    rank = next((room for room in LORA_RANKS if room >= update.lora_rank), update.lora_rank)
    width = 4 if flags.get("--dtype") in ("float", "float32") else 2
    return Asked(
        utilization=_share(flags),
        cache_bytes=_number(flags, "--kv-cache-memory-bytes", 0) or None,
        max_model_len=chosen,
        longest=longest,
        engine_bytes_per_value=width,
        cache_bytes_per_value=_cache_width(flags.get("--kv-cache-dtype", "auto"), width),
        batched_tokens=_number(flags, "--max-num-batched-tokens", batched),
        sequences=_number(flags, "--max-num-seqs", sequences),
        slots=_number(flags, "--max-loras", config.engine.max_loras),
        slot_rank=_number(flags, "--max-lora-rank", rank),
        graphs="--enforce-eager" not in flags,
        rows=update.questions_per_step * update.keep,
        micro_batch=rows_at_once(update),
        prompt=max(1, min(LONGEST_PLANNED_PROMPT, config.record.max_chars, longest - completion)),
        completion=completion,
        trainer_bytes_per_value=4 if update.dtype == "float32" else 2,
        lora_parameters=update.lora_rank * _targeted(shape, update.target_modules),
        reference=update.kl > 0,
        checkpointing=bool(update.grpo.get("gradient_checkpointing", True)),
    )


def share_is_given(flags: Sequence[str]) -> bool:
    """Whether vLLM was told how much of the card it may use."""
    return not _flags(flags).keys().isdisjoint(SHARE_FLAGS)


def _batch_defaults(card: Card) -> tuple[int, int]:
    """vLLM's --max-num-batched-tokens and --max-num-seqs for an API server on this card
    (EngineArgs.get_batch_defaults in vllm/engine/arg_utils.py)."""
    if card.total >= 160 * GIB:
        return 16384, 1024
    if card.total >= 70 * GIB and "a100" not in card.name.lower():
        return 8192, 1024
    return 2048, 256


def rows_at_once(update: UpdateConfig) -> int:
    """Sequences in one forward pass: the largest share of a step's that `micro_batch` allows."""
    return next(divisors(update.questions_per_step * update.keep, update.micro_batch))


def divisors(number: int, most: int) -> Iterator[int]:
    """Of `number`, up to `most`, the largest first."""
    return (part for part in range(most, 0, -1) if number % part == 0)


def _flags(words: Sequence[str]) -> dict[str, str]:
    """vLLM's flags as it reads them: `--a=b` and `--a b`, dashes or underscores, the last wins."""
    found: dict[str, str] = {}
    for word, following in zip(words, [*words, "--"][1:], strict=True):
        if re.match(r"--?[a-z]", word):
            name, equals, value = word.partition("=")
            alone = re.match(r"--?[a-z]|--$", following)
            found[name.replace("_", "-")] = value if equals else "" if alone else following
    return found


def _refuse_unknown(flags: Mapping[str, str]) -> None:
    for name in NOT_UNDERSTOOD:
        if name in flags:
            raise CannotPlan(f"what {name} does to the engine's memory is not known here")
    for name in SPREAD:
        if flags.get(name, "1") != "1":
            raise CannotPlan(f"{name} spreads the engine over several cards; this is about one")


def _number(flags: Mapping[str, str], name: str, default: int) -> int:
    """Also as vLLM's people write it: 8k is 8000, 8K is 8192."""
    if name not in flags:
        return default
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kKmMgGtT]?)", flags[name].strip())
    if match is None:
        raise CannotPlan(f"{name} {flags[name]} is no number")
    number, unit = match.groups()
    power = "kmgt".find(unit.lower()) + 1 if unit else 0
    return int(float(number) * (1024 if unit.isupper() else 1000) ** power)


def _share(flags: Mapping[str, str]) -> float:
    given = flags.get("--gpu-memory-utilization", str(UTILIZATION))
    try:
        share = float(given)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise CannotPlan(f"--gpu-memory-utilization {given} is no share of the card")
    return share


def _cache_width(kind: str, width: int) -> int:
    if kind.startswith("fp8"):
        return 1
    if kind not in ("auto", "bfloat16", "float16"):
        raise CannotPlan(f"how large a cache of --kv-cache-dtype {kind} is is not known here")
    return width if kind == "auto" else 2


def _targeted(shape: Shape, targets: str | tuple[str, ...]) -> int:
    """Inputs and outputs of all layers that get a LoRA. As PEFT matches them: a string is all of
    them or a pattern for the whole name, a list has last parts of names."""
    if targets == "all-linear":
        chosen = list(shape.linears)
    elif isinstance(targets, str):
        chosen = [each for each in shape.linears if _pattern(targets).fullmatch(each.name)]
    else:
        ends = tuple(f".{target}" for target in targets)
        chosen = [each for each in shape.linears if f".{each.name}".endswith(ends)]
    return sum(each.inputs + each.outputs for each in chosen)


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise CannotPlan(f"update.target_modules is no pattern: {error}") from None
