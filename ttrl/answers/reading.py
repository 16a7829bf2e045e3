"""From a model's whole answer to the words of its final answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from ttrl.answers.cleaning import spoken
from ttrl.answers.forms import is_number, is_prose
from ttrl.answers.letters import announced_letters, judged_letter, letter_line, lone_letter
from ttrl.config import AnswerKind

MAX_ANSWER_CHARS = 500
"""A longer final answer is no short answer: it is unreadable."""
MAX_FREE_CHARS = 20_000
"""And so is a longer free text."""
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
    if _lists_options(question) and (not answers or _share(answers, _names_letter) >= 0.5):
        return AnswerKind.CHOICE
    if _LATEX.search(question) or _share(answers, _looks_mathematical) > 0.5:
        return AnswerKind.MATH
    if _asks_value(question) and _share(answers, _only_says_sentences) <= 0.5:
        return AnswerKind.MATH
    return AnswerKind.FREE if _share(answers, _says_sentences) > 0.5 else AnswerKind.TEXT


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
    answer = _READERS[kind](said)
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
    announced = announced_letters(_announcements(text))
    if announced:
        return announced.pop() if len(announced) == 1 else None
    alone = None if "\n" in text.strip() else lone_letter(text)
    return judged_letter(text) or alone or letter_line(text)


def _read_free(text: str) -> str:
    return text


def _read_text(text: str) -> str | None:
    boxed = last_box(text)
    return boxed if boxed is not None else _announced(text) or text


_READERS: dict[AnswerKind, Callable[[str], str | None]] = {
    AnswerKind.MATH: _read_math,
    AnswerKind.CHOICE: _read_choice,
    AnswerKind.TEXT: _read_text,
    AnswerKind.FREE: _read_free,
}


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
    """What stands behind each "the answer is", up to the end of its sentence."""
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


def _lists_options(question: str) -> bool:
    letters = _OPTION.findall(question + " ")
    return {"A", "B"} <= set(letters)


def _asks_value(question: str) -> bool:
    asks = any(map(str.isdigit, question)) and _ASKS_VALUE.search(question)
    return bool(asks or _SUM.search(question))


def _share(answers: Sequence[str], holds: Callable[[str], bool]) -> float:
    return sum(map(holds, answers)) / len(answers) if answers else 0.0


def _names_letter(answer: str) -> bool:
    return read(answer, AnswerKind.CHOICE) is not None


def _says_sentences(answer: str, word: re.Pattern[str] = _WORDS) -> bool:
    said = _read_text(spoken(answer) or "") or ""
    return len(word.findall(said)) + len(_SIGNS.findall(said)) / 2 > FEW_WORDS


def _only_says_sentences(answer: str) -> bool:
    """Of more than terms of a sum, with no value at the end."""
    return _says_sentences(answer, _LETTERS) and read(answer, AnswerKind.MATH) is None


def _looks_mathematical(answer: str) -> bool:
    if last_box(answer) is not None:
        return True
    found = read(answer, AnswerKind.MATH)
    return found is not None and is_number(found)
