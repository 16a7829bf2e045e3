"""Adapter versions on disk: directories with PEFT's two files and our manifest, written whole or
not at all, never changed, and verified before every load. And the base model that they belong to,
by digests of what decides its answers, cheap enough for every start."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ttrl import ReportedError
from ttrl.files import fsync

MODEL_CONFIG = "config.json"
MODEL_WEIGHTS = ("*.safetensors", "*.bin")
MODEL_TEXT = (
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
    if (Path(name) / MODEL_CONFIG).is_file():
        return Path(name)
    try:
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError
    except ImportError:
        missing = f"{name} is not a directory, and huggingface_hub is not installed"
        raise ModelNotFound(missing) from None
    try:
        cached = try_to_load_from_cache(name, MODEL_CONFIG)
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
    weights = [path for pattern in MODEL_WEIGHTS for path in sorted(directory.glob(pattern))]
    text = [directory / each for each in MODEL_TEXT]
    return Base(name, _digest([directory / MODEL_CONFIG, *weights]), _digest(text))


def _digest(files: Iterable[Path]) -> str:
    """Return the SHA-256 over the names and sizes of the existing files, the content of small ones,
    and PIECES of large ones."""
    whole = hashlib.sha256()
    for path in filter(Path.is_file, files):
        size = path.stat().st_size
        whole.update(f"{path.name}:{size}\n".encode())
        with path.open("rb") as file:
            if size <= PIECES * PIECE or path.name in (MODEL_CONFIG, *MODEL_TEXT):
                whole.update(file.read())
                continue
            for number in range(PIECES):
                file.seek(number * (size - PIECE) // (PIECES - 1))
                whole.update(file.read(PIECE))
    return whole.hexdigest()


CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
MANIFEST = "manifest.json"
FILES = (CONFIG, WEIGHTS)
NOT_PLAIN = (
    "alora_invocation_tokens", "alpha_pattern", "fan_in_fan_out", "layer_replication", "lora_bias",
    "modules_to_save", "rank_pattern", "target_parameters", "trainable_token_indices", "use_dora",
    "use_qalora", "use_rslora",
)  # fmt: skip
"""Settings of an adapter that bring tensors beside a LoRA's two, or give these another meaning."""
STAGING = ".staging-"
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
"""What a version may be called: nothing that leads out of a directory."""


class AdapterDamaged(ReportedError):
    """A version on disk is not what its manifest says, so it is not loaded. Restore it from a
    backup, or roll back to another."""


class AdapterUnfit(ReportedError):
    """An adapter from elsewhere cannot be imported; says why."""


class AdapterForeign(Exception):
    """A version belongs to another base model than the one served, so it is not loaded. Serve its
    own, or let the next run begin a new lineage."""


@dataclass(frozen=True)
class Manifest:
    """What a version is. `digest` is over the two files, `created` in Unix seconds, `modules` the
    setting that led to `target_modules`; `weights` and `text` are the base model's digests."""

    name: str
    lineage: str
    number: int
    digest: str
    base_model: str
    parent: str | None
    run_id: int
    rank: int
    target_modules: tuple[str, ...]
    created: float
    modules: str | None = None
    weights: str | None = None
    text: str | None = None

    @property
    def base(self) -> Base:
        return Base(self.base_model, self.weights, self.text)


def place(root: Path, name: str) -> Path:
    """Return where the version of this name lies: the one way from a name, which a store may have
    from anywhere, to a path. Raises AdapterDamaged."""
    if not re.fullmatch(NAME, name):
        raise AdapterDamaged(f"{name!r} is no name of a version; was the store changed by hand?")
    return root / name


def digest_of(directory: Path) -> str:
    whole = hashlib.sha256()
    for name in FILES:
        with _readable(directory, name).open("rb") as file:
            whole.update(f"{name}:{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return whole.hexdigest()


def read_foreign(directory: Path, base_model: str) -> None:
    """Check an adapter from elsewhere: its files, and what its configuration says. Raises
    AdapterDamaged, AdapterUnfit."""
    for name in FILES:
        _readable(directory, name)
    try:
        settings = json.loads((directory / CONFIG).read_text(encoding="utf-8"))
    except ValueError as error:
        raise AdapterDamaged(f"{directory.name}: cannot read {CONFIG}: {error}") from error
    if reason := unfit(settings, base_model):
        raise AdapterUnfit(f"cannot import {directory.name}: {reason}")


def unfit(settings: object, base_model: str) -> str:
    """Return why PEFT's configuration of an adapter is none that can be served beside the base
    model; "" where it can. Whether the tensors fit is for PEFT and the engine to see."""
    if not isinstance(settings, dict) or settings.get("peft_type") != "LORA":
        return "it is not a LoRA (peft_type)"
    if unusual := [name for name in NOT_PLAIN if settings.get(name)]:
        return f"only plain LoRA is supported, without {', '.join(unusual)}"
    if type(rank := settings.get("r")) is not int or rank < 1:
        return "it has no rank (r)"
    named = settings.get("base_model_name_or_path") or "(not named)"
    # A path may be written in several ways, and lead to what the hub has under that name.
    if Path(str(named)).name.lower() != Path(base_model).name.lower():
        return (
            f"it was trained for {named}, and {base_model} is served; if they are the same, set "
            f"base_model_name_or_path in its {CONFIG}"
        )
    return ""


def copy(source: Path, directory: Path) -> None:
    """Copy PEFT's two files, and nothing else, to a new directory. Raises AdapterDamaged."""
    directory.mkdir(parents=True)
    for name in FILES:
        shutil.copyfile(_readable(source, name), directory / name)


def publish(source: Path, root: Path, manifest: Manifest) -> Path:
    """Copy a saved LoRA to its final place: write, fsync, rename, fsync."""
    final, staging = place(root, manifest.name), root / f"{STAGING}{manifest.name}"
    if final.exists():
        raise FileExistsError(f"the adapter {manifest.name} already exists; names are not reused")
    shutil.rmtree(staging, ignore_errors=True)
    try:
        copy(source, staging)
        (staging / MANIFEST).write_text(json.dumps(asdict(manifest), indent=2) + "\n")
        for path in (*staging.iterdir(), staging):
            fsync(path)
        staging.rename(final)
        fsync(root)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return final


def read_manifest(directory: Path) -> Manifest:
    try:
        values = json.loads(_readable(directory, MANIFEST).read_text())
        return Manifest(**{**values, "target_modules": tuple(values["target_modules"])})
    except (ValueError, TypeError, KeyError) as error:
        raise AdapterDamaged(f"{directory.name}: cannot read {MANIFEST}: {error}") from error


def verify(directory: Path, digest: str | None = None) -> Manifest:
    """Check a version against its manifest, and the digest in the store. Raises AdapterDamaged,
    also where a file cannot be read."""
    try:
        if not directory.is_dir() or directory.is_symlink():
            raise AdapterDamaged(f"{directory.name}: there is no such directory")
        manifest = read_manifest(directory)
        if strangers := {path.name for path in directory.iterdir()} - {*FILES, MANIFEST}:
            names = ", ".join(sorted(strangers))
            raise AdapterDamaged(f"{directory.name}: unexpected files: {names}")
        if manifest.name != directory.name:
            raise AdapterDamaged(f"{directory.name}: its manifest belongs to {manifest.name}")
        if digest_of(directory) != manifest.digest:
            raise AdapterDamaged(f"{directory.name}: its files have changed since it was published")
    except OSError as error:
        why = f"{error.strerror or type(error).__name__} ({error.filename or directory})"
        raise AdapterDamaged(f"{directory.name} cannot be read: {why}") from error
    if digest not in (None, manifest.digest):
        raise AdapterDamaged(f"{directory.name}: its weights differ from those in the store")
    return manifest


def version_name(lineage: str, number: int, digest: str) -> str:
    return f"ttrl-{lineage}-{number}-{digest[:8]}"


def remove(root: Path, name: str) -> None:
    """Delete a version; the rename comes first, so that half a version is never seen. Raises
    AdapterDamaged, OSError."""
    directory = place(root, name)
    doomed = directory.with_name(f".doomed-{directory.name}")
    directory.rename(doomed)
    shutil.rmtree(doomed)


def discard(root: Path, name: str) -> None:
    """Delete the files of a version that no row knows, published or staged; nothing where that is
    no name of a version."""
    for path in (root / name, root / f"{STAGING}{name}") if re.fullmatch(NAME, name) else ():
        shutil.rmtree(path, ignore_errors=True)


def sweep(root: Path) -> Sequence[str]:
    """Delete what a crash left half-written or half-deleted; return its names."""
    leftovers = [path for path in root.glob(".*-*") if path.name.startswith((STAGING, ".doomed-"))]
    for path in leftovers:
        shutil.rmtree(path, ignore_errors=True)
    return [path.name for path in leftovers]


def _readable(directory: Path, name: str) -> Path:
    path = directory / name
    if not path.is_file() or path.is_symlink():
        raise AdapterDamaged(f"{directory.name}: {name} is missing")
    return path
