"""Numbers with something around them: percent, degrees, currency, units, ordinals, a base."""

import re
from dataclasses import dataclass
from fractions import Fraction

from openrlhf_ktae.reward.numbers import Number, equal_numbers, read_number
from openrlhf_ktae.reward.units import NO_UNIT, Unit, differ, read_compound, read_unit

_EXPONENT = r"(?:\s*\^\s*(?:\{\s*-?\d\s*\}|-?\d))?"
# Upright text is a unit wherever it follows a number; bare letters only as a word of two letters or more, because
# "3 m" may be a product.
_UPRIGHT = rf"‹[^›]*›{_EXPONENT}"
_WORD = rf"(?<![\\A-Za-z_{{^])[A-Za-z]{{2,}}\.?(?![A-Za-z({{_]){_EXPONENT}"
_RATE = r"(?:k?m|cm|k?g|ft|mi|L)/(?:s|h|min|L|cm|m)(?![A-Za-z])"
_UNIT_TAIL = re.compile(
    rf"(?<=[\d}}\)°.\s›])\s*((?:(?:{_UPRIGHT}|{_RATE}{_EXPONENT}|{_WORD}|°|\\Omega(?![A-Za-z]))[\s/]*(?:\\cdot\s*|\*\s*)?)+)$"
)
_ORDINAL = re.compile(r"(\d+)\s*(?:\^\s*\{?\s*)?‹?\s*(?:st|nd|rd|th)\s*›?\s*\}?")
_ARC = re.compile(r"([\d.]+)\s*(''?|\")")
_BASE = re.compile(r"([0-9A-Za-z]+)\s*_\s*(?:\{\s*‹?\s*(\d{1,2}|[a-z]+)\s*›?\s*\}|(\d))")
_BASE_NAMES = {"two": "2", "three": "3", "eight": "8", "ten": "10", "twelve": "12", "sixteen": "16"}
_SEXAGESIMAL = re.compile(r"(-?\d+)\s*°\s*(?:(\d+(?:\.\d+)?)\s*')\s*(?:(\d+(?:\.\d+)?)\s*(?:''|\"))?")
_FUNCTION = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![A-Za-z])")
_CURRENCY = re.compile(r"(-?)\s*‹(dollar|euro|gbp|yuan|rupee)›\s*(?=[^\s])")


@dataclass(frozen=True)
class Quantity:
    """A text taken apart into what is measured and what it is measured in."""

    body: str
    unit: Unit = NO_UNIT
    is_percent: bool = False


def read_quantity(text: str) -> Quantity:
    """Takes percent signs, currency, degrees, ordinals and units off a text (see :func:`.spelling.plain`)."""
    body, unit, is_percent = text.strip(), NO_UNIT, False
    if match := _ORDINAL.fullmatch(body):
        return Quantity(match[1])
    if body.endswith("%"):
        body, is_percent = body[:-1].strip(), True
    if match := _CURRENCY.match(body):
        body, unit = match[1] + body[match.end() :].strip(), read_unit(match[2])
        body = body.replace("--", "-") if body.startswith("--") else body
    if match := _ARC.fullmatch(body):
        return Quantity(
            match[1], Unit("arcminute" if match[2] == "'" else "arcsecond", True, (("arc", len(match[2])),))
        )
    if match := _SEXAGESIMAL.fullmatch(body):
        return Quantity(_sexagesimal(match), read_unit("°"))
    if compound := _compound(body):
        return compound
    if match := _UNIT_TAIL.search(body):
        left = body[: match.start(1)].strip()
        tail = read_unit(match[1])
        # Letters of an unknown word may be a product (2RC), unless a number and a space stand before them.
        is_unit = (
            tail.known or "‹" in match[1] or (body[match.start(1) - 1].isspace() and read_number(left) is not None)
        )
        is_unit = is_unit and not (tail.name == "degree" and _FUNCTION.search(left))  # sin 15° has no unit
        if is_unit and any(character.isdigit() or character == "\\" for character in left):
            body, unit = left, tail if not unit.name or tail.name in ("dollar", unit.name) else unit
    return Quantity(body.rstrip("*").strip(), unit, is_percent)


def _compound(body: str) -> Quantity | None:
    if not body[:1].isdigit() or sum(character.isalpha() for character in body) < 2:
        return None
    compound = read_compound(body)
    return None if compound is None else Quantity(str(compound[0]), compound[1])


def _sexagesimal(match: re.Match[str]) -> str:
    minutes = Fraction(match[2]) + Fraction(match[3] or 0) / 60
    return str(Fraction(match[1]) + (-1 if match[1].startswith("-") else 1) * minutes / 60)


def compare_quantities(answer: Quantity, gold: Quantity) -> bool | None:
    """Whether two quantities are equal; None when they are not both numbers."""
    left, right = read_number(answer.body), read_number(gold.body)
    if left is None or right is None:
        return None
    if (
        differ(answer.unit, gold.unit)
        or (answer.is_percent and gold.unit.measures)
        or (gold.is_percent and answer.unit.measures)
    ):
        return False
    if converted := sizes(answer, gold):
        return equal_numbers(
            Number(left.value * converted[0], left.inexact), Number(right.value * converted[1], right.inexact)
        )
    if equal_numbers(left, right):
        return True  # 50% is accepted for 50: problems ask "what percent"
    if answer.is_percent == gold.is_percent:
        return False
    return equal_numbers(_of_hundred(left, answer.is_percent), _of_hundred(right, gold.is_percent))


def sizes(answer: Quantity, gold: Quantity) -> tuple[Fraction, Fraction] | None:
    """How large the two units are, where both are known and one is a multiple of the other."""
    left, right = answer.unit, gold.unit
    if not left.name or not right.name or not left.known or not right.known or left.size == right.size:
        return None
    return left.size, right.size


def compare_bases(answer: str, gold: str) -> bool | None:
    """Compares ``4343_6``; the base may be left out of the answer, not changed. None when gold has no base."""
    if "_" not in answer and "_" not in gold:
        return None
    left, right = _BASE.fullmatch(answer), _BASE.fullmatch(gold)
    if right is not None:
        if not right[1][0].isdigit():
            return None  # a_2 is a symbol
        if left is None:
            return answer.strip().upper() == right[1].upper() if answer.isalnum() else None
        return left[1].upper() == right[1].upper() and _base(left) == _base(right)
    if left is not None and left[1].isdigit() and gold.isdigit():
        return _base(left) == "10" and left[1] == gold
    return None


def _base(match: re.Match[str]) -> str:
    base = match[2] or match[3]
    return _BASE_NAMES.get(base, base)


def _of_hundred(number: Number, is_percent: bool) -> Number:
    return Number(number.value / Fraction(100), number.inexact) if is_percent else number
