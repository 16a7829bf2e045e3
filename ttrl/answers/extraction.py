"""What one sample says, as far as its answer is concerned.

What announces itself is taken first, in the order of `_announced`: a value in JSON, answer tags, a
box, "####", "the answer is".
"""

from __future__ import annotations

import ast
import html
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field
from functools import cached_property

from ttrl.answers.forms import MAX_CHARS as MAX_ANSWER_CHARS
from ttrl.answers.forms import form
from ttrl.answers.layers import Layer
from ttrl.answers.phrases import Phrases, phrases
from ttrl.answers.quantities import Number
from ttrl.answers.thoughts import Stance, spoken, stance

MAX_CHARS = 20_000
"""Longer answers are unreadable."""
FEW_WORDS = 6
"""More of them are no short answer but a sentence. Two signs of Chinese count as one."""
MOST_PHRASES = 20
"""Announcements that are looked at, from the last on."""
_SURROGATE = re.compile("[\ud800-\udfff]")
_INVISIBLE = re.compile("[\u200b\u200e\u200f\u2060\ufeff]")
_ESCAPED = re.compile(r"\\\\(?=(?:boxed|fbox|[dt]?frac|text|sqrt|pm|times)(?![A-Za-z]))")
_DOUBLED = re.compile(r"\\\\(?=[A-Za-z()\[\]$])")
_ENV = re.compile(
    r"(?:\${1,2}\s?)?\\begin\{(align|aligned|cases|gather|equation|split)\*?\}(.*?)\\end\{\1\*?\}(?:\s?\${1,2})?",
    re.DOTALL,
)
_FORM = re.compile(r"[^\W\d_]{3,}:")
_SPECIAL = re.compile(r"<\|[a-zA-Z_]{2,30}\|>|</s>|<end_of_turn>|<eos>|\[/?INST\]")
_WIDE = str.maketrans("．，％＋－（）＝٫٬", ".,%+-()=.,")
_DIGIT = re.compile(r"(?![0-9])\d")
_POWER = re.compile(r"(?<=[A-Za-z0-9)])\*\*(?=[\d(-])")
_SUBSCRIPT = re.compile(r"<(sub|sup)>([^<>]{1,20})</\1>")
_OBJECT = re.compile(r"\{\s*[\"'](?=\w)")
_BRACES = re.compile(r"\\(?:boxed|fbox|framebox)\s*\{|\\.|[{}]", re.DOTALL)
AND = r"(?:\b(?:and|und|et|y|e|en|och|i|и)\b|[&和と])"
OR = r"(?:\b(?:or|oder|ou|o)\b|或)"
"""What stands between the items of a list. In mathematics, e, i and o are something else."""
JOINED = re.compile(rf"\s*(?:,\s*(?:{AND}|{OR}|then\b)?|→|{AND}|{OR})\s*")
_BARE_BOX = re.compile(r"\\(?:boxed|fbox)\s*([^\s{\\$]+)")
_BETWEEN_BOXES = re.compile(
    rf"[\s$]*(?:[,;、]|{AND}|{OR})?[\s$]*(?:{AND}|{OR})?\s*"
    r"(?:[A-Za-z](?:_\{?\w\}?)?\s*=)?[\s$]*"
)
_BOLD = re.compile(
    r"\*\*(?=\S)(.{1,200}?)\*\*|__(?=\S)(.{1,200}?)__|<(?:b|strong)>(.{1,200}?)</(?:b|strong)>"
    r"|\\textbf\{([^{}]{1,200})\}|```\w*\n([^\n`]{1,200})\n```\s*\Z|(?<!`)`([^`\n]{1,200})`(?!`)",
    re.DOTALL,
)
MATH = re.compile(
    r"\$\$(.{1,500}?)\$\$|\\\[(.{1,500}?)\\\]|\\\((.{1,500}?)\\\)|\$(?=\S)((?:[^$\\\n]|\\.){1,500}?)(?<=\S)\$(?!\d)",
    re.DOTALL,
)
_LABEL = re.compile(r"(?:A|[^\W\d_]{3,}(?: [^\W\d_]+){0,2}):\s+(?=\S)")
ASSIGNED = re.compile(r"[-*•\s]*\$?\\?[A-Za-z](?:_\{?\w+\}?)?\s*=\s*([^=\n]+?)\$?[\s.,;]*")
_OPEN_END = tuple("=:+-×÷*/(,&−–—")
_SENTENCE_END = re.compile(
    r"(?<=[.!?])(?<!\b[ap]\.m\.)(?<!\b[A-Z][a-z]{2}\.(?=\s\d))(?<!\b[ap]\.(?=\s?m\.))"
    r"(?<!\d\.(?=\s[^\W\d_]{3,10}\.?\s\d{4}))(?=\s|$)"
    r"|(?<=[。！？।])|\n+"
)
CLAUSE = re.compile(r"[.,;:!?。，；：！？\n]")
_SIGNS = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]")
WORDS = re.compile(r"[^\W\d_\u3040-\u30ff\u3400-\u9fff]+(?:['’][^\W\d_]+)*")
TOKENS = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W_]+(?:['’][^\W_]+)*")
_CITATIONS = re.compile(r"(?<=[^\W_])(?:\s+\[\d{1,3}(?:,\s*\d{1,3})*\])+$")
_NEXT_QUESTION = r"(?m)^[#*> \t]*%(questions)s[ \t]*\d*[* \t]*[:：]"
_CORRECTION = r"(?<!\S)\S{1,40}\s?(?:\.\.\.|…|[,;—–-])\s*%(corrections)s[,:]?\s(?=\S)"
"""What is taken back at once: "417... no, sorry, 437"."""
_PHRASE = (
    r"%(nouns)s[*_]*(?:\s+\w+){0,3}?[*_\s]*(?:\([^()\n]{1,40}\)\s*)?"
    r"(?:(?:%(copulas)s)(?!n['’]t)[\s*_]*[:：]?|[:：=])[\s*_:：]*"
)
_CONTRAST = (
    r"(?:,\s*(?:and|but)?|\b(?:and|but))\s*%(contrasts)s[^,.;:!?\n]*"
    r"|\s(?:rather than|instead of|as opposed to)\s[^,.;:!?\n]*"
    r"|\b(?:not|nicht|pas|non|no)\s[^,.;:!?\n]{1,40}[;,]\s*(?:but|rather|sondern|mais|sino|ma"
    r"|mas|it(?:['’]s|\sis))\s"
)
MARKUP = re.compile(r"\\(?:text|math|operator)\w*\s*(?=\{)|\\[ ,;!]|[$*_`{}<>\"“”]")


@dataclass(frozen=True)
class Extracted:
    """One sample's text, as far as its answer is concerned: what it announces and by which layer,
    whether that is a short answer by itself, and what stands where it announces nothing."""

    text: str
    announced: str | None
    layer: Layer | None
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

    @property
    def is_record(self) -> bool:
        """Whether it announces several values, each by its name."""
        structured = self.layer in (Layer.JSON, Layer.YAML)
        return structured and " | " in (self.announced or "")

    @cached_property
    def unfinished(self) -> bool:
        """Whether it breaks off: "48 x 7 =", "The implication is"."""
        text = self.text.rstrip("*_` \n$")
        if text.endswith(_OPEN_END):
            return True
        last = tokens_of(text[-40:])
        if not (len(last) > 1 and text[-1:].isalpha() and last[-1] in self.table.words["dangling"]):
            return False
        return not isinstance(form(text), Number)  # "5 ft 3 in"

    def says_nothing_of(self, asked: Set[str]) -> bool:
        """Whether it has none of the words of the question, or is too short for a sentence."""
        tokens = tokens_of(self.short or self.text)
        return len(tokens) <= 3 or not (asked & set(tokens)) - self.table.words["small"]

    @cached_property
    def unknown(self) -> bool:
        few = count_words(self.text) <= 20
        return few and has(self.text, self.table, "unknown")

    @cached_property
    def declines(self) -> bool:
        return self.unknown or stance(self.text) is Stance.DECLINES

    @cached_property
    def is_name(self) -> bool:
        """Whether it is short and says no more than a name or a value: not "It is Canberra" nor
        "Sentiment: positive"."""
        if self.announced is not None or self.short is None:
            return self.announced is not None
        tokens = TOKENS.findall(self.short)  # "War and Peace" has no verb, German or not
        subject = len(tokens) > 1 and tokens[0].casefold() in self.table.words["subjects"]
        verb = any(each.islower() and each in self.table.words["copular"] for each in tokens)
        return not (self.unfinished or subject or verb)


def extract(text: str, table: Phrases | None = None, question: str = "") -> Extracted | None:
    """Return what a model's text says, without its thoughts and without what it makes up after its
    answer; None where that is nothing."""
    table = table or phrases()
    text = spoken(text) or ""
    text = _INVISIBLE.sub("", text)
    text = _ESCAPED.sub(r"\\", text)
    if r"\begin" not in text:
        text = _DOUBLED.sub(lambda _: "\\", text)
    text = _ENV.sub(lambda env: "\n" + env[2].replace("&", "").replace(r"\\", "\n") + "\n", text)
    text = re.sub(r"[ \t]{3,}", "  ", text.translate(_WIDE).replace(r"\_", "_"))
    if len(text) > MAX_CHARS or _SURROGATE.search(text):
        return None
    # The digits, the powers and the letters of HTML as others write them.
    text = _SUBSCRIPT.sub(lambda low: ("_" if low[1] == "sub" else "^") + f"{{{low[2]}}}", text)
    text = html.unescape(text) if "&" in text else text
    text = _DIGIT.sub(lambda digit: str(unicodedata.decimal(digit[0])), text)
    text = _POWER.sub("^", text)
    text = table.within(_CORRECTION).sub("", _without_next_question(text, table))
    spoken_to_end = _SPECIAL.split(text.strip())
    text = next((part for part in spoken_to_end if any(map(str.isalnum, part))), "")
    if not any(map(str.isalnum, text)):
        return None
    found = (each for each in _announced(text, table, question) if each[1] is not None)
    layer, announced = next(found, (None, None))
    return Extracted(text, announced, layer, tuple(_bold(text)), table)


def _bold(text: str) -> list[str]:
    """What stands in bold, but for headings; several that are joined ("**4** and **6**") as one."""
    found: list[str] = []
    end = 0
    for match in _BOLD.finditer(text):
        span = next(filter(None, match.groups())).strip()
        heading = span.endswith(":") or text.startswith(":", match.end())
        number = any(map(str.isdigit, span)) and isinstance(form(span.rstrip(":")), Number)
        if not span or (heading and not number):
            continue
        if found and JOINED.fullmatch(text[end : match.start()]):
            found[-1] += f", {span}"
        else:
            found.append(span)
        end = match.end()
    return found


def _without_next_question(text: str, table: Phrases) -> str:
    """Models that were not told to stop go on with questions of their own, in the form of the one
    that was asked: "Review: ... Sentiment: ... Review: ..."."""
    if first := _FORM.match(text.lstrip()):
        text = text[: text.find(f"\n{first[0]}", first.end())] if f"\n{first[0]}" in text else text
    for line in table.within(_NEXT_QUESTION).finditer(text):
        if any(map(str.isalnum, text[: line.start()])):
            return text[: line.start()]
    return text


# What announces itself


def _announced(text: str, table: Phrases, question: str) -> Iterator[tuple[Layer, str | None]]:
    yield Layer.JSON, _in_json(text, table, question)
    yield Layer.YAML, _in_yaml(text, table, question)
    yield Layer.TAG, _in_tag(text, table)
    yield Layer.BOX, boxes(text)
    if mark := re.search(r"####\s*(\S[^\n]*)", text):
        yield Layer.MARK, mark[1].strip()
    yield Layer.PHRASE, behind_phrase(text, table)


def _in_json(text: str, table: Phrases, question: str) -> str | None:
    """The answer's value in a JSON object, also one in a fence of code or within other text; ""
    where a text is an object that cannot be read."""
    bare = without_end(re.sub(r"```\w*", "", text)).strip()
    place = _OBJECT.search(bare)
    if place is None:
        return None
    found = _literal(bare[place.start() :])
    if not isinstance(found, dict):
        return "" if place.start() == 0 else None
    return _of_mapping(found, table, question)


def _of_mapping(found: Mapping[object, object], table: Phrases, question: str) -> str | None:
    """The value of the key that holds the answer, that the question names, or of the only one; of
    others all, as assignments."""
    by_name = {str(key).casefold().replace(" ", "_"): value for key, value in found.items()}
    asked = tokens_of(question)
    named = [key for key in by_name if key in asked]
    keys = [key for key in table.keys if key in by_name] or (named if len(named) == 1 else [])
    if not keys and len(by_name) != 1:
        plain = {k: None if isinstance(v, list) else _plain(v) for k, v in by_name.items()}
        if None in plain.values():
            return None
        if all(len(key) == 1 for key in plain):  # variables
            return ", ".join(f"{key} = {value}" for key, value in plain.items())
        return " | ".join(f"{key}: {value}" for key, value in sorted(plain.items()))
    return _plain(by_name[keys[0]] if keys else next(iter(by_name.values())))


_YAML = re.compile(r"([a-z_]\w*):[ \t]+[\"']?(\S[^\n]{0,60}?)[\"']?[ \t]*")


def _in_yaml(text: str, table: Phrases, question: str) -> str | None:
    """As `_in_json`, of a text or a fence of code that has nothing but keys and values."""
    fence = re.search(r"```ya?ml\n(.*?)```", text, re.DOTALL)
    lines = (fence[1] if fence else text).strip().splitlines()
    marked = bool(fence) or text.startswith("---")
    lines = [line for line in lines if line.strip() and not line.startswith(("#", "---", "..."))]
    pairs = [(match[1], match[2]) for line in lines if (match := _YAML.fullmatch(line))]
    if len(pairs) < len(lines) or len(pairs) < 2 - marked:
        return None
    return _of_mapping(dict(pairs), table, question)


def _literal(text: str) -> object:
    """The object or the list that a text begins with, of JSON or as Python prints it."""
    try:
        return json.JSONDecoder(parse_float=str, parse_int=str).raw_decode(text)[0]
    except (ValueError, RecursionError):
        end = text.find("}") + 1
        try:
            return ast.literal_eval(text[:end]) if 0 < end < MAX_ANSWER_CHARS else None
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return None


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
        if bare := _BARE_BOX.findall(text):
            return str(bare[-1]).rstrip(".,")
        return "" if r"\boxed" in text else None  # one that was begun is no other answer
    together = [found[-1]]
    for box in reversed(found[:-1]):
        if not _BETWEEN_BOXES.fullmatch(text[box[3] : together[0][0]]):
            break
        together.insert(0, box)
    return ", ".join(text[box[1] : box[2]] for box in together)


def behind_phrase(text: str, table: Phrases) -> str | None:
    """What stands behind the last "the answer is" that announces something, up to the end of its
    sentence."""
    weak = None
    announcements = list(table.within(_PHRASE).finditer(text))
    for phrase in reversed(announcements[-MOST_PHRASES:]):
        before = CLAUSE.split(text[max(0, phrase.start() - 200) : phrase.start()])[-1]
        if starts(before, table, "conditions") or has(before, table, "negators"):
            continue
        rest = text[phrase.end() : phrase.end() + MAX_ANSWER_CHARS + 1]
        math = MATH.match(rest)
        sentences = sentences_of(rest)
        tail = rest[: math.end()] if math else sentences[0] if sentences else ""
        tail = tail.strip(" *_")
        negated = starts(tail, table, "negators")
        if not any(map(str.isalnum, tail)) or (negated and count_words(tail) > 1):
            continue
        if math or count_words(tail) <= FEW_WORDS or any(map(str.isdigit, tail)):
            return tail
        weak = tail
    return weak


def is_question(sentence: str) -> bool:
    return sentence.rstrip(' *_"”)').endswith(("?", "？"))


def sentences_of(text: str) -> list[str]:
    """The sentences and the lines of a text."""
    return [each.strip() for each in _SENTENCE_END.split(text) if each and each.strip()]


def starts(text: str, table: Phrases, words: str) -> bool:
    return table.patterns[words].match(text.lstrip(" \t\n*_(\"'“")) is not None


def has(text: str, table: Phrases, words: str) -> bool:
    return table.patterns[words].search(text) is not None


# A short answer, bare


def count_words(text: str) -> float:
    return len(WORDS.findall(text)) + len(_SIGNS.findall(text)) / 2


def without_end(text: str) -> str:
    """A text without the marks and pictures at its end; "!" stays behind a number, as in 5!."""
    while True:
        shorter = text.rstrip(" \t\n.,;:。，；।*_`\ufe0f\u200d")
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
    math = MATH.fullmatch(without_end(text))
    if math:
        text = next(filter(None, math.groups()))
    else:
        text = re.sub(r"\*\*|__|`", "", text)
        remark = table.patterns["remarks"].search(text, 1)
        text = text[: remark.start()] if remark else text
        text = _CITATIONS.sub("", without_end(text.strip())).strip('"“”„')
        text = text.lstrip("≈~≃∼=•→⇒➡ \t").strip()
        while text and unicodedata.category(text[0]) == "So":
            text = text[1:].lstrip("\ufe0f\u200d ")
    text = re.sub(r"^[-*]\s+(?![\d\\.(])", "", text)
    if label := _LABEL.match(text):
        text = text[label.end() :].strip('"')
    if text.startswith('["') and isinstance(listed := _literal(text), list):
        text = _plain(listed) or text
    for kind in ("openers", "hedges"):
        opening = table.patterns[kind].match(text)
        if opening and opening.end() < len(text):
            text = text[opening.end() :].lstrip(" ,")
    head, comma, tail = text.rpartition(",")
    if comma and table.patterns["hedges"].fullmatch(tail.strip()):
        text = head
    text = without_note(text)
    ending = next((each for each in table.words["endings"] if text.endswith(each)), "")
    return text.removesuffix(ending).strip() or text.strip()


def without_note(text: str) -> str:
    """A value without what is said of it in brackets: "42 (forty-two)", but not "2 (x+1)"."""
    head, bracket, note = text.rpartition("(")
    if not bracket or not note.endswith(")"):
        return text
    head = head.rstrip()
    value = form(head)
    again = bool(re.search(r"[^\W\d_]{3}", note)) or form(note[:-1]) == value
    return head if isinstance(value, Number) and again else text


def without_contrast(text: str, table: Phrases) -> str:
    """A text without what it says to be not so: "Venus, not Mars"."""
    return table.within(_CONTRAST).sub("", text)


def tokens_of(text: str) -> list[str]:
    return [token.casefold() for token in TOKENS.findall(text)]
