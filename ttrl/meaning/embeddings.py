"""Likeness by models of sentence-transformers, the extra `embed`. Imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sentence_transformers import CrossEncoder, SentenceTransformer

from ttrl.meaning.likeness import Matrix

REMEMBERED = 10_000
"""Texts whose vectors are kept: the answers of a question are compared more than once."""


class Embeddings:
    """The cosine of two texts' embeddings; what points away from each other is 0."""

    def __init__(self, model: str, alike: float | None = None, device: str | None = None) -> None:
        self.alike = 0.6 if alike is None else alike
        self.words = f"sentence embeddings of {model}"
        self._model = SentenceTransformer(model, device=device)
        self._known: dict[str, Any] = {}

    def compare(self, texts: Sequence[str]) -> Matrix:
        if not texts:
            return []
        vectors = self.vectors(texts)
        return _symmetric(vectors @ vectors.T)

    def vectors(self, texts: Sequence[str]) -> Any:
        """Of length 1, a row for each of at least one text."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if len(self._known) + len(new) > REMEMBERED:
            self._known, new = {}, list(dict.fromkeys(texts))
        if new:
            made = self._model.encode(new, normalize_embeddings=True, show_progress_bar=False)
            self._known.update(zip(new, made, strict=True))
        return np.stack([self._known[text] for text in texts]).astype(float)


class Pairs:
    """What a cross-encoder says of each two texts, read together: slower, and more to the point.
    Its scores must be from 0 to 1, as those of models with one label are."""

    def __init__(self, model: str, alike: float | None = None, device: str | None = None) -> None:
        self.alike = 0.6 if alike is None else alike
        self.words = f"the cross-encoder {model}"
        self._model = CrossEncoder(model, device=device)

    def compare(self, texts: Sequence[str]) -> Matrix:
        """As Likeness has it: the mean of both orders."""
        both = [(one, other) for one in texts for other in texts]
        if not both:
            return []
        scores = self._model.predict(both, show_progress_bar=False)
        return _symmetric(np.asarray(scores, dtype=float).reshape(len(texts), len(texts)))


def _symmetric(found: Any) -> Matrix:
    alike = np.clip((found + found.T) / 2, 0.0, 1.0)
    np.fill_diagonal(alike, 1.0)
    return alike.tolist()  # type: ignore[no-any-return]
