"""How alike texts are, as numbers between 0 and 1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

Matrix = Sequence[Sequence[float]]
"""For n texts n by n: symmetric, 1 on its diagonal."""


class Likeness(Protocol):
    """Compares texts."""

    @property
    def alike(self) -> float:
        """The likeness from which on two answers may mean the same."""

    @property
    def words(self) -> str:
        """What it goes by, for people."""

    def compare(self, texts: Sequence[str]) -> Matrix:
        """How alike each two of the texts are."""
