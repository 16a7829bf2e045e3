"""Models of sentence-transformers, the extra `embed`: likeness by embeddings, and cross-encoders as
judges. Imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sentence_transformers import CrossEncoder, SentenceTransformer

from ttrl.meaning.differences import Matrix
from ttrl.meaning.judging import Judge, Pair

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
        found = vectors @ vectors.T
        alike = np.clip((found + found.T) / 2, 0.0, 1.0)
        np.fill_diagonal(alike, 1.0)
        return alike.tolist()  # type: ignore[no-any-return]

    def vectors(self, texts: Sequence[str]) -> Any:
        """Of length 1, a row for each of at least one text."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if len(self._known) + len(new) > REMEMBERED:
            self._known, new = {}, list(dict.fromkeys(texts))
        if new:
            made = self._model.encode(new, normalize_embeddings=True, show_progress_bar=False)
            self._known.update(zip(new, made, strict=True))
        return np.stack([self._known[text] for text in texts]).astype(float)


class Pairs(Judge):
    """A cross-encoder, which reads two texts together. One for natural language inference says
    which label is likeliest; one with a single label gives a likeness from 0 to 1."""

    def __init__(
        self, model: str, most: int, alike: float | None = None, device: str | None = None
    ) -> None:
        """Raises ValueError if none of several labels is that one text follows from the other."""
        super().__init__(most)
        self.words = f"the cross-encoder {model}"
        self._alike = 0.6 if alike is None else alike
        self._model = CrossEncoder(model, device=device)
        labels = self._model.config.id2label
        entailed = [n for n, name in labels.items() if name.casefold().startswith("entail")]
        if len(labels) > 1 and not entailed:
            raise ValueError(f"none of its labels is entailment: {', '.join(labels.values())}")
        self._entailed = entailed[0] if len(labels) > 1 else None

    def follows(self, question: str, pairs: Sequence[Pair]) -> list[bool | None]:
        """As Judge has it. The question stands before each text, as in Kuhn et al., where there is
        room for it; two texts that are too long by themselves are cut by the model, and none is
        compared by half of it."""
        whole = [(f"{question} {one}", f"{question} {other}") for one, other in pairs]
        longest = self._model.max_seq_length

        def fits(pair: Pair) -> bool:
            return longest is None or len(self._model.tokenizer(*pair)["input_ids"]) <= longest

        fitting = [next(filter(fits, ways), None) for ways in zip(whole, pairs, strict=True)]
        if not (asked := [each for each in fitting if each is not None]):
            return [None] * len(pairs)
        scores = np.asarray(self._model.predict(asked, show_progress_bar=False))
        entailed = self._entailed
        told = scores >= self._alike if entailed is None else scores.argmax(axis=1) == entailed
        said = iter(told)
        return [None if each is None else bool(next(said)) for each in fitting]
