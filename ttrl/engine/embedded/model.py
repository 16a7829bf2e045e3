"""The model that is served: its weights, its tokenizer and its LoRA adapters.

The adapters' layers are not PEFT's. Measured on the demo's model, one core, 8 questions x 32
answers: PEFT's layers sample 1.6 times slower, whether active or named row by row, and
`load_adapter` stops the model for 0.13 s, because it changes the layers that answer users. Here an
adapter is a mapping of tensors, read while others are served.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from ttrl.versions import NOT_PLAIN

LAYERS = frozenset({"full_attention", "sliding_attention"})


@dataclass(frozen=True, eq=False)
class Adapter:
    """One version in memory. `deltas` has, by module name, A transposed (in, rank) and B transposed
    and scaled (rank, out): the module adds `x @ A @ B`."""

    name: str
    path: str
    deltas: Mapping[str, tuple[Tensor, Tensor]]


class Model:
    """A causal language model in `folder`, served as `name`. Raises ValueError if it cannot be."""

    def __init__(self, folder: str, *, name: str, max_rank: int = 16) -> None:
        self.name, self.folder, self.max_rank = name, folder, max_rank
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.network = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        config = self.network.config
        if not set(getattr(config, "layer_types", None) or LAYERS) <= LAYERS:
            raise ValueError("it has layers other than attention; use vLLM for it")
        self.max_model_len: int = config.max_position_embeddings
        file = Path(folder, "generation_config.json")
        generation = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        ends = generation.get("eos_token_id", [])
        ends = {self.tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])}
        self.end_ids = frozenset(ends - {None})
        self.defaults: dict[str, Any] = {
            name: value for name, value in generation.items() if value is not None
        }
        """By the names that requests have, and much else."""
        if most := generation.get("max_new_tokens"):
            self.defaults["max_tokens"] = min(most, self.max_model_len)
        self.longest_token = max(map(len, self.tokenizer.get_vocab()))

        self.adapter: Adapter | None = None
        """The adapter that the next forward pass goes through; None is the base model."""
        output = self.network.get_output_embeddings()  # type: ignore[no-untyped-call]
        self._shapes: dict[str, tuple[int, ...]] = {}
        for path, module in self.network.named_modules():
            if isinstance(module, nn.Linear) and module is not output:
                self._shapes[path] = tuple(module.weight.shape)
                module.register_forward_hook(partial(self._add_delta, path))

    def _add_delta(
        self, path: str, _: nn.Module, inputs: tuple[Tensor, ...], outputs: Tensor
    ) -> None:
        delta = self.adapter.deltas.get(path) if self.adapter else None
        if delta is not None:
            down, up = delta
            rows = inputs[0].reshape(-1, inputs[0].shape[-1])
            outputs.view(-1, outputs.shape[-1]).addmm_(rows @ down, up)

    @lru_cache(maxsize=65536)  # noqa: B019 - there is one model for the life of the process
    def token(self, token_id: int) -> str:
        return str(self.tokenizer.decode([token_id], clean_up_tokenization_spaces=False))

    def read_adapter(self, name: str, path: str) -> Adapter:
        """Read and check all of an adapter. Raises FileNotFoundError; ValueError if it is damaged
        or does not belong to this model."""
        settings = Path(path, "adapter_config.json")
        weights = Path(path, "adapter_model.safetensors")
        if not (settings.is_file() and weights.is_file()):
            raise FileNotFoundError(f"no {settings.name} with {weights.name} at that path")
        config = json.loads(settings.read_text(encoding="utf-8"))
        try:
            rank, scale = int(config["r"]), float(config["lora_alpha"]) / int(config["r"])
        except (LookupError, TypeError, ArithmeticError) as error:
            raise ValueError(f"{settings.name} has no rank and alpha") from error
        # Before the weights: whoever asks what fits may send none.
        if rank > self.max_rank:
            raise ValueError(f"LoRA rank {rank} is greater than max_lora_rank {self.max_rank}")
        if unusual := [setting for setting in NOT_PLAIN if config.get(setting)]:
            raise ValueError(f"only plain LoRA is supported, without {', '.join(unusual)}")
        try:
            tensors = load_file(weights)
        except SafetensorError as error:
            raise ValueError(f"{weights.name} is damaged") from error
        deltas = {}
        for module, (outputs, inputs) in self._shapes.items():
            keys = [f"base_model.model.{module}.lora_{side}.weight" for side in "AB"]
            if keys[0] in tensors and keys[1] in tensors:
                down, up = (tensors.pop(key).float() for key in keys)
                if (down.shape, up.shape) != ((rank, inputs), (outputs, rank)):
                    raise ValueError(f"the tensors for {module} do not fit the model")
                deltas[module] = down.T.contiguous(), up.T.contiguous() * scale
        if tensors or not deltas:
            raise ValueError(f"unexpected tensors: {', '.join(tensors) or 'none'}")
        return Adapter(name, path, deltas)
