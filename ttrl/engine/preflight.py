"""Check before use whether another's engine has what ttrl needs, and which flag it lacks."""

from __future__ import annotations

import json
import secrets
import shutil
import struct
from pathlib import Path

from ttrl.adapters.versions import CONFIG, WEIGHTS
from ttrl.engine.client import EngineClient, EngineError, EngineRefused

FLAGS = {
    "LoRA is not enabled": "it does not serve LoRA adapters; start it with --enable-lora",
    "greater than max_lora_rank": "its maximum LoRA rank is too small; start it with "
    "--max-lora-rank {rank}",
    "No adapter found": "it cannot read {path}; run it on the same machine, or share that "
    "directory with it",
}
"""Parts of vLLM 0.32's errors for an adapter that it cannot load, and what is missing then."""
NO_ROUTE = (
    "it does not load adapters at runtime; start it with "
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True in its environment"
)


class EngineUnfit(EngineError):
    """The engine at that URL cannot be used; the message says what it lacks."""


def check(client: EngineClient, *, model: str, rank: int, root: Path) -> None:
    """Raise EngineUnfit unless the engine serves `model` and takes adapters of `rank` from `root`.

    It is asked to load an adapter of that rank without weights: an engine that lacks nothing fails
    later than with one of these errors, or not at all.
    """
    served = client.base_model()
    names = (served.root or "", served.name)
    # A path may be written in several ways.
    if model not in names and Path(model).resolve() not in [Path(name).resolve() for name in names]:
        raise EngineUnfit(
            f"the engine at {client.url} serves {served.root or served.name}, not {model}; "
            f"give --model {served.root or served.name}, or start it with {model}"
        )
    name = f"ttrl-check-{secrets.token_hex(4)}"
    directory = root / f".{name}"
    directory.mkdir(parents=True)
    try:
        config = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "target_modules": ["q_proj"]}
        (directory / CONFIG).write_text(json.dumps(config))
        (directory / WEIGHTS).write_bytes(struct.pack("<Q", 2) + b"{}")  # safetensors without any
        client.load_adapter(name, directory)
    except EngineRefused as refused:
        known = next((lack for said, lack in FLAGS.items() if said in refused.message), None)
        lacks = known or (NO_ROUTE if refused.status == 404 else None)
        if lacks:
            lacks = lacks.format(rank=rank, path=root)
            raise EngineUnfit(f"cannot use the engine at {client.url}: {lacks}") from None
    else:
        client.unload_adapter(name)
    finally:
        shutil.rmtree(directory)
