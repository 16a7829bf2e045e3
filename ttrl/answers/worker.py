"""A process of its own that says whether two expressions are equal. Run as a script by
`ttrl.answers.judge`; one JSON list [left, right, seconds] a line in, one JSON boolean a line out.

Model text only ever reaches latex2sympy2's grammar, never sympy's `parse_expr` (which is `eval`);
so math_verify's own `parse`, which falls back to that, is not used. A computation that overruns
its seconds is ended by the kernel together with the process: a signal handler in Python would
wait for the very multiplication that does not end.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from functools import lru_cache
from zlib import crc32

IMPORT_SECONDS = 120.0
MEMORY_BYTES = 2 << 30

signal.signal(signal.SIGALRM, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then closes us.
signal.setitimer(signal.ITIMER_REAL, IMPORT_SECONDS)
resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

import sympy  # type: ignore[import-untyped]  # noqa: E402
from latex2sympy2_extended import latex2sympy2, logic  # noqa: E402
from math_verify import verify  # noqa: E402

_CASE_MATTERS = latex2sympy2.ConversionConfig(lowercase_symbols=False)
_SCALES = (sympy.Rational(1, 2), sympy.Rational(-1, 2), 9, -9, 150)
"""Where expressions with variables are compared: small and large, on both sides of zero."""
_DIGITS = 30
_CLOSE = sympy.Float("1e-20", _DIGITS)
_FLIPPED = {
    sympy.StrictGreaterThan: sympy.StrictLessThan,
    sympy.GreaterThan: sympy.LessThan,
}


def equal(left: str, right: str) -> bool:
    """Whether two expressions in LaTeX mean the same; False where either cannot be parsed."""
    one, other = parsed(left), parsed(right)
    return one is not None and other is not None and _equal(one, other)


@lru_cache(maxsize=1024)
def parsed(latex: str) -> sympy.Basic | None:
    try:
        return latex2sympy2.latex2sympy(latex, conversion_config=_CASE_MATTERS)
    except Exception:  # noqa: BLE001 - the grammar raises bare Exceptions, sympy all others
        return None


def _equal(one: sympy.Basic, other: sympy.Basic) -> bool:
    if isinstance(one, sympy.Expr) and isinstance(other, sympy.Expr):
        return _same_values(_values(one), _values(other))
    if one == other:
        return True
    if isinstance(one, sympy.core.relational.Relational):
        return isinstance(other, sympy.core.relational.Relational) and _same_relation(one, other)
    if isinstance(one, logic.And) and isinstance(other, logic.And):
        return _same_conditions(one, other)
    if type(one) is not type(other):
        return False
    return bool(
        verify(one, other, timeout_seconds=None) and verify(other, one, timeout_seconds=None)
    )


@lru_cache(maxsize=1024)
def _values(expression: sympy.Expr) -> tuple[sympy.Expr, ...]:
    """The expression at each scale; each variable takes a value of its own, by its name."""
    return tuple(_at(expression, scale) for scale in _SCALES)


def _at(expression: sympy.Expr, scale: sympy.Expr) -> sympy.Expr:
    point = {symbol: _value(symbol.name, scale) for symbol in expression.free_symbols}
    exact = expression.subs(point).doit()
    return exact if exact.is_Rational else exact.evalf(_DIGITS)


def _value(name: str, scale: sympy.Expr) -> sympy.Expr:
    if name == "i":
        return sympy.I
    return scale * (1 + sympy.Rational(crc32(name.encode()), 2**32))


def _same_values(ones: tuple[sympy.Expr, ...], others: tuple[sympy.Expr, ...]) -> bool:
    pairs = [(a, b) for a, b in zip(ones, others, strict=True) if not _undefined(a, b)]
    return len(pairs) > 1 and all(_close(a, b) for a, b in pairs)


def _undefined(*values: sympy.Expr) -> bool:
    return any(value.has(sympy.nan, sympy.zoo) for value in values)


def _close(a: sympy.Expr, b: sympy.Expr) -> bool:
    """Equal to twenty digits, relative to their size: 2^{-100} is not 2^{-101}."""
    if a.is_Rational and b.is_Rational:
        return bool(a == b)
    if not (a.is_number and b.is_number and a.is_finite and b.is_finite):
        return bool(a == b)
    return bool(abs(a - b) <= _CLOSE * max(abs(a), abs(b)))


def _same_relation(one: sympy.Rel, other: sympy.Rel) -> bool:
    """Whether left - right of one is a multiple of the other's, a positive one for "<"."""
    one, other = _upright(one), _upright(other)
    if type(one) is not type(other):
        return False
    ones, others = _values(one.lhs - one.rhs), _values(other.lhs - other.rhs)
    if not all(value.is_number and value.is_finite and value != 0 for value in ones + others):
        return False
    ratios = [a / b for a, b in zip(ones, others, strict=True)]
    oriented = isinstance(one, (sympy.StrictLessThan, sympy.LessThan))
    return all(_close(ratio, ratios[0]) for ratio in ratios) and not (oriented and ratios[0] < 0)


def _upright(relation: sympy.Rel) -> sympy.Rel:
    """The relation with "<" or "<=" instead of ">" or ">="."""
    flipped = _FLIPPED.get(type(relation))
    return flipped(relation.rhs, relation.lhs, evaluate=False) if flipped else relation


def _same_conditions(one: logic.And, other: logic.And) -> bool:
    ones, others = one._unsorted_args, other._unsorted_args
    return len(ones) == len(others) and all(any(_equal(a, b) for b in others) for a in ones)


def main() -> None:
    # What libraries print must not mix with the answers.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    for line in sys.stdin:
        left, right, seconds = json.loads(line)
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            answer = equal(left, right)
        except Exception:  # noqa: BLE001 - whatever sympy cannot do, it cannot say "equal"
            answer = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        answers.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
