"""A daemon on a light model, with versions."""

from __future__ import annotations

from pathlib import Path

from tests.integration.daemon import LIGHT, Daemon, publish_random
from tests.versions import write_lora


def weights(folder: Path, count: int = 2) -> list[Path]:
    """Of versions that answer unlike the base model and each other."""
    names = [f"{number} of {count}" for number in range(1, count + 1)]
    return [write_lora(folder / name, name.encode().ljust(64)) for name in names]


def with_versions(folder: Path, *settings: str) -> Daemon:
    """One with two versions published; `versions` names them. It is not started."""
    daemon = Daemon(folder / "state", *settings, environ=LIGHT, start=False)
    daemon.versions = publish_random(daemon.state_dir, weights(folder))
    return daemon
