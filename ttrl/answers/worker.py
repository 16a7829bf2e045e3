"""A process of its own that says whether two expressions are equal. Run as a script by
`ttrl.answers`; a list [left, right] a line in, a boolean a line out.

Model text only ever reaches latex2sympy2's grammar, never sympy's `parse_expr` (which is `eval`);
so math_verify's own `parse`, which falls back to that, is not used.
"""

from __future__ import annotations

import signal
import sys
from functools import lru_cache
from zlib import crc32

from ttrl.lineworker import limit_memory, serve_lines

IMPORT_SECONDS = 120.0

signal.signal(signal.SIGALRM, signal.SIG_DFL)
signal.setitimer(signal.ITIMER_REAL, IMPORT_SECONDS)
limit_memory(2 << 30)

import sympy  # type: ignore[import-untyped]  # noqa: E402
from latex2sympy2_extended import latex2sympy2, logic  # noqa: E402
from math_verify import verify  # noqa: E402

_CASE_MATTERS = latex2sympy2.ConversionConfig(lowercase_symbols=False)
_HALF = sympy.Rational(1, 2)
_SCALES = (_HALF, 150, -_HALF, -9, 9, _HALF, 9, _HALF, 9, _HALF)
"""Where expressions with variables are compared: small and large, on both sides of zero."""
_ONE_SIDE = 4
"""At so many of these points all variables are on one side; at the others some change sides."""
_DIGITS = 30
_CLOSE = sympy.Float("1e-20", _DIGITS)


def equal(left: str, right: str) -> bool:
    """Whether two expressions in LaTeX mean the same; False where either cannot be parsed."""
    one, other = _parsed(left), _parsed(right)
    return one is not None and other is not None and _equal(one, other)


@lru_cache(maxsize=1024)
def _parsed(latex: str) -> sympy.Basic | None:
    try:
        found = latex2sympy2.latex2sympy(latex, conversion_config=_CASE_MATTERS)
    except Exception:  # noqa: BLE001 - the grammar raises bare Exceptions, sympy all others
        return None
    # Of dy/dx, where nothing says how y depends on x, sympy takes y for a constant: it would be 0.
    left_open = any(
        each.args[0].free_symbols and not set(each.variables) <= each.args[0].free_symbols
        for each in found.atoms(sympy.Derivative, sympy.Integral)
    )
    return None if left_open else found


def _equal(one: sympy.Basic, other: sympy.Basic) -> bool:
    if isinstance(one, sympy.Expr) and isinstance(other, sympy.Expr):
        undefined = (sympy.nan, sympy.zoo)
        pairs = [
            (a, b)
            for a, b in zip(_values(one), _values(other), strict=True)
            if not a.has(*undefined) and not b.has(*undefined)
        ]
        return len(pairs) > 1 and all(_close(a, b) for a, b in pairs)
    if one == other:
        return True
    if isinstance(one, sympy.core.relational.Relational):
        return isinstance(other, sympy.core.relational.Relational) and _same_relation(one, other)
    if isinstance(one, logic.And) and isinstance(other, logic.And):
        ones, others = one._unsorted_args, other._unsorted_args
        return all(any(_equal(a, b) for b in others) for a in ones) and all(
            any(_equal(a, b) for a in ones) for b in others
        )
    if type(one) is not type(other):
        return False
    return bool(
        verify(one, other, timeout_seconds=None) and verify(other, one, timeout_seconds=None)
    )


@lru_cache(maxsize=1024)
def _values(expression: sympy.Expr) -> tuple[sympy.Expr, ...]:
    found = []
    for point in range(len(_SCALES)):
        values = {symbol: _value(symbol.name, point) for symbol in expression.free_symbols}
        exact = expression.subs(values).doit()
        found.append(exact if exact.is_Rational else exact.evalf(_DIGITS))
    return tuple(found)


def _value(name: str, point: int) -> sympy.Expr:
    """Of a variable, by its name. Were the values of two in the same ratio at all points, any two
    equations such as 2x = 3y and 3x = 2y would be one; were their signs always the same, so would
    be |x + y| and |x| + |y|. Of two single letters some bit of the last six differs."""
    if name == "i":
        return sympy.I
    bits = ord(name) if len(name) == 1 else crc32(name.encode())
    changed = point >= _ONE_SIDE and bits >> (point - _ONE_SIDE) & 1
    drawn = 1 + sympy.Rational(crc32(f"{name} {point}".encode()), 2**32)
    return _SCALES[point] * (-drawn if changed else drawn)


def _close(a: sympy.Expr, b: sympy.Expr) -> bool:
    """Equal to twenty digits, relative to their size: 2^{-100} is not 2^{-101}."""
    if a.is_Rational and b.is_Rational:
        return bool(a == b)
    if not (a.is_number and b.is_number and a.is_finite and b.is_finite):
        return bool(a == b)
    return bool(abs(a - b) <= _CLOSE * max(abs(a), abs(b)))


def _same_relation(one: sympy.Rel, other: sympy.Rel) -> bool:
    """Whether left - right of one is a multiple of the other's, a positive one for "<"."""
    greater = (sympy.StrictGreaterThan, sympy.GreaterThan)
    one, other = (r.reversed if isinstance(r, greater) else r for r in (one, other))
    if type(one) is not type(other):
        return False
    ones, others = _values(one.lhs - one.rhs), _values(other.lhs - other.rhs)
    if not all(value.is_number and value.is_finite and value != 0 for value in ones + others):
        return False
    ratios = [a / b for a, b in zip(ones, others, strict=True)]
    oriented = isinstance(one, (sympy.StrictLessThan, sympy.LessThan))
    return all(_close(ratio, ratios[0]) for ratio in ratios) and not (oriented and ratios[0] < 0)


if __name__ == "__main__":
    serve_lines(
        lambda: lambda pair: equal(*pair), seconds=float(sys.argv[1]), otherwise=lambda _: False
    )
