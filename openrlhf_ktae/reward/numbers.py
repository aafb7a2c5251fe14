"""Reads numbers as people and models write them, exactly (as fractions), and compares them."""

import re
from dataclasses import dataclass
from fractions import Fraction

RELATIVE_TOLERANCE = Fraction(5, 10**6)
"""How far decimals may be apart, relative to the reference: six significant digits. Integers, fractions: not at all."""

MAX_DIGITS = 1000
"""Longest number that is read; a longer one equals only the same text."""

_MAX_EXPONENT = 1000

_DIGITS = r"(?:\d{1,3}(?:,\d{3})+|\d+)"
_DECIMAL = rf"(?:{_DIGITS}(?:\.\d*)?|\.\d+)"
_POWER = r"10\s*(?:\^|\*\*)\s*(?:\{\s*([+-]?\d+)\s*\}|\(\s*([+-]?\d+)\s*\)|([+-]?\d+))"
_NUMBER = re.compile(rf"([+-]?)\s*({_DECIMAL})(?:[eE]([+-]?\d+))?")
_SCIENTIFIC = re.compile(rf"([+-]?)\s*({_DECIMAL})\s*(?:\*|x|\\times|\\cdot)\s*{_POWER}")
_TEN_POWER = re.compile(rf"([+-]?)\s*{_POWER}")
_SLASH = re.compile(rf"([+-]?)\s*({_DECIMAL})\s*/\s*([+-]?)\s*({_DECIMAL})")
_FRACTION = re.compile(
    rf"([+-]?)\s*(?:({_DIGITS})\s*)?\\frac\s*(?:\{{\s*([+-]?)\s*({_DECIMAL})\s*\}}|(\d))\s*"
    rf"(?:\{{\s*([+-]?)\s*({_DECIMAL})\s*\}}|(\d))"
)
_REPEATING = re.compile(
    r"([+-]?)\s*(\d*)\.(\d*?)(?:\\(?:overline|bar|overbar)\s*\{\s*(\d+)\s*\}|\((\d+)\)|\\dot\s*\{?\s*(\d)\s*\}?"
    r"(?:(\d*)\s*\\dot\s*\{?\s*(\d)\s*\}?)?)…?"
)
_WITH_A_COMMA = re.compile(r"[+-]?\d+,\d*\(\d+\)")
_GOING_ON = re.compile(r"([+-]?)\s*(\d*)\.(\d*?)(\d{1,6}?)\4+(?:…|\\[lc]?dots|\.\.\.)")
_MIXED = re.compile(r"([+-]?)\s*(\d+)\s+(\d+)\s*/\s*(\d+)")


@dataclass(frozen=True)
class Number:
    """A number that was read."""

    value: Fraction
    inexact: bool
    """Whether it was written with decimals or a power of ten, so that it may have been rounded."""


def read_number(text: str) -> Number | None:
    r"""The number that a text is, or None when it is anything else.

    Reads ``-5``, ``007``, ``1,234``, ``.5``, ``3/4``, ``\frac34``, ``1 1/2``, ``2\frac12``, ``1.2e-27``,
    ``1.2 \times 10^{-27}``. The text is expected in the form that :func:`openrlhf_ktae.reward.normalize.plain` gives.
    """
    if not text or len(text) > MAX_DIGITS or text[0] not in "+-.0123456789\\":
        return None
    if match := _NUMBER.fullmatch(text):
        return _scaled(match[1], match[2], match[3] or "0")
    if match := _SCIENTIFIC.fullmatch(text):
        return _scaled(match[1], match[2], match[3] or match[4] or match[5], inexact=True)
    if match := _TEN_POWER.fullmatch(text):
        return _scaled(match[1], "1", match[2] or match[3] or match[4])
    if match := _SLASH.fullmatch(text):
        return _quotient(match[1] + match[3], "0", match[2], match[4])
    if match := _MIXED.fullmatch(text):
        return _quotient(match[1], match[2], match[3], match[4])
    if match := _FRACTION.fullmatch(text):
        above, below = match[4] or match[5], match[7] or match[8]
        if match[2] and (match[3] or match[6]):
            return None  # 2\frac{-1}{2} is a product, not a mixed number
        return _quotient(match[1] + (match[3] or "") + (match[6] or ""), match[2] or "0", above, below)
    return _repeating(text.replace(",", ".") if _WITH_A_COMMA.fullmatch(text) else text)


def equal_numbers(answer: Number, gold: Number) -> bool:
    """Whether two numbers agree: exactly, or within :data:`RELATIVE_TOLERANCE` of gold if one of them is inexact."""
    if answer.value == gold.value:
        return True
    if not (answer.inexact or gold.inexact):
        return False
    return abs(answer.value - gold.value) <= RELATIVE_TOLERANCE * abs(gold.value)


def _scaled(sign: str, digits: str, exponent: str, inexact: bool = False) -> Number | None:
    if len(exponent) > 6 or abs(int(exponent)) > _MAX_EXPONENT:
        return None
    value = _decimal(digits) * Fraction(10) ** int(exponent)
    # 142.0 and 1e3 are as exact as 142 and 1000.
    return Number(-value if sign == "-" else value, value.denominator != 1 or inexact)


def _repeating(text: str) -> Number | None:
    """A decimal whose last digits repeat for ever; ``0.1212…`` shows them twice, ``0.333…`` one three times."""
    if "." not in text or len(text) > 60:
        return None
    if match := _REPEATING.fullmatch(text):
        start, block = match[3], match[4] or match[5] or (match[6] + (match[7] or "") + (match[8] or ""))
    elif (match := _GOING_ON.fullmatch(text)) and (len(match[4]) > 1 or _repeats(text, match[4])):
        start, block = match[3], match[4]
    else:
        return None
    whole = Fraction(match[2] or "0") + (Fraction(int(start), 10 ** len(start)) if start else 0)
    value = whole + Fraction(int(block), (10 ** len(block) - 1) * 10 ** len(start))
    return Number(-value if match[1] == "-" else value, False)


def _repeats(text: str, digit: str) -> bool:
    return digit * 3 in text


def _quotient(signs: str, whole: str, above: str, below: str) -> Number | None:
    numerator, denominator = _decimal(above), _decimal(below)
    if denominator == 0:
        return None
    value = _decimal(whole) + numerator / denominator
    return Number(-value if signs.count("-") % 2 else value, "." in above + below)


def _decimal(digits: str) -> Fraction:
    return Fraction(digits.replace(",", "").rstrip(".") or "0")
