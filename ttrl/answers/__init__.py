"""From text to a canonical answer: mathematics, choices, short and free text. Never evaluates
text."""

from ttrl.answers.equivalence import canonical, matches, same
from ttrl.answers.reader import Reader, Reading
from ttrl.answers.reading import kind_of, read
from ttrl.config import AnswerKind

__all__ = ["AnswerKind", "Reader", "Reading", "canonical", "kind_of", "matches", "read", "same"]
