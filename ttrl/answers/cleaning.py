"""From a model's text to the part that may hold an answer."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

_FUNCTIONS = """
sqrt sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log ln exp lim max min gcd lcm det
mod deg arg sgn frac infty inf pi
"""
FUNCTIONS = frozenset(_FUNCTIONS.split())
"""Names in running letters that are mathematics and no words."""

DOLLAR = "＄"
"""Stands for a dollar of money while those of math mode are taken off."""

_RAISED = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+")
_LOWERED = re.compile("[₀-₉]+")
_ROOT = re.compile(r"√ ?(\d+|\w|\([^()]*\))")
_SYMBOLS = {
    "−": "-", "–": "-", "‐": "-", "‑": "-", "⁄": "/", "÷": "/", "×": r"\times ", "·": r"\cdot ",
    "⋅": r"\cdot ", "√": r"\sqrt ", "π": r"\pi ", "∞": r"\infty ", "≤": r"\le ", "≥": r"\ge ",
    "≠": r"\ne ", "±": r"\pm ", "∓": r"\mp ", "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ",
    "∅": r"\emptyset ", "°": r"^\circ ", "θ": r"\theta ", "’": "'", "：": ":",
}  # fmt: skip
_SYMBOL = re.compile("|".join(_SYMBOLS))
_VULGAR = re.compile("([¼-¾⅐-⅞])")

_REWRITES = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\\(?:left|right|[bB]igg?[lrm]?)(?![A-Za-z])\.?", ""),
        (r"\\(?:displaystyle|textstyle|limits|nolimits)(?![A-Za-z])", ""),
        (r"\{,\}", ","),
        (r"(?<!\\)\\!\s*", ""),
        (r"(?<!\\)\\(?:[,;: ]|q?quad(?![A-Za-z]))|~", " "),
        (r"\\[dtc]frac(?![A-Za-z])", r"\\frac"),
        (r"\\frac\s*([0-9A-Za-z])\s*(?=[0-9A-Za-z{\\])", r"\\frac{\1}"),
        (r"(\\frac\{[^{}]*\})\s*([0-9A-Za-z])", r"\1{\2}"),
        (r"\\sqrt\s*([0-9A-Za-z])", r"\\sqrt{\1}"),
        (r"(?<![\\A-Za-z])sqrt\s*\(([^()]*)\)", r"\\sqrt{\1}"),
        (r"(?<![\\A-Za-z])(pi|sin|cos|tan|cot|log|ln|infty)(?![A-Za-z])", r"\\\1 "),
        (r"\\(?:mbox|hbox|mathrm|mathbf|textbf|textit|textrm|mathit|bf|rm|operatorname)\s*\{",
         r"\\text{"),
        (r"\\(?:leq|leqslant|leqq)(?![A-Za-z])|<=", r"\\le "),
        (r"\\(?:geq|geqslant|geqq)(?![A-Za-z])|>=", r"\\ge "),
        (r"\\not\s*=|=/=|!=|\\neq(?![A-Za-z])", r"\\ne "),
        (r"\\varnothing(?![A-Za-z])", r"\\emptyset"),
        (r"\\lbrace(?![A-Za-z])", r"\\{"),
        (r"\\rbrace(?![A-Za-z])", r"\\}"),
        (r"\\text\s*\{\s*(and|or)\s*\}", r" \1 "),
        (r"\^\s*\{\s*\\circ\s*\}|\\degree(?![A-Za-z])|\^\s*\\circ(?![A-Za-z])", r"^\\circ "),
        (r"([_^])\s*\{\s*(\w)\s*\}", r"\1\2"),
        (r"\\colon(?![A-Za-z])", ":"),
        (r"\\[cl]?dots(?![A-Za-z])|…", "..."),
        (r"\\%", "%"),
        (r"\*\*", "^"),
        (r"\s+", " "),
    )
)  # fmt: skip
_TEXT = re.compile(r"\\text\s*\{([^{}]*)\}")
_DISPLAY = re.compile(r"\\[()\[\]]")
MARKS: tuple[tuple[str, str], ...] = (
    ("<think>", "</think>"),  # DeepSeek-R1, Qwen3, GLM, Olmo 3, ERNIE, MiniMax-M2, Step3, ...
    ("<mm:think>", "</mm:think>"),  # MiniMax-M3
    ("<seed:think>", "</seed:think>"),  # Seed-OSS
    ("<ifm|think>", "</ifm|think>"),  # K2 Horizon; the next two with less reasoning effort
    ("<ifm|think_fast>", "</ifm|think_fast>"),
    ("<ifm|think_faster>", "</ifm|think_faster>"),
    ("[THINK]", "[/THINK]"),  # Magistral
    ("<|START_THINKING|>", "<|END_THINKING|>"),  # Command A Reasoning
    ("<|channel|>analysis<|message|>", "<|channel|>final<|message|>"),  # gpt-oss (Harmony)
    ("<|channel>", "<channel|>"),  # Gemma 4
    ("Here is my thought process:", "Here is my response:"),  # Granite 3.2
    ("Here's my thought process:", "Here's my response:"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),  # Sky-T1, OpenThinker: their system prompt
    ("<thinking>", "</thinking>"),  # as prompts ask for it, as well as the next
    ("<reasoning>", "</reasoning>"),
)
"""Beginning and end. Where no other source is named: vllm/reasoning and vllm/parser, vLLM 0.32."""


def clean(text: str) -> str:
    """The answer without mark-up, math mode, spacing commands and other ways to write the same."""
    text = _RAISED.sub(lambda digits: f"^{{{_normal(digits[0])}}}", _VULGAR.sub(r" \1", text))
    text = _LOWERED.sub(lambda digits: f"_{{{_normal(digits[0])}}}", text)
    text = _ROOT.sub(r"\\sqrt{\1}", text)
    text = _SYMBOL.sub(lambda symbol: _SYMBOLS[symbol[0]], _normal(text))
    text = _outside_math_mode(text).strip(" *`_")
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    text = text.strip().removesuffix(".").strip()
    whole = _TEXT.fullmatch(text)
    return whole[1].strip() if whole else text


def _normal(text: str) -> str:
    return unicodedata.normalize("NFKC", text)


def unwrap_text(text: str) -> str:
    return _TEXT.sub(r"\1", text)


def _outside_math_mode(text: str) -> str:
    """Dollars in pairs and \\(...\\) are mark-up; a dollar of its own is money."""
    text = _DISPLAY.sub("", text.replace(r"\$", DOLLAR))
    text = text.replace("$$", "$").strip()
    return text.replace("$", DOLLAR if text.count("$") % 2 else "")


def spoken(text: str) -> str | None:
    """Return what is said after thinking; None if the thinking never ended."""
    for begin, end in MARKS:
        _, ended, said = text.rpartition(end)
        if ended:
            return said
        if begin in text:
            return None
    return text


def without_thoughts(texts: Sequence[str]) -> list[str]:
    """Return the texts of one question, those emptied that are still thinking. Where at least half
    of them end a thought that they did not begin, the prompt began it, and a text that does not end
    it is nothing but thoughts."""
    spoken_in = [text for text in texts if text.strip()]
    for begin, end in MARKS:
        ended = [end in text and begin not in text.partition(end)[0] for text in spoken_in]
        if any(ended) and sum(ended) * 2 >= len(spoken_in):
            return [text if begin in text or end in text else "" for text in texts]
    return list(texts)


def opened(prompt: str) -> str:
    """Return the mark of thinking that a prompt ends with, or an empty string."""
    end = prompt.rstrip()
    return next((begin for begin, _ in MARKS if end.endswith(begin)), "")
