"""What a model is made of, read from its directory without loading it."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

LONGEST_HEADER = 100 * 1024**2
"""Bytes; safetensors refuses longer headers as well."""
FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
LENGTH_IS_SCALED = frozenset({"su", "longrope", "llama3", "yarn", "deepseek_yarn", "default"})
"""Kinds of RoPE whose max_position_embeddings vLLM takes as it is; it multiplies by the others'
`factor` (vllm/config/model.py, _get_and_verify_max_len)."""


class CannotPlan(Exception):
    """Something that the plan would have to know cannot be known; the message says what."""


@dataclass(frozen=True)
class Linear:
    """One linear layer's name and widths."""

    name: str
    inputs: int
    outputs: int


@dataclass(frozen=True)
class Shape:
    """The numbers of a model that decide what it needs. Widths are in values, not bytes."""

    parameters: int
    linears: tuple[Linear, ...]
    """Those that a LoRA on all of them has, as PEFT's `all-linear`: not the vocabulary's, and not a
    mixture's experts, which transformers fuses into tensors that are no linear layers."""
    layers: int
    hidden: int
    query_width: int
    key_width: int
    """Of the keys alone; the values are as wide."""
    mlp_width: int
    """Between the two halves of the MLP; in a mixture, that of the experts one token goes to."""
    experts_per_token: int
    """0 where the MLP is no mixture."""
    vocabulary: int
    cached_per_token: int
    """Values in the KV cache for one token, in the layers that attend to everything."""
    windowed_per_token: int
    """The same for the layers that attend to the last `window` tokens only."""
    window: int
    longest: int
    """Tokens that the model was made for."""


def find(name: str) -> Path:
    """The directory of a model: `name` itself, or where the hub's local cache has it. Nothing is
    downloaded. Raises CannotPlan."""
    if (Path(name) / "config.json").is_file():
        return Path(name)
    try:
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError
    except ImportError:
        raise CannotPlan(f"{name} is no directory, and huggingface_hub is not installed") from None
    try:
        found = try_to_load_from_cache(name, "config.json")
    except HFValidationError:
        raise CannotPlan(f"{name} is neither a model directory nor a hub name") from None
    if not isinstance(found, str):
        raise CannotPlan(f"{name} has not been downloaded yet")
    return Path(found).parent


def read(directory: Path) -> Shape:
    """The shape of the model in a directory, from config.json and the headers of its safetensors
    files (https://huggingface.co/docs/safetensors). Raises CannotPlan."""
    whole = _json(directory / "config.json")
    if "quantization_config" in whole:
        raise CannotPlan("the model is quantised, and how large it becomes depends on the kernels")
    text = whole.get("text_config", whole)
    tensors = dict(_tensors(directory))
    if text.get("tie_word_embeddings", whole.get("tie_word_embeddings")):
        tensors.pop("lm_head.weight", None)  # some files hold it twice
    vocabulary = _whole(text, "vocab_size")
    heads, hidden = _whole(text, "num_attention_heads"), _whole(text, "hidden_size")
    head = _whole(text, "head_dim", hidden // heads)
    key_width = head * _whole(text, "num_key_value_heads", heads)
    experts = _whole(text, "num_experts_per_tok", 0)
    cached, windowed = _cached(text, 2 * key_width)
    return Shape(
        parameters=sum(map(prod, tensors.values())),
        linears=tuple(_linears(tensors, vocabulary)),
        layers=_whole(text, "num_hidden_layers"),
        hidden=hidden,
        query_width=head * heads,
        key_width=key_width,
        mlp_width=_mlp_width(text, hidden, experts),
        experts_per_token=experts,
        vocabulary=vocabulary,
        cached_per_token=cached,
        windowed_per_token=windowed,
        window=_whole(text, "sliding_window", 0),
        longest=_longest(directory, text),
    )


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise CannotPlan(f"{path} cannot be read: {error}") from None
    if not isinstance(found, dict):
        raise CannotPlan(f"{path} is not what it should be: it holds no mapping")
    return found


def _whole(text: Mapping[str, Any], key: str, default: int | None = None) -> int:
    value = text.get(key)
    value = default if value is None else value
    if not isinstance(value, int) or value < 0:
        raise CannotPlan(f"the model's config.json does not say {key}")
    return value


def _tensors(directory: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    for path in _files(directory):
        for name, entry in _header(path).items():
            if name != "__metadata__" and entry["dtype"] in FLOATS:
                yield name, tuple(entry["shape"])


def _files(directory: Path) -> list[Path]:
    """An index names the files where there is one; beside them may lie the same weights again."""
    index, single = directory / "model.safetensors.index.json", directory / "model.safetensors"
    if index.is_file():
        files = sorted({directory / name for name in _json(index).get("weight_map", {}).values()})
    else:
        files = [single] if single.is_file() else []
    missing = [path.name for path in files if not path.is_file()]
    if missing or not files:
        what = missing[0] if missing else single.name
        raise CannotPlan(f"{what} is not in {directory} (yet)")
    return files


def _header(path: Path) -> dict[str, Any]:
    """Eight bytes of length, then JSON: dtype and shape of every tensor by name."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > LONGEST_HEADER:
                raise ValueError("its header is too long")
            header = json.loads(file.read(length))
    except (OSError, ValueError, struct.error) as error:
        raise CannotPlan(f"{path.name} is no safetensors file: {error}") from None
    if not isinstance(header, dict):
        raise CannotPlan(f"{path.name} is no safetensors file")
    return header


def _linears(tensors: Mapping[str, tuple[int, ...]], vocabulary: int) -> Iterator[Linear]:
    for name, shape in tensors.items():
        if len(shape) != 2 or not name.endswith(".weight") or ".experts." in name:
            continue
        if shape[0] == vocabulary or name.endswith("lm_head.weight"):
            continue
        yield Linear(name.removesuffix(".weight"), inputs=shape[1], outputs=shape[0])


def _mlp_width(text: Mapping[str, Any], hidden: int, experts: int) -> int:
    usual = _whole(text, "intermediate_size", 4 * hidden)
    if not experts:
        return usual
    shared = _whole(text, "n_shared_experts", 0)
    return max(usual, (experts + shared) * _whole(text, "moe_intermediate_size", usual))


def _cached(text: Mapping[str, Any], per_layer: int) -> tuple[int, int]:
    """Values cached per token by full and by windowed layers. Multi-head latent attention keeps one
    latent vector instead of keys and values (DeepSeek-V2, arXiv 2405.04434, 2.1)."""
    if latent := _whole(text, "kv_lora_rank", 0):
        per_layer = latent + _whole(text, "qk_rope_head_dim", 0)
    kinds = text.get("layer_types") or ["full_attention"] * _whole(text, "num_hidden_layers")
    if strange := set(kinds) - {"full_attention", "sliding_attention"}:
        raise CannotPlan(f"the model has layers of another kind ({', '.join(sorted(strange))})")
    windowed = kinds.count("sliding_attention") if text.get("sliding_window") else 0
    return (len(kinds) - windowed) * per_layer, windowed * per_layer


def _longest(directory: Path, text: Mapping[str, Any]) -> int:
    """As vLLM finds it: config.json, RoPE's factor, and no more than the tokenizer says."""
    longest: float = _whole(text, "max_position_embeddings", 2048)
    tokenizer = directory / "tokenizer_config.json"
    if tokenizer.is_file():
        longest = min(longest, _json(tokenizer).get("model_max_length") or longest)
    rope = text.get("rope_parameters") or text.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind not in LENGTH_IS_SCALED and isinstance(rope.get("factor"), int | float):
        longest *= rope["factor"]
    return int(longest)
