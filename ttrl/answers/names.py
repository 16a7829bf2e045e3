"""The name or the word that a sample says, and yes or no."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

from ttrl.answers.forms import words
from ttrl.answers.numbers import whole_number
from ttrl.answers.phrases import Phrases
from ttrl.answers.said import (
    FEW_WORDS,
    MARKUP,
    PARENTHESIS,
    SENTENCE_END,
    Said,
    count_words,
    has,
    tokens_of,
    trim,
    without_contrast,
    without_end,
)


def name(found: Said, question: str) -> str | None:
    """What a sample says to a question that asks for a name or a word, in small letters; None
    where it breaks off or does not know."""
    if found.announced is None and (found.unfinished or found.declines):
        return None
    span = found.short if found.short is not None else found.text
    bare = without_end(without_contrast(trim(span, found.table), found.table))
    tokens = tokens_of(bare)
    small, copular = found.table.words["small"], found.table.words["copular"]
    if copular & set(tokens):
        asked = set(tokens_of(question))
        left = [token for token in tokens if token not in small and token not in asked]
        if left and len(left) <= FEW_WORDS:
            return " ".join(left)
    number = whole_number(bare)
    if number is not None:
        return str(number)
    noted = PARENTHESIS.fullmatch(bare)
    said = words(noted[1] if noted and not noted[1].endswith("=") else bare)
    head, _, tail = said.partition(" ")
    return tail if tail and head in small else said or None


def says_yes_or_no(answers: Sequence[Said]) -> bool:
    """Whether a question is answered by yes or no: somebody says nothing else, and at least a third
    begin with one of them."""
    first = [_verdict(answer.announced or answer.text, answer.table) for answer in answers]
    alone = any(
        verdict and count_words(answer.short or answer.text) <= 1
        for verdict, answer in zip(first, answers, strict=True)
    )
    return alone and sum(verdict is not None for verdict in first) * 3 >= len(answers)


def yes_or_no(found: Said, question: str) -> str | None:
    """ "yes" or "no", as a sample begins or ends, or since its last sentence says again what was
    asked, or denies it."""
    if found.announced is not None and (verdict := _verdict(found.announced, found.table)):
        return verdict
    if found.unfinished or found.declines:
        return None
    sentences = [each.strip() for each in SENTENCE_END.split(found.text) if each and each.strip()]
    last = trim(sentences[-1], found.table)
    for span in (*reversed(found.bold), found.text, last):
        if verdict := _verdict(span, found.table):
            return verdict
    small = found.table.words["small"] | found.table.words["copular"]
    asked = [t for t in tokens_of(question) if t not in small and len(t) > 2 and not t.isdigit()]
    tokens = tokens_of(last)
    denied = sum(has(token, found.table, "negators") for token in tokens)
    again = sum(any(_akin(a, token) for token in tokens) for a in asked)
    if not asked or again * 2 < len(asked) or found.text.rstrip()[-1:] not in ".!。！*":
        return None
    return "no" if denied % 2 else "yes"


def _akin(one: str, other: str) -> bool:
    """Whether two words are one but for their endings."""
    short, long = sorted((one, other), key=len)
    return long.startswith(short) and (len(short) > 3 or short == long)


def _verdict(text: str, table: Phrases) -> str | None:
    """ "yes" or "no", if a text begins with one of them, in whatever language."""
    text = MARKUP.sub("", text)
    for answer in ("yes", "no"):
        if first := table.patterns[answer].match(text.lstrip(' \n*_("“`')):
            rest = text.lstrip(' \n*_("“`')[first.end() :]
            if (
                not rest
                or rest[0] in '.,;:!?*_`\n)"”。，、！—–-'
                or rest.startswith((" -", " —", " –"))
            ):
                return answer
    return None


def mentioned(found: Said, known: Mapping[tuple[str, ...], str], asked: Set[str]) -> str | None:
    """The one of the known short answers that stands in a text, or in its first and in its last
    sentence; None where several do, or where it is denied."""
    one = _mention(found, found.text, known, asked)
    if one or one is None:
        return one
    sentences = [each for each in SENTENCE_END.split(found.text) if each and each.strip()]
    alone = tuple(tokens_of(trim(sentences[-1], found.table)))
    if alone in known:
        return known[alone]
    first, last = (_mention(found, each, known, asked) for each in (sentences[0], sentences[-1]))
    found_in = {each for each in (first, last) if each is not None}
    return (found_in.pop() or None) if len(found_in) == 1 else None


def _mention(
    found: Said, text: str, known: Mapping[tuple[str, ...], str], asked: Set[str]
) -> str | None:
    """None where no known answer stands in the text, "" where several do or one is denied; of one
    within another only the longer counts, and what the question names only where nothing else."""
    text = without_contrast(text, found.table)
    tokens, taken, hits = tokens_of(text), set[int](), dict[str, bool]()
    for words_of, key in sorted(known.items(), key=lambda item: -len(item[0])):
        for start in range(len(tokens) - len(words_of) + 1):
            span = range(start, start + len(words_of))
            if tuple(tokens[start : span.stop]) == words_of and taken.isdisjoint(span):
                taken.update(span)
                hits[key] = set(words_of) <= asked
    new = [key for key, named in hits.items() if not named] or list(hits)
    if not new:
        return None
    rest = " ".join(token for place, token in enumerate(tokens) if place not in taken)
    return new[0] if len(new) == 1 and not has(rest, found.table, "negators") else ""
