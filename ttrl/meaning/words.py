"""Words that tell texts apart: names, opposites, denial."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

NUMERALS = {
    "zero": 0, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8,
    "nine": 9, "ten": 10, "eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14, "fifteen":
    15, "sixteen": 16, "seventeen": 17, "eighteen": 18, "nineteen": 19, "twenty": 20, "null": 0,
    "zwei": 2, "drei": 3, "vier": 4, "fünf": 5, "sechs": 6, "sieben": 7, "acht": 8, "neun": 9,
    "zehn": 10, "elf": 11, "zwölf": 12, "dreizehn": 13, "vierzehn": 14, "fünfzehn": 15,
    "sechzehn": 16, "siebzehn": 17, "achtzehn": 18, "neunzehn": 19, "zwanzig": 20, "thirty": 30,
    "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90, "dreißig":
    30, "vierzig": 40, "fünfzig": 50, "sechzig": 60, "siebzig": 70, "achtzig": 80, "neunzig": 90,
    "twice": 2, "zweimal": 2, "dreimal": 3, "half": 0.5, "halb": 0.5, "halbe": 0.5,
}  # fmt: skip
"""Number words, but for those that are articles as well."""
SCALES = {
    "dozen": 12, "dutzend": 12, "hundred": 100, "hundert": 100, "thousand": 10**3, "tausend": 10**3,
    "million": 10**6, "millionen": 10**6, "mio": 10**6, "billion": 10**9, "milliarde": 10**9,
    "milliarden": 10**9, "mrd": 10**9, "trillion": 10**12, "billionen": 10**12, "百": 100,
    "千": 10**3, "万": 10**4, "百万": 10**6, "千万": 10**7, "亿": 10**8,
}  # fmt: skip
"""What the number before is multiplied with, in digits or in words."""
_ORDINALS = """
second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth
zweite dritte vierte fünfte sechste siebte _ neunte zehnte elfte zwölfte
"""
ORDINALS = {
    word + ending: number
    for line, endings in zip(
        _ORDINALS.split("\n")[1:3], (("",), ("", "r", "s", "n", "m")), strict=True
    )
    for number, word in enumerate(line.split(), start=2)
    for ending in endings
}
"""Not "first", which is said of whatever begins, nor "achte", which is a verb as well."""

HAN_DIGITS = {
    "零": 0, "二": 2, "两": 2, "三": 3, "四": 4, "五": 5, "六": 6, "七": 7, "八": 8, "九": 9,
}  # fmt: skip
HAN_SCALES = {"十": 10, "百": 100, "千": 1000, "万": 10**4, "亿": 10**8}

UNITS = frozenset({
    "second", "minute", "hour", "day", "week", "month", "quarter", "year", "decade", "century",
    "percent", "degree", "celsius", "fahrenheit", "kelvin", "mm", "cm", "dm", "m", "km",
    "inch", "foot", "yard", "mile", "mg", "g", "kg", "ton", "tonne", "ounce", "pound", "ml", "cl",
    "l", "liter", "litre", "gallon", "cup", "teaspoon", "tablespoon", "volt", "watt", "kilowatt",
    "ampere", "newton", "bar", "pascal", "hertz", "byte", "kb", "mb", "gb", "tb", "euro",
    "dollar", "cent", "yen", "yuan", "franc", "sekunde", "stunde", "tag", "woche", "monat",
    "quartal", "jahr", "jahrzehnt", "jahrhundert", "grad", "zoll", "meile", "gramm", "milliliter",
    "teelöffel", "esslöffel", "tasse", "秒", "分钟", "小时", "天", "日", "周", "星期", "月", "个月",
    "年", "度", "摄氏度", "华氏度", "毫米", "厘米", "米", "公里", "克", "公斤", "千克", "吨",
    "毫升", "升", "元", "third", "μg", "ng", "μl", "μm", "nm", "kv", "mv", "kw", "mw", "kwh", "hz",
    "khz", "mhz", "ghz", "psi", "acre", "hectare", "hektar",
})  # fmt: skip
"""What changes a quantity when it is exchanged; of other words behind a number one may stand for
another ("3 phones", "3 devices")."""
UNIT_NAMES = {
    "prozent": "percent", "eur": "euro", "usd": "dollar", "gbp": "pound", "mcg": "μg", "min":
    "minute", "sec": "second", "hr": "hour",
}  # fmt: skip
"""Other ways to write some of them."""
CURRENCIES = frozenset({"euro", "dollar", "pound", "yen", "yuan", "franc"})
"""Those that may stand before the number."""

NEGATORS = frozenset({
    "not", "no", "never", "none", "nobody", "nothing", "nowhere", "neither", "cannot", "without",
    "hardly", "unable", "nicht", "kein", "keine", "keinen", "keinem",
    "keiner", "nie", "niemals", "niemand", "nichts", "ohne", "weder", "kaum", "statt",
})  # fmt: skip
NEGATED = "n't"
"""Ending of a verb that is negated."""
OF_NEGATION = frozenset({"any", "anymore", "longer", "länger", "mehr", "noch", "yet"})
"""What belongs to a negator that it follows: "no longer valid", "gilt nicht mehr"."""
NEGATES_BACK = frozenset({"nicht", "nichts", "nie", "niemals", "never", "nothing"})
"""What turns the word before at the end of a clause. In English "not" does not: "nitrile isn't"
says of nitrile that it is not what was spoken of."""
NEGATED_BY_PREFIX = (
    "legal", "lawful", "possible", "probable", "safe", "likely", "available", "necessary", "valid",
    "suitable", "reliable", "reversible", "accessible", "acceptable", "compatible", "healthy",
    "true", "gefährlich", "gültig", "kompatibel", "möglich", "nötig", "rechtmäßig", "schädlich",
    "sicher", "wahrscheinlich", "wirksam", "zulässig",
)  # fmt: skip
"""What "un-" or "il-" turns round: adjectives that say the whole of a sentence, and no others,
since who says that this one is opened may well speak of unopened ones."""
HAN_NEGATORS = frozenset("不没無无未别勿莫非")
NOT_NEGATING = (
    "不过", "不仅", "不但", "不同", "无论", "非常", "除非", "别人", "别的", "不管", "未来",
    "oder nicht", "or not",
)  # fmt: skip
_CLAUSE_WORDS = """
because since although though but while if when unless until as and so
weil da obwohl aber und wenn sondern damit
"""
CLAUSE_WORDS = frozenset(_CLAUSE_WORDS.split())
"""Words with which another clause begins: no negation reaches over them."""

AFFIRMERS = frozenset({
    "yes", "yeah", "correct", "right", "true", "ja", "doch", "richtig",
})  # fmt: skip
DENIERS = frozenset({"nope", "incorrect", "wrong", "false", "nein", "falsch"})
"""What an answer begins with that says the whole of it; "no" is a negator as well."""
HAN_AFFIRMERS = ("是的", "对", "可以")
HAN_DENIERS = ("不是", "不对", "不可以", "不行")

_OPPOSED = (
    ("before earlier until vorher bevor vor zuvor 之前 以前",
     "after afterwards later following nachher nachdem nach danach 之后 以后"),
    ("increase increases increased rise rises rose raise raises raised grow grows grew higher "
     "steigt steigen erhöht höher 增加 上升 升高 提高",
     "decrease decreases decreased fall falls fell lower lowers lowered reduce reduces reduced "
     "drop drops sinkt sinken senkt niedriger verringert 减少 下降 降低"),
    ("more mehr 更多", "less fewer weniger 更少"),
    ("above oberhalb 以上", "below unterhalb 以下"),
    ("maximum most höchstens maximal 最多 最大", "minimum least mindestens minimal 最少 最小"),
    ("always immer stets 总是", "sometimes occasionally manchmal gelegentlich 有时"),
    ("left links 左", "right rechts 右"),
    ("open opened opens öffnen offen 打开", "close closed closes schließen geschlossen 关闭"),
    ("hot warm heiß 热", "cold cool kalt 冷"),
    ("inside innerhalb 内", "outside außerhalb 外"),
    ("accept accepts accepted annehmen", "reject rejects rejected ablehnen"),
    ("early früh", "late spät"),
    ("buy buys bought kaufen 买", "sell sells sold verkaufen 卖"),
    ("start starts started begin begins began beginnen 开始",
     "stop stops stopped end ends ended enden 结束"),
    ("add adds added hinzufügen 加入", "remove removes removed entfernen 去掉"),
    ("allow allows allowed permit permits permitted erlaubt erlauben 允许",
     "forbid forbids forbidden prohibit prohibits prohibited verboten verbieten 禁止"),
)  # fmt: skip
OPPOSED = tuple(tuple(frozenset(side.split()) for side in pair) for pair in _OPPOSED)
"""Pairs of sides; a text with a word of only the one contradicts a text with a word of only the
other."""

_FUNCTION_WORDS = """
a an the this that these those it its he him his she her hers they them their theirs we us our you
your i me my is are was were be been being am do does did has have had having will would shall
should may might can could must to of in on at by for with from into as and or so then there here
which who whom whose what when where how than too very just also already s t d ll m re ve
der die das dem den des ein eine einen einem einer eines er sie es ihm ihn ihr ihre ihren wir uns
unser sich ist sind war waren sein wird werden wurde hat haben hatte kann können muss müssen soll
sollen darf zu zum zur von vom in im an am auf aus bei mit für und oder so dann da hier der welche
was wie als auch dass schon bereits 的 了 是 在 就 也 和 与 地 得 着 吧 呢 吗 啊 这 那 个 要 会
"""
FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())
"""Words that carry little of what a sentence says by themselves."""

_GERMAN = "der die das und ist nicht ein eine einen wird werden auf mit sich im"
GERMAN = frozenset(_GERMAN.split())
"""Words by two of which a text is German."""

HEDGES = (
    r"\bit (?:all )?depends\b", r"\bdepends on (?:many|several|various|the (?:case|situation))",
    r"\b(?:not|n't) (?:be )?(?:quite |entirely )?(?:sure|certain)\b", r"\bhard to (?:say|tell)\b",
    r"\b(?:perhaps|maybe|possibly|presumably)\b", r"\bmay or may not\b", r"\bmight or might not\b",
    r"\bcannot (?:say|tell|know)\b", r"\bcan't (?:say|tell|know)\b", r"\bcould be either\b",
    r"\bon the (?:one|other) hand\b", r"\bsome (?:would )?say\b", r"\beither way\b",
    r"\bes (?:kommt darauf an|hängt davon ab)\b", r"\bvielleicht\b", r"\bmöglicherweise\b",
    r"\bschwer zu sagen\b", r"\bnicht sicher\b", "也许", "可能是", "不确定",
    "不好说", "视情况", "看情况",
)  # fmt: skip
"""Patterns of what is said to be committed to nothing."""


LONGEST = 100
"""Signs of a number that is read: models ramble, and Python refuses to read more than some thousand
digits."""

_HAN = "[\u3400-\u9fff]"
_HAN_NUMERAL = f"[一{''.join(HAN_DIGITS)}{''.join(HAN_SCALES)}]"
MINUS = "−"
"""In a tokenized text, a minus and not a hyphen."""
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
        return self.text.casefold()


def tokens(text: str) -> list[Token]:
    """Return the pieces of a text, without its punctuation, with words in place of the signs of
    units and currencies."""
    text = unicodedata.normalize("NFKC", text).replace(MINUS, "-")
    text = _MINUS.sub(MINUS, text)
    for sign, word in _SIGNS.items():
        text = text.replace(sign, word)
    for phrase, plain in _PHRASES:
        text = phrase.sub(plain, text)
    found, begins = [], True
    for token in _TOKEN.findall(text):
        if token in _SENTENCE_ENDS:
            begins = True
            continue
        found.append(Token(token, begins))
        begins = False
    return found


@lru_cache(maxsize=10_000)
def is_han(word: str) -> bool:
    return bool(re.match(_HAN, word))


STEM = 5
"""Letters by which "return" and "returned" are one word."""

_DENIED_TOKEN = re.compile(r"[\u3400-\u9fff]|[^\W_]+(?:'[^\W_]+)*|[.,;:!?。！？；：\n]")
_BASES = "|".join(NEGATED_BY_PREFIX)
_PREFIXED = re.compile(rf"(?:un|in|im|il|ir)(?=(?:{_BASES}))")
_ANY_WORD = re.compile(r"\w")
_LITTLE = FUNCTION_WORDS | AFFIRMERS | DENIERS


@dataclass(frozen=True)
class Denial:
    """The stems of the words that are denied and of those that are not; `verdict` is what a yes (1)
    or a no (-1) says that the text begins or ends with, else 0."""

    denied: frozenset[str]
    said: frozenset[str]
    verdict: int

    def contradicts(self, other: Denial) -> bool:
        """Whether one denies what the other says, or they begin with yes and no."""
        return bool(
            self.verdict * other.verdict < 0
            or self.denied & (other.said - other.denied)
            or other.denied & (self.said - self.denied)
        )


def denial(text: str) -> Denial:
    """What is denied in a text. One that tells nothing else is a yes or a no ("it does not")."""
    text = unicodedata.normalize("NFKC", text).replace("’", "'")
    for phrase in NOT_NEGATING:
        text = text.replace(phrase, "\n")
    tokens = _DENIED_TOKEN.findall(text)
    plain = [token.casefold() for token in tokens]
    clauses = [_read(clause) for clause in _clauses(tokens[plain[:1] == ["no"] :])]
    told = [word for words, _ in clauses for word in words]
    left_over = any(turned for _, turned in clauses)
    denied = frozenset(each.stem for each in told if each.turned)
    said = frozenset(each.stem for each in told if not each.turned)
    bare = 0 if told or not tokens else -1 if left_over else 1
    return Denial(denied, said, _verdict(plain) or bare)


@dataclass
class _Told:
    word: str
    turned: bool

    @property
    def stem(self) -> str:
        return self.word.casefold()[:STEM]


def _clauses(tokens: list[str]) -> Iterator[list[str]]:
    """No negation reaches over the end of one."""
    clause: list[str] = []
    for token in tokens:
        if _ANY_WORD.match(token) and token.casefold() not in CLAUSE_WORDS:
            clause.append(token)
        else:
            yield clause
            clause = []
    yield clause


def _read(clause: list[str]) -> tuple[list[_Told], bool]:
    """A clause's telling words, and whether a negation is left over."""
    told: list[_Told] = []
    turned = False
    last = ""
    for word in clause:
        plain = word.casefold()
        if turned and plain in OF_NEGATION:
            continue
        last = plain
        if plain in NEGATORS or plain in HAN_NEGATORS or plain.endswith(NEGATED):
            turned = not turned
        elif plain not in _LITTLE:
            base = _PREFIXED.sub("", plain, count=1)
            told.append(_Told(base if base != plain else word, turned != (base != plain)))
            turned = False
    small = [each for each in told if each.word.islower()]
    if turned and small and last in NEGATES_BACK:
        small[-1].turned, turned = not small[-1].turned, False
    return told, turned


def _verdict(tokens: list[str]) -> int:
    """By the first word or the last one ("so the answer is no")."""
    begun = "".join(tokens[:3])  # of Chinese each sign is a token
    first = tokens[0] if tokens else ""
    affirms = first in AFFIRMERS or begun.startswith(HAN_AFFIRMERS)
    denies = first in DENIERS | {"no"} or begun.startswith(HAN_DENIERS)
    last = next((token for token in reversed(tokens) if _ANY_WORD.match(token)), "")
    return affirms - denies or (last in ("yes", "ja")) - (last in ("no", "nein"))
