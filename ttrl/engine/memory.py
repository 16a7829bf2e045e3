"""Estimate whether vLLM and the trainer fit on one GPU, from the model's configuration.

Owns the GPU's figures, the estimate, and the share of the GPU that vLLM is started with. Loads no
weights. The estimate is meant to be too high rather than too low; only what can never work is
refused.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from enum import StrEnum

from ttrl import ReportedError
from ttrl.config import Config, EngineKind, UpdateConfig
from ttrl.engine.samples import PROMPT, SHORTEST_ANSWER, longest_answer
from ttrl.versions import ModelNotFound, find

GIB = 1024**3
UTILIZATION = 0.92
"""vLLM 0.32's own --gpu-memory-utilization (vllm/config/cache.py)."""
UNKNOWN_SHARE = 0.6
"""Of the GPU, for an engine that cannot be estimated: vLLM's own leaves the trainer nothing."""
CONTEXT = GIB
"""CUDA's context and libraries' workspaces in each process. vLLM's is not part of its share
(MemorySnapshot in vllm/v1/worker/gpu_worker.py)."""
WORKING = 0.04
"""Of the GPU, beside a GiB: vLLM's activations, sampler and CUDA graphs, which grow with the batch
that it chooses by the size of the GPU."""
LORA_BYTES = 22
"""For each parameter of the LoRA in the trainer: its weight in float32, a copy for autocast and
another one as a reference, its gradient, and AdamW's two moments (arXiv 1711.05101)."""
LAYER_BYTES = 6
"""For each token and each input and output of a layer's linear layers, while gradient checkpointing
computes that layer again (arXiv 1604.06174): 4.0 to 4.6 of them live at once in Qwen3 and Llama,
the rest is what torch's allocator holds beside."""
READ_SECONDS = 120.0
SHARE_FLAGS = frozenset({"--gpu-memory-utilization", "--kv-cache-memory-bytes"})
NOT_ESTIMATED = frozenset(
    {
        "--quantization", "-q", "--cpu-offload-gb", "--kv-offloading-size", "--speculative-config",
        "--hf-overrides", "--config", "--kv-cache-memory-bytes", "--tensor-parallel-size", "-tp",
        "--pipeline-parallel-size", "-pp", "--data-parallel-size", "-dp",
    }
)  # fmt: skip
ADVICE = (
    "These help: a lower update.micro_batch, vote.max_tokens or --max-model-len, a smaller model, "
    "a larger GPU. Without --gpu-memory-utilization in engine.flags, ttrl chooses it."
)

log = logging.getLogger(__name__)


class CannotEstimate(Exception):
    """A figure that the estimate needs is missing; the message says which."""


class MemoryRefused(ReportedError):
    """The weights alone do not fit on the GPU; the message has the figures."""


class Fit(StrEnum):
    FITS = "fit"
    UNLIKELY = "likely do not fit"
    IMPOSSIBLE = "cannot fit"
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
    with suppress(pynvml.NVMLError):
        pynvml.nvmlInit()
        try:
            if by_uuid:
                handle = pynvml.nvmlDeviceGetHandleByUUID(visible)
            else:
                handle = pynvml.nvmlDeviceGetHandleByIndex(int(visible))
            memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
            return Card(pynvml.nvmlDeviceGetName(handle), memory.total, memory.free)
        finally:
            pynvml.nvmlShutdown()
    return None


@dataclass(frozen=True)
class Model:
    """The figures of a model that decide how much memory it takes, in values, not bytes."""

    parameters: int
    linear: int
    """Inputs and outputs of the linear layers that a token passes, but for the output embedding: a
    LoRA on all of them has this times its rank."""
    layers: int
    hidden: int
    cached: int
    """KV cache of a token in the layers with full attention."""
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
    modules = [each for each in model.modules() if isinstance(each, torch.nn.Linear)]
    linear = sum(each.in_features + each.out_features for each in modules if each is not head)
    text = config.get_text_config()
    kinds = getattr(text, "layer_types", None) or ["full_attention"] * text.num_hidden_layers
    if experts := getattr(text, "num_experts_per_tok", None):  # one tensor for all, and no module
        inside = getattr(text, "moe_intermediate_size", None) or text.intermediate_size
        linear += len(kinds) * experts * 3 * (text.hidden_size + inside)
    heads = text.num_attention_heads
    keys = getattr(text, "num_key_value_heads", None) or heads
    cached = 2 * keys * (getattr(text, "head_dim", None) or text.hidden_size // heads)
    if latent := getattr(text, "kv_lora_rank", None):  # in place of both (arXiv 2405.04434)
        cached = latent + text.qk_rope_head_dim
    full = len(kinds) - kinds.count("sliding_attention") - kinds.count("linear_attention")
    return Model(
        parameters=model.num_parameters(),
        linear=linear,
        layers=len(kinds),
        hidden=text.hidden_size,
        cached=full * cached,
        windowed=kinds.count("sliding_attention") * cached,
        window=getattr(text, "sliding_window", None) or 0,
        context=text.max_position_embeddings,
    )


def rows_at_once(update: UpdateConfig) -> int:
    """Return how many sequences one forward pass has: the largest divisor of a step's that
    `micro_batch` allows."""
    rows = update.questions_per_step * update.keep
    return next(part for part in range(update.micro_batch, 0, -1) if rows % part == 0)


def trainer_memory(model: Model, update: UpdateConfig, length: int) -> dict[str, int]:
    """Return what a run takes at the worst moment of a step, in bytes, with sequences of `length`
    tokens."""
    width = 4 if update.dtype == "float32" else 2
    token = LAYER_BYTES * model.linear
    if update.grpo.get("gradient_checkpointing", True):  # each layer's input, and one whole layer
        token = token // model.layers + width * model.layers * model.hidden
    rows = rows_at_once(update)
    return {
        "weights": width * model.parameters,
        "LoRA and optimizer": LORA_BYTES * update.lora_rank * model.linear,
        f"activations for {rows} x {length} tokens": rows * length * token,
        "CUDA": CONTEXT,
    }


@dataclass(frozen=True)
class Estimate:
    """Whether engine and trainer fit, in words with all figures as well; the share of the GPU that
    vLLM gets, and how many tokens a sample may have (None: that is not known)."""

    fit: Fit
    words: str
    share: float
    max_tokens: int | None


def estimate(config: Config, card: Card | None = None) -> Estimate | None:
    """Estimate what the configured engine and trainer take of a GPU, by default this machine's, as
    if an engine of ours did not run on it yet. Where vote.max_tokens is not set, it is halved until
    they fit. None where there is nothing to estimate: no model, the embedded engine, no GPU."""
    ours = config.engine.url is None
    if not config.model.name or (ours and config.engine.kind is EngineKind.EMBEDDED):
        return None
    if card is None:
        if (card := first_card()) is None:
            return None
        card = replace(card, free=card.total) if ours else card
    max_tokens = config.vote.max_tokens
    try:
        model, flags = read_model(config.model.name), vllm_flags(config.engine.flags)
    except CannotEstimate as why:
        words = f"Cannot estimate whether engine and trainer fit on the GPU: {why}"
        return Estimate(Fit.UNKNOWN, words, UNKNOWN_SHARE, max_tokens)
    if flags.max_model_len > 0:
        model = replace(model, context=flags.max_model_len)
    longest = min(max_tokens or longest_answer(model.context), model.context - 1)
    found = _estimate(config, card, model, flags, longest)
    while found.fit is not Fit.FITS and not max_tokens and longest // 2 >= SHORTEST_ANSWER:
        longest //= 2
        found = _estimate(config, card, model, flags, longest)
    return found


def _estimate(
    config: Config, card: Card, model: Model, flags: argparse.Namespace, max_tokens: int
) -> Estimate:
    length = max_tokens + min(PROMPT, model.context - max_tokens)
    trainer = trainer_memory(model, config.update, length)
    left, room, share = card.free - sum(trainer.values()), card.free, 0.0
    who, tables, note = "the trainer and what is already running", {"trainer": trainer}, ""
    if config.engine.url is None:
        who, weights = "engine and trainer", flags.width * model.parameters
        slots = flags.width * config.engine.max_loras * config.update.lora_rank * model.linear
        working = slots + GIB + int(WORKING * card.total)
        sequence = flags.cache_width * model.cache(model.context)
        share = flags.gpu_memory_utilization
        if share is None:  # what the trainer leaves, but room for one sequence: users come first
            spare = math.floor(100 * (left - CONTEXT) / card.total)
            least = math.ceil(100 * (weights + working + sequence) / card.total)
            share = min(max(spare, least) / 100, UTILIZATION)
        cache, alone = (
            max(int(part * card.total) - weights - working, 0) for part in (share, UTILIZATION)
        )
        left = min(left - int(share * card.total) - CONTEXT, cache - sequence)
        room = card.total - weights
        token = max(flags.cache_width * model.cache(1), 1)
        engine = {
            "weights": weights,
            "LoRA slots, activations, CUDA graphs": working,
            f"KV cache for {cache // token} tokens": cache,
            "CUDA": CONTEXT,
        }
        tables = {f"engine, --gpu-memory-utilization={share:g}": engine, **tables}
        note = (
            f"\nThe engine's KV cache has {cache // token} tokens at all times; without training "
            f"it would have {max(alone, cache) // token}."
        )
    fit = Fit.FITS if left >= 0 else Fit.UNLIKELY
    if trainer["weights"] > room:
        fit = Fit.IMPOSSIBLE
    sizes: list[tuple[str, int]] = []
    for title, table in tables.items():
        sizes += [(title, sum(table.values())), *((f"  {name}", table[name]) for name in table)]
    sizes.append(("left" if left >= 0 else "missing", abs(left)))
    rows = "\n".join(f"  {name:<44}{size / GIB:>8.1f} GiB" for name, size in sizes)
    advice = "" if fit is Fit.FITS else f"\n{ADVICE}"
    where = f"{card.name} ({card.total / GIB:.1f} GiB, {card.free / GIB:.1f} free)"
    words = f"By estimate, {who} {fit} on {where}.\n{rows}{advice}{note}"
    return Estimate(fit, words, share, max_tokens)


def vllm_flags(given: Sequence[str]) -> argparse.Namespace:
    """Read those of vLLM's flags that decide about memory. Raises CannotEstimate."""
    words = [_dashes(word) for word in given]
    if unknown := {word.partition("=")[0] for word in words} & NOT_ESTIMATED:
        raise CannotEstimate(f"the effect of {min(unknown)} on the engine's memory is not known")
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--gpu-memory-utilization", type=float)
    parser.add_argument("--max-model-len", type=_tokens, default=0)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--kv-cache-dtype", default="auto")
    try:
        flags, _ = parser.parse_known_args(words)
    except argparse.ArgumentError as error:
        raise CannotEstimate(str(error)) from None
    flags.width = 4 if flags.dtype in ("float", "float32") else 2
    flags.cache_width = 1 if flags.kv_cache_dtype.startswith("fp8") else flags.width
    return flags


def _tokens(text: str) -> int:
    """Read a length as vLLM does: 8k is 8000, 8K is 8192. 0 for `auto` and -1, which leave it to
    vLLM."""
    if text in ("auto", "-1"):
        return 0
    scale = {"k": 1000, "K": 1024}.get(text[-1:], 1)
    return int(float(text[:-1] if scale > 1 else text) * scale)


def _dashes(word: str) -> str:
    """Write a flag as vLLM reads it: its name has dashes, not underscores."""
    name, equals, value = word.partition("=")
    return name.replace("_", "-") + equals + value if name.startswith("-") else word


def fit_to_card(config: Config) -> Config:
    """Return the configuration with vLLM's share of the GPU and the longest answer that there is
    room for, where nobody has set them; unchanged without a GPU. Raises MemoryRefused."""
    card = first_card() if config.engine.memory_plan else None
    found = estimate(config, card) if card else None
    if found is None:
        return config
    if found.fit is Fit.IMPOSSIBLE:
        raise MemoryRefused(f"{found.words}\n(Set engine.memory_plan=false to start it anyway.)")
    log.log(logging.INFO if found.fit is Fit.FITS else logging.WARNING, "%s", found.words)
    vote, engine = config.vote, config.engine
    if vote.max_tokens is None and found.max_tokens is not None:
        log.info("samples are limited to %d tokens; vote.max_tokens changes that", found.max_tokens)
        vote = vote.model_copy(update={"max_tokens": found.max_tokens})
    given = {_dashes(flag).partition("=")[0] for flag in engine.flags}
    if engine.url is None and not given & SHARE_FLAGS:
        log.info("vLLM is started with --gpu-memory-utilization=%g", found.share)
        flags = (f"--gpu-memory-utilization={found.share:g}", *engine.flags)
        engine = engine.model_copy(update={"flags": flags})
    return config.model_copy(update={"vote": vote, "engine": engine})


if __name__ == "__main__":
    try:
        sys.stdout.write(json.dumps(asdict(figures(sys.argv[1]))))
    except CannotEstimate as error:
        sys.exit(str(error))
