"""Adapter versions on disk: directories with PEFT's two files and our manifest, written whole or
not at all, never changed, and verified before every load."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ttrl import ReportedError
from ttrl.adapters.base import Base
from ttrl.files import fsync

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
        return _verified(directory, digest)
    except OSError as error:
        why = f"{error.strerror or type(error).__name__} ({error.filename or directory})"
        raise AdapterDamaged(f"{directory.name} cannot be read: {why}") from error


def _verified(directory: Path, digest: str | None) -> Manifest:
    if not directory.is_dir() or directory.is_symlink():
        raise AdapterDamaged(f"{directory.name}: there is no such directory")
    manifest = read_manifest(directory)
    strangers = sorted({path.name for path in directory.iterdir()} - {*FILES, MANIFEST})
    if strangers:
        raise AdapterDamaged(f"{directory.name}: unexpected files: {', '.join(strangers)}")
    if manifest.name != directory.name:
        raise AdapterDamaged(f"{directory.name}: its manifest belongs to {manifest.name}")
    if digest_of(directory) != manifest.digest:
        raise AdapterDamaged(f"{directory.name}: its files have changed since it was published")
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
