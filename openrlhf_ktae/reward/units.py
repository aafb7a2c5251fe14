"""Units in one spelling, what they measure, and how large they are."""

import re
from dataclasses import dataclass
from fractions import Fraction

from openrlhf_ktae.reward.numbers import read_number

# unit: what it measures, its size in the first unit of that kind, its spellings
_TABLE: dict[str, tuple[str, Fraction | int, str]] = {
    "m": ("length", 1, "m meter meters metre metres"),
    "dm": ("length", Fraction(1, 10), "dm decimeter decimeters decimetre decimetres"),
    "cm": ("length", Fraction(1, 100), "cm centimeter centimeters centimetre centimetres"),
    "mm": ("length", Fraction(1, 1000), "mm millimeter millimeters millimetre millimetres"),
    "km": ("length", 1000, "km kilometer kilometers kilometre kilometres"),
    "in": ("foot", Fraction(1, 12), "in inch inches"),
    "ft": ("foot", 1, "ft foot feet"),
    "yd": ("foot", 3, "yd yard yards"),
    "mi": ("foot", 5280, "mi mile miles"),
    "g": ("mass", 1, "g gram grams gramme grammes"),
    "mg": ("mass", Fraction(1, 1000), "mg milligram milligrams"),
    "kg": ("mass", 1000, "kg kilogram kilograms"),
    "ton": ("mass", 1000000, "t ton tons tonne tonnes"),
    "lb": ("pound", 1, "lb lbs pound pounds"),
    "oz": ("pound", Fraction(1, 16), "oz ounce ounces"),
    "s": ("time", 1, "s sec secs second seconds"),
    "min": ("time", 60, "min mins minute minutes"),
    "h": ("time", 3600, "h hr hrs hour hours"),
    "day": ("time", 86400, "d day days"),
    "week": ("time", 604800, "week weeks"),
    "month": ("months", 1, "month months"),
    "year": ("months", 12, "yr yrs year years"),
    "dollar": ("dollars", 1, "dollar dollars usd"),
    "cent": ("dollars", Fraction(1, 100), "cent cents ¢"),
    "euro": ("euros", 1, "euro euros eur"),
    "gbp": ("gbp", 1, "gbp"),
    "yuan": ("yuan", 1, "yuan rmb cny"),
    "rupee": ("rupees", 1, "rupee rupees rs inr"),
    "ruble": ("rubles", 1, "ruble rubles rouble roubles"),
    "degree": ("angle", 1, "° degree degrees deg"),
    "rad": ("radian", 1, "rad rads radian radians"),
    "celsius": ("celsius", 1, "celsius"),
    "fahrenheit": ("fahrenheit", 1, "fahrenheit"),
    "mph": ("mph", 1, "mph"),
    "L": ("volume", 1, "L l liter liters litre litres"),
    "ml": ("volume", Fraction(1, 1000), "ml mL milliliter milliliters millilitre millilitres"),
    "ha": ("ha", 1, "ha hectare hectares"),
    "N": ("force", 1, "N newton newtons"),
    "J": ("energy", 1, "J joule joules"),
    "kJ": ("energy", 1000, "kJ kilojoule kilojoules"),
    "W": ("power", 1, "W watt watts"),
    "V": ("voltage", 1, "V volt volts"),
    "A": ("current", 1, "A amp amps ampere amperes"),
    "K": ("kelvin", 1, "K kelvin"),
    "Hz": ("frequency", 1, "Hz hertz"),
    "Pa": ("pressure", 1, "Pa pascal pascals"),
    "ohm": ("resistance", 1, "ohm ohms Ω"),
    "": ("", 1, "unit units"),
}
_UNITS = {spelling: unit for unit, (_, _, spellings) in _TABLE.items() for spelling in spellings.split()}
_TOKEN = re.compile(r"[A-Za-z°¢Ω]+|\^\s*\{?\s*(-?\d)\s*\}?|/")
# Words that stand beside a number and measure nothing.
_NO_MEASURE = frozenset(
    (
        *(
            "approx",
            "approximately",
            "about",
            "exactly",
            "total",
            "in",
            "of",
            "away",
            "left",
            "remaining",
            "ago",
            "later",
        ),
        *(
            "old",
            "long",
            "high",
            "wide",
            "tall",
            "deep",
            "each",
            "and",
            "more",
            "less",
            "the",
            "a",
            "an",
            "per",
            "only",
        ),
    )
)
_COMPOUND = re.compile(
    r"(\d+(?:\.\d+)?|\d*\s*\\frac\{\d+\}\{\d+\})\s*(?:‹\s*([A-Za-z]+)\.?\s*,?\s*(?:and)?\s*›|([A-Za-z]+)\.?)"
    r"\s*(?:,|‹\s*and\s*›|and(?![A-Za-z]))?\s*"
)


@dataclass(frozen=True)
class Unit:
    """A unit in one spelling, such as ``cm^2`` or ``km /h``."""

    name: str
    """Empty when there is none."""
    known: bool
    """Whether every word is one that we know."""
    measures: tuple[tuple[str, int], ...] = ()
    """What it measures, with exponents: an area is (("length", 2),)."""
    size: Fraction = Fraction(1)
    """How large it is in the first units of what it measures."""


NO_UNIT = Unit("", True)


def read_unit(tail: str) -> Unit:
    """The unit that a text such as ``‹km›/‹h›`` or ``square centimeters`` is."""
    text = tail.replace("‹", " ").replace("›", " ").replace("\\Omega", "Ω").replace("\\cdot", " ")
    pieces: list[tuple[str, int]] = []
    known, power, sign = True, 0, 1
    for match in _TOKEN.finditer(text):
        token = match.group()
        if token in ("/", "per"):
            sign = -1
        elif match[1]:
            if pieces:
                pieces[-1] = (pieces[-1][0], int(match[1]) * (1 if pieces[-1][1] > 0 else -1))
        elif token.lower() in ("square", "sq", "squared", "cubic", "cubed"):
            power = 2 if token.lower().startswith("sq") else 3
            if token.lower().endswith("ed") and pieces:
                pieces[-1], power = (pieces[-1][0], power), 0
        else:
            unit = _UNITS.get(token, _UNITS.get(token.lower()))
            known = known and unit is not None
            name = token.lower() if unit is None else unit
            if name and (unit is not None or name not in _NO_MEASURE):
                pieces.append((name, sign * (power or 1)))
            power = 0
    return _unit(pieces, known)


def differ(unit: Unit, other: Unit) -> bool:
    """Whether two units measure different things. A missing unit is no difference, nor are two unknown words."""
    if not unit.name or not other.name:
        return False
    # A number of people is no number of days; "5 km north" is 5 km; two words that measure nothing are one thing.
    return unit.measures != other.measures or (unit.size != other.size and not (unit.known and other.known))


def read_compound(text: str) -> tuple[Fraction, Unit] | None:
    """The value of ``2 h 30 min`` or ``5 feet 6 inches`` in its first unit; None for anything else."""
    total, first, previous, position, count = Fraction(0), NO_UNIT, NO_UNIT, 0, 0
    while position < len(text):
        match = _COMPOUND.match(text, position)
        word = (match[2] or match[3]) if match else ""
        unit = read_unit(word)
        number = read_number(match[1]) if match else None
        if match is None or number is None or not unit.known or not unit.name:
            return None
        if count and (unit.measures != previous.measures or unit.size >= previous.size):
            return None
        if count and number.value >= previous.size / unit.size:
            return None  # 2 m, 300 cm are two lengths
        first = first if count else unit
        total += number.value * unit.size / first.size
        previous, position, count = unit, match.end(), count + 1
    return (total, first) if count > 1 else None


def _unit(pieces: list[tuple[str, int]], known: bool) -> Unit:
    name = " ".join(f"{unit}^{power}" if power != 1 else unit for unit, power in pieces)
    powers: dict[str, int] = {}
    size = Fraction(1)
    for unit, power in pieces:
        if unit in _TABLE and abs(power) <= 9:
            measure, one, _ = _TABLE[unit]
            # A litre is a cubic decimetre.
            measure, dimension, one = ("length", 3, Fraction(one) / 1000) if measure == "volume" else (measure, 1, one)
            powers[measure] = powers.get(measure, 0) + power * dimension
            size *= Fraction(one) ** power
    return Unit(name, known, tuple(sorted(powers.items())), size)
