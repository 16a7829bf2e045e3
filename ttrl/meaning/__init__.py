"""What free texts mean: which of them say the same, and how alike they are."""

from ttrl.meaning.clusters import agreement, central, cluster
from ttrl.meaning.honesty import copied, honesty
from ttrl.meaning.likeness import Letters, Likeness, Matrix

__all__ = [
    "Letters", "Likeness", "Matrix", "agreement", "central", "cluster", "copied", "honesty",
]  # fmt: skip
