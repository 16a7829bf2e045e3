"""How much of a card engine and trainer take. Everything is in bytes, and meant to be an upper
estimate by a tenth or so: a refusal that was not needed costs one setting, an overflow a night.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil

from ttrl.memory.asked import GIB, Asked, Card
from ttrl.memory.shape import Shape

CONTEXT = 3 * GIB // 4
"""What CUDA and its libraries take in each process beside its tensors: the context (about half a
GiB on an H100) and cuBLAS's workspaces. vLLM does not count its own into what it was given: it
looks at the card only after it has made it (MemorySnapshot in vllm/v1/worker/gpu_worker.py)."""
GRAPHS = 3 * GIB // 4
"""CUDA graphs, of which there are twice as many with LoRA. From logs, not from a formula."""
WORKSPACES = GIB // 2
"""Attention kernels' and NCCL's own, in the engine. From logs as well."""
FRAGMENTATION = 1.1
"""What torch's allocator holds for what is in use, where lengths vary."""
SAMPLER_BYTES = 18
"""For each sequence and word of the vocabulary when vLLM tries out its sampler: logits in bf16 and
float32, log-probabilities, probabilities, noise (vllm/v1/sample/ops/topk_topp_sampler.py)."""
HEAD_ROWS, HEAD_COLUMNS = 4096, 32768
"""The tile in which TRL 1.16 computes log-probabilities: it never makes the logits of a whole
completion (trl/kernels/chunked_logprob.py, trl/trainer/utils.py, add_fused_lm_head)."""


@dataclass(frozen=True)
class EnginePlan:
    """What vLLM takes. `given` is what it may use, the rest is in it, but for the context."""

    given: int
    weights: int
    slots: int
    working: int
    cache: int
    cache_tokens: int
    sequence: int
    """Cache that one sequence of the greatest length needs."""
    context: int = CONTEXT

    @property
    def total(self) -> int:
        return self.given + self.context

    @property
    def suffices(self) -> bool:
        """Whether the model has room, and one sequence of the greatest length."""
        return self.cache >= max(self.sequence, 1)


@dataclass(frozen=True)
class TrainerPlan:
    """What a run's process takes at the worst moment of a step."""

    weights: int
    lora: int
    gradients: int
    optimizer: int
    activations: int
    head: int
    """Beyond the activations, where the last layer's log-probabilities take more than one layer."""
    context: int = CONTEXT

    @property
    def total(self) -> int:
        return (
            self.weights
            + self.lora
            + self.gradients
            + self.optimizer
            + self.activations
            + self.head
            + self.context
        )


@dataclass(frozen=True)
class Plan:
    """Both on one card. Without an engine it is somebody else's, and `card.free` tells the rest."""

    card: Card
    shape: Shape
    asked: Asked
    engine: EnginePlan | None
    trainer: TrainerPlan

    @property
    def left(self) -> int:
        """What nobody takes; below 0, what is missing."""
        engine = self.engine.total if self.engine else 0
        return self.card.free - engine - self.trainer.total

    def but(self, **changes: int | float | None) -> Plan:
        """The plan if something else had been asked for."""
        asked = replace(self.asked, **changes)  # type: ignore[arg-type]
        return plan(self.card, self.shape, asked, ours=self.engine is not None)


def plan(card: Card, shape: Shape, asked: Asked, *, ours: bool) -> Plan:
    """Reckon it; `ours` says whether the engine is started by us, on this card."""
    engine = engine_plan(card, shape, asked) if ours else None
    return Plan(card, shape, asked, engine, trainer_plan(shape, asked))


def engine_plan(card: Card, shape: Shape, asked: Asked) -> EnginePlan:
    """vLLM takes `utilization` times the whole card, whatever it needs, and makes of what the model
    leaves its KV cache (request_memory in vllm/v1/worker/utils.py, determine_available_memory in
    vllm/v1/worker/gpu_worker.py)."""
    weights = shape.parameters * asked.engine_bytes_per_value
    slots = asked.slots * slot_bytes(shape, asked)
    working = engine_working(shape, asked)
    needed = weights + slots + working
    if asked.cache_bytes is None:
        given = ceil(asked.utilization * card.total)
    else:
        given = needed + asked.cache_bytes
    cache = max(given - needed, 0)
    # Whoever lets vLLM choose the length wants some at least.
    length = asked.max_model_len or asked.prompt + asked.completion
    sequence = cache_bytes(shape, asked, length)
    tokens = cache * length // sequence
    return EnginePlan(given, weights, slots, working, cache, tokens, sequence)


def slot_bytes(shape: Shape, asked: Asked) -> int:
    """Room for one adapter, made for every linear layer and for the vocabulary at both ends,
    whatever adapters use (create_lora_weights in vllm/lora/layers/)."""
    widths = sum(each.inputs + each.outputs for each in shape.linears)
    widths += 2 * (shape.vocabulary + shape.hidden)
    return asked.slot_rank * widths * asked.engine_bytes_per_value


def engine_working(shape: Shape, asked: Asked) -> int:
    """What vLLM finds when it tries out its largest batch: the MLP's two inputs and their product
    beside the residual stream, or the sampler; they are not there at once. And graphs."""
    width = 6 * shape.mlp_width + (6 + 2 * shape.experts_per_token) * shape.hidden
    batch = asked.batched_tokens * width * asked.engine_bytes_per_value // 2
    sampler = min(asked.sequences, asked.batched_tokens) * shape.vocabulary * SAMPLER_BYTES
    return max(batch, sampler) + WORKSPACES + (GRAPHS if asked.graphs else 0)


def cache_bytes(shape: Shape, asked: Asked, length: int) -> int:
    """KV cache for one sequence: 2 (keys, values) x layers x KV heads x head size x bytes for each
    token; layers with a window hold that and a batch (SlidingWindowSpec in
    vllm/v1/kv_cache_interface.py)."""
    windowed = min(length, shape.window + asked.batched_tokens)
    values = shape.cached_per_token * length + shape.windowed_per_token * windowed
    return values * asked.cache_bytes_per_value


def trainer_plan(shape: Shape, asked: Asked) -> TrainerPlan:
    """Frozen weights; a LoRA that PEFT keeps in float32 (autocast_adapter_dtype), with autocast's
    copy in bf16, and a frozen second one as the KL term's reference, where the run does not start
    from the base; its gradients; AdamW's two moments (Loshchilov and Hutter, arXiv 1711.05101)."""
    tokens = asked.micro_batch * (asked.prompt + asked.completion)
    inputs = tokens * layer_input_bytes(shape, asked)
    layer, head = layer_bytes(shape, asked), head_bytes(shape, asked)
    if not asked.checkpointing:  # all of it is kept; some that only goes backward is counted too
        layer, inputs = layer * shape.layers, 0
    copies = 4 + (2 if asked.trainer_bytes_per_value == 2 else 0) + (4 if asked.reference else 0)
    return TrainerPlan(
        weights=shape.parameters * asked.trainer_bytes_per_value,
        lora=asked.lora_parameters * copies,
        gradients=asked.lora_parameters * 4,
        optimizer=asked.lora_parameters * 8,
        activations=int((inputs + layer) * FRAGMENTATION),
        head=int(max(head - layer, 0) * FRAGMENTATION),
    )


def layer_input_bytes(shape: Shape, asked: Asked) -> int:
    """For one token: gradient checkpointing keeps each layer's input and nothing else of the
    forward pass (Chen et al., arXiv 1604.06174; transformers checkpoints every layer)."""
    return shape.layers * shape.hidden * asked.trainer_bytes_per_value


def layer_bytes(shape: Shape, asked: Asked) -> int:
    """One layer, computed again and going backward. The factors are counted bytes: every tensor
    that lives at the worst moment in Qwen3 and Llama layers with a LoRA on all linear ones, in bf16
    under autocast (norms and the LoRA's way are in float32) and in float32. The attention's mask,
    made because prompts are padded, has an entry for each pair of tokens."""
    mlp = 17 if asked.trainer_bytes_per_value == 2 else 24
    length = asked.prompt + asked.completion
    per_token = 18 * shape.hidden + 14 * shape.query_width + 4 * shape.key_width
    per_token += mlp * shape.mlp_width
    return asked.micro_batch * length * (per_token + 3 * length)


def head_bytes(shape: Shape, asked: Asked) -> int:
    """The final norm, the completion's hidden states with their gradient in float32, and one tile
    of the logits."""
    rows = asked.micro_batch * asked.completion
    tile = min(rows, HEAD_ROWS) * min(shape.vocabulary, HEAD_COLUMNS)
    states = rows * 8 + asked.micro_batch * (asked.prompt + asked.completion) * 6
    return tile * asked.trainer_bytes_per_value + states * shape.hidden
