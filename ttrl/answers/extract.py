"""From a model's whole answer to the words of its final answer.

What announces itself is taken first, in the order of `_announced`: a value in JSON, answer tags, a
box, "####", "the answer is". Where nothing does, a value may stand in bold, behind the last equals
sign, or in the last sentence that has one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import zip_longest

from ttrl.answers.forms import MAX_CHARS as MAX_ANSWER_CHARS
from ttrl.answers.forms import Form, Group, Named, Number, Word, form, words
from ttrl.answers.phrases import Phrases, phrases
from ttrl.answers.quantities import scan, whole_number
from ttrl.answers.thoughts import spoken

MAX_CHARS = 20_000
"""Longer answers are unreadable."""
FEW_WORDS = 6
"""More of them are no short answer but a sentence. Two signs of Chinese count as one."""
FEW_VALUE_WORDS = 3
"""And so many words that are announced in place of a value: "no real solutions"."""

_SURROGATE = re.compile("[\ud800-\udfff]")
_INVISIBLE = re.compile("[\u200b\u200e\u200f\u2060\ufeff]")
_ESCAPED = (
    (re.compile(r"\x08(?=oxed)"), r"\\b"),  # what JSON makes of "\boxed" and "\frac"
    (re.compile(r"\x0c(?=rac)"), r"\\f"),
    (re.compile(r"\t(?=ext\{|imes\b)"), r"\\t"),
    (re.compile(r"\\\\(?=(?:boxed|fbox|[dt]?frac|text|sqrt|pm|times)(?![A-Za-z]))"), r"\\"),
)
_FENCE = re.compile(r"```[\w+-]*\n(.*?)(?:```|\Z)", re.DOTALL)
_BRACES = re.compile(r"\\(?:boxed|fbox|framebox)\s*\{|\\.|[{}]", re.DOTALL)
_BARE_BOX = re.compile(r"\\(?:boxed|fbox)\s*([^\s{\\$]+)")
_BETWEEN_BOXES = re.compile(
    r"[\s$]*(?:[,;&、]|\b(?:or|and|oder|und|ou|et|o|y|e)\b|或|和)?[\s$]*"
    r"(?:\b(?:or|and)\b)?\s*(?:[A-Za-z](?:_\{?\w\}?)?\s*=)?[\s$]*"
)
_BOLD = re.compile(
    r"\*\*(?=\S)(.{1,200}?)\*\*|__(?=\S)(.{1,200}?)__|<(?:b|strong)>(.{1,200}?)</(?:b|strong)>"
    r"|\\textbf\{([^{}]{1,200})\}",
    re.DOTALL,
)
_MATH = re.compile(
    r"\$\$(.{1,500}?)\$\$|\\\[(.{1,500}?)\\\]|\\\((.{1,500}?)\\\)|\$((?:[^$\\\n]|\\.){1,500})\$",
    re.DOTALL,
)
_SENTENCE_END = re.compile(r"(?<=[.!?])(?<!\b[ap]\.m\.)(?=\s|$)|(?<=[。！？])|\n+")
_CLAUSE = re.compile(r"[.,;:!?。，；：！？\n]")
_SIGNS = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]")
_WORDS = re.compile(r"[^\W\d_\u3040-\u30ff\u3400-\u9fff]+(?:['’][^\W\d_]+)*")
_TOKENS = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W_]+(?:['’][^\W_]+)*")
_PARENTHESIS = re.compile(r"(\S.*?)\s*\((?:[^()]{1,60})\)")
_LETTER_SET = re.compile(
    r"\(?([A-Ja-j])\)?(?:\s*(?:,|;|&|、|\b(?:and|und|et|y|e)\b|和)[\s,]*(?:and\s+)?\(?[A-J]\)?)*"
    r"(?:\s+only)?"
)
_OPTION = re.compile(r"(?:^|[\s{*])\(?([A-J])[.):]\**\s+", re.MULTILINE)
_MARKUP = re.compile(r"\\(?:text|math|operator)\w*\s*(?=\{)|\\[ ,;!]|[$*_`{}<>\"“”]")
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
    r"|\b(?i:i\s+(?:choose|pick|select))\s+(?i:option\s+)?\(?([A-J])(?![\w'’])"
    r"|\b(?i:it(?:['’]s|\s+is|\s+must\s+be)|guess\s+is|is|be|hence|thus|therefore|so)\s+"
    r"(?i:option\s+|choice\s+)?\(?([A-HJ])\)?[.!]?\s*$"
)
_DENIED = re.compile(
    r"\b(?:n?either|nor|none|not|no|false|wrong|incorrect|falsche?|doubt|\w+n['’]t)\b",
    re.IGNORECASE,
)
_PROSE_FOLLOWS = re.compile(r"\s+(?!because\b|since\b|as\b|due\b)[a-z]")
_LETTER_LINE = re.compile(r"[\s*_>]*(?:\(([A-Ja-j])\)|([A-J])[.):]|([A-J])[\s*_]*$)")


@dataclass(frozen=True)
class Said:
    """One sample's text, as far as its answer is concerned: what it announces, whether that is a
    short answer by itself, and what stands where it announces nothing."""

    text: str
    announced: str | None
    bold: tuple[str, ...]
    table: Phrases = field(repr=False)

    @cached_property
    def short(self) -> str | None:
        """The answer, if the text announces one or is nothing else."""
        if self.announced is not None:
            return self.announced
        if "\n" not in self.text.strip() and count_words(self.text) <= FEW_WORDS:
            return self.text
        return self.bold[-1] if self.bold and count_words(self.bold[-1]) <= FEW_WORDS else None

    @cached_property
    def is_name(self) -> bool:
        """Whether it is short and says no more than a name or a value: not "It is Canberra" nor
        "Sentiment: positive"."""
        if self.announced is not None or self.short is None:
            return self.announced is not None
        return ":" not in self.short and self.table.words["copular"].isdisjoint(
            tokens_of(self.short)
        )


def said(text: str, table: Phrases | None = None) -> Said | None:
    """Return what a model's text says, without its thoughts and without what it makes up after its
    answer; None where that is nothing."""
    table = table or phrases()
    text = spoken(text) or ""
    text = _INVISIBLE.sub("", text)
    for pattern, right in _ESCAPED:
        text = pattern.sub(right, text)
    if len(text) > MAX_CHARS or _SURROGATE.search(text):
        return None
    text = _without_next_question(text, table)
    if not any(map(str.isalnum, text)):
        return None
    found = next((each for each in _announced(text, table) if each is not None), None)
    bold = tuple(
        span
        for match in _BOLD.finditer(text)
        if (span := next(filter(None, match.groups())).strip())
        and not span.endswith(":")
        and not text.startswith(":", match.end())
    )
    return Said(text, found, bold, table)


def _without_next_question(text: str, table: Phrases) -> str:
    """Models that were not told to stop go on with questions of their own."""
    for line in _next_question(table).finditer(text):
        if any(map(str.isalnum, text[: line.start()])):
            return text[: line.start()]
    return text


@cache
def _next_question(table: Phrases) -> re.Pattern[str]:
    return re.compile(
        rf"^[#*> \t]*{table.patterns['questions'].pattern}[ \t]*\d*[* \t]*[:：]",
        re.MULTILINE | re.IGNORECASE,
    )


# What announces itself


def _announced(text: str, table: Phrases) -> Iterator[str | None]:
    yield _in_json(text, table)
    yield _in_tag(text, table)
    yield boxes(text)
    if mark := re.search(r"####\s*(\S[^\n]*)", text):
        yield mark[1].strip()
    yield _behind_phrase(text, table)


def _in_json(text: str, table: Phrases) -> str | None:
    """The answer's value of a text that is a JSON object, perhaps in a fence of code."""
    fences = [fence[1] for fence in _FENCE.finditer(text)]
    for part in [text, *reversed(fences)]:
        part = part.strip()
        if not part.startswith("{"):
            continue
        try:
            found, _ = json.JSONDecoder(parse_float=str, parse_int=str).raw_decode(part)
        except (ValueError, RecursionError):
            continue
        by_name = {str(key).casefold().replace(" ", "_"): value for key, value in found.items()}
        keys = [key for key in table.keys if key in by_name]
        if keys or len(by_name) == 1:
            return _plain(by_name[keys[0]] if keys else next(iter(by_name.values())))
    return None


def _plain(value: object) -> str | None:
    if isinstance(value, list) and all(isinstance(each, str | bool) for each in value):
        return ", ".join(str(each) for each in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) and value.strip() else None


def _in_tag(text: str, table: Phrases) -> str | None:
    names = "|".join(map(re.escape, table.keys))
    found = re.findall(rf"<({names})>(.*?)(?:</\1>|\Z)", text, re.DOTALL | re.IGNORECASE)
    inside = found[-1][1].strip() if found else ""
    return (boxes(inside) or inside) if any(map(str.isalnum, inside)) else None


def boxes(text: str) -> str | None:
    r"""What the last balanced \boxed{} holds, of two nested the inner one; of several that stand
    together ("\boxed{3} or \boxed{-3}") all."""
    opened: list[tuple[int, int] | None] = []
    found: list[tuple[int, int, int, int]] = []
    for token in _BRACES.finditer(text):
        if token[0] == "}":
            start = opened.pop() if opened else None
            if start is not None and not (found and found[-1][0] > start[0]):
                found.append((*start, token.start(), token.end()))
        elif token[0].endswith("{") and token[0] != r"\{":
            opened.append(None if token[0] == "{" else (token.start(), token.end()))
    if not found:
        bare = _BARE_BOX.findall(text)
        return bare[-1].rstrip(".,") if bare else None
    together = [found[-1]]
    for box in reversed(found[:-1]):
        if not _BETWEEN_BOXES.fullmatch(text[box[3] : together[0][0]]):
            break
        together.insert(0, box)
    return ", ".join(text[box[1] : box[2]] for box in together)


@cache
def _phrase(table: Phrases) -> re.Pattern[str]:
    noun, copula = (table.patterns[name].pattern for name in ("nouns", "copulas"))
    return re.compile(
        rf"{noun}[*_]*(?:\s+\w+){{0,3}}?[*_\s]*(?:\([^()\n]{{1,40}}\)\s*)?"
        rf"(?:(?:{copula})(?!n['’]t)[\s*_]*[:：]?|[:：=])[\s*_:：]*",
        re.IGNORECASE,
    )


def _behind_phrase(text: str, table: Phrases) -> str | None:
    """What stands behind the last "the answer is" that announces something, up to the end of its
    sentence."""
    found = None
    for phrase in _phrase(table).finditer(text):
        before = _CLAUSE.split(text[max(0, phrase.start() - 200) : phrase.start()])[-1]
        if _starts(before, table, "conditions") or _has(before, table, "negators"):
            continue
        rest = text[phrase.end() : phrase.end() + MAX_ANSWER_CHARS + 1]
        math = _MATH.match(rest)
        tail = rest[: math.end()] if math else _SENTENCE_END.split(rest, maxsplit=1)[0]
        tail = tail.strip(" *_")
        negated = _starts(tail, table, "negators")
        if any(map(str.isalnum, tail)) and not (negated and count_words(tail) > 1):
            if math or count_words(tail) <= FEW_WORDS or any(map(str.isdigit, tail)) or not found:
                found = tail
    return found


def _starts(text: str, table: Phrases, words: str) -> bool:
    return table.patterns[words].match(text.lstrip(" \t\n*_(\"'“")) is not None


def _has(text: str, table: Phrases, words: str) -> bool:
    return table.patterns[words].search(text) is not None


# A short answer, bare


def count_words(text: str) -> float:
    return len(_WORDS.findall(text)) + len(_SIGNS.findall(text)) / 2


def without_end(text: str) -> str:
    """A text without the marks at its end; "!" stays behind a number, as in 5!."""
    while True:
        shorter = text.rstrip(" \t\n.,;:。，；✅✔️*_`")
        if shorter[-1:] in ("!", "?", "！", "？") and not shorter[:-1].rstrip()[-1:].isdigit():
            shorter = shorter[:-1]
        if shorter == text:
            return text
        text = shorter


def trim(text: str, table: Phrases) -> str:
    """A short answer without mark-up, hedges and remarks: "about **42** (forty-two), I think"."""
    text = text.strip()
    bold = _BOLD.fullmatch(text)
    text = next(filter(None, bold.groups())) if bold else text
    math = _MATH.fullmatch(without_end(text))
    if math is None:
        text = re.sub(r"\*\*|__|`", "", text)
        remark = table.patterns["remarks"].search(text, 1)
        text = text[: remark.start()] if remark else text
    else:
        text = next(filter(None, math.groups()))
    text = without_end(text.strip()).strip('"“”„').strip()
    text = text.lstrip("≈~≃∼ ")
    hedge = table.patterns["hedges"].match(text)
    text = text[hedge.end() :].strip() if hedge and hedge.end() < len(text) else text
    noted = _PARENTHESIS.fullmatch(text)
    if noted and form(noted[1]) is not None and isinstance(form(noted[1]), Number):
        text = noted[1]
    return text.strip()


# A value


def value(found: Said, question: str, *, comma: bool) -> str | None:
    """What a sample says to a question that asks for a value: a number, a quantity, an expression,
    or the words that it announces instead of one."""
    boxed = found.announced is not None and found.announced == boxes(found.text)
    for span, announced in [
        (found.announced, True),
        *((each, False) for each in reversed(found.bold)),
    ]:
        if span is None:
            continue
        bare = trim(span, found.table)
        if len(bare) > MAX_ANSWER_CHARS:
            return None
        meaning = form(bare, comma=comma)
        if meaning is not None and not _is_words(meaning):
            return bare
        last = _last_value(span, question, found.table, comma)
        if last or announced:
            few = meaning is not None and (boxed or count_words(bare) <= FEW_VALUE_WORDS)
            return last or (bare if few else None)
    return _last_value(found.text, question, found.table, comma)


def _is_words(meaning: Form) -> bool:
    """Whether a form has words, which no mathematician would compare."""
    match meaning:
        case Word(text=text):
            return bool(_WORDS.search(text)) and " " in text
        case Group(items=items):
            return any(map(_is_words, items))
        case Named(value=inner):
            return _is_words(inner)
        case _:
            return False


def _last_value(text: str, question: str, table: Phrases, comma: bool) -> str | None:
    sentences = [each for each in _SENTENCE_END.split(text) if each and each.strip()]
    asked = {number for _, number in scan(question, comma=comma)}
    for sentence in reversed(sentences):
        found = _value_of(sentence.strip(), asked, table, comma)
        if found is not None:
            return found or None
    return None


def _value_of(sentence: str, asked: Set[object], table: Phrases, comma: bool) -> str | None:
    """The value that a sentence ends in; None where it has none, "" where it has several or denies
    one."""
    bare = trim(sentence, table)
    math = [next(filter(None, match.groups())) for match in _MATH.finditer(bare)]
    plain = _MATH.sub(lambda match: next(filter(None, match.groups())), bare).strip()
    for span in [plain, *reversed(math)]:
        meaning = form(span, comma=comma) if len(span) <= MAX_ANSWER_CHARS else None
        if meaning is not None and not _is_words(meaning) and not isinstance(meaning, Word):
            return span
    right = without_end(plain.rpartition("=")[2]).strip() if "=" in plain else ""
    if right and (meaning := form(right, comma=comma)) and not _is_words(meaning):
        return right
    numbers = scan(plain, comma=comma)
    if not numbers:
        return None
    if _has(plain, table, "negators"):
        return ""
    new = [span for span, number in numbers if number not in asked]
    if new:
        return new[-1]
    return numbers[0][0] if len({number for _, number in numbers}) == 1 else ""


# A choice


def options(question: str) -> Mapping[str, str]:
    """The options that a question lists, from A on: by letter, what each says."""
    found = list(_OPTION.finditer(question + " "))
    ends = [match.start() for match in found[1:]]
    listed = {
        match[1]: question[match.end() : end].split("\n")[0].strip(" .;,")
        for match, end in zip_longest(found, ends)
    }
    return listed if {"A", "B"} <= listed.keys() else {}


def letters(found: Said, listed: Mapping[str, str] = {}) -> str | None:
    """The letters that a sample chooses, "A, C"; None where it chooses none, or one or another."""
    if found.announced is not None:
        chosen = _letters(found.announced, listed) or _led(found.announced)
        if chosen is not None or not _behind_phrase(found.text, found.table):
            return chosen or None
    for span in (*reversed(found.bold), found.text):
        if chosen := _letters(span, listed):
            return chosen
    return _judged_letter(found.text) or _letter_line(found.text)


def _letters(span: str, listed: Mapping[str, str]) -> str | None:
    """Of "(B)", "B. bat", "A and C", or of what an option says."""
    if len(span) > MAX_ANSWER_CHARS:
        return None
    bare = without_end(_MARKUP.sub(" ", span)).strip()
    bare = re.sub(r"^(?i:option|choice)s?\s+", "", bare)
    if _LETTER_SET.fullmatch(bare):
        chosen = set(re.findall(r"(?<!\w)[A-J](?!\w)", bare if len(bare) > 1 else bare.upper()))
        chosen = chosen or set(re.findall("[A-J]", bare.upper()))
        return ", ".join(sorted(chosen))
    said = words(bare)
    for letter, text in listed.items():
        if said and said in (words(text), words(f"{letter} {text}"), words(f"({letter}) {text}")):
            return letter
    led = re.match(r"\(?([A-J])[.):]+\s|\(([A-J])\)\s", bare)
    if led is None or "\n" in bare or _ANOTHER_LETTER.match(bare, led.end()):
        return None
    return led[1] or led[2]


def _led(tail: str) -> str | None:
    """The letter that an announced answer begins with; "" where it has one or another."""
    tail = _MARKUP.sub("", tail).strip()
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


def _judged_letter(text: str) -> str | None:
    """The last one that is called right, but for "neither A nor B is right"."""
    found = None
    for judged in _JUDGED_LETTER.finditer(text):
        clause = _CLAUSE.split(text[max(0, judged.start() - 200) : judged.start()])[-1]
        if not _DENIED.search(clause):
            found = next(filter(None, judged.groups()))
    return found


def _letter_line(text: str) -> str | None:
    """The letter of the only option that a line starts with; several are the options repeated."""
    found = {
        next(filter(None, match.groups())).upper()
        for match in map(_LETTER_LINE.match, text.splitlines())
        if match
    }
    return found.pop() if len(found) == 1 else None


# A name


def name(found: Said, question: str) -> str | None:
    """What a sample says to a question that asks for a name or a word, in small letters."""
    span = found.short if found.short is not None else found.text
    bare = trim(span, found.table)
    if verdict(bare, found.table) and (found.announced is None or count_words(bare) <= FEW_WORDS):
        return verdict(bare, found.table)
    tokens = [token.casefold() for token in _TOKENS.findall(bare)]
    small, copular = found.table.words["small"], found.table.words["copular"]
    if copular & set(tokens) and not found.announced:
        asked = {token.casefold() for token in _TOKENS.findall(question)}
        left = [token for token in tokens if token not in small and token not in asked]
        if left and len(left) <= FEW_WORDS:
            return " ".join(left)
    number = whole_number(bare)
    return str(number) if number is not None else words(without_end(bare)) or None


def verdict(text: str, table: Phrases) -> str | None:
    """ "yes" or "no", if a text begins with one of them, in whatever language."""
    first = re.match(r"[\W_]*([^\W\d_]+)(.?)", text)
    if first is None:
        return None
    word, alone = first[1].casefold(), not first[2] or first[2] in ".,;:!*_ —-。，！"
    if not alone and not _SIGNS.match(word):
        return None
    if word in table.words["yes"]:
        return "yes"
    return "no" if word in table.words["no"] and (first[2] != " " or len(text) < 60) else None


def mentioned(found: Said, known: Mapping[tuple[str, ...], str], asked: Set[str]) -> str | None:
    """The one of the known short answers that stands in a text, or in its first and in its last
    sentence; None where several do, or where it is denied."""
    one = _mention(found, found.text, known, asked)
    if one or one is None:
        return one
    sentences = [each for each in _SENTENCE_END.split(found.text) if each and each.strip()]
    first, last = (_mention(found, each, known, asked) for each in (sentences[0], sentences[-1]))
    return first if first == last and first else None


def _mention(
    found: Said, text: str, known: Mapping[tuple[str, ...], str], asked: Set[str]
) -> str | None:
    """None where no known answer stands in the text, "" where several do or one is denied; of one
    within another only the longer counts, and what the question names only where nothing else."""
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
    return new[0] if len(new) == 1 and not _has(text, found.table, "negators") else ""


def tokens_of(text: str) -> list[str]:
    return [token.casefold() for token in _TOKENS.findall(text)]


# A question


_ASKS_VALUE = re.compile(
    r"how (?:many|much|long|far|old|tall|fast|heavy|big|often)|\b(?:calculate|compute|evaluate|solve"
    r"|simplify|find|factor)\b|what is the (?:\w+ )?(?:value|sum|difference|product|quotient|remainder"
    r"|probability|area|volume|perimeter|number|total|average|mean)\b|\bwie ?viele?\b|\bcombien\b"
    r"|\bcuánt[oa]s?\b|\bquant[oiae]s?\b|\bhoeveel\b|\bсколько\b|多少|几个|いくつ|いくら|몇",
    re.IGNORECASE,
)
_SUM = re.compile(r"\d\s*[-+*/^×÷]\s*\(?\d")
_LATEX = re.compile(r"\$[^$\n]+\$|\\(?:frac|sqrt|\(|\[)")


def asks_for_value(question: str) -> bool:
    """Whether a question holds LaTeX or a sum, or asks for a number in words."""
    asks = _ASKS_VALUE.search(question) and any(map(str.isdigit, question))
    return bool(_LATEX.search(question) or _SUM.search(question) or asks)


def decimal_comma(question: str, answers: Sequence[Said]) -> bool:
    """Whether decimals are written with a comma: by the language of the question, or since an
    answer has "0,75" or "1.234,5"."""
    texts = [answer.text for answer in answers]
    if any(re.search(r"\d,\d{3}\.\d", text) for text in texts):
        return False
    if any(re.search(r"(?<![\d.,])0,\d|\d\.\d{3},\d", text) for text in texts):
        return True
    return sum(token in phrases().words["comma"] for token in tokens_of(question)) >= 2
