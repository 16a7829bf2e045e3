"""From text to a canonical answer: mathematics, choices, plain text. Never evaluates text."""

from ttrl.answers.equivalence import canonical, matches, same
from ttrl.answers.reading import AnswerKind, kind_of, read

__all__ = ["AnswerKind", "canonical", "kind_of", "matches", "read", "same"]
