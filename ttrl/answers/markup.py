"""One way of writing for the many in which LaTeX and Unicode write the same."""

from __future__ import annotations

import re
import unicodedata

from ttrl.answers.units import DOLLAR

_RAISED = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+")
_LOWERED = re.compile("[₀-₉]+")
_ROOT = re.compile(r"√ ?(\d+|\w|\([^()]*\))")
_SYMBOLS = {
    "−": "-", "–": "-", "‐": "-", "‑": "-", "⁄": "/", "÷": "/", "×": r"\times ", "·": r"\cdot ",
    "⋅": r"\cdot ", "√": r"\sqrt ", "π": r"\pi ", "∞": r"\infty ", "≤": r"\le ", "≥": r"\ge ",
    "≠": r"\ne ", "±": r"\pm ", "∓": r"\mp ", "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ",
    "∅": r"\emptyset ", "°": r"^\circ ", "θ": r"\theta ",
    "∧": r"\land ", "∨": r"\lor ", "→": r"\to ",
    "⇒": r"\to ", "’": "'", "：": ":",
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
        (r"\\(?:ce|mbox|hbox|mathrm|mathbf|textbf|textit|textrm|mathit|bf|rm|operatorname)\s*\{",
         r"\\text{"),
        (r"\\(?:leq|leqslant|leqq)(?![A-Za-z])|<=", r"\\le "),
        (r"\\(?:geq|geqslant|geqq)(?![A-Za-z])|>=", r"\\ge "),
        (r"\\not\s*=|=/=|!=|\\neq(?![A-Za-z])", r"\\ne "),
        (r"->|=>", r"\\to "),
        (r"\\(?:implies|rightarrow|Rightarrow)(?![A-Za-z])", r"\\to "),
        (r"\\lnot(?![A-Za-z])|¬", r"\\neg "),
        (r"\\varnothing(?![A-Za-z])", r"\\emptyset"),
        (r"\\wedge(?![A-Za-z])", r"\\land"),
        (r"\\vee(?![A-Za-z])", r"\\lor"),
        (r"\\langle(?![A-Za-z])", "("),
        (r"\\rangle(?![A-Za-z])", ")"),
        (r"\\begin\{array\}\s*\{[lcr| ]*\}", r"\\begin{pmatrix}"),
        (r"\\end\{array\}", r"\\end{pmatrix}"),
        (r"(?<=\d)\s*\\text\s*\{\s*([ie])\s*\}", r"\1"),
        (r"\\text\s*\{\s*([-+]?\d[\d.,]*)\s*\}", r"\1"),
        (r"\\text\s*\{\s*(and|or)\s*\}", r" \1 "),
        (r"\^\s*\{\s*\\circ\s*\}|\\degree(?![A-Za-z])|\^\s*\\circ(?![A-Za-z])", r"^\\circ "),
        (r"\^\\circ\s*\\text\s*\{\s*([CFK])\s*\}", r"^\\circ \1"),
        (r"([_^])\s*\{\s*(\w)\s*\}", r"\1\2"),
        (r"\\%", "%"),
        (r"\\text\s*\{\s*([%€£¥₹])\s*\}", r"\1"),
        (r"(?<=\d)(\s?[cdkm]?m)([23])(?![\w^])", r"\1^\2"),
        (r"\*\*", "^"),
        (r"\s+", " "),
    )
)  # fmt: skip
_TEXT = re.compile(r"\\text\s*\{([^{}]*)\}")
_DISPLAY = re.compile(r"\\[()\[\]]")


def clean(text: str) -> str:
    """The answer without mark-up, math mode, spacing commands and other ways to write the same."""
    text = raised(_VULGAR.sub(r" \1", text), braced=True)
    text = _LOWERED.sub(lambda digits: f"_{{{_normal(digits[0])}}}", text)
    text = _ROOT.sub(r"\\sqrt{\1}", text)
    text = _SYMBOL.sub(lambda symbol: _SYMBOLS[symbol[0]], _normal(text))
    # Dollars in pairs and \(...\) are mark-up; a dollar of its own is money.
    text = _DISPLAY.sub("", text.replace(r"\$", DOLLAR)).replace("$$", "$").strip()
    text = text.replace("$", DOLLAR if text.count("$") % 2 else "").strip(" *`_")
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    text = text.strip().removesuffix(".").strip()
    whole = _TEXT.fullmatch(text)
    return whole[1].strip() if whole else text


def raised(text: str, *, braced: bool = False) -> str:
    """With raised digits as powers: "10^-4"."""
    form = "^{{{}}}" if braced else "^{}"
    return _RAISED.sub(lambda digits: form.format(_normal(digits[0])), text)


def _normal(text: str) -> str:
    return unicodedata.normalize("NFKC", text)


def unwrap_text(text: str) -> str:
    return _TEXT.sub(r"\1", text)
