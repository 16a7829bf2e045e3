"""The name or the word that a sample says, and yes or no."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence, Set

from ttrl.answers.extraction import (
    AND,
    FEW_WORDS,
    JOINED,
    MARKUP,
    TOKENS,
    Extracted,
    count_words,
    has,
    sentences_of,
    tokens_of,
    trim,
    without_contrast,
    without_end,
)
from ttrl.answers.forms import words
from ttrl.answers.phrases import Phrases

MAX_SENTENCE = 1000
"""Characters of a sentence that is compared with the question word by word."""


def name(found: Extracted, question: str) -> str | None:
    """What a sample says to a question that asks for a name or a word, in small letters; None
    where it breaks off or does not know."""
    if found.announced is None and (found.unfinished or found.declines):
        return None
    if found.announced == "":
        return None
    if items := _listed(found, question):
        return words(", ".join(items if has(question, found.table, "ordered") else sorted(items)))
    span = found.short if found.short is not None else found.text
    bare = without_end(without_contrast(trim(span, found.table), found.table))
    bare = _behind_copula(bare, question, found.table)
    head, bracket, note = bare.rpartition(" (")
    if bracket and note.endswith(")") and not head.endswith("="):
        bare = head.strip('"“”„*')
    head, _, tail = bare.partition(" ")
    while tail and head.casefold() in found.table.words["titles"]:
        bare = tail
        head, _, tail = bare.partition(" ")
    article = head.casefold() in found.table.words["articles"] and (
        head.islower() or head in ("The", "A", "An")
    )
    said = words(tail if tail and article else bare)
    return None if not said or found.table.patterns["nouns"].fullmatch(said) else said


_LISTED = re.compile(r"\s*(?:[-*•–]|\d{1,2}[.)]|[^\w\s])\s*(.*\w.*)")
MOST_IN_ITEM = 3
"""Words of an item of a list; what is longer is a clause."""


def _listed(found: Extracted, question: str) -> list[str]:
    """The items that an answer lists, line by line, as JSON or with "and", in small letters."""
    text = found.announced or found.text
    lines = [line for line in text.splitlines() if line.strip()]
    marked = [match for line in lines if (match := _LISTED.fullmatch(line))]
    if len(marked) > 1 and len(marked) >= len(lines) - 1:
        bold = [re.match(r"\*\*(.+?)\*\*", match[1]) for match in marked]
        items = [head[1].rstrip(":") for head in bold if head]
        items = items if len(items) == len(marked) else [match[1] for match in marked]
    else:
        as_json = text.strip().startswith('["')
        told = text.strip() if as_json else found.short or ""
        joined = trim(told, found.table)
        items = JOINED.split(joined)
        linked = as_json or re.search(rf"\w ?{AND} ?\w", joined)
        if re.search(r"[=\d]", joined) or (len(items) < 3 and not linked):
            return []
    items = [words(without_end(MARKUP.sub("", item))) for item in items]
    most = min(MOST_IN_ITEM, len(items))
    short = all(item and count_words(item) <= most for item in items)
    return items if short and len(items) > 1 else []


def one_name(answers: Sequence[str | None], texts: Sequence[str]) -> list[str | None]:
    """The names of one question, those that are one but for accents, or the initials of another
    ("U.S." and "United States"; written in capitals: "no" is no New Orleans), by the most common of
    them."""
    capitals = {each for text in texts for each in re.findall(r"[A-Z]{2,}", _plain(text))}
    counts = Counter(answer for answer in answers if answer)
    heads: dict[str, str] = {}
    known: dict[str, str] = {}
    for answer, _ in counts.most_common():
        heads[answer] = known.setdefault(_plain(answer), answer)
    for answer in counts:
        tokens = [token for token in tokens_of(answer) if token not in ("of", "the", "and")]
        initials = "".join(token[0] for token in tokens)
        if len(tokens) > 1 and initials in known and initials.upper() in capitals:
            heads[known[initials]] = heads[answer]
    return [heads.get(heads[answer], heads[answer]) if answer else None for answer in answers]


def _plain(text: str) -> str:
    """A name without accents and points."""
    letters = unicodedata.normalize("NFKD", text) if text.isascii() or _LATIN.search(text) else text
    plain = "".join(each for each in letters if not unicodedata.combining(each))
    return re.sub(r"(?<=\w)[.,](?=\W|$)|(?<=\w)\.(?=\w)", "", plain)


_LATIN = re.compile("[a-zà-öø-ÿ]")


def _behind_copula(text: str, question: str, table: Phrases) -> str:
    """What a short sentence says of its subject ("It is Canberra"), or where that is what was asked
    ("Canberra is the capital"), the subject."""
    parts = text.split()
    asked, small = set(tokens_of(question)), table.words["small"]
    for place, part in enumerate(parts):
        plain = part.casefold().replace("’", "'")
        copula = plain in table.words["copular"] and (part.islower() or "'" in plain)
        equals = part == "=" and text.count("=") == 1 and asked.issuperset(tokens_of(parts[0]))
        if not copula and not equals and part not in ("—", "–"):
            continue
        behind, before = " ".join(parts[place + 1 :]), " ".join(parts[:place])
        told = [token for token in tokens_of(behind) if token not in small]
        if told and not set(told) <= asked:
            return behind if len(told) <= FEW_WORDS else text
        subject = set(tokens_of(before)) - small - table.words["subjects"]
        if told and not subject:  # "It is positive", where the question has "positive or negative"
            return behind
        return before if told else text
    return text


def says_yes_or_no(answers: Sequence[Extracted]) -> bool:
    """Whether a question is answered by yes or no: somebody says nothing else, and at least a third
    begin with one of them."""
    first = [_verdict(answer.announced or answer.text, answer.table) for answer in answers]
    alone = any(
        verdict and count_words(answer.short or answer.text) <= 1
        for verdict, answer in zip(first, answers, strict=True)
    )
    return alone and sum(verdict is not None for verdict in first) * 3 >= len(answers)


def yes_or_no(found: Extracted, question: str) -> str | None:
    """ "yes" or "no", as a sample begins or ends, or since its last sentence says again what was
    asked, or denies it."""
    if found.announced is not None and (verdict := _verdict(found.announced, found.table)):
        return verdict
    if found.unfinished or found.declines:
        return None
    sentences = sentences_of(found.text)
    last = trim(sentences[-1][:MAX_SENTENCE], found.table)
    judged = without_end(_behind_copula(last, question, found.table)).rpartition("是")[2]
    for span in (*reversed(found.bold), found.text, last, judged):
        if verdict := _verdict(span, found.table):
            return verdict
    small = found.table.words["small"] | found.table.words["copular"]
    asked = [t for t in tokens_of(question) if t not in small and len(t) > 2 and not t.isdigit()]
    tokens = tokens_of(last)
    denied = has(" ".join(tokens), found.table, "negators")
    pairs = [[sorted((word, token), key=len) for token in tokens] for word in asked]
    # Words that are one but for their endings.
    again = sum(any(b.startswith(a) and (len(a) > 3 or a == b) for a, b in of) for of in pairs)
    end = found.text.rstrip()[-1:]
    if not asked or again * 2 < len(asked) or end.isalnum() or end in ",:;":
        return None
    return "no" if denied else "yes"


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


def mentioned(
    found: Extracted, known: Mapping[tuple[str, ...], str], asked: Set[str]
) -> str | None:
    """The one of the known short answers that stands in a text, or in its first and in its last
    sentence; None where several do, or where it is denied."""
    one = _mention(found, found.text, known, asked)
    if one or one is None:
        return one
    sentences = sentences_of(found.text)
    alone = tuple(tokens_of(trim(sentences[-1], found.table)))
    if alone in known:
        return known[alone]
    first, last = (_mention(found, each, known, asked) for each in (sentences[0], sentences[-1]))
    found_in = {each for each in (first, last) if each is not None}
    return (found_in.pop() or None) if len(found_in) == 1 else None


def _mention(
    found: Extracted, text: str, known: Mapping[tuple[str, ...], str], asked: Set[str]
) -> str | None:
    """None where no known answer stands in the text, "" where several do or one is denied, or is
    part of a longer name or of a list; of one within another only the longer counts, and what the
    question names only where nothing else."""
    text = without_contrast(text, found.table)
    matches = list(TOKENS.finditer(text))
    tokens, taken, hits = [match[0].casefold() for match in matches], set[int](), dict[str, bool]()
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
