"""Compares two expressions with the symbolic engine (math-verify on sympy). May take for ever: see :mod:`.pool`."""

import logging
import random
import re
from functools import lru_cache
from typing import Any

import mpmath
import sympy
from latex2sympy2_extended import NormalizationConfig, latex2sympy
from latex2sympy2_extended.latex2sympy2 import ConversionConfig
from math_verify import verify
from sympy.core.function import AppliedUndef

# It warns of comparisons without its own deadline; ours is kept by the worker.
logging.getLogger("math_verify").setLevel(logging.ERROR)

# As math-verify calls its parser, but R and r stay two symbols, and units are taken off before (by quantity.py).
_NORMALIZATION = NormalizationConfig(basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="none")
_CONVERSION = ConversionConfig(lowercase_symbols=False)

# The parser takes these letters for constants (Euler's gamma, the imaginary unit) or cannot give them a subscript.
_LETTERS = {r"\gamma": r"\varrho ", r"\Gamma": r"\varsigma ", "E": r"\Xi ", "I": r"\Upsilon ", "e": r"\Psi "}
_CONSTANT_LETTERS = re.compile(r"\\(?:mathrm|text)\s*\{[^{}]*\}|\\Gamma\s*\(|\\[A-Za-z]+|[EI](?![A-Za-z]{2})|e(?=\s*_)")
_NATURAL_LOG = re.compile(r"\\log(?![A-Za-z]|\s*_)")
# dx/dt of a function x of t; to the parser x is a number, whose derivative is 0.
_DERIVATIVE = re.compile(
    r"\\frac\s*\{\s*d\s*(?:\^\s*\{?\s*(\d)\s*\}?)?\s*([A-Za-z](?:_\s*\{?\s*\w\s*\}?)?)\s*\}\s*\{\s*d\s*([A-Za-z])\s*(?:\^\s*\{?\s*(\d)\s*\}?)?\s*\}"
)
_DIGITS = 30
_EXACT_TOLERANCE = 1e-25
_INEXACT_TOLERANCE = 5e-6  # openrlhf_ktae.reward.numbers.RELATIVE_TOLERANCE
_POINTS = 6
_ROUNDED_POINTS = 36  # floors of sqrt(n-1) and sqrt(n-2) differ at few n
_WHOLE_NUMBERS_ONLY = (sympy.floor, sympy.ceiling, sympy.factorial, sympy.binomial, sympy.Mod)


def equal_expressions(answer: str, gold: str) -> bool:
    """Whether two LaTeX expressions are equal for all values of their variables.

    Expressions that end in ``=0`` or ``>0`` are sides of an equation or inequality: there a constant factor (a
    positive one) makes no difference.
    """
    relation = gold[-2:] if gold[-2:] in ("=0", ">0") else ""
    if relation:
        answer, gold = answer[:-2], gold[:-2]
    if r"\ln" in gold and r"\log" not in gold:
        answer = _NATURAL_LOG.sub(r"\\ln", answer)  # \log has base 10 for the parser and base e for many authors
    left, right = read_latex(answer), read_latex(gold)
    if left is None or right is None:
        return False
    if isinstance(left, sympy.Expr) and isinstance(right, sympy.Expr):
        left, right = _same_functions(left, right)
        verdict = _equal_at_points(left, right, relation)
        if verdict is not None:
            return verdict
    if relation:
        return bool(sympy.simplify(left - right) == 0)
    return bool(verify(right, left, timeout_seconds=None))


@lru_cache(maxsize=256)
def read_latex(text: str) -> Any:
    """The sympy object that a LaTeX expression is; None when the parser of math-verify cannot read it."""
    text = _DERIVATIVE.sub(_derivative_symbol, text)
    text = _CONSTANT_LETTERS.sub(lambda match: _LETTERS.get(match.group(), match.group()), text)
    try:
        expression = latex2sympy(text, is_real=True, normalization_config=_NORMALIZATION, conversion_config=_CONVERSION)
    except MemoryError:
        raise
    except Exception:  # the parser raises Exception itself on bad LaTeX: such an answer equals nothing
        return None
    if not isinstance(expression, sympy.Expr):
        return expression
    return expression.subs({symbol: sympy.I for symbol in expression.free_symbols if symbol.name == "i"})  # pyright: ignore[reportAttributeAccessIssue]


def _derivative_symbol(match: re.Match[str]) -> str:
    name = re.sub(r"\W|_", "", f"{match[2]}{match[3]}{match[1] or 1}{match[4] or 1}")
    return rf"\vartheta_{{{name}}} "


def _same_functions(left: sympy.Expr, right: sympy.Expr) -> tuple[sympy.Expr, sympy.Expr]:
    """Makes k(k+1) a product where only one side reads k as a function; what both read so becomes a symbol."""
    functions = [{node.func.__name__ for node in side.atoms(AppliedUndef)} for side in (left, right)]
    shared = functions[0] & functions[1]
    symbols = {symbol.name for side in (left, right) for symbol in side.free_symbols}  # pyright: ignore[reportAttributeAccessIssue]

    def rewrite(node: Any) -> Any:
        name = node.func.__name__
        if name in shared and name not in symbols:
            return sympy.Symbol(str(node))
        return sympy.Symbol(name) * sympy.Mul(*node.args)

    def is_function(node: Any) -> bool:
        return isinstance(node, AppliedUndef)

    return left.replace(is_function, rewrite), right.replace(is_function, rewrite)  # pyright: ignore[reportReturnType]


def _equal_at_points(left: sympy.Expr, right: sympy.Expr, relation: str) -> bool | None:
    """Equality by value at fixed pseudo-random points, the same for every pair; None when there are no values.

    Two expressions that agree at six points to 15 digits and differ somewhere are not met in practice; proving it by
    rewriting takes a hundred times as long.
    """
    left, right = left.doit(), right.doit()
    if not relation and left.is_Rational and right.is_Rational and not (left.is_Float or right.is_Float):
        return left == right
    names = sorted({symbol.name for side in (left, right) for symbol in side.free_symbols})  # pyright: ignore[reportAttributeAccessIssue]
    if relation and not names:
        return None
    inexact = left.has(sympy.Float) or right.has(sympy.Float)
    tolerance = _INEXACT_TOLERANCE if inexact else _EXACT_TOLERANCE
    whole = any(side.has(*_WHOLE_NUMBERS_ONLY) or _has_sign_power(side) for side in (left, right))
    rounded = any(side.has(sympy.floor, sympy.ceiling, sympy.Mod) for side in (left, right))
    ratios, agreed = [], 0
    for point in _points(names, whole, _ROUNDED_POINTS if rounded else _POINTS) if names else [{}]:
        values = _value(left, point, _DIGITS), _value(right, point, _DIGITS)
        if values[0] is None or values[1] is None:
            continue
        if relation:
            if values[1] == 0 or values[0] == 0:
                continue
            ratios.append(values[0] / values[1])
        elif not _close(values[0], values[1], tolerance) and not _both_noise(left, right, point, values):
            return False
        agreed += 1
    if agreed < min(3, _POINTS if names else 1):
        return None
    if relation:
        constant = all(_close(ratio, ratios[0], tolerance) for ratio in ratios)
        return constant and (relation == "=0" or (abs(ratios[0].imag) < tolerance and ratios[0].real > 0))
    return True


def _points(names: list[str], whole: bool, count: int) -> list[dict[str, sympy.Expr]]:
    generator = random.Random(20)
    if len(names) == 1 and count == _ROUNDED_POINTS:
        return [{names[0]: sympy.Integer(value)} for value in range(2, 2 + count)]
    points = []
    for index in range(count):
        # Quantities are mostly positive; two points with negative values tell |x| from x.
        sign = -1 if index >= count - 2 and not whole else 1
        low, high, denominator = (2, 12, 1) if whole else (300, 1900, 1009)
        points.append({name: sympy.Rational(sign * generator.randint(low, high), denominator) for name in names})
    return points


def _value(expression: sympy.Expr, point: dict[str, sympy.Expr], digits: int) -> Any:
    values: Any = {symbol: point[symbol.name] for symbol in expression.free_symbols}  # pyright: ignore[reportAttributeAccessIssue]
    value = expression.evalf(digits, subs=values) if values else expression.evalf(digits)
    if not value.is_number or value.has(sympy.nan, sympy.zoo, sympy.oo, -sympy.oo):
        return None
    real, imaginary = value.as_real_imag()
    if not (real.is_Float or real.is_Rational) or not (imaginary.is_Float or imaginary.is_Rational):
        return None
    with mpmath.workdps(digits):
        return mpmath.mpc(mpmath.mpf(str(real)), mpmath.mpf(str(imaginary)))


def _close(left: Any, right: Any, tolerance: float) -> bool:
    return abs(left - right) <= tolerance * max(abs(left), abs(right))


def _both_noise(left: sympy.Expr, right: sympy.Expr, point: dict[str, sympy.Expr], values: tuple[Any, Any]) -> bool:
    """Whether both values are rounding errors of zero: they shrink when computed with twice the digits."""
    if max(abs(value) for value in values) > 1e-20:
        return False
    precise = [_value(side, point, 2 * _DIGITS) for side in (left, right)]
    return all(value is not None and abs(value) < 1e-45 for value in precise)


def _has_sign_power(expression: sympy.Expr) -> bool:
    """Whether a negative number is raised to a variable, as in (-1)^n: that is meant for whole numbers."""
    return any(power.base.is_negative and power.exp.free_symbols for power in expression.atoms(sympy.Pow))
