"""The version being trained, in the engine beside the one that users get."""

from __future__ import annotations

import logging
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

from ttrl.engine.client import EngineClient, EngineError

log = logging.getLogger(__name__)


class Candidate:
    """The weights being trained, in the engine under names that are never used again."""

    def __init__(self, client: EngineClient, scratch: Path, run_id: int, served: str) -> None:
        self.scratch = scratch
        self.served = served
        self.version = served
        self._client = client
        # The engine may outlive a state directory, and with it the numbers of its runs.
        self._prefix = f"ttrl-cand-{run_id}-{secrets.token_hex(3)}"

    @property
    def directory(self) -> Path:
        """Where the present weights are."""
        return self.scratch / self.version

    def deploy(self, save: Callable[[Path], None], step: int) -> None:
        """Save the weights and load them into the engine in place of the last step's."""
        last, name = self.version, f"{self._prefix}-{step}"
        if name == last:
            return
        save(self.scratch / name)
        self._client.load_adapter(name, self.scratch / name)
        self.version = name
        self._drop(last)

    def __enter__(self) -> Candidate:
        self.scratch.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._drop(self.version)

    def _drop(self, version: str) -> None:
        if version == self.served:
            return
        try:
            self._client.unload_adapter(version)
        except EngineError as error:  # the reconciler clears up after an engine that came back
            log.warning("could not unload a candidate: %s", error)
        shutil.rmtree(self.scratch / version, ignore_errors=True)
