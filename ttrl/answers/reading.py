"""From a model's whole answer to the words of its final answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from statistics import fmean

from ttrl.answers.cleaning import spoken
from ttrl.answers.forms import is_number, is_prose
from ttrl.config import AnswerKind

MAX_ANSWER_CHARS = 500
MAX_FREE_CHARS = 20_000
"""Longer answers are unreadable."""
FEW_WORDS = 6
"""More of them are no short answer but a sentence. Two signs of Chinese count as one."""

_OPTION = re.compile(r"(?:^|[\s{*])\(?([A-J])[.):]\**\s", re.MULTILINE)
_LATEX = re.compile(r"\$[^$\n]+\$|\\(?:frac|sqrt|\(|\[)")
_SUM = re.compile(r"\d\s*[-+*/^×÷]\s*\(?\d")
_ASKS_VALUE = re.compile(
    r"how (?:many|much)|\b(?:calculate|compute|evaluate|solve|simplify|find)\b"
    r"|what is the (?:\w+ )?(?:value|sum|difference|product|quotient|remainder|probability"
    r"|area|volume|perimeter|number|total|average|mean)\b",
    re.IGNORECASE,
)

_PHRASE = re.compile(
    r"(?:\banswers?|\bantwort|\blösung|答案|\bcorrect (?:option|choice))[*_]*\s*"
    r"(?:(?:is|are|ist|lautet)(?!\w|n't|\s+(?:not|nicht)\b)|[是为=:：])[\s*_:：]*"
    r"|\bi (?:choose|pick|select)\b\s*|选择?(?!项)[是为:：]?\s*|####\s*",
    re.IGNORECASE,
)
_UNTRUE = re.compile(
    r"(?:\b(?:wrong|incorrect|false|not an?|not the|falschen?|falsche|keine?)|错误的?|不)\W*$",
    re.IGNORECASE,
)
_SENTENCE = re.compile(r"\.(?=\s|$)|。|\n")
_MATH_MODE = re.compile(r"\$((?:[^$\\]|\\.)+)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]")
_REASON = re.compile(r"[\s,]+(?:because|since|as|which|so|weil|da)\b")

_BRACES = re.compile(r"\\(?:boxed|fbox)\s*\{|\\.|[{}]", re.DOTALL)
_SIGNS = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]")
_WORDS = re.compile(r"[^\W_\u3040-\u30ff\u3400-\u9fff]+")
_LETTERS = re.compile(r"\b[^\W\d_\u3040-\u30ff\u3400-\u9fff]+\b")
_SURROGATE = re.compile("[\ud800-\udfff]")

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


def kind_of(question: str, answers: Sequence[str] = ()) -> AnswerKind:
    """The kind of a question, from its text and, if given, samples of its answers.

    Choice: the question lists options from A on, such as "(A) ... (B) ..." or lines "A. ...",
    and at least half of the answers name a letter. Mathematics: the question holds LaTeX, or most
    answers hold a box or announce a number, or the question holds a sum in digits, or digits and
    words that ask for a value; but not those last ("How do I find the manual of the RX-200?") where
    most answers are sentences with no value to be read. Of the others those are free whose answers
    mostly are sentences; all else is text.
    """
    answers = [answer for answer in answers if answer.strip()]

    def share(holds: Callable[[str], bool]) -> float:
        return fmean(map(holds, answers)) if answers else 0.0

    if {"A", "B"} <= set(_OPTION.findall(question + " ")) and (
        not answers or share(lambda answer: read(answer, AnswerKind.CHOICE) is not None) >= 0.5
    ):
        return AnswerKind.CHOICE
    if _LATEX.search(question) or share(_looks_mathematical) > 0.5:
        return AnswerKind.MATH
    asks_value = any(map(str.isdigit, question)) and _ASKS_VALUE.search(question)
    if (asks_value or _SUM.search(question)) and share(_only_says_sentences) <= 0.5:
        return AnswerKind.MATH
    return AnswerKind.FREE if share(_says_sentences) > 0.5 else AnswerKind.TEXT


def read(text: str, kind: AnswerKind) -> str | None:
    """The final answer in `text` as it is written there; None where nothing can be read.

    The last balanced box decides, an empty one included; then the last "the answer is ...";
    then, for mathematics, a last line that is a lone number, for choices a line that is or
    starts with a letter, for text the whole. Of free text it is always the whole. Thinking is not
    read.
    """
    said = spoken(text)
    if said is None or _SURROGATE.search(said):
        return None
    match kind:
        case AnswerKind.MATH:
            answer = _read_math(said)
        case AnswerKind.CHOICE:
            answer = _read_choice(said)
        case AnswerKind.TEXT:
            answer = _read_text(said)
        case AnswerKind.FREE:
            answer = said
    most = MAX_FREE_CHARS if kind is AnswerKind.FREE else MAX_ANSWER_CHARS
    if answer is None or len(answer) > most or not any(map(str.isalnum, answer)):
        return None
    return answer.strip()


def _read_math(text: str) -> str | None:
    boxed = last_box(text)
    if boxed is not None:
        return boxed
    announced = _announced(text)
    if announced is not None:
        return None if is_prose(announced) else announced
    lines = text.strip().splitlines()
    last = lines[-1].strip(" *_") if lines else ""
    return last if len(last) <= MAX_ANSWER_CHARS and is_number(last) else None


def _read_choice(text: str) -> str | None:
    boxed = last_box(text)
    if boxed is not None:
        return lone_letter(boxed)
    announced = _announced_letters(_announcements(text))
    if announced:
        return announced.pop() if len(announced) == 1 else None
    alone = None if "\n" in text.strip() else lone_letter(text)
    return _judged_letter(text) or alone or _letter_line(text)


def _read_text(text: str) -> str | None:
    boxed = last_box(text)
    return boxed if boxed is not None else _announced(text) or text


def last_box(text: str) -> str | None:
    r"""What the last balanced \boxed{} or \fbox{} holds; the inner one of two nested."""
    opened: list[int | None] = []
    best: tuple[int, int] | None = None
    for token in _BRACES.finditer(text):
        if token[0] == "}":
            start = opened.pop() if opened else None
            if start is not None and (best is None or start > best[0]):
                best = start, token.start()
        elif token[0].endswith("{") and token[0] != r"\{":
            opened.append(None if token[0] == "{" else token.end())
    return None if best is None else text[best[0] : best[1]]


def _announcements(text: str) -> list[str]:
    """Return what stands behind each "the answer is", up to the end of its sentence."""
    found = []
    for phrase in _PHRASE.finditer(text):
        if _UNTRUE.search(text[max(0, phrase.start() - 20) : phrase.start()]):
            continue
        rest = text[phrase.end() : phrase.end() + MAX_ANSWER_CHARS + 1]
        found.append(_SENTENCE.split(rest, maxsplit=1)[0].strip(" *_"))
    return [tail for tail in found if tail]


def _announced(text: str) -> str | None:
    tails = _announcements(text)
    if not tails:
        return None
    mode = _MATH_MODE.match(tails[-1])
    if mode:
        return str(next(filter(None, mode.groups())))
    return _REASON.split(tails[-1], maxsplit=1)[0]


def _says_sentences(answer: str, word: re.Pattern[str] = _WORDS) -> bool:
    said = _read_text(spoken(answer) or "") or ""
    return len(word.findall(said)) + len(_SIGNS.findall(said)) / 2 > FEW_WORDS


def _only_says_sentences(answer: str) -> bool:
    """Whether it has more than the terms of a sum, and no value at the end."""
    return _says_sentences(answer, _LETTERS) and read(answer, AnswerKind.MATH) is None


def _looks_mathematical(answer: str) -> bool:
    if last_box(answer) is not None:
        return True
    found = read(answer, AnswerKind.MATH)
    return found is not None and is_number(found)


def lone_letter(text: str) -> str | None:
    """The letter that the whole text is: "B", "(b)", "\\text{(B)}" or "B. Paris" in a box."""
    letter = _LETTER.match(text)
    if letter is None:
        return None
    alone = letter.end() == len(text)
    punctuated = text[letter.end(1) : letter.end(1) + 1] in (".", ")", ":")
    return letter[1].upper() if alone or (punctuated and len(text) < 200) else None


def _announced_letters(tails: Sequence[str]) -> set[str]:
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


def _judged_letter(text: str) -> str | None:
    """The last one that is called right, but for "neither A nor B is right"."""
    found = None
    for judged in _JUDGED_LETTER.finditer(text):
        clause = _CLAUSE.split(text[: judged.start()])[-1]
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
