"""The base model's identity: digests of what decides its answers, cheap enough for every start."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

CONFIG = "config.json"
WEIGHTS = ("*.safetensors", "*.bin")
TEXT = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
)
"""The files that turn messages into tokens and back: vocabulary, special tokens, chat template."""
PIECES, PIECE = 16, 64 * 1024
"""Places at which a file of weights is read, and bytes at each: any training moves every tensor."""


class ModelNotFound(Exception):
    """The model's files are not on this machine."""


@dataclass(frozen=True)
class Base:
    """A base model by name, and the digests of its configuration and weights and of its tokenizer
    and chat template; None if its files are not on this machine, as for an engine elsewhere."""

    name: str
    weights: str | None = None
    text: str | None = None

    def same_weights(self, other: Base) -> bool:
        """By name where a digest is missing."""
        if None not in (self.weights, other.weights):
            return self.weights == other.weights
        return self.name == other.name or Path(self.name).resolve() == Path(other.name).resolve()

    def same_text(self, other: Base) -> bool:
        return None in (self.text, other.text) or self.text == other.text


def find(name: str) -> Path:
    """Return a model's directory: `name` itself, or that in the hub's local cache. Raises
    ModelNotFound."""
    if (Path(name) / CONFIG).is_file():
        return Path(name)
    try:
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError
    except ImportError:
        missing = f"{name} is not a directory, and huggingface_hub is not installed"
        raise ModelNotFound(missing) from None
    try:
        cached = try_to_load_from_cache(name, CONFIG)
    except HFValidationError:
        neither = f"{name} is neither a model directory nor a Hugging Face Hub name"
        raise ModelNotFound(neither) from None
    if not isinstance(cached, str):
        raise ModelNotFound(f"{name} has not been downloaded yet")
    return Path(cached).parent


def identify(name: str) -> Base:
    """Return the model in a directory, or in the local cache under a hub name. Raises OSError."""
    try:
        directory = find(name)
    except ModelNotFound:
        return Base(name)
    weights = [path for pattern in WEIGHTS for path in sorted(directory.glob(pattern))]
    text = [directory / each for each in TEXT]
    return Base(name, _digest([directory / CONFIG, *weights]), _digest(text))


def _digest(files: Iterable[Path]) -> str:
    """Return the SHA-256 over the names and sizes of the existing files, the content of small ones,
    and PIECES of large ones."""
    whole = hashlib.sha256()
    for path in filter(Path.is_file, files):
        size = path.stat().st_size
        whole.update(f"{path.name}:{size}\n".encode())
        with path.open("rb") as file:
            if size <= PIECES * PIECE or path.name in (CONFIG, *TEXT):
                whole.update(file.read())
                continue
            for number in range(PIECES):
                file.seek(number * (size - PIECE) // (PIECES - 1))
                whole.update(file.read(PIECE))
    return whole.hexdigest()
