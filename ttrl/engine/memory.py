"""Estimate whether vLLM and the trainer fit on one GPU, from the model's configuration.

Owns the GPU's figures, the estimate, and the share of the GPU that vLLM is started with. Loads no
weights. The estimate aims at a tenth too much; only what can never work is refused.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from math import ceil
from pathlib import Path

from ttrl import ReportedError
from ttrl.adapters.base import ModelNotFound, find
from ttrl.config import Config, EngineKind, UpdateConfig
from ttrl.engine.samples import PROMPT, SHORTEST_ANSWER, longest_answer

GIB = 1024**3
UTILIZATION = 0.92
"""vLLM 0.32's own --gpu-memory-utilization (vllm/config/cache.py)."""
UNKNOWN_SHARE = 0.6
"""Of the GPU, for an engine that cannot be estimated: vLLM's own leaves the trainer nothing."""
CONTEXT = 3 * GIB // 4
"""CUDA's context and cuBLAS's workspaces in each process. vLLM's is not part of its share
(MemorySnapshot in vllm/v1/worker/gpu_worker.py)."""
OVERHEAD = 5 * GIB // 4
"""vLLM's CUDA graphs with LoRA and its kernels' workspaces; from logs."""
SAMPLER_BYTES = 18
"""For each sequence and word of the vocabulary while vLLM profiles its sampler: logits in bf16 and
float32, log-probabilities, probabilities, noise (vllm/v1/sample/ops/topk_topp_sampler.py)."""
LOGITS_ROWS, LOGITS_COLUMNS = 4096, 32768
"""The tile in which TRL 1.16 computes log-probabilities: it never makes the logits of a whole
completion (trl/kernels/chunked_logprob.py)."""
FRAGMENTATION = 1.1
"""What torch's allocator holds for what is in use, where lengths vary."""
READ_SECONDS = 120.0
SHARE_FLAGS = frozenset({"--gpu-memory-utilization", "--kv-cache-memory-bytes"})
NOT_ESTIMATED = frozenset(
    {
        "--quantization", "-q", "--cpu-offload-gb", "--kv-offloading-size", "--speculative-config",
        "--hf-overrides", "--config", "--fully-sharded-loras",
    }
)  # fmt: skip

PARALLEL = ("tensor", "pipeline", "data")
"""Kinds of parallelism, each with a flag, over several GPUs."""

log = logging.getLogger(__name__)


class CannotEstimate(Exception):
    """A figure that the estimate needs is missing; the message says which."""


class MemoryRefused(ReportedError):
    """Engine and trainer can never fit on the GPU; the message has figures and advice."""


class Fit(StrEnum):
    FITS = "fits"
    UNLIKELY = "unlikely"
    IMPOSSIBLE = "impossible"
    """The weights alone are too large."""
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Card:
    """A GPU and its memory in bytes; `free` is what no process uses at the moment."""

    name: str
    total: int
    free: int


def first_card(environ: Mapping[str, str] = os.environ) -> Card | None:
    """Return the GPU that engine and trainer share, the first one that CUDA would use. None without
    a GPU or without nvidia-ml-py."""
    # NVML ignores CUDA_VISIBLE_DEVICES and counts by PCI slot, as CUDA does for GPUs of one kind.
    visible = environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
    by_uuid = visible.startswith(("GPU-", "MIG-"))
    if not by_uuid and not visible.isdigit():
        return None  # "" and "-1" hide all
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        if by_uuid:
            handle = pynvml.nvmlDeviceGetHandleByUUID(visible)
        else:
            handle = pynvml.nvmlDeviceGetHandleByIndex(int(visible))
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
        return Card(pynvml.nvmlDeviceGetName(handle), memory.total, memory.free)
    except pynvml.NVMLError as error:
        log.warning("cannot read the memory of GPU %s: %s", visible, error)
        return None
    finally:
        pynvml.nvmlShutdown()


@dataclass(frozen=True)
class Model:
    """The figures of a model that decide how much memory it takes; widths in values, not bytes."""

    parameters: int
    linear: int
    """Inputs and outputs of all linear layers but the output embedding: a LoRA on all of them has
    this times its rank. (Experts are none: transformers fuses them into other tensors.)"""
    layers: int
    hidden: int
    queries: int
    keys: int
    mlp: int
    """Between the MLP's two halves; in a mixture, of the experts that one token uses."""
    vocabulary: int
    cached: int
    """Values in the KV cache for each token, in layers with full attention."""
    windowed: int
    """The same in layers with sliding attention, which keep the last `window` tokens."""
    window: int
    context: int

    def cache(self, tokens: int) -> int:
        return self.cached * tokens + self.windowed * min(tokens, self.window)


def read_model(name: str) -> Model:
    """Return the figures of a model, of which nothing but the configuration is downloaded. Done in
    a process of its own, since that imports torch. Raises CannotEstimate."""
    command = [sys.executable, "-P", "-m", "ttrl.engine.memory", name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=READ_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotEstimate(f"reading the model's configuration failed: {error}") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["the process ended without output"]
        raise CannotEstimate(lines[-1])
    return Model(**json.loads(done.stdout))


def figures(name: str) -> Model:
    """Build the model without any weights, on torch's meta device, and read its figures. Raises
    CannotEstimate."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with tempfile.TemporaryDirectory() as scratch:
        try:
            where, cache = str(find(name)), None
        except ModelNotFound:  # the hub's cache must not have a configuration without weights
            where, cache = name, scratch
        try:
            config = AutoConfig.from_pretrained(where, cache_dir=cache, trust_remote_code=False)
        except (OSError, ValueError) as error:
            why = str(error).strip().splitlines()[0]
            raise CannotEstimate(f"cannot read the configuration of {name}: {why}") from None
    if getattr(config, "quantization_config", None):
        raise CannotEstimate("the model is quantized, and its size depends on the kernels")
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    head = model.get_output_embeddings()
    linear = [each for each in model.modules() if isinstance(each, torch.nn.Linear)]
    text = config.get_text_config()
    heads = text.num_attention_heads
    keys = getattr(text, "num_key_value_heads", None) or heads
    width = getattr(text, "head_dim", None) or text.hidden_size // heads
    cached = 2 * keys * width
    if latent := getattr(text, "kv_lora_rank", None):  # in place of both (arXiv 2405.04434)
        cached = latent + text.qk_rope_head_dim
    kinds = getattr(text, "layer_types", None) or ["full_attention"] * text.num_hidden_layers
    mlp = text.intermediate_size
    if experts := getattr(text, "num_experts_per_tok", None):
        mlp = experts * (getattr(text, "moe_intermediate_size", None) or mlp)
    longest = text.max_position_embeddings
    if (tokenizer := Path(where) / "tokenizer_config.json").is_file():  # vLLM takes the smaller one
        given = json.loads(tokenizer.read_bytes()).get("model_max_length")
        longest = min(longest, given or longest)
    return Model(
        parameters=model.num_parameters(),
        linear=sum(each.in_features + each.out_features for each in linear if each is not head),
        layers=len(kinds),
        hidden=text.hidden_size,
        queries=heads * width,
        keys=keys * width,
        mlp=mlp,
        vocabulary=text.vocab_size,
        cached=kinds.count("full_attention") * cached,
        windowed=kinds.count("sliding_attention") * cached,
        window=getattr(text, "sliding_window", None) or 0,
        context=longest,
    )


def rows_at_once(update: UpdateConfig) -> int:
    """Return how many sequences one forward pass has: the largest divisor of a step's that
    `micro_batch` allows."""
    rows = update.questions_per_step * update.keep
    return next(part for part in range(update.micro_batch, 0, -1) if rows % part == 0)


class Estimate:
    """What engine and trainer take of a GPU, in bytes, with samples of `completion` tokens."""

    def __init__(
        self, config: Config, card: Card, model: Model, flags: argparse.Namespace, completion: int
    ) -> None:
        update = config.update
        self.card = card
        self.ours = config.engine.url is None
        """Whether ttrl starts the engine, on this GPU. What another one takes is not free."""
        self.completion = completion
        longest = flags.max_model_len or model.context
        prompt = max(1, min(PROMPT, config.record.max_chars, longest - completion))
        self.length = prompt + completion
        self.micro_batch = rows_at_once(update)
        tokens = self.micro_batch * self.length
        width = 4 if update.dtype == "float32" else 2
        # PEFT keeps the LoRA in float32, with a copy in bf16 for autocast and another one as the
        # reference of a KL term; then gradients and AdamW's two moments (arXiv 1711.05101).
        copies = 4 + (2 if width == 2 else 0) + (4 if update.kl else 0) + 4 + 8
        # Gradient checkpointing keeps each layer's input (arXiv 1604.06174) and computes one layer
        # at a time again: the bytes alive at its worst moment, counted in Qwen3 and Llama with a
        # LoRA on all linear layers. The attention mask has an entry for each pair of tokens.
        per_token = 18 * model.hidden + 14 * model.queries + 4 * model.keys + 3 * self.length
        per_token += (17 if width == 2 else 24) * model.mlp
        layer, inputs = tokens * per_token, tokens * model.layers * model.hidden * width
        if not update.grpo.get("gradient_checkpointing", True):
            layer, inputs = layer * model.layers, 0
        # After the last layer: its output with gradients in float32, and a tile of the logits.
        head = min(self.micro_batch * completion, LOGITS_ROWS)
        head *= min(model.vocabulary, LOGITS_COLUMNS) * width
        head += self.micro_batch * (8 * completion + 6 * self.length) * model.hidden
        self.trainer_weights = model.parameters * width
        self.optimizer = update.lora_rank * model.linear * copies
        self.activations = int((inputs + max(layer, head)) * FRAGMENTATION)
        self.trainer = self.trainer_weights + self.optimizer + self.activations + CONTEXT
        """What a run takes at the worst moment of a step."""

        self.weights = model.parameters * flags.width
        # A slot has room for every linear layer and both embeddings (vllm/lora/layers/).
        slot = flags.max_lora_rank * (model.linear + 2 * (model.vocabulary + model.hidden))
        sampler = flags.max_num_seqs * model.vocabulary * SAMPLER_BYTES
        self.working = flags.max_loras * slot * flags.width + sampler + OVERHEAD
        """The engine's LoRA slots, activations and graphs."""
        self.cache_per_token = model.cache(1) * flags.cache_width
        longest_kept = longest if flags.max_model_len != 0 else self.length
        self.sequence = model.cache(longest_kept) * flags.cache_width
        """The KV cache of one sequence of the greatest length."""
        self.share = flags.gpu_memory_utilization
        """vLLM's --gpu-memory-utilization; None for a cache of a given size."""
        self.chosen = self.share is None and flags.kv_cache_memory_bytes is None
        if self.chosen:  # what the trainer leaves, but room for one sequence: users come first
            spare = (card.free - self.trainer - CONTEXT) * 100 // card.total
            least = ceil((self.weights + self.working + self.sequence) * 100 / card.total)
            self.share = min(max(spare, least) / 100, UTILIZATION)
        self.cache = flags.kv_cache_memory_bytes
        """What is left of its share for the KV cache; may be negative."""
        if self.cache is None:
            self.cache = int(self.share * card.total) - self.weights - self.working
        self.given = self.weights + self.working + self.cache
        """What vLLM may use, which it reserves when it starts."""
        self.engine = self.given + CONTEXT if self.ours else 0
        self.left = card.free - self.engine - self.trainer
        """What neither takes; below 0, what is missing."""
        self.cache_tokens = max(self.cache, 0) // self.cache_per_token
        kept_free = int(UTILIZATION * card.total) - self.given
        self.tokens_for_training = max(kept_free, 0) // self.cache_per_token
        """Tokens for which the KV cache would have room in what is kept free for the trainer."""

    @property
    def fit(self) -> Fit:
        least = 0 if not self.ours else self.weights if self.chosen else self.given
        room = self.card.total if self.ours else self.card.free
        if (self.ours and self.given < self.weights) or least + self.trainer_weights > room:
            return Fit.IMPOSSIBLE
        short = self.ours and self.cache < self.sequence
        return Fit.UNLIKELY if short or self.left < 0 else Fit.FITS

    def __str__(self) -> str:
        verb = {Fit.FITS: "fit", Fit.UNLIKELY: "likely do not fit", Fit.IMPOSSIBLE: "cannot fit"}
        who = "engine and trainer" if self.ours else "the trainer and what is already running"
        total, free = self.card.total / GIB, self.card.free / GIB
        rows = [
            ("trainer", self.trainer),
            ("  weights", self.trainer_weights),
            ("  LoRA and optimizer", self.optimizer),
            (f"  activations for {self.micro_batch} x {self.length} tokens", self.activations),
            ("left" if self.left >= 0 else "missing", abs(self.left)),
        ]
        if self.ours:
            share = "" if self.share is None else f", --gpu-memory-utilization={self.share:g}"
            rows[:0] = [
                (f"engine{share}", self.engine),
                ("  weights", self.weights),
                ("  LoRA slots, activations, CUDA graphs", self.working),
                (f"  KV cache for {self.cache_tokens} tokens", max(self.cache, 0)),
            ]
        card = f"{self.card.name} ({total:.1f} GiB, {free:.1f} free)"
        lines = [f"By estimate, {who} {verb[self.fit]} on {card}."]
        lines += [f"  {name:<44}{size / GIB:>8.1f} GiB" for name, size in rows]
        if self.fit is not Fit.FITS:
            lines.append(f"Any of these can help: {'; '.join(self._advice())}.")
        if self.ours:
            alone = self.cache_tokens + self.tokens_for_training
            lines.append(
                f"The engine's KV cache has {self.cache_tokens} tokens at all times; without "
                f"training it would have {alone}."
            )
        return "\n".join(lines)

    def _advice(self) -> Iterator[str]:
        """Settings, each with the value that would about do if nothing else changed."""
        needed = self.weights + self.working + self.sequence
        room = self.given + min(self.left, 0)
        if self.ours and not self.chosen and self.cache < self.sequence:
            yield f"--gpu-memory-utilization={ceil(needed * 100 / self.card.total) / 100:g} or more"
        elif self.ours and not self.chosen and room >= needed:
            yield f"--gpu-memory-utilization={room * 100 // self.card.total / 100:g} or less"
        if self.ours and room < needed:
            tokens = (room - self.weights - self.working) // self.cache_per_token
            if tokens > self.length:
                yield f"--max-model-len={tokens} or less"
        fraction = 1 + min(self.left, 0) / self.activations
        rows, tokens = int(self.micro_batch * fraction), int(self.length * (fraction - 1))
        if 1 <= rows < self.micro_batch:
            yield f"update.micro_batch={rows}"
        if -self.completion < tokens < 0:
            yield f"vote.max_tokens={self.completion + tokens}"
        yield "a larger GPU or a smaller model"


def estimate(config: Config, card: Card) -> Estimate:
    """Estimate what the configured engine and trainer take of a GPU. Where vote.max_tokens is not
    set, it is halved until they fit. Raises CannotEstimate."""
    model = read_model(config.model.name)
    flags = _flags(config, card)
    longest = flags.max_model_len or model.context
    completion = min(config.vote.max_tokens or longest_answer(longest), longest - 1)
    while True:
        found = Estimate(config, card, model, flags, completion)
        fixed = config.vote.max_tokens is not None or completion // 2 < SHORTEST_ANSWER
        if fixed or found.fit is Fit.FITS:
            return found
        completion //= 2


def _flags(config: Config, card: Card) -> argparse.Namespace:
    """Read those of vLLM's flags that decide about memory. Raises CannotEstimate."""
    words = [_dashes(word) for word in config.engine.flags]
    if unknown := {word.partition("=")[0] for word in words} & NOT_ESTIMATED:
        raise CannotEstimate(f"the effect of {min(unknown)} on the engine's memory is unknown")
    # EngineArgs.get_batch_defaults in vllm/engine/arg_utils.py
    large = card.total >= 70 * GIB and "a100" not in card.name.lower()
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--gpu-memory-utilization", type=float)
    parser.add_argument("--kv-cache-memory-bytes", type=_number)
    parser.add_argument("--kv-cache-dtype", default="auto")
    parser.add_argument("--max-model-len", type=_number)
    parser.add_argument("--max-num-seqs", type=_number, default=1024 if large else 256)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--max-loras", type=_number, default=config.engine.max_loras)
    parser.add_argument("--max-lora-rank", type=_number, default=config.update.lora_rank)
    for kind in PARALLEL:
        parser.add_argument(f"--{kind}-parallel-size", f"-{kind[0]}p", type=_number, default=1)
    try:
        flags, _ = parser.parse_known_args(words)
    except argparse.ArgumentError as error:
        raise CannotEstimate(str(error)) from None
    for kind in PARALLEL:
        if getattr(flags, f"{kind}_parallel_size") != 1:
            flag = f"--{kind}-parallel-size (-{kind[0]}p)"
            raise CannotEstimate(f"the effect of {flag} on the engine's memory is not known")
    if flags.gpu_memory_utilization is not None and not 0 < flags.gpu_memory_utilization <= 1:
        raise CannotEstimate("--gpu-memory-utilization is not between 0 and 1")
    flags.width = 4 if flags.dtype in ("float", "float32") else 2
    widths = {"auto": flags.width, "bfloat16": 2, "float16": 2, "fp8": 1}
    kind = flags.kv_cache_dtype
    flags.cache_width = widths.get("fp8" if kind.startswith("fp8") else kind)
    if flags.cache_width is None:
        raise CannotEstimate(f"unknown KV cache size for --kv-cache-dtype {kind}")
    return flags


def _dashes(word: str) -> str:
    """Write a flag as vLLM reads it: its name has dashes, not underscores."""
    name, equals, value = word.partition("=")
    return name.replace("_", "-") + equals + value if name.startswith("-") else word


def _number(text: str) -> int:
    """As vLLM reads it: 8k is 8000, 8K is 8192. `auto` and -1, which leave it to vLLM, are 0."""
    if text in ("auto", "-1"):
        return 0
    power = " kmgt".find(text[-1:].lower()) if text[-1:].isalpha() else 0
    base = 1024 if text[-1:].isupper() else 1000
    return int(float(text[:-1] if power > 0 else text) * base**power)


def check(config: Config, card: Card | None = None) -> tuple[Fit, str] | None:
    """Return whether the configured engine and trainer fit on a GPU, by default this machine's, and
    the figures. None where there is nothing to estimate: no model, the embedded engine, no GPU."""
    card = _card_for(config, card)
    if card is None:
        return None
    if config.engine.url is None:  # as if nothing ran yet: our own engine may
        card = replace(card, free=card.total)
    try:
        found = estimate(config, card)
    except CannotEstimate as why:
        return Fit.UNKNOWN, f"Cannot estimate whether engine and trainer fit on the GPU: {why}"
    return found.fit, str(found)


def _card_for(config: Config, card: Card | None = None) -> Card | None:
    embedded = config.engine.kind is EngineKind.EMBEDDED and config.engine.url is None
    return None if embedded or not config.model.name else card or first_card()


def fit_to_card(config: Config) -> Config:
    """Return the configuration with vLLM's share of the GPU and the longest answer that there is
    room for, where nobody has set them; unchanged without a GPU. Raises MemoryRefused."""
    card = _card_for(config) if config.engine.memory_plan else None
    if card is None:
        return config
    flags, share, completion = config.engine.flags, UNKNOWN_SHARE, config.vote.max_tokens
    try:
        found = estimate(config, card)
    except CannotEstimate as why:
        log.warning("Cannot estimate whether engine and trainer fit on the GPU: %s", why)
    else:
        if found.fit is Fit.IMPOSSIBLE:
            raise MemoryRefused(f"{found}\n(Set engine.memory_plan=false to start it anyway.)")
        log.log(logging.INFO if found.fit is Fit.FITS else logging.WARNING, "%s", found)
        share, completion = found.share or share, found.completion
    if config.vote.max_tokens is None and completion is not None:
        log.info("samples may have %d tokens; vote.max_tokens sets another limit", completion)
        vote = config.vote.model_copy(update={"max_tokens": completion})
        config = config.model_copy(update={"vote": vote})
    given = {_dashes(flag).partition("=")[0] for flag in flags} & SHARE_FLAGS
    if config.engine.url is None and not given:
        log.info("vLLM is started with --gpu-memory-utilization=%g", share)
        flags = (f"--gpu-memory-utilization={share:g}", *flags)
        engine = config.engine.model_copy(update={"flags": flags})
        config = config.model_copy(update={"engine": engine})
    return config


if __name__ == "__main__":
    try:
        sys.stdout.write(json.dumps(asdict(figures(sys.argv[1]))))
    except CannotEstimate as error:
        sys.exit(str(error))
