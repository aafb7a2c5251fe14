r"""Compares simple expressions by value in this process: numbers, letters, + - * / ^, ``\frac``, ``\sqrt``, ``\pi``.

A recursive-descent reader of its own, on floats, for texts of bounded length; nothing is built, nothing can be slow. It
gives a verdict only where floats leave no doubt, and None for everything else, which goes to the symbolic engine.
"""

import math
import re

MAX_LENGTH = 200

_TOKEN = re.compile(
    r"\s*(?:(\d+(?:\.\d*)?|\.\d+)|([A-Za-z])|(\\(?:frac|sqrt|pi|cdot|times)(?![A-Za-z]))|([-+*/^(){}]))"
)
_LETTERS = "abcfghjklmnopqrstuvwxyz"  # without d (dx is one symbol), e and i (constants)
# Odd values for the letters, so that no short identity holds by accident at three points.
_POINTS = tuple(
    {letter: 0.3 + ((index * step + 7 * index * index) % 97) / 61.7 for index, letter in enumerate(_LETTERS)}
    for step in (31, 43, 59)
)
_EQUAL, _DIFFERENT = 1e-12, 1e-7
_SMALL, _LARGE = 1e-3, 1e8
_MAX_DEPTH = 20


class _NotSimpleError(Exception):
    """The text holds something that is not read here."""


def compare_simple(answer: str, gold: str) -> bool | None:
    """Whether two simple expressions are equal; None when one is not simple, or floats cannot tell."""
    if max(len(answer), len(gold)) > MAX_LENGTH:
        return None
    try:
        left, right = _tokens(answer), _tokens(gold)
        equal = different = 0
        for point in _POINTS:
            values = _Reader(left, point), _Reader(right, point)
            a, b = values[0].value(), values[1].value()
            scale = max(values[0].largest, values[1].largest)  # rounding errors are relative to the largest term
            # A value that is small beside its terms, or a large one, may be another number to the last digit.
            if abs(a - b) <= _EQUAL * scale and scale < _LARGE and min(abs(a), abs(b)) > _SMALL * scale:
                equal += 1
            elif abs(a - b) > _DIFFERENT * scale:
                different += 1
    except (_NotSimpleError, ArithmeticError, ValueError):
        return None
    if different:
        return False
    return True if equal == len(_POINTS) else None


def constant(text: str) -> float | None:
    """The value of a simple expression without letters; None when it has letters, or is not simple."""
    if len(text) > MAX_LENGTH:
        return None
    try:
        return _Reader(_tokens(text), {"e": math.e}, decimals=True).value()
    except (_NotSimpleError, ArithmeticError, ValueError):
        return None


def _tokens(text: str) -> list[str]:
    tokens, position = [], 0
    text = text.rstrip()
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise _NotSimpleError
        tokens.append(match[match.lastindex or 0])
        position = match.end()
    return tokens


class _Reader:
    """Reads tokens into a value at a point."""

    def __init__(self, tokens: list[str], point: dict[str, float], decimals: bool = False) -> None:
        self._tokens = [*tokens, ""]
        self._decimals = decimals
        self._position = 0
        self._point = point
        self._depth = 0
        self.largest = 0.0

    def value(self) -> float:
        result = self._sum("")
        if self._tokens[self._position]:
            raise _NotSimpleError
        return result

    def _next(self) -> str:
        token = self._tokens[self._position]
        self._position += 1
        return token

    def _keep(self, value: float) -> float:
        if isinstance(value, complex) or not abs(value) < 1e100:
            raise _NotSimpleError
        self.largest = max(self.largest, abs(value))
        return value

    def _sum(self, end: str) -> float:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise _NotSimpleError
        sign = -1.0 if self._tokens[self._position] == "-" else 1.0
        if self._tokens[self._position] in ("+", "-"):
            self._position += 1
        total = sign * self._product()
        while self._tokens[self._position] in ("+", "-"):
            sign = -1.0 if self._next() == "-" else 1.0
            total = self._keep(total + sign * self._product())
        if self._tokens[self._position] != end:
            raise _NotSimpleError
        self._depth -= 1
        return total

    def _product(self) -> float:
        total = self._power()
        while True:
            token = self._tokens[self._position]
            if token in ("*", r"\cdot", r"\times"):
                self._position += 1
                total = self._keep(total * self._power())
            elif token == "/":
                self._position += 1
                total = self._keep(total / self._power())
                # 1/2x is read both ways by people: the engine decides.
                if self._tokens[self._position] not in ("", "+", "-", ")", "}"):
                    raise _NotSimpleError
            elif token in ("", "+", "-", ")", "}"):
                return total
            else:
                previous = self._tokens[self._position - 1]
                number_after = token[0].isdigit() or token[0] == "."
                mixed = token == r"\frac" and previous[0].isdigit()
                function = token == "(" and previous.isalpha()
                if number_after or mixed or function:
                    raise _NotSimpleError
                total = self._keep(total * self._power())

    def _power(self) -> float:
        base = self._atom()
        if self._tokens[self._position] != "^":
            return base
        self._position += 1
        token = self._next()
        if token == "{":
            exponent = self._sum("}")
            self._position += 1
        elif token.isdigit() and len(token) == 1:
            exponent = float(token)
        else:
            raise _NotSimpleError
        if self._tokens[self._position] == "^" or abs(exponent) > 64:
            raise _NotSimpleError
        return self._keep(base**exponent)

    def _atom(self) -> float:
        token = self._next()
        if token and (token[0].isdigit() or token[0] == "."):
            if "." in token and not self._decimals:
                raise _NotSimpleError  # decimals may be rounded: another tolerance
            return self._keep(float(token))
        if token in self._point:
            return self._keep(self._point[token])
        if token == r"\pi":
            return 3.141592653589793
        if token == "(":
            result = self._sum(")")
            self._position += 1
            return result
        if token == r"\frac":
            above = self._group()
            return self._keep(above / self._group())
        if token == r"\sqrt":
            return self._keep(self._group() ** 0.5)
        raise _NotSimpleError

    def _group(self) -> float:
        if self._next() != "{":
            raise _NotSimpleError
        result = self._sum("}")
        self._position += 1
        return result
