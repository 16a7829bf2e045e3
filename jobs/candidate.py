"""The version being trained, in the engine beside the one that users get."""

from __future__ import annotations

import logging
import secrets
import shutil
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ttrl.engine.client import EngineClient, EngineError, EngineUnreachable
from ttrl.versions import verify

log = logging.getLogger(__name__)

SERVED_AGAIN_SECONDS = 60.0
"""In which the daemon loads what users get into a restarted engine."""
LOOK_SECONDS = 0.5


def checkpoint_steps(steps: int, count: int) -> frozenset[int]:
    """Return `count` of the steps, evenly spread, the last among them."""
    return frozenset(steps * part // count for part in range(1, count + 1)) - {0}


@dataclass(eq=False)
class Candidate:
    """The weights being trained, in the engine under names that are never reused; `version` is the
    newest, at first the parent. Those after the steps in `keep` stay on disk, to be chosen from."""

    client: EngineClient
    scratch: Path
    run_id: int
    version: str
    keep: Collection[int] = ()
    _saved: dict[int, str] = field(default_factory=dict)
    _loaded: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        # The engine may outlive a state directory, and with it the numbers of its runs.
        self._prefix = f"ttrl-cand-{self.run_id}-{secrets.token_hex(3)}"

    @property
    def directory(self) -> Path:
        return self.scratch / self.version

    @property
    def steps(self) -> list[int]:
        """After which there are weights to choose from, in order."""
        return [step for step in sorted(self._saved) if step in self.keep or step == self.newest]

    @property
    def newest(self) -> int:
        """The last step whose weights were loaded; 0 before the first."""
        return max(self._saved, default=0)

    def deploy(self, save: Callable[[Path], None], step: int) -> None:
        """Save the weights and load them into the engine beside the last step's, which may still be
        sampled; older ones leave it."""
        if step in self._saved:
            return
        name = f"{self._prefix}-{step}"
        save(self.scratch / name)
        self._saved[step] = name
        self._switch(name, beside=self.version)
        for old, version in list(self._saved.items()):
            if version not in self._loaded and old not in self.keep:
                shutil.rmtree(self.scratch / self._saved.pop(old), ignore_errors=True)

    def load(self, step: int) -> str:
        """Make the weights after this step the ones in the engine, which may have lost them; return
        their name. Raises EngineError."""
        self._switch(self._saved[step])
        return self.version

    def reload_if_lost(self, version: str) -> None:
        """Load a version again if the engine was restarted. What is not the run's is loaded by the
        daemon, a moment after the engine is up. Raises EngineError."""
        ours, deadline = version in self._loaded, time.monotonic() + SERVED_AGAIN_SECONDS
        while not ours and self._lost(version) and time.monotonic() < deadline:
            time.sleep(LOOK_SECONDS)
        if ours and self._lost(version):
            self.client.load_adapter(version, self.scratch / version)

    def _lost(self, version: str) -> bool:
        try:
            return version not in {card.name for card in self.client.models()}
        except EngineUnreachable:  # it may be starting, and loading waits for that
            return True

    @contextmanager
    def loaded_beside(self, directory: Path) -> Iterator[str]:
        """Have a published version in the engine as well, under a name of this run's, for the
        block. Raises AdapterDamaged, EngineError."""
        verify(directory)
        name = f"{self._prefix}-beside"
        self.client.load_adapter(name, directory)
        try:
            yield name
        finally:
            self._unload(name)

    def __enter__(self) -> Candidate:
        self.scratch.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        for version in self._loaded:
            self._unload(version)

    def _switch(self, name: str, beside: str | None = None) -> None:
        """Have a version in the engine, and of the run's others none but `beside`."""
        for old in [old for old in self._loaded if old not in (name, beside)]:
            self._unload(old)
            self._loaded.remove(old)
        if name in self._loaded:
            self.reload_if_lost(name)
        else:
            self.client.load_adapter(name, self.scratch / name)
            self._loaded.append(name)
        self.version = name

    def _unload(self, version: str) -> None:
        try:
            self.client.unload_adapter(version)
        except EngineError as error:  # the reconciler clears up after an engine that came back
            log.warning("could not unload a candidate: %s", error)
