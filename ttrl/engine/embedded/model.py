"""The model that is served: its weights, its tokenizer and its LoRA adapters.

The adapters' layers are not PEFT's. Measured on the demo's model, one core, 8 questions x 32
answers: PEFT's layers sample 1.6 times slower, whether active or named row by row, and
`load_adapter` stops the model for 0.13 s, because it changes the layers that answer users. Here an
adapter is a mapping of tensors, read while others are served.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer

SAMPLING_DEFAULTS = (
    "temperature", "top_p", "top_k", "min_p", "frequency_penalty", "presence_penalty",
    "repetition_penalty",
)  # fmt: skip
"""What vLLM (0.32) takes from a model's generation_config.json, besides max_new_tokens."""

LAYERS = frozenset({"full_attention", "sliding_attention"})
TENSOR_NAME = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])\.weight")

PLAIN: Mapping[str, tuple[object, ...]] = {
    "peft_type": ("LORA",),
    "bias": ("none",),
    "init_lora_weights": (True, False, "gaussian", "orthogonal"),
}
"""What an adapter's settings must be, if they are there at all: plain LoRA on linear layers."""
NOT_PLAIN = (
    "alora_invocation_tokens", "alpha_pattern", "fan_in_fan_out", "layer_replication", "lora_bias",
    "modules_to_save", "rank_pattern", "target_parameters", "trainable_token_indices", "use_bdlora",
    "use_dora", "use_qalora", "use_rslora",
)  # fmt: skip
"""What they must not have, unless it is empty or false."""


class AdapterMissing(Exception):
    """There is no adapter at that path."""


class AdapterUnfit(Exception):
    """The adapter is damaged or does not belong to this model."""


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
        self.defaults = {
            key: generation[key] for key in SAMPLING_DEFAULTS if generation.get(key) is not None
        }
        self.max_new_tokens: int | None = generation.get("max_new_tokens")
        self.vocabulary_size = len(self.tokenizer)
        self.longest_token = max(map(len, self.tokenizer.get_vocab()))
        # The first call settles the tokenizer's own state, which threads would race for.
        self.encode("a")

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

    def render(self, messages: Sequence[dict[str, Any]], **options: Any) -> str:
        """Return the prompt's text. Raises what the template raises: jinja2's TemplateError,
        ValueError, TypeError, KeyError."""
        return str(self.tokenizer.apply_chat_template(list(messages), tokenize=False, **options))

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """Return the token ids; `special` adds what the tokenizer puts around a plain text."""
        return list(self.tokenizer.encode(text, add_special_tokens=special))

    def decode(self, token_ids: Sequence[int], *, special: bool = False) -> str:
        text = self.tokenizer.decode(
            list(token_ids), skip_special_tokens=not special, clean_up_tokenization_spaces=False
        )
        return str(text)

    @lru_cache(maxsize=65536)  # noqa: B019 - there is one model for the life of the process
    def token(self, token_id: int) -> str:
        return self.decode([token_id], special=True)

    def read_adapter(self, name: str, path: str) -> Adapter:
        """Read and check all of an adapter. Raises AdapterMissing or AdapterUnfit."""
        settings = Path(path, "adapter_config.json")
        weights = Path(path, "adapter_model.safetensors")
        if not (settings.is_file() and weights.is_file()):
            raise AdapterMissing(f"no {settings.name} with {weights.name} at that path")
        try:
            config = json.loads(settings.read_text(encoding="utf-8"))
            rank, alpha = int(config["r"]), float(config["lora_alpha"])
        except (ValueError, KeyError, TypeError) as error:
            raise AdapterUnfit(f"{settings.name} is not a LoRA configuration") from error
        # Before the weights: whoever asks what fits may send none.
        if rank < 1:
            raise AdapterUnfit(f"{settings.name} has the rank {rank}")
        if rank > self.max_rank:
            raise AdapterUnfit(f"LoRA rank {rank} is greater than max_lora_rank {self.max_rank}")
        for setting, value in config.items():
            allowed = value in PLAIN.get(setting, (value,)) and setting not in NOT_PLAIN
            if value and not allowed:
                raise AdapterUnfit(f"only plain LoRA is supported, not {setting}={value!r}")
        try:
            tensors = load_file(weights)
        except (SafetensorError, OSError) as error:
            raise AdapterUnfit(f"{weights.name} is damaged") from error
        if not tensors or not all(tensor.isfinite().all() for tensor in tensors.values()):
            raise AdapterUnfit(f"{weights.name} has no weights or infinite ones")

        sides: dict[str, dict[str, Tensor]] = {}
        for key, tensor in tensors.items():
            found = TENSOR_NAME.fullmatch(key)
            if not found or tensor.ndim != 2:
                raise AdapterUnfit(f"unexpected tensor {key}")
            sides.setdefault(found["module"], {})[found["side"]] = tensor.float()
        deltas = {}
        for module, pair in sides.items():
            if len(pair) != 2:
                raise AdapterUnfit(f"{module} has only one of A and B")
            down, up = pair["A"], pair["B"]
            if (up.shape[0], down.shape[1]) != self._shapes.get(module):
                raise AdapterUnfit(f"the model has no linear layer {module} of that shape")
            if not down.shape[0] == up.shape[1] == rank:
                raise AdapterUnfit(f"{module} is not of rank {rank}")
            deltas[module] = down.T.contiguous(), (up.T * (alpha / rank)).contiguous()
        return Adapter(name, path, deltas)
