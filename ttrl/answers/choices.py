"""The options that a sample chooses, by letter."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import zip_longest

from ttrl.answers.extraction import (
    AND,
    CLAUSE,
    JOINED,
    MARKUP,
    OR,
    Extracted,
    behind_phrase,
    has,
    sentences_of,
    without_contrast,
    without_end,
)
from ttrl.answers.forms import MAX_CHARS as MAX_ANSWER_CHARS
from ttrl.answers.forms import form, words
from ttrl.answers.quantities import Number

_LETTER_SET = re.compile(
    rf"\(?([A-Ja-j])\)?(?:\s*(?:[,;、]|{AND})[\s,]*(?:{AND}\s+)?\(?[A-J]\)?)*(?:\s+only)?"
)
_OPTION = re.compile(r"(?:^|[\s{*])(?:\(?([A-J])[.):]|(?<![^\n])\(?([a-j])\))\**\s+", re.MULTILINE)
_LATEX_AROUND = re.compile(  # of "$\textbf{(A) } 2 \qquad \textbf{(B) }"
    r"^[ }$]+"
    r"|(?:\\(?:q?quad|textbf|textrm|mathrm|text|rm|bf)\b|\\[ ,;]|\\hspace\{[^{}]*\}|[ {$])+$"
)
_ANNOUNCED_LETTER = re.compile(
    r"(?:(?:[Oo]ption|[Cc]hoice)\s+)?(?:\(([A-Ja-j])\)|([A-J])(?![\w'’]))"
)
_ANOTHER_LETTER = re.compile(
    rf"[\s)]*(?:[,;、]|{AND}|(?P<either>/|{OR}))[\s,]*(?:(?:{AND}|{OR})\s+)?"
    r"(?:(?:[Oo]ption|[Cc]hoice)\s+)?\(?(?P<letter>[A-HJ])(?![\w'’])\)?"
    r"(?!\s+(?:is|was|would|ist|are)\b)"
)
_JUDGED_LETTER = re.compile(
    r"\(?\b([A-J])\)?\s+(?i:is\s+(?:the\s+)?(?:right|correct|best))\b"
    r"|(?:\b(?i:sondern|richtig\s+ist)\s+|而是\s*|选择?(?!项)[是为:：]?\s*)\(?([A-J])(?![\w'’])"
    r"|\b(?i:not)\s+\(?[A-J]\)?,?\s+but\s+\(?([A-J])(?![\w'’])|\b(?i:i\s+(?:choose|pick|select))\s+(?i:option\s+)?\(?([A-J])(?![\w'’])"
    r"|\b(?i:it(?:['’]s|\s+is|\s+must\s+be)|guess\s+is|is|be|hence|thus|therefore|so)\s+"
    r"(?i:option\s+|choice\s+)?\(?([A-HJ])\)?[.!]?\s*$"
)
_NAMED_LETTER = r"%(nouns)s\s+\(?([A-J])\)?(?![\w'’])"
"""As in "so the answer B"."""
_UNSURE = re.compile(r"\b(?:either|none|doubt)", re.IGNORECASE)
_PROSE_FOLLOWS = re.compile(r"\s+(?!because\b|since\b|as\b|due\b)[a-z]")
_TICK = re.compile(
    r"[✅✔☑✓]|\((?:correct|right|true)\)|[-–—:] (?:correct|right|true|yes)\b", re.IGNORECASE
)
_LETTER_LINE = re.compile(r"[\s*_>]*(?:[-•]\s+)?(?:\(([A-Ja-j])\)|([A-J])[.):]|([A-J])[\s*_]*$)")


def options(question: str) -> Mapping[str, str]:
    """The options that a question lists, from A on: by letter, what each says."""
    found = list(_OPTION.finditer(question + " "))
    ends = [match.start() for match in found[1:]]
    listed = {
        (match[1] or match[2]).upper(): _LATEX_AROUND.sub(
            "", question[match.end() : end].split("\n")[0]
        ).strip(" .;,")
        for match, end in zip_longest(found, ends)
    }
    return listed if {"A", "B"} <= listed.keys() else {}


def letters(found: Extracted, question: str = "") -> str | None:
    """The letters that a sample chooses, "A, C"; None where it chooses none, or one or another."""
    listed = options(question)
    asks_for_none = has(_OPTION.split(question)[0], found.table, "negators")
    if found.announced is not None:
        chosen = _letters(found.announced, listed) or _led(found.announced)
        if chosen is not None or not behind_phrase(found.text, found.table):
            return chosen or None
    if found.unfinished:
        return None
    last = found.text.rstrip().rpartition("\n")[2]
    for span in (*reversed(found.bold), found.text):
        if chosen := _letters(span, listed):
            return chosen
    if chosen := _letter_set(_bare(last, listed)):
        return chosen
    if ticked := {
        letter[1].upper()
        for line in found.text.splitlines()
        if _TICK.search(line) and (letter := re.match(r"[^\w(]*\(?([A-Ja-j])[.):]", line))
    }:
        return ", ".join(sorted(ticked))
    chosen = _judged_letter(found) or _letter_line(found.text, listed)
    if chosen or found.announced is not None:
        return chosen
    return _only_option(found, listed, asks_for_none)


def lone_letters(text: str) -> str | None:
    """The letters that the whole text is: "B", "(b)", "B. Paris", "A, C"."""
    return _letters(text, {})


def _letters(span: str, listed: Mapping[str, str]) -> str | None:
    """Of "(B)", "B. bat", "A and C", or of what an option says."""
    if len(span) > MAX_ANSWER_CHARS:
        return None
    bare = _bare(span, listed)
    if len(listed) > 2 and re.fullmatch("[A-J]{2,}", bare) and set(bare) <= listed.keys():
        return ", ".join(sorted(set(bare)))
    if chosen := _letter_set(bare):
        return chosen
    said = words(bare)
    by_text = {words(text): letter for letter, text in listed.items()}
    items = [words(item) for item in JOINED.split(bare)]
    if len(items) > 1 and set(items) <= by_text.keys():
        return ", ".join(sorted(by_text[item] for item in items))
    for letter, text in listed.items():
        if said and said in (words(text), words(f"{letter} {text}"), words(f"({letter}) {text}")):
            return letter
    meant = form(span.strip())
    if isinstance(meant, Number):
        valued = [letter for letter, text in listed.items() if meant == form(text)]
        if len(valued) == 1:
            return valued[0]
    led = re.match(r"\(?([A-J])[.):]+\s|\(([A-J])\)\s", bare)
    if led is None or "\n" in bare or _ANOTHER_LETTER.match(bare, led.end()):
        return None
    return led[1] or led[2]


def _bare(span: str, listed: Mapping[str, str]) -> str:
    """A span without mark-up, and with its options in capitals."""
    bare = without_end(MARKUP.sub(" ", span)).strip().strip("[]")
    bare = re.sub(r"^(?:(?i:option|choice|only|just)s?\s+|选项)", "", bare)
    bare = re.sub(r"\(([a-j])\)", lambda letter: letter[0].upper(), bare)
    if listed and re.fullmatch(r"[a-j](?:[\s,;&]+(?:and\s+)?[a-j])*", bare):
        bare = re.sub(r"\b[a-j]\b", lambda letter: letter[0].upper(), bare)
    return bare


def _letter_set(text: str) -> str | None:
    if not _LETTER_SET.fullmatch(text):
        return None
    found = re.findall(r"(?<!\w)[A-J](?!\w)", text if len(text) > 1 else text.upper())
    return ", ".join(sorted(set(found or re.findall("[A-J]", text.upper()))))


def _led(tail: str) -> str | None:
    """The letter that an announced answer begins with; "" where it has one or another."""
    tail = MARKUP.sub("", tail).strip()
    tail = re.sub(r"\(([a-j])\)", lambda letter: letter[0].upper(), tail)
    letter = _ANNOUNCED_LETTER.match(tail)
    # "The answer is A planet", "... is I think": words, no options.
    if letter is None or (not letter[1] and _PROSE_FOLLOWS.match(tail, letter.end())):
        return None
    found = {letter[1] or letter[2]}
    place = letter.end()
    while another := _ANOTHER_LETTER.match(tail, place):
        if another["either"]:
            return ""
        found.add(another["letter"])
        place = another.end()
    return ", ".join(sorted(each.upper() for each in found))


def _judged_letter(found: Extracted) -> str | None:
    """The last one that is called right, but for "neither A nor B is right"."""
    text, letter = found.text, None
    named = found.table.within(_NAMED_LETTER, re.NOFLAG)
    for judged in (*named.finditer(text), *_JUDGED_LETTER.finditer(text)):
        clause = CLAUSE.split(text[max(0, judged.start() - 200) : judged.start()])[-1]
        if not has(clause, found.table, "negators") and not _UNSURE.search(clause):
            letter = next(filter(None, judged.groups()))
    return letter


def _letter_line(text: str, listed: Mapping[str, str]) -> str | None:
    """The letter of the only option that a line starts with, or those of several that are said
    again behind bullets; all of them are the options repeated."""
    found, bullets = dict[str, str](), False
    for line in text.splitlines():
        if match := _LETTER_LINE.match(line):
            bullets = bullets or line.lstrip().startswith(("-", "•"))
            found[next(filter(None, match.groups(""))).upper()] = line[match.end() :]
    if len(found) == 1 and not bullets:
        return next(iter(found))
    again = all(words(rest) == words(listed.get(letter, "")) for letter, rest in found.items())
    return ", ".join(sorted(found)) if 1 < len(found) < len(listed) and again else None


def _only_option(found: Extracted, listed: Mapping[str, str], asks_for_none: bool) -> str | None:
    """What the first and the last sentence begin with, if it is one option, by letter or by what it
    says; denied only where the question asks which is not so."""
    sentences = sentences_of(found.text)
    chosen: set[str | None] = set()
    for sentence in {*sentences[:1], *sentences[-1:]}:
        if re.match(r"[\s*_>-]*\(?[A-J][.):]", sentence):  # an option said again
            continue
        clause = without_contrast(MARKUP.sub("", CLAUSE.split(sentence)[0]), found.table)
        denied = has(clause, found.table, "negators") and not asks_for_none
        if denied or _UNSURE.search(clause):
            return None
        spoken = set(re.findall(r"(?<![\w'])[B-HJ](?![\w'])", clause))
        for letter, text in listed.items():
            if text and re.search(rf"(?<!\w){re.escape(text.casefold())}(?!\w)", clause.casefold()):
                spoken.add(letter)
        chosen |= spoken
    return chosen.pop() if len(chosen) == 1 else None
