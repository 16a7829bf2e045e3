"""LoRA over a transformers model: many adapters in memory, any one of them per forward pass.

Not PEFT's own layers: switching those changes module state and costs time in every layer, while
here an adapter is one mapping of tensors, read and checked before anything serves it. The
log-probabilities are those of a PEFT forward pass to rounding; a test says so.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
TENSOR_NAME = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])\.weight")

NEUTRAL: Mapping[str, tuple[object, ...]] = {
    "peft_type": ("LORA",),
    "bias": ("none",),
    "init_lora_weights": (True, False, "gaussian", "orthogonal"),
    "fan_in_fan_out": (False,),
    "use_dora": (False,),
    "use_qalora": (False,),
    "lora_bias": (False,),
    "modules_to_save": ([],),
    "layer_replication": ([],),
    "target_parameters": ([],),
    "trainable_token_indices": ([],),
    "alora_invocation_tokens": ([],),
    "use_bdlora": ({},),
}
"""What an adapter's settings must be, if they are there at all: plain LoRA on linear layers."""

Deltas = Mapping[str, tuple[Tensor, Tensor]]


class AdapterMissing(Exception):
    """There is no adapter at that path."""


class AdapterUnfit(Exception):
    """There is one, but it is damaged or does not belong to this model."""


@dataclass(frozen=True, eq=False)
class Adapter:
    """One version in memory. `deltas` has, by module name, A transposed (in, rank) and B transposed
    and scaled (rank, out): the module adds `x @ A @ B`."""

    name: str
    path: str
    deltas: Deltas


@dataclass(eq=False)
class Switch:
    """Which adapter the next forward pass goes through; empty means the base model."""

    deltas: Deltas = field(default_factory=dict)


class SwitchableLinear(nn.Module):
    """A linear layer that adds the low-rank part of whichever adapter is switched on."""

    def __init__(self, linear: nn.Linear, name: str, switch: Switch) -> None:
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias
        self._name, self._switch = name, switch

    def forward(self, inputs: Tensor) -> Tensor:
        outputs = nn.functional.linear(inputs, self.weight, self.bias)
        delta = self._switch.deltas.get(self._name)
        if delta is None:
            return outputs
        down, up = delta
        rows = outputs.view(-1, outputs.shape[-1])
        rows.addmm_(inputs.reshape(-1, inputs.shape[-1]) @ down, up)
        return outputs


def make_switchable(model: nn.Module) -> Switch:
    """Replace the linear layers that an adapter may target; the output layer is none of them."""
    switch = Switch()
    for name, linear in list(_linears(model)):
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, SwitchableLinear(linear, name, switch))
    return switch


def target_shapes(model: nn.Module) -> dict[str, tuple[int, int]]:
    """(out, in) of every layer that an adapter may target, by name."""
    return {
        name: (module.weight.shape[0], module.weight.shape[1])
        for name, module in model.named_modules()
        if isinstance(module, SwitchableLinear)
    }


def read_adapter(
    name: str, path: str, shapes: Mapping[str, tuple[int, int]], *, max_rank: int
) -> Adapter:
    """Read and check all of an adapter. Raises AdapterMissing or AdapterUnfit."""
    folder = Path(path)
    if not all((folder / file).is_file() for file in (CONFIG_FILE, WEIGHTS_FILE)):
        raise AdapterMissing(f"no {CONFIG_FILE} with {WEIGHTS_FILE} at that path")
    config = _read_config(folder / CONFIG_FILE)
    if config["r"] > max_rank:
        raise AdapterUnfit(f"LoRA rank {config['r']} is greater than max_lora_rank {max_rank}")
    tensors = _read_tensors(folder / WEIGHTS_FILE)
    sides = _sort_tensors(tensors)
    _check_shapes(sides, shapes, max_rank)
    deltas = {
        module: _delta(pair["A"], pair["B"], _scaling(config, module, len(pair["A"])))
        for module, pair in sides.items()
    }
    return Adapter(name, path, deltas)


def _linears(model: nn.Module) -> Iterator[tuple[str, nn.Linear]]:
    output = model.get_output_embeddings()  # type: ignore[operator]
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and module is not output:
            yield name, module


def _read_config(file: Path) -> dict[str, Any]:
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        rank, alpha = config["r"], config["lora_alpha"]
    except (ValueError, KeyError, TypeError) as error:
        raise AdapterUnfit(f"{CONFIG_FILE} is not a LoRA configuration") from error
    if not isinstance(rank, int) or not isinstance(alpha, int | float) or rank < 1:
        raise AdapterUnfit(f"{CONFIG_FILE} has no usable r and lora_alpha")
    for setting, neutral in NEUTRAL.items():
        value = config.get(setting)
        if value is not None and value not in neutral:
            raise AdapterUnfit(f"only plain LoRA is supported, not {setting}={value!r}")
    return dict(config)


def _read_tensors(file: Path) -> dict[str, Tensor]:
    try:
        tensors = load_file(file)
    except (SafetensorError, OSError) as error:
        raise AdapterUnfit(f"{WEIGHTS_FILE} is damaged") from error
    if not tensors or not all(tensor.isfinite().all() for tensor in tensors.values()):
        raise AdapterUnfit(f"{WEIGHTS_FILE} has no weights or infinite ones")
    return {name: tensor.to(torch.float32) for name, tensor in tensors.items()}


def _sort_tensors(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    sides: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        found = TENSOR_NAME.fullmatch(name)
        if not found or tensor.ndim != 2:
            raise AdapterUnfit(f"unexpected tensor {name}")
        sides.setdefault(found["module"], {})[found["side"]] = tensor
    return sides


def _check_shapes(
    sides: Mapping[str, Mapping[str, Tensor]],
    shapes: Mapping[str, tuple[int, int]],
    max_rank: int,
) -> None:
    for module, pair in sides.items():
        if module not in shapes:
            raise AdapterUnfit(f"the model has no linear layer {module}")
        if len(pair) != 2:
            raise AdapterUnfit(f"{module} has only one of A and B")
        (rank, wide), (tall, same_rank) = pair["A"].shape, pair["B"].shape
        if (tall, wide) != shapes[module] or rank != same_rank:
            raise AdapterUnfit(f"the shapes of {module} are not the model's")
        if rank > max_rank:
            raise AdapterUnfit(f"LoRA rank {rank} is greater than max_lora_rank {max_rank}")


def _scaling(config: Mapping[str, Any], module: str, rank: int) -> float:
    """What PEFT multiplies B A x by: alpha / r, or alpha / sqrt(r) for the rank-stabilised kind."""
    alpha = _by_pattern(config.get("alpha_pattern"), module, config["lora_alpha"])
    expected = _by_pattern(config.get("rank_pattern"), module, config["r"])
    if rank != expected:
        raise AdapterUnfit(f"{module} has rank {rank}, its configuration says {expected}")
    return float(alpha) / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _by_pattern(patterns: Mapping[str, Any] | None, module: str, default: Any) -> Any:
    for pattern, value in (patterns or {}).items():
        if re.fullmatch(rf"(.*\.)?({pattern})", module):
            return value
    return default


def _delta(down: Tensor, up: Tensor, scaling: float) -> tuple[Tensor, Tensor]:
    return down.T.contiguous(), (up.T * scaling).contiguous()
