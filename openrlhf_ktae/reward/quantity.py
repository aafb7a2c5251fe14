"""Numbers with something around them: percent, degrees, currency, units, ordinals, a base."""

import re
from dataclasses import dataclass
from fractions import Fraction

from openrlhf_ktae.reward.numbers import Number, equal_numbers, read_number

_UNITS: dict[str, str] = {
    spelling: unit
    for unit, spellings in {
        "m": "m meter meters metre metres",
        "cm": "cm centimeter centimeters centimetre centimetres",
        "mm": "mm millimeter millimeters",
        "km": "km kilometer kilometers kilometre kilometres",
        "in": "in inch inches",
        "ft": "ft foot feet",
        "yd": "yd yard yards",
        "mi": "mi mile miles",
        "g": "g gram grams",
        "kg": "kg kilogram kilograms",
        "lb": "lb lbs pound pounds",
        "oz": "oz ounce ounces",
        "s": "s sec second seconds",
        "min": "min minute minutes",
        "h": "h hr hrs hour hours",
        "day": "day days",
        "week": "week weeks",
        "month": "month months",
        "year": "yr year years",
        "dollar": "dollar dollars usd",
        "cent": "cent cents",
        "degree": "° degree degrees deg",
        "celsius": "celsius",
        "fahrenheit": "fahrenheit",
        "rad": "rad radian radians",
        "mph": "mph",
        "L": "L liter liters litre litres",
        "ml": "ml mL milliliter milliliters",
        "N": "N newton newtons",
        "J": "J joule joules",
        "W": "W watt watts",
        "V": "V volt volts",
        "A": "A amp amps ampere amperes",
        "K": "K kelvin",
        "Hz": "Hz hertz",
        "Pa": "Pa pascal pascals",
        "": "unit units",
    }.items()
    for spelling in spellings.split()
}

_EXPONENT = r"(?:\s*\^\s*(?:\{\s*-?\d\s*\}|-?\d))?"
# Upright text is a unit wherever it follows a number; bare letters only as a word of two letters or more, because
# "3 m" may be a product.
_UPRIGHT = rf"‹[^›]*›{_EXPONENT}"
_WORD = rf"(?<![\\A-Za-z_{{^])[A-Za-z]{{2,}}\.?(?![A-Za-z({{_]){_EXPONENT}"
_UNIT_TAIL = re.compile(rf"(?<=[\d}}\)°.\s›])\s*((?:(?:{_UPRIGHT}|{_WORD}|°)[\s/]*(?:\\cdot\s*|\*\s*)?)+)$")
_ORDINAL = re.compile(r"(\d+)\s*(?:\^\s*\{?\s*)?‹?\s*(?:st|nd|rd|th)\s*›?\s*\}?")
_ARC = re.compile(r"([\d.]+)\s*(''?|\")")
_BASE = re.compile(r"([0-9A-Za-z]+)\s*_\s*(?:\{\s*‹?\s*(\d{1,2}|[a-z]+)\s*›?\s*\}|(\d))")
_BASE_NAMES = {"two": "2", "three": "3", "eight": "8", "ten": "10", "twelve": "12", "sixteen": "16"}
_WORD_IN_UNIT = re.compile(r"[A-Za-z°]+|\^\s*\{?\s*(-?\d)\s*\}?|/")


@dataclass(frozen=True)
class Quantity:
    """A text taken apart into what is measured and what it is measured in."""

    body: str
    unit: str
    """The unit in one spelling (``cm^2``); empty when there is none."""
    known: bool
    """Whether every word of the unit is one that we know."""
    is_percent: bool = False


def read_quantity(text: str) -> Quantity:
    """Takes percent signs, currency, degrees, ordinals and units off a text (see :func:`.spelling.plain`)."""
    body, unit, known, is_percent = text.strip(), "", True, False
    if match := _ORDINAL.fullmatch(body):
        return Quantity(match[1], "", True)
    if body.endswith("%"):
        body, is_percent = body[:-1].strip(), True
    sign = "-" if body.startswith("-") else ""
    if body[len(sign) :].lstrip().startswith("‹dollar›"):
        body, unit = sign + body[len(sign) :].lstrip()[len("‹dollar›") :].strip(), "dollar"
        body = body.replace("--", "-") if body.startswith("--") else body
    if match := _ARC.fullmatch(body):
        return Quantity(match[1], "arcminute" if match[2] == "'" else "arcsecond", True)
    if match := _UNIT_TAIL.search(body):
        left = body[: match.start(1)].strip()
        tail, is_known = _canonical(match[1])
        # Letters of an unknown word may be a product (2RC), unless a number and a space stand before them.
        is_unit = is_known or "‹" in match[1] or (body[match.start(1) - 1].isspace() and read_number(left) is not None)
        if is_unit and any(character.isdigit() or character == "\\" for character in left):
            body, unit, known = left, tail if not unit or tail == "dollar" else unit, is_known
    return Quantity(body.rstrip("*").strip(), unit, known, is_percent)


def units_differ(answer: Quantity, gold: Quantity) -> bool:
    """Whether both have a unit and they measure different things. A missing unit is no difference."""
    return bool(answer.unit and gold.unit and answer.known and gold.known and answer.unit != gold.unit)


def compare_quantities(answer: Quantity, gold: Quantity) -> bool | None:
    """Whether two quantities are equal; None when they are not both numbers."""
    left, right = read_number(answer.body), read_number(gold.body)
    if left is None or right is None:
        return None
    if units_differ(answer, gold):
        return False
    if equal_numbers(left, right):
        return True  # 50% is accepted for 50: problems ask "what percent"
    if answer.is_percent == gold.is_percent:
        return False
    return equal_numbers(_of_hundred(left, answer.is_percent), _of_hundred(right, gold.is_percent))


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


def _canonical(tail: str) -> tuple[str, bool]:
    """A unit in one spelling, and whether all of it is known."""
    text = tail.replace("‹", " ").replace("›", " ")
    pieces, known, power = [], True, 0
    inverse = False
    for match in _WORD_IN_UNIT.finditer(text):
        token = match.group()
        if token == "/" or token == "per":
            inverse = True
        elif match[1]:
            if pieces:
                pieces[-1] += "^" + match[1]
        elif token.lower() in ("square", "sq", "squared", "cubic", "cubed"):
            exponent = "^2" if token.lower().startswith("sq") else "^3"
            if token.lower().endswith("ed") and pieces:
                pieces[-1] += exponent
            else:
                power = int(exponent[1])
        else:
            unit = _UNITS.get(token, _UNITS.get(token.lower()))
            known = known and unit is not None
            name = token.lower() if unit is None else unit
            if name:
                pieces.append(("/" if inverse else "") + name + (f"^{power}" if power else ""))
            power = 0
    return " ".join(pieces), known
