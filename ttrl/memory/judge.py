"""Whether a plan fits, and what would."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from ttrl.memory.asked import GIB, divisors
from ttrl.memory.plan import Plan

SHARES = [hundredths / 100 for hundredths in range(92, 4, -1)]
"""Of the card, for the engine: those that are tried, from vLLM's own down."""
SHORTEST = 2048
"""Tokens; no shorter --max-model-len is proposed."""


class Outcome(StrEnum):
    """What the plan comes to."""

    FITS = "fits"
    ENGINE_TOO_SMALL = "engine_too_small"
    """The engine has no room: for the model, for one sequence of the greatest length, or at all."""
    TRAINER_TOO_SMALL = "trainer_too_small"
    """Beside the engine there is no room for the trainer."""
    UNKNOWN = "unknown"
    """There is something that the plan cannot know."""


@dataclass(frozen=True)
class Change:
    """Other settings under which it fits; None leaves one as it is."""

    utilization: float | None = None
    micro_batch: int | None = None
    max_model_len: int | None = None

    def __str__(self) -> str:
        said = {
            "--gpu-memory-utilization ": self.utilization,
            "--max-model-len ": self.max_model_len,
            "update.micro_batch=": self.micro_batch,
        }
        return " and ".join(f"{name}{value}" for name, value in said.items() if value is not None)


@dataclass(frozen=True)
class Fit:
    """The judgement: `sentence` says what is the matter, `table` has the numbers in GiB."""

    outcome: Outcome
    sentence: str
    table: str = ""
    changes: tuple[Change, ...] = ()
    utilization: float | None = None
    """The engine's share of the card in this plan."""

    @property
    def too_small(self) -> bool:
        """Whether it is known not to fit."""
        return self.outcome in (Outcome.ENGINE_TOO_SMALL, Outcome.TRAINER_TOO_SMALL)

    def __str__(self) -> str:
        return f"{self.sentence}\n{self.table}".strip()


def judge(plan: Plan) -> Fit:
    """Whether it fits; if not, the largest settings that do."""
    outcome = _outcome(plan)
    if outcome is Outcome.FITS:
        return Fit(outcome, _fits(plan), table(plan), utilization=plan.asked.utilization)
    changes = tuple(_changes(plan))
    said = {
        Outcome.ENGINE_TOO_SMALL: _engine_too_small,
        Outcome.TRAINER_TOO_SMALL: _trainer_too_small,
    }[outcome](plan)
    advice = f"What would fit: {'; or '.join(map(str, changes))}." if changes else _hopeless(plan)
    return Fit(outcome, f"{said} {advice}", table(plan), changes)


def with_largest_share(plan: Plan) -> Plan:
    """The plan with as much of the card for the engine as leaves room for the trainer; as it is,
    where no share does."""
    return apply(plan, _best(plan, [Change()]) or Change())


def apply(plan: Plan, change: Change) -> Plan:
    """The plan under other settings."""
    given = {
        "utilization": change.utilization,
        "micro_batch": change.micro_batch,
        "max_model_len": change.max_model_len,
    }
    wanted = {name: value for name, value in given.items() if value is not None}
    if change.max_model_len is not None:
        room = max(1, change.max_model_len - plan.asked.completion)
        wanted |= {"prompt": min(plan.asked.prompt, room)}
    return plan.but(**wanted)


def _outcome(plan: Plan) -> Outcome:
    engine = plan.engine
    if engine and (not engine.suffices or engine.total > plan.card.free):
        return Outcome.ENGINE_TOO_SMALL
    return Outcome.FITS if plan.left >= 0 else Outcome.TRAINER_TOO_SMALL


def _changes(plan: Plan) -> Iterator[Change]:
    """One setting if that is enough, else two, else a shorter length as well."""
    smaller = [Change(micro_batch=size) for size in _batches(plan)[1:]]
    alone = [_best(plan, [Change()]), next((each for each in smaller if _good(plan, each)), None)]
    if any(alone):
        yield from filter(None, alone)
        return
    both = _best(plan, smaller)
    if both is None:
        both = _best(plan, list(_shorter(plan)))
    if both is not None:
        yield both


def _best(plan: Plan, bases: list[Change]) -> Change | None:
    """The first of these that fits with some share for the engine, with the largest such."""
    if plan.engine is None or plan.asked.cache_bytes is not None:
        return next((base for base in bases if base != Change() and _good(plan, base)), None)
    tried = (
        Change(share, base.micro_batch, base.max_model_len) for base in bases for share in SHARES
    )
    return next((change for change in tried if _good(plan, change)), None)


def _shorter(plan: Plan) -> Iterator[Change]:
    """Shorter greatest lengths, for an engine of ours that was told one."""
    length = plan.asked.max_model_len
    if plan.engine is None or length is None:
        return
    lengths = [2**power for power in range(20, 10, -1)]
    for shorter in (
        each for each in lengths if max(SHORTEST, plan.asked.completion) < each < length
    ):
        for size in _batches(plan):
            yield Change(micro_batch=size, max_model_len=shorter)


def _batches(plan: Plan) -> list[int]:
    return list(divisors(plan.asked.rows, plan.asked.micro_batch))


def _good(plan: Plan, change: Change) -> bool:
    return _outcome(apply(plan, change)) is Outcome.FITS


def _card(plan: Plan) -> str:
    total, free = gib(plan.card.total), gib(plan.card.free)
    return f"{plan.card.name} ({total} GiB, {free} of them free)"


def _fits(plan: Plan) -> str:
    engine = f"engine ({gib(plan.engine.total)} GiB) and " if plan.engine else ""
    return (
        f"There is room for {engine}trainer ({gib(plan.trainer.total)} GiB) on {_card(plan)}; "
        f"{gib(plan.left)} GiB are left."
    )


def _engine_too_small(plan: Plan) -> str:
    engine = plan.engine
    assert engine is not None
    if not engine.cache:
        needed = gib(engine.weights + engine.slots + engine.working)
        why = f"without any KV cache it needs {needed} GiB, and it is given {gib(engine.given)}"
    elif engine.total > plan.card.free:
        why = f"it takes {gib(engine.total)} GiB"
    else:
        why = (
            f"the model leaves {gib(engine.cache)} GiB for the KV cache, and one sequence of "
            f"{plan.asked.max_model_len or plan.asked.longest} tokens needs {gib(engine.sequence)}"
        )
    return f"There is no room for the engine on {_card(plan)}: {why}."


def _trainer_too_small(plan: Plan) -> str:
    beside = "beside the engine on" if plan.engine else "in what is free on"
    room = plan.left + plan.trainer.total
    return (
        f"There is no room for the trainer {beside} {_card(plan)}: it needs "
        f"{gib(plan.trainer.total)} GiB and has {gib(max(room, 0))}, for {plan.asked.micro_batch} "
        f"sequences at once of up to {plan.asked.prompt} tokens of prompt and "
        f"{plan.asked.completion} of answer."
    )


def _hopeless(plan: Plan) -> str:
    if plan.engine is None:
        return (
            "No setting of ours would fit: the engine must leave more of the card free "
            "(its --gpu-memory-utilization), or vote.max_tokens be smaller."
        )
    return (
        "No setting was found that would fit: it takes a larger card, a smaller model, or a "
        "smaller vote.max_tokens."
    )


def table(plan: Plan) -> str:
    """The plan's numbers in GiB, a line each."""
    return "\n".join(f"  {name:<46}{gib(size):>8}" for name, size in _rows(plan))


def _rows(plan: Plan) -> Iterator[tuple[str, int]]:
    engine, trainer, asked = plan.engine, plan.trainer, plan.asked
    if engine is not None:
        given = "" if asked.cache_bytes is not None else f" ({asked.utilization:g} of the card)"
        yield f"engine{given}", engine.total
        yield "  model", engine.weights
        yield f"  {asked.slots} LoRA slots of rank {asked.slot_rank}", engine.slots
        yield "  activations, graphs, workspaces", engine.working
        yield f"  KV cache, {engine.cache_tokens} tokens", engine.cache
        yield "  CUDA", engine.context
    yield "trainer", trainer.total
    yield "  model", trainer.weights
    yield "  LoRA, its gradients and AdamW", trainer.lora + trainer.gradients + trainer.optimizer
    length = asked.prompt + asked.completion
    yield (
        f"  activations, {asked.micro_batch} x {length} tokens",
        trainer.activations + trainer.head,
    )
    yield "  CUDA", trainer.context
    yield ("left" if plan.left >= 0 else "missing"), abs(plan.left)


def gib(size: int) -> str:
    """Bytes in GiB with one decimal."""
    return f"{size / GIB:.1f}"
