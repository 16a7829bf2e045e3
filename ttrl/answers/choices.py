"""The options that a sample chooses, by letter or by number."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from itertools import zip_longest

from ttrl.answers.forms import MAX_CHARS as MAX_ANSWER_CHARS
from ttrl.answers.forms import form, words
from ttrl.answers.phrases import Phrases
from ttrl.answers.quantities import Number
from ttrl.answers.said import (
    CLAUSE,
    JOINED,
    MARKUP,
    Said,
    behind_phrase,
    has,
    sentences_of,
    without_contrast,
    without_end,
)

_LETTER_SET = re.compile(
    r"\(?([A-Ja-j])\)?(?:\s*(?:,|;|&|、|\b(?:and|und|et|y|e)\b|和)[\s,]*(?:and\s+)?\(?[A-J]\)?)*"
    r"(?:\s+only)?"
)
_OPTION = re.compile(r"(?:^|[\s{*])(?:\(?([A-J])[.):]|(?<![^\n])\(?([a-j])\))\**\s+", re.MULTILINE)
_LATEX_AROUND = re.compile(  # of "$\textbf{(A) } 2 \qquad \textbf{(B) }"
    r"^[ }$]+"
    r"|(?:\\(?:q?quad|textbf|textrm|mathrm|text|rm|bf)\b|\\[ ,;]|\\hspace\{[^{}]*\}|[ {$])+$"
)
_NUMBERED = re.compile(r"^[ \t]*\(?([1-9])[.)][ \t]+(\S[^\n]{0,80}?)[ \t]*$", re.MULTILINE)
_ANNOUNCED_LETTER = re.compile(
    r"(?:(?:[Oo]ption|[Cc]hoice)\s+)?(?:\(([A-Ja-j])\)|([A-J])(?![\w'’]))"
)
_ANOTHER_LETTER = re.compile(
    r"[\s)]*(?:[,;&、和]|(?P<either>[/或]|\b(?:or|oder|ou|o)\b)|\b(?:and|und|et|y)\b)[\s,]*"
    r"(?:(?:and|und)\s+|(?P<or>or\s+))?"
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
_ALL_BUT = re.compile(
    r"all(?: (?:of )?(?:them|these|the above|options|choices))? (?:but|except(?: for)?) (.+)",
    re.IGNORECASE,
)
_UNSURE = re.compile(r"\b(?:either|none|doubt)", re.IGNORECASE)
_PROSE_FOLLOWS = re.compile(r"\s+(?!because\b|since\b|as\b|due\b)[a-z]")
_TICK = re.compile(
    r"[✅✔☑✓]|\((?:correct|right|true)\)|[-–—:] (?:correct|right|true|yes)\b", re.IGNORECASE
)
_LETTER_LINE = re.compile(r"[\s*_>]*(?:\(([A-Ja-j])\)|([A-J])[.):]|([A-J])[\s*_]*$)")


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
    if {"A", "B"} <= listed.keys():
        return listed
    numbered = dict(_NUMBERED.findall(question))
    return numbered if list(numbered) == [str(n + 1) for n in range(len(numbered))] != [] else {}


def letters(found: Said, question: str = "") -> str | None:
    """The letters that a sample chooses, "A, C"; None where it chooses none, or one or another."""
    listed = options(question)
    stem = _OPTION.split(question)[0] if _OPTION.search(question) else _NUMBERED.split(question)[0]
    asks_for_none = has(stem, found.table, "negators")
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
    if noted := re.fullmatch(r"\(?([A-J])\)?\s*\([^()]*\)", bare):
        return noted[1]
    if len(listed) > 2 and re.fullmatch("[A-J]{2,}", bare) and set(bare) <= listed.keys():
        return ", ".join(sorted(set(bare)))
    if chosen := _letter_set(bare):
        return chosen
    if "1" in listed:
        return _numbers(bare, listed)
    if but := _ALL_BUT.fullmatch(bare):
        without = _letter_set(_bare(but[1], listed))
        left = listed.keys() - set((without or "").split(", "))
        return ", ".join(sorted(left)) if without and left else None
    said = words(bare)
    by_text = {words(text): letter for letter, text in listed.items()}
    items = [words(item) for item in JOINED.split(bare)]
    if len(items) > 1 and set(items) <= by_text.keys():
        return ", ".join(sorted(by_text[item] for item in items))
    for letter, text in listed.items():
        if said and said in (words(text), words(f"{letter} {text}"), words(f"({letter}) {text}")):
            return letter
    meant = form(span.strip())
    valued = [
        letter
        for letter, text in listed.items()
        if isinstance(meant, Number) and meant == form(text)
    ]
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


def _numbers(bare: str, listed: Mapping[str, str]) -> str | None:
    """Of "(1) and (3)", "1, 3", "dolphin and bat"."""
    chosen = set[str]()
    rest = bare.casefold()
    for number, text in listed.items():
        if re.search(rf"(?<!\w){re.escape(text.casefold())}(?!\w)", rest):
            rest = rest.replace(text.casefold(), " ")
            chosen.add(number)
    rest = re.sub(r"\b(?:and|und|et|y|only|option|options)\b|[(),.;&\s]", " ", rest)
    if any(part not in listed for part in rest.split()):
        return None
    return ", ".join(sorted(chosen | set(rest.split()))) or None


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


def _judged_letter(found: Said) -> str | None:
    """The last one that is called right, but for "neither A nor B is right"."""
    text, letter = found.text, None
    for judged in (*_named_letter(found.table).finditer(text), *_JUDGED_LETTER.finditer(text)):
        clause = CLAUSE.split(text[max(0, judged.start() - 200) : judged.start()])[-1]
        if not has(clause, found.table, "negators") and not _UNSURE.search(clause):
            letter = next(filter(None, judged.groups()))
    return letter


@cache
def _named_letter(table: Phrases) -> re.Pattern[str]:
    """ "so the answer B"."""
    return re.compile(rf"{table.patterns['nouns'].pattern}\s+\(?([A-J])\)?(?![\w'’])")


def _letter_line(text: str, listed: Mapping[str, str]) -> str | None:
    """The letter of the only option that a line starts with, or those of several that are said
    again; all of them are the options repeated."""
    lines = [(line, match) for line in text.splitlines() if (match := _LETTER_LINE.match(line))]
    found = {next(filter(None, match.groups(""))).upper(): match.end() for _, match in lines}
    if len(found) == 1:
        return next(iter(found))
    bulleted = dict(_BULLETED.findall(text))
    again = all(words(text) == words(listed.get(letter, "")) for letter, text in bulleted.items())
    return ", ".join(sorted(bulleted)) if 1 < len(bulleted) < len(listed) and again else None


_BULLETED = re.compile(r"^[ \t]*[-*•][ \t]+\(?([A-J])[.):][ \t]+(.*?)[ \t]*$", re.MULTILINE)


_SAID_LETTERS = re.compile(
    rf"(?:(?:[Oo]nly|[Jj]ust)\s+)?(?:[Oo]ptions?|[Cc]hoices?|选项)?\s*(?P<letters>{_LETTER_SET.pattern})\s+(?:is|are|was|were)\b"
)


def _only_option(found: Said, listed: Mapping[str, str], asks_for_none: bool) -> str | None:
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
        if said := _SAID_LETTERS.match(clause.strip()):
            chosen.add(_letter_set(said["letters"].strip()))
            continue
        spoken = set(re.findall(r"(?<![\w'])[B-HJ](?![\w'])", clause))
        for letter, text in listed.items():
            if text and re.search(rf"(?<!\w){re.escape(text.casefold())}(?!\w)", clause.casefold()):
                spoken.add(letter)
        chosen |= spoken
    return chosen.pop() if len(chosen) == 1 else None
