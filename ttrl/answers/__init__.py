"""From text to a canonical answer: mathematics, choices, short and free text. Never evaluates
text."""

from ttrl.answers.equivalence import canonical, matches, same
from ttrl.answers.reader import Reader, Reading
from ttrl.answers.reading import AnswerKind, kind_of, read

__all__ = ["AnswerKind", "Reader", "Reading", "canonical", "kind_of", "matches", "read", "same"]
