"""A text in the pieces that numbers and names are read off."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from ttrl.meaning import words

LONGEST = 100
"""Signs of a number that is read: models ramble, and Python refuses to read more than some thousand
digits."""

_HAN = "[\u3400-\u9fff]"
_HAN_NUMERAL = f"[一{''.join(words.HAN_DIGITS)}{''.join(words.HAN_SCALES)}]"
MINUS = "−"
"""What a minus is, and no hyphen is after `spelled`."""
_CURRENCY = "[$€£¥]"
_MINUS = re.compile(
    rf"(?<![^\s(\[=:<>~≈$€£¥是为在到至从约于达])(?<!\d{_CURRENCY})(?<!\d {_CURRENCY})"
    rf"[-–](?={_CURRENCY}?\d)"
)  # in "-5" and "-$5", not in "10-12", "5 €-7 €" or "covid-19"
_SIGNS = {
    "°C": " celsius ", "°F": " fahrenheit ", "°": " degree ", "%": " percent ", "$": " dollar ",
    "€": " euro ", "£": " pound ", "¥": " yen ", "零下": MINUS, "’": "'",
}  # fmt: skip
_PHRASES = (
    (re.compile(r"\b(?:degrees?|Grad)\s+(celsius|fahrenheit)", re.IGNORECASE), r"\1"),
    (re.compile(rf"百分之({_HAN_NUMERAL}+|\d[\d.]*)"), r"\1 percent "),
    (re.compile(r"(?<=\d)-(?=[^\W\d_]{3})"), " "),  # a 30-day limit is one of 30 days
)
_DIGITS = r"\d+(?:[.,:]\d+)*"
_WORD = r"[^\W\d_]+(?:['-][^\W\d_]+)*"
_CODE = r"(?=[A-Za-z\d-]*\d)(?=[A-Za-z\d-]*[A-Za-z])[A-Za-z\d][A-Za-z\d-]*[A-Za-z\d]"
_TOKEN = re.compile(
    rf"{MINUS}|{_CODE}|{_DIGITS}|{_HAN_NUMERAL}{{1,{LONGEST}}}|(?:(?!{_HAN_NUMERAL}){_HAN})+|{_WORD}"
    "|[.!?。！？\n]"
)
_SENTENCE_ENDS = frozenset(".!?。！？\n")


@dataclass(frozen=True)
class Token:
    """A word, a code, a number in digits, a run of Chinese, or a minus."""

    text: str
    begins: bool
    """Whether a sentence begins with it."""

    @property
    def plain(self) -> str:
        """Without regard to case."""
        return self.text.casefold()


def spelled(text: str) -> str:
    """With words in place of the signs of units and currencies."""
    said = unicodedata.normalize("NFKC", text).replace(MINUS, "-")
    said = _MINUS.sub(MINUS, said)
    for sign, word in _SIGNS.items():
        said = said.replace(sign, word)
    for phrase, plain in _PHRASES:
        said = phrase.sub(plain, said)
    return said


def tokens(text: str) -> list[Token]:
    """The pieces of a text, without its punctuation."""
    found, begins = [], True
    for token in _TOKEN.findall(spelled(text)):
        if token in _SENTENCE_ENDS:
            begins = True
            continue
        found.append(Token(token, begins))
        begins = False
    return found


def is_han(word: str) -> bool:
    """Whether a word begins with a Chinese sign."""
    return bool(re.match(_HAN, word))
