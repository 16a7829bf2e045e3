"""Which option of a choice an answer names."""

from __future__ import annotations

import re
from collections.abc import Sequence

_LETTER = re.compile(r"[\s*_$({\[]*(?:\\text\{\s*\(?)?([A-Ja-j])(?![\w'])[\s*_$)}\].:]*")
_ANNOUNCED_LETTER = re.compile(
    r"(?:(?:[Oo]ption|[Cc]hoice)\s+)?(?:\(([A-Ja-j])\)|([A-J])(?![\w'’]))"
)
_JUDGED_LETTER = re.compile(
    r"\(?\b([A-J])\)?\s+(?i:is\s+(?:the\s+)?(?:right|correct|best))\b"
    r"|(?:\b(?i:sondern|richtig\s+ist)\s+|而是\s*)\(?([A-J])(?![\w'’])"
    r"|\b(?i:it(?:['’]s|\s+is|\s+must\s+be)|my\s+guess\s+is)\s+\(?([A-HJ])\)?[.!]?\s*$"
)
_DENIED = re.compile(r"\b(?:n?either|nor|none|not|no|false|wrong|doubt|\w+n['’]t)\b", re.IGNORECASE)
_CLAUSE = re.compile(r"[.,;:!?\n]")
_ANOTHER_LETTER = re.compile(
    r"[\s)]*(?:[,;/&、和或]|\b(?:and|or|und|oder)\b)[\s,]*(?:(?:and|or|und|oder)\s+)?"
    r"(?:(?:[Oo]ption|[Cc]hoice)\s+)?\(?([A-HJ])(?![\w'’])(?!\)?\s+(?:is|was|would|ist)\b)"
)
_MARKUP = re.compile(r"\\(?:text|math)\w*|[$*_{}]")
_PROSE_FOLLOWS = re.compile(r"\s+(?!because\b|since\b|as\b|due\b)[a-z]")
_LETTER_LINE = re.compile(r"[\s*_>]*(?:\(([A-Ja-j])\)|([A-J])[.):]|([A-J])[\s*_]*$)")


def lone_letter(text: str) -> str | None:
    """The letter that the whole text is: "B", "(b)", "\\text{(B)}" or "B. Paris" in a box."""
    letter = _LETTER.match(text)
    if letter is None:
        return None
    alone = letter.end() == len(text)
    punctuated = text[letter.end(1) : letter.end(1) + 1] in (".", ")", ":")
    return letter[1].upper() if alone or (punctuated and len(text) < 200) else None


def announced_letters(tails: Sequence[str]) -> set[str]:
    """The letters that the last of these begins with which begins with one; each of them stands
    behind a "the answer is"."""
    for tail in reversed(tails):
        tail = _MARKUP.sub("", tail)
        letter = _ANNOUNCED_LETTER.match(tail)
        if letter is None:
            continue
        # "The answer is A planet", "... is I think": words, no options.
        if letter[1] or not _PROSE_FOLLOWS.match(tail, letter.end()):
            another = _ANOTHER_LETTER.match(tail, letter.end())
            found = {letter[1] or letter[2], *(another.groups() if another else ())}
            return {each.upper() for each in found}
    return set()


def judged_letter(text: str) -> str | None:
    """The last one that is called right, but for "neither A nor B is right"."""
    found = None
    for judged in _JUDGED_LETTER.finditer(text):
        clause = _CLAUSE.split(text[: judged.start()])[-1]
        if not _DENIED.search(clause):
            found = next(filter(None, judged.groups()))
    return found


def letter_line(text: str) -> str | None:
    """The letter of the only option that a line starts with; several are the options repeated."""
    found = {
        next(filter(None, match.groups())).upper()
        for match in map(_LETTER_LINE.match, text.splitlines())
        if match
    }
    return found.pop() if len(found) == 1 else None
