"""How good the live version is, and whether the questions move: measured between runs.

A process of its own, `python -m jobs.measure`.

Whether users have come to ask other things is seen by putting the newest questions and those before
them into groups by what they say, so that a new subject has a group of its own, and comparing the
shares of the groups (ttrl.evaluation.drift).
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from jobs import process
from jobs.evaluation import Asker, quality_of, staleness_of
from jobs.probes import to_ask
from jobs.sampling import reader_for
from ttrl.config import Config, MeaningConfig
from ttrl.engine.client import EngineClient
from ttrl.evaluation import drift
from ttrl.evaluation.drift import Shift
from ttrl.evaluation.estimates import Quality
from ttrl.sampling.groups import pacer_for, with_length
from ttrl.store import Store
from ttrl.store.measurements import Kind

log = logging.getLogger(__name__)

FEWEST = 100
"""Questions of each time without which nothing is said."""
MOST = 2_000
"""Questions of each time that are looked at, the newest."""
BEFORE = 4
"""Windows that the newest one is compared with."""
GROUPS = 10
DIMENSIONS = 32

Progress = Callable[[int, int], None]
WHAT = (Kind.QUALITY, Kind.QUESTIONS)


@dataclass(frozen=True)
class Measured:
    """What was found of the `version` that serves (None: the base model); None: too few probes, or
    too few questions. `remarks` say how many probes could not be had; may be empty."""

    version: str | None
    quality: Quality | None
    questions: Shift | None
    remarks: str = ""


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
    found, remarks = None, ""
    if Kind.QUALITY in what:
        found, remarks = _ask(config, store, client, version, progress)
    if found is not None:
        store.measurements.add(Kind.QUALITY, version, {**found.numbers(), "remarks": remarks})
    shift = shift_of_questions(config, store) if Kind.QUESTIONS in what else None
    if shift is not None:
        store.measurements.add(Kind.QUESTIONS, None, asdict(shift))
    return Measured(version, found, shift, remarks)


def _ask(
    config: Config, store: Store, client: EngineClient, version: str | None, progress: Progress
) -> tuple[Quality | None, str]:
    asked = to_ask(store, config.gate)
    if not asked:
        return None, ""
    config = with_length(config, client)
    model = version or client.base_model().name
    with pacer_for(client, config.vote) as pacer:
        usage = store.questions.usage(config.gate.min_probes)
        asker = Asker(client, config, pacer, reader_for(config), usage)
        found = asker.ask([model], asked, lambda done: progress(done, len(asked)))
        answered = [(one, asker.read(one, *drawn)[0]) for one, drawn in found]
    looked = staleness_of(store, (one for one, _ in found))
    undecided = store.comparisons.undecided_right()
    return quality_of(answered, looked, config.gate, undecided), asker.remarks()


def shift_of_questions(config: Config, store: Store) -> Shift | None:
    """Compare the questions of the newest window with those before it; None when there are too few
    of either, or none of them says anything."""
    now, window = time.time(), config.measure.window.total_seconds()
    after = store.questions.asked(now - window, now, limit=MOST)
    before = store.questions.asked(now - (BEFORE + 1) * window, now - window, limit=MOST)
    if min(len(before), len(after)) < FEWEST or not any(map(_told, [*before, *after])):
        return None
    groups = _groups([*before, *after], config.meaning)
    return drift.compare(groups[: len(before)], groups[len(before) :])


def _told(text: str) -> bool:
    return any(map(str.isalnum, text))


def _groups(texts: Sequence[str], meaning: MeaningConfig) -> list[int]:
    """The group of each."""
    from sklearn.cluster import KMeans

    means = KMeans(min(GROUPS, len(set(texts))), n_init=4, random_state=0)
    return [int(group) for group in means.fit_predict(_vectors(texts, meaning))]


def _vectors(texts: Sequence[str], meaning: MeaningConfig) -> Any:
    """By the model that compares meanings, or by letters."""
    if meaning.model and not meaning.cross_encoder:
        from ttrl.meaning.embeddings import Embeddings

        return Embeddings(meaning.model, device=meaning.device).vectors(texts)
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    letters = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), use_idf=False)
    found = letters.fit_transform(texts)
    if found.shape[1] <= DIMENSIONS:
        return found.toarray()
    return TruncatedSVD(DIMENSIONS, random_state=0).fit_transform(found)


def main() -> int:
    """The process: arguments say where, standard input says how."""
    parser = argparse.ArgumentParser(prog="python -m jobs.measure")
    parser.add_argument("--engine-url", required=True)
    parser.add_argument("what", nargs="+", type=Kind, choices=WHAT)
    arguments = parser.parse_args()
    config = process.configure()
    engine = process.engine_client(config, arguments.engine_url)
    with Store.open(config.state_dir, config.store.url) as store, engine:
        run(config, store, engine, what=arguments.what)
    return 0


if __name__ == "__main__":
    sys.exit(main())
