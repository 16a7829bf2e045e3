"""Whether users have come to ask other things: the newest questions against those before them.

Questions of both times together are put into groups by what they say, so that a new subject has a
group of its own, and the shares of the groups are compared (ttrl.psi).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from ttrl import psi
from ttrl.config import Config, MeaningConfig
from ttrl.psi import Shift
from ttrl.store import Store

FEWEST = 100
"""Questions of each time without which nothing is said."""
MOST = 2_000
"""Questions of each time that are looked at, the newest."""
BEFORE = 4
"""Windows that the newest one is compared with."""
GROUPS = 10
DIMENSIONS = 32


def run(config: Config, store: Store) -> Shift | None:
    """Compare the questions of the newest window with those before it; None when there are too few
    of either, or none of them says anything."""
    now, window = time.time(), config.measure.window.total_seconds()
    after = store.questions.asked(now - window, now, limit=MOST)
    before = store.questions.asked(now - (BEFORE + 1) * window, now - window, limit=MOST)
    if min(len(before), len(after)) < FEWEST or not any(map(_told, [*before, *after])):
        return None
    groups = _groups([*before, *after], config.meaning)
    return psi.compare(groups[: len(before)], groups[len(before) :])


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
