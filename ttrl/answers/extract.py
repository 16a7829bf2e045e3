"""From a model's whole answer to the words of its final answer.

What announces itself is taken first, in the order of `_announced`: a value in JSON, answer tags, a
box, "####", "the answer is". Where nothing does, a value may stand in bold, behind the last equals
sign, or in the last sentence that has one.
"""

from __future__ import annotations

import ast
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import takewhile, zip_longest

from ttrl.answers.forms import MAX_CHARS as MAX_ANSWER_CHARS
from ttrl.answers.forms import Expression, Form, Group, Named, Number, Word, form, leaves, words
from ttrl.answers.phrases import Phrases, phrases
from ttrl.answers.quantities import FUNCTIONS, scan, whole_number
from ttrl.answers.refusal import Stance, stance
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
_DOUBLED = re.compile(r"\\\\(?=[A-Za-z()\[\]$])")
_ENV = re.compile(
    r"\\begin\{(align|aligned|gather|equation|split)\*?\}(.*?)\\end\{\1\*?\}", re.DOTALL
)
_SPECIAL = re.compile(r"<\|[a-zA-Z_]{2,30}\|>|</s>|<end_of_turn>|<eos>|\[/?INST\]")
_WIDE = str.maketrans(
    dict(zip(map(ord, "０１２３４５６７８９．，％＋－（）＝"), "0123456789.,%+-()=", strict=True))
)
_OBJECT = re.compile(r"\{\s*[\"'](?=\w)")
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
_JOINED = re.compile(
    r"\s*(?:,\s*(?:and|or|und|et|y|e)?|&|\b(?:and|or|und|oder|et|ou|y|o|e|en|och|i|и)\b|和|と)\s*"
)
_LABEL = re.compile(r"(?:A|[^\W\d_]{3,}(?: [^\W\d_]+){0,2}):\s+(?=\S)")
_ASSIGNED = re.compile(r"[-*•\s]*\$?\\?[A-Za-z](?:_\{?\w+\}?)?\s*=\s*([^=\n]+?)\$?[\s.,;]*")
_OPEN_END = tuple("=:+-×÷*/(,&−")
_SENTENCE_END = re.compile(r"(?<=[.!?])(?<!\b[ap]\.m\.)(?=\s|$)|(?<=[。！？])|\n+")
_CLAUSE = re.compile(r"[.,;:!?。，；：！？\n]")
_SIGNS = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]")
_WORDS = re.compile(r"[^\W\d_\u3040-\u30ff\u3400-\u9fff]+(?:['’][^\W\d_]+)*")
_LONG_WORD = re.compile(r"[^\W\d_]{3,}|[\u3040-\u30ff\u3400-\u9fff]{2}")
_TOKENS = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W_]+(?:['’][^\W_]+)*")
_PARENTHESIS = re.compile(r"(\S.*?)\s*\((?:[^()]{1,60})\)")
_LETTER_SET = re.compile(
    r"\(?([A-Ja-j])\)?(?:\s*(?:,|;|&|、|\b(?:and|und|et|y|e)\b|和)[\s,]*(?:and\s+)?\(?[A-J]\)?)*"
    r"(?:\s+only)?"
)
_OPTION = re.compile(r"(?:^|[\s{*])(?:\(?([A-J])[.):]|(?<![^\n])\(?([a-j])\))\**\s+", re.MULTILINE)
_NUMBERED = re.compile(r"^[ \t]*\(?([1-9])[.)][ \t]+(\S[^\n]{0,80}?)[ \t]*$", re.MULTILINE)
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
_TICK = re.compile(
    r"[✅✔☑✓]|\((?:correct|right|true)\)|[-–—:] (?:correct|right|true|yes)\b", re.IGNORECASE
)
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
        if self.bold and count_words(self.bold[-1]) <= FEW_WORDS:
            return self.bold[-1]
        one_line = "\n" not in self.text.strip()
        return self.text if one_line and count_words(self.text) <= FEW_WORDS else None

    @cached_property
    def unfinished(self) -> bool:
        """Whether it breaks off: "48 x 7 =", "The implication is"."""
        text = self.text.rstrip("*_` \n$")
        if text.endswith(_OPEN_END):
            return True
        last = tokens_of(text[-40:])
        return len(last) > 1 and text[-1:].isalpha() and last[-1] in self.table.words["dangling"]

    def says_nothing_of(self, asked: Set[str]) -> bool:
        """Whether it has none of the words of the question, or is too short for a sentence."""
        tokens = tokens_of(self.short or self.text)
        return len(tokens) <= 3 or not (asked & set(tokens)) - self.table.words["small"]

    @cached_property
    def unknown(self) -> bool:
        """Whether it says that it does not know."""
        few = count_words(self.text) <= 20
        return few and _has(self.text, self.table, "unknown")

    @cached_property
    def declines(self) -> bool:
        return self.unknown or stance(self.text) is Stance.DECLINES

    @cached_property
    def is_name(self) -> bool:
        """Whether it is short and says no more than a name or a value: not "It is Canberra" nor
        "Sentiment: positive"."""
        if self.announced is not None or self.short is None:
            return self.announced is not None
        tokens = tokens_of(self.short)
        subject = len(tokens) > 1 and tokens[0] in self.table.words["subjects"]
        return not (self.unfinished or subject) and self.table.words["copular"].isdisjoint(tokens)


def said(text: str, table: Phrases | None = None) -> Said | None:
    """Return what a model's text says, without its thoughts and without what it makes up after its
    answer; None where that is nothing."""
    table = table or phrases()
    text = spoken(text) or ""
    text = _INVISIBLE.sub("", text)
    for pattern, right in _ESCAPED:
        text = pattern.sub(right, text)
    if r"\begin" not in text:
        text = _DOUBLED.sub(lambda _: "\\", text)
    text = _ENV.sub(lambda env: "\n" + env[2].replace("&", "").replace(r"\\", "\n") + "\n", text)
    text = text.translate(_WIDE).replace(r"\_", "_")
    if len(text) > MAX_CHARS or _SURROGATE.search(text):
        return None
    text = _without_next_question(text, table)
    spoken_to_end = _SPECIAL.split(text.strip())
    text = next((part for part in spoken_to_end if any(map(str.isalnum, part))), "")
    if not any(map(str.isalnum, text)):
        return None
    found = next((each for each in _announced(text, table) if each is not None), None)
    return Said(text, found, tuple(_bold(text)), table)


def _bold(text: str) -> list[str]:
    """What stands in bold, but for headings; several that are joined ("**4** and **6**") as one."""
    found: list[str] = []
    end = 0
    for match in _BOLD.finditer(text):
        span = next(filter(None, match.groups())).strip()
        heading = span.endswith(":") or text.startswith(":", match.end())
        if not span or (heading and not isinstance(form(span.rstrip(":")), Number)):
            continue
        if found and _JOINED.fullmatch(text[end : match.start()]):
            found[-1] += f", {span}"
        else:
            found.append(span)
        end = match.end()
    return found


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
    """The answer's value in a JSON object, also one in a fence of code or within other text; ""
    where a text is an object that cannot be read."""
    bare = without_end(re.sub(r"```\w*", "", text)).strip()
    place = _OBJECT.search(bare)
    if place is None:
        return None
    found = _object(bare[place.start() :])
    if found is None:
        return "" if place.start() == 0 else None
    by_name = {str(key).casefold().replace(" ", "_"): value for key, value in found.items()}
    keys = [key for key in table.keys if key in by_name]
    if not keys and len(by_name) != 1:
        return None
    return _plain(by_name[keys[0]] if keys else next(iter(by_name.values())))


def _object(text: str) -> Mapping[object, object] | None:
    """The object that a text begins with, of JSON or as Python prints it."""
    try:
        found, _ = json.JSONDecoder(parse_float=str, parse_int=str).raw_decode(text)
    except (ValueError, RecursionError):
        end = text.find("}") + 1
        try:
            found = ast.literal_eval(text[:end]) if 0 < end < MAX_ANSWER_CHARS else None
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return None
    return found if isinstance(found, dict) else None


def _plain(value: object) -> str | None:
    if isinstance(value, list) and all(isinstance(each, str | bool) for each in value):
        return ", ".join(str(each) for each in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value) if isinstance(value, str | int | float) else None


def _in_tag(text: str, table: Phrases) -> str | None:
    names = "|".join(map(re.escape, table.keys))
    found = re.findall(rf"<({names})>(.*?)(?:</\1>|\Z)", text, re.DOTALL | re.IGNORECASE)
    inside = found[-1][1].strip() if found else ""
    if not found:
        return None
    return (boxes(inside) or inside) if any(map(str.isalnum, inside)) else ""


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
        sentences = [each for each in _SENTENCE_END.split(rest) if each and each.strip()]
        tail = rest[: math.end()] if math else sentences[0] if sentences else ""
        if sentences and _ASSIGNED.fullmatch(sentences[0]):
            tail = _leading_assignments(sentences)
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
    """A text without the marks and pictures at its end; "!" stays behind a number, as in 5!."""
    while True:
        shorter = text.rstrip(" \t\n.,;:。，；*_`\ufe0f\u200d")
        if shorter and unicodedata.category(shorter[-1]) == "So" and shorter[-1] not in "°℃℉":
            shorter = shorter[:-1]
        if shorter[-1:] in ("!", "?", "！", "？") and not shorter[:-1].rstrip()[-1:].isdigit():
            shorter = shorter[:-1]
        if shorter == text:
            return text
        text = shorter


def trim(text: str, table: Phrases) -> str:
    """A short answer without mark-up, label, hedges and remarks: "Total: about **42**, I think"."""
    text = text.strip()
    bold = _BOLD.fullmatch(text)
    text = next(filter(None, bold.groups())) if bold else text
    math = _MATH.fullmatch(without_end(text))
    if math:
        text = next(filter(None, math.groups()))
    else:
        text = re.sub(r"\*\*|__|`", "", text)
        remark = table.patterns["remarks"].search(text, 1)
        text = text[: remark.start()] if remark else text
    text = (
        without_end(text.strip()).strip('"“”„').lstrip("≈~≃∼=•>→⇒➡ \t").strip()
        if not math
        else text
    )
    text = re.sub(r"^[-*]\s+", "", text)
    if label := _LABEL.match(text):
        text = text[label.end() :]
    for words in ("openers", "hedges"):
        opening = table.patterns[words].match(text)
        if opening and opening.end() < len(text):
            text = text[opening.end() :].lstrip(" ,")
    head, comma, tail = text.rpartition(",")
    if comma and table.patterns["hedges"].fullmatch(tail.strip()):
        text = head
    noted = _PARENTHESIS.fullmatch(text)
    if noted and isinstance(form(noted[1]), Number):
        text = noted[1]
    ending = next((each for each in table.words["endings"] if text.endswith(each)), "")
    return text.removesuffix(ending).strip() or text.strip()


# A value


def value(found: Said, question: str, *, comma: bool) -> str | None:
    """What a sample says to a question that asks for a value: a number, a quantity, an expression,
    or the words that it announces instead of one."""
    if found.announced is None and (found.unfinished or found.declines):
        return None
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
        case Expression(latex=latex):
            letters = re.findall(r"[A-Za-z]{2,}", re.sub(r"\\[A-Za-z]+", " ", latex))
            return any(word.lower() not in FUNCTIONS and not word.isupper() for word in letters)
        case Group(items=items):
            return any(map(_is_words, items))
        case Named(value=inner):
            return _is_words(inner)
        case _:
            return False


def _has_word(meaning: Form) -> bool:
    texts = [leaf.text for leaf in leaves(meaning) if isinstance(leaf, Word)]
    return any(_LONG_WORD.search(re.sub(r"\\[A-Za-z]+", "", text)) for text in texts)


def _last_value(text: str, question: str, table: Phrases, comma: bool) -> str | None:
    sentences = [each for each in _SENTENCE_END.split(text) if each and each.strip()]
    asked = {number.value for number in scan(question, comma=comma)}
    if assigned := _assignments(sentences):
        return assigned
    if listed := _numbered_lines(text.strip().splitlines()):
        return listed
    for sentence in reversed(sentences):
        if table.patterns["asides"].match(sentence.lstrip("*_ \n(")) and len(sentences) > 1:
            continue
        found = _value_of(sentence.strip(), asked, table, comma)
        if found is not None:
            return found or None
    return None


def _leading_assignments(sentences: Sequence[str]) -> str:
    lines = takewhile(_ASSIGNED.fullmatch, sentences)
    return ", ".join(line.strip("-*•$., \n") for line in lines)


def _assignments(sentences: Sequence[str]) -> str | None:
    """The lines that a text ends in, if each gives a variable its value."""
    lines: list[str] = []
    for sentence in reversed(sentences):
        if not _ASSIGNED.fullmatch(sentence):
            break
        lines.insert(0, sentence.strip("-*•$., \n"))
    return ", ".join(lines) if len(lines) > 1 else None


def _numbered_lines(lines: Sequence[str]) -> str | None:
    """The items of the numbered list that a text ends in, if each is a value."""
    items: list[str] = []
    for line in reversed(lines):
        item = _ITEM.fullmatch(line)
        if item is None:
            break
        items.insert(0, item[2])
    numbers = [item[1] for item in map(_ITEM.fullmatch, lines[-len(items) :]) if item]
    counted = numbers == [str(n + 1) for n in range(len(items))]
    return ", ".join(items) if counted and len(items) > 2 else None


_ITEM = re.compile(r"\s*(\d{1,2})[.)]\s*(-?\d[\d.,/]*)\s*")


def _value_of(sentence: str, asked: Set[object], table: Phrases, comma: bool) -> str | None:
    """The value that a sentence ends in; None where it has none, "" where it has several or denies
    one."""
    bare = trim(sentence, table)
    math = [next(filter(None, match.groups())) for match in _MATH.finditer(bare)]
    plain = _MATH.sub(lambda match: next(filter(None, match.groups())), bare).strip()
    for span in [plain, *reversed(math)] if len(math) < 2 else [plain]:
        meaning = form(span, comma=comma) if len(span) <= MAX_ANSWER_CHARS else None
        if meaning is not None and not _is_words(meaning) and not _has_word(meaning):
            return span
    right = without_end(plain.rpartition("=")[2]).strip() if "=" in plain else ""
    if right and (meaning := form(right, comma=comma)) and not _is_words(meaning):
        return right
    numbers = scan(plain, comma=comma)
    if not numbers:
        return None
    if _has(_without_contrast(plain, table), table, "negators"):
        return ""
    new = [number for number in numbers if number.value not in asked]
    if not new:
        return numbers[0].text if len({number.value for number in numbers}) == 1 else ""
    listed = [new[-1]]
    for before in reversed(new[:-1]):
        if not (before.end and _JOINED.fullmatch(plain[before.end : listed[0].start])):
            break
        listed.insert(0, before)
    before = plain[: listed[0].start].rstrip() if listed[0].end else ""
    for phrase, sign in _BOUNDS.items():
        if before.casefold().endswith(phrase):
            return f"x {sign} {listed[0].text}"
    return ", ".join(number.text for number in listed)


_BOUNDS = {
    "less than or equal to": r"\le", "greater than or equal to": r"\ge",
    "no more than": r"\le", "no less than": r"\ge", "less than": "<", "fewer than": "<", "below": "<", "smaller than": "<", "greater than": ">",
    "more than": ">", "larger than": ">", "above": ">", "at least": r"\ge", "at most": r"\le",
    "up to": r"\le", "mindestens": r"\ge", "höchstens": r"\le", "mehr als": ">",
    "weniger als": "<", "plus de": ">", "moins de": "<", "au moins": r"\ge", "más de": ">",
    "menos de": "<",
}  # fmt: skip


def _without_contrast(text: str, table: Phrases) -> str:
    """A text without what it says to be not so: "Venus, not Mars"."""
    return _contrast(table).sub("", text)


@cache
def _contrast(table: Phrases) -> re.Pattern[str]:
    return re.compile(
        rf"(?:,\s*(?:and|but)?|\b(?:and|but))\s*{table.patterns['contrasts'].pattern}[^,.;:!?\n]*"
        r"|\s(?:rather than|instead of|as opposed to)\s[^,.;:!?\n]*",
        re.IGNORECASE,
    )


# A choice


def options(question: str) -> Mapping[str, str]:
    """The options that a question lists, from A on: by letter, what each says."""
    found = list(_OPTION.finditer(question + " "))
    ends = [match.start() for match in found[1:]]
    listed = {
        (match[1] or match[2]).upper(): question[match.end() : end].split("\n")[0].strip(" .;,")
        for match, end in zip_longest(found, ends)
    }
    if {"A", "B"} <= listed.keys():
        return listed
    numbered = dict(_NUMBERED.findall(question))
    return numbered if list(numbered) == [str(n + 1) for n in range(len(numbered))] != [] else {}


def letters(found: Said, listed: Mapping[str, str] = {}) -> str | None:
    """The letters that a sample chooses, "A, C"; None where it chooses none, or one or another."""
    if found.announced is not None:
        chosen = _letters(found.announced, listed) or _led(found.announced)
        if chosen is not None or not _behind_phrase(found.text, found.table):
            return chosen or None
    last = found.text.rstrip().rpartition("\n")[2]
    for span in (*reversed(found.bold), found.text, last):
        if chosen := _letters(span, listed):
            return chosen
    if ticked := {
        letter[1].upper()
        for line in found.text.splitlines()
        if _TICK.search(line) and (letter := re.match(r"[\s*_>-]*\(?([A-Ja-j])[.):]", line))
    }:
        return ", ".join(sorted(ticked))
    return _judged_letter(found.text) or _letter_line(found.text)


def lone_letters(text: str) -> str | None:
    """The letters that the whole text is: "B", "(b)", "B. Paris", "A, C"."""
    return _letters(text, {})


def _letters(span: str, listed: Mapping[str, str]) -> str | None:
    """Of "(B)", "B. bat", "A and C", or of what an option says."""
    if len(span) > MAX_ANSWER_CHARS:
        return None
    bare = without_end(_MARKUP.sub(" ", span)).strip()
    bare = re.sub(r"^(?i:option|choice|only|just)s?\s+", "", bare)
    bare = re.sub(r"\(([a-j])\)", lambda letter: letter[0].upper(), bare)
    if listed and re.fullmatch(r"[a-j](?:[\s,;&]+(?:and\s+)?[a-j])*", bare):
        bare = re.sub(r"\b[a-j]\b", lambda letter: letter[0].upper(), bare)
    if noted := re.fullmatch(r"\(?([A-J])\)?\s*\([^()]*\)", bare):
        return noted[1]
    if len(listed) > 2 and re.fullmatch("[A-J]{2,}", bare) and set(bare) <= listed.keys():
        return ", ".join(sorted(set(bare)))
    if _LETTER_SET.fullmatch(bare):
        chosen = set(re.findall(r"(?<!\w)[A-J](?!\w)", bare if len(bare) > 1 else bare.upper()))
        chosen = chosen or set(re.findall("[A-J]", bare.upper()))
        return ", ".join(sorted(chosen))
    if "1" in listed:
        return _numbers(bare, listed)
    said = words(bare)
    for letter, text in listed.items():
        if said and said in (words(text), words(f"{letter} {text}"), words(f"({letter}) {text}")):
            return letter
    led = re.match(r"\(?([A-J])[.):]+\s|\(([A-J])\)\s", bare)
    if led is None or "\n" in bare or _ANOTHER_LETTER.match(bare, led.end()):
        return None
    return led[1] or led[2]


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
    tail = _MARKUP.sub("", tail).strip()
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
    """What a sample says to a question that asks for a name or a word, in small letters; None
    where it breaks off or does not know."""
    if found.announced is None and (found.unfinished or found.declines):
        return None
    span = found.short if found.short is not None else found.text
    bare = without_end(_without_contrast(trim(span, found.table), found.table))
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
    noted = _PARENTHESIS.fullmatch(bare)
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
    sentences = [each.strip() for each in _SENTENCE_END.split(found.text) if each and each.strip()]
    last = trim(sentences[-1], found.table)
    for span in (*reversed(found.bold), found.text, last):
        if verdict := _verdict(span, found.table):
            return verdict
    small = found.table.words["small"] | found.table.words["copular"]
    asked = [t for t in tokens_of(question) if t not in small and len(t) > 2 and not t.isdigit()]
    tokens = tokens_of(last)
    denied = sum(_has(token, found.table, "negators") for token in tokens)
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
    text = _MARKUP.sub("", text)
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
    sentences = [each for each in _SENTENCE_END.split(found.text) if each and each.strip()]
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
    text = _without_contrast(text, found.table)
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
    return new[0] if len(new) == 1 and not _has(rest, found.table, "negators") else ""


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
_HOW_MANY = re.compile(
    r"\bhow (?:many|much)\b|\bwie ?viele?\b|\bcombien\b|\bcuánt[oa]s?\b|\bquant[oiae]s?\b|\bhoeveel\b"
    r"|\bсколько\b|\bkaç\b|\bberapa\b|\bhur (?:många|mycket)\b|\bile\b|多少|几个|いくつ|いくら|何個|몇",
    re.IGNORECASE,
)
_SUM = re.compile(r"\d\s*[-+*/^×÷]\s*\(?\d")
_LATEX = re.compile(r"\$[^$\n]+\$|\\(?:frac|sqrt|\(|\[)")


def asks_how_many(question: str) -> bool:
    return _HOW_MANY.search(question) is not None


def asks_for_value(question: str) -> bool:
    """Whether a question holds LaTeX or a sum, or asks for a number in words."""
    asks = _ASKS_VALUE.search(question) and any(map(str.isdigit, question))
    return bool(_LATEX.search(question) or _SUM.search(question) or asks)


def asks_for_order(question: str) -> bool:
    return _has(question, phrases(), "ordered")


def decimal_comma(question: str, answers: Sequence[Said]) -> bool:
    """Whether decimals are written with a comma: by the language of the question, or since an
    answer has "0,75" or "1.234,5"."""
    texts = [answer.text for answer in answers]
    if any(re.search(r"\d,\d{3}\.\d", text) for text in texts):
        return False
    if any(re.search(r"(?<![\d.,])0,\d|\d\.\d{3},\d", text) for text in texts):
        return True
    return sum(token in phrases().words["comma"] for token in tokens_of(question)) >= 2
