"""How good the live version is, and whether the questions move: a look between runs.

Runs as a process of its own, `python -m jobs.measure`, with the configuration on standard input.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass

from jobs import drift, quality, reading
from jobs.asker import Asked, Asker, known
from jobs.probe import traffic
from ttrl import logs
from ttrl.config import Config
from ttrl.engine.client import EngineClient
from ttrl.psi import Shift
from ttrl.quality import Quality
from ttrl.rollouts import pacer_for
from ttrl.store import Store
from ttrl.store.measurements import Kind

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
WHAT = (Kind.QUALITY, Kind.QUESTIONS)


@dataclass(frozen=True)
class Measured:
    """What was found of the `version` that serves (None: the base model); None: too few probes, or
    too few questions."""

    version: str | None
    quality: Quality | None
    questions: Shift | None


def run(
    config: Config,
    store: Store,
    client: EngineClient,
    progress: Progress = lambda *_: None,
    what: Collection[Kind] = WHAT,
) -> Measured:
    """Ask the version that serves every probe, compare the questions, and write both down; other
    versions are asked by runs alone. Raises EngineError, PacerClosed, MeaningRefused."""
    version = store.adapters.serving().adapter
    found = _ask(config, store, client, version, progress) if Kind.QUALITY in what else None
    if found is not None:
        store.measurements.add(Kind.QUALITY, version, found.numbers())
    shift = drift.run(config, store) if Kind.QUESTIONS in what else None
    if shift is not None:
        store.measurements.add(Kind.QUESTIONS, None, asdict(shift))
    return Measured(version, found, shift)


def _ask(
    config: Config, store: Store, client: EngineClient, version: str | None, progress: Progress
) -> Quality | None:
    labelled = store.probes.labelled()
    held_out = traffic(store, config.gate, labelled)
    asked = [*known(labelled), *(Asked(row.id, row.question) for row in held_out)]
    if not asked:
        return None
    model = version or client.base_model().name
    with pacer_for(client, config.vote) as pacer:
        asker = Asker(client, config, pacer, reading.reader(config))
        drawn = asker.ask(model, asked, lambda done: progress(done, len(asked)))
        answered = [(one, asker.read(one, each)[0]) for one, each in zip(asked, drawn, strict=True)]
    return quality.measure(answered, quality.look(store, asked), config.gate)


def main() -> int:
    """The process: arguments say where, standard input says how."""
    parser = argparse.ArgumentParser(prog="python -m jobs.measure")
    parser.add_argument("--engine-url", required=True)
    parser.add_argument("what", nargs="+", type=Kind, choices=WHAT)
    arguments = parser.parse_args()
    config = Config.model_validate_json(sys.stdin.read())
    logs.configure(config.log_level, config.log_format)
    timeout = config.engine.request_timeout.total_seconds()
    engine = EngineClient(arguments.engine_url, api_key=config.engine.api_key, timeout=timeout)
    with Store.open(config.state_dir, config.store.url) as store, engine:
        run(config, store, engine, what=arguments.what)
    return 0


if __name__ == "__main__":
    sys.exit(main())
