"""Wrong answers made of right ones: a sign, digit, order, bound, unit or letter is changed, or a root left out."""

import random
import re
from collections.abc import Callable, Iterator, Sequence

Mutation = Callable[[str, random.Random], str | None]

# Left alone is what may be changed without becoming wrong: what stands left of an equals sign, indices, exponents of
# units, -0, an even function's argument, a rounded value beside the exact one, 3k + 4 for 3k + 1 with any integer k.
_ANY_INTEGER = re.compile(r"\\in\s*(?:\\math\w+\s*\{?\s*)?Z|integer")
_LEFT_ALONE = re.compile(
    r"[^=,;]*[^<>=,;]=(?=[^,;]*)|\\approx\s*-?[\d.]+$|\(-1\)\^\{[^{}]*\}|\}\s*\^\s*\{?-?\d\}?|\\pm\s*\S|\\(?:cosh?|sin\^2)\s*\(?\s*-?\d?"
    r"|_\s*\{[^{}]*\}|_\s*\w|(?<!\d)0(?![.\d])|\d+\^\{?(?:st|nd|rd|th)|\|[^|]*\||\d+(?:st|nd|rd|th)"
)
_DIGIT = re.compile(r"\d")
_SIGNED = re.compile(
    r"(?<![\dA-Za-z_}\)^{,±_])(-?)(\d|\\frac|\\sqrt|\\pi)|(?<=[\dA-Z}\)])\s*([+-])\s*(?=[\dA-Za-z\\(])"
)
_BOUND = re.compile(r"\\leq?(?![a-z])|\\geq?(?![a-z])|(?<![<>])[<>](?!=)|^\[|^\(|\]$|\)$")
_OTHER_BOUND = {
    r"\le": "<", r"\leq": "<", r"\ge": ">", r"\geq": ">", "<": r"\le ", ">": r"\ge ", "[": "(", "(": "[", "]": ")",
    ")": "]",
}  # fmt: skip
_UNITS = ("cm", "m", "km", "kg", "hours", "minutes", "days", "dollars", "cents")
_UNIT = re.compile(r"(?<![A-Za-z\\])(?:" + "|".join(sorted(_UNITS, key=len, reverse=True)) + r")(?![A-Za-z])")
_POINT = re.compile(r"\(([^()\[\]{}]+?),([^()\[\]{}]+?)(,[^()\[\]{}]+?)?\)")
_SEPARATOR = re.compile(r"\s*(?:,|;|\\text\s*\{\s*(?:or|and)\s*\}|\\cup|(?<![A-Za-z])or(?![A-Za-z]))\s*")
_LETTER = re.compile(r"(?<![A-Za-z\\_{])[a-z](?![A-Za-z])")


def _places(text: str, pattern: re.Pattern[str]) -> list[re.Match[str]]:
    """Where a pattern is found outside of what is left alone."""
    if _ANY_INTEGER.search(text):
        return []
    masked = _LEFT_ALONE.sub(lambda match: "_" * len(match.group()), text)
    return list(pattern.finditer(masked))


def _digit(text: str, rng: random.Random) -> str | None:
    places = [match.start() for match in _places(text, _DIGIT)]
    if not places or re.match(r"\\text\w*\s*\{\s*\(", text) or re.search(r"\\\{.*(\d).*\1.*\1?", text):
        return None
    parts = [part.strip() for part in _SEPARATOR.split(text)]
    if len(set(parts)) < len(parts):
        return None  # a value that is said twice may change once
    place = rng.choice(places)
    return text[:place] + rng.choice([digit for digit in "123456789" if digit != text[place]]) + text[place + 1 :]


def _sign(text: str, rng: random.Random) -> str | None:
    places = _places(text, _SIGNED)
    if not places or ":" in text or re.match(r"\\text\w*\s*\{\s*\(", text):
        return None
    match = rng.choice(places)
    if match[3]:
        return text[: match.start(3)] + ("-" if match[3] == "+" else "+") + text[match.end(3) :]
    return text[: match.start(1)] + ("" if match[1] else "-") + text[match.end(1) :]


def _order(text: str, rng: random.Random) -> str | None:
    """Swaps two coordinates of a point."""
    places = [match for match in _POINT.finditer(text) if match[1].strip() != match[2].strip() and "=" not in match[0]]
    if not places or text[: places[0].start()].rstrip().endswith((r"\binom", "f", "P", "max", "min", "gcd", "in")):
        return None
    match = rng.choice(places)
    swapped = re.sub(r"\s", "", f"({match[2]},{match[1]}")
    if swapped in re.sub(r"\s", "", text) or text[match.end() :].lstrip().startswith(("=", "\\in")):
        return None  # the other point is there as well, or names say what is what
    return f"{text[: match.start()]}({match[2]},{match[1]}{match[3] or ''}){text[match.end() :]}"


def _bound(text: str, rng: random.Random) -> str | None:
    """Makes a strict bound weak, or an open end closed."""
    if not re.search(r"\\[lg]e|[<>]|[\[\]]|\\infty", text) or r"\sqrt[" in text or r"\begin" in text:
        return None
    places = list(_BOUND.finditer(text.strip()))
    if not places:
        return None
    match = rng.choice(places)
    if "infty" in text[max(0, match.start() - 9) : match.end() + 9] and match.group() in "[]()":
        return None
    return text.strip()[: match.start()] + _OTHER_BOUND[match.group()] + text.strip()[match.end() :]


def _dropped(text: str, rng: random.Random) -> str | None:
    """Leaves one of several values out."""
    if re.search(r"[([{]", re.sub(r"\\text\s*\{[^{}]*\}|\\frac\{[^{}]*\}\{[^{}]*\}|\\sqrt\{[^{}]*\}", "", text)):
        return None
    parts = [part for part in _SEPARATOR.split(text) if part.strip()]
    if len(parts) < 2 or len({part.strip() for part in parts}) < len(parts):
        return None
    if re.search(r"\\in|for |where|\d,\d{3}", text):
        return None
    parts.pop(rng.randrange(len(parts)))
    return ", ".join(parts)


def _unit(text: str, rng: random.Random) -> str | None:
    match = _UNIT.search(text)
    if match is None or "=" in text[match.end() :][:2]:
        return None
    return text[: match.start()] + rng.choice([unit for unit in _UNITS if unit != match.group()]) + text[match.end() :]


def _letter(text: str, rng: random.Random) -> str | None:
    """Calls a variable of an expression otherwise; an equation, a condition or words may say what a letter is."""
    if re.search(r"mathrm|=|\\in|\\to|\\mapsto|text|<|>|\\[lg]e|\\mid|[A-Za-z]{3}(?<!\\)\s", text):
        return None
    letters = sorted(set(_LETTER.findall(re.sub(r"\\[A-Za-z]+", " ", text))) - {"e", "i", "d", "j", "k", "n", "c"})
    if not letters:
        return None
    old = rng.choice(letters)
    new = rng.choice([letter for letter in "uvw" if letter not in text])
    return re.sub(rf"(?<![A-Za-z\\]){old}(?![A-Za-z])", new, text)


MUTATIONS: dict[str, Mutation] = {
    "sign": _sign,
    "digit": _digit,
    "order": _order,
    "bound": _bound,
    "dropped root": _dropped,
    "unit": _unit,
    "letter": _letter,
}


def _is_asked(name: str, gold: str) -> bool:
    """Whether the reference says what is changed: its unit, its integer parameter."""
    if name == "unit":
        return _UNIT.search(gold) is not None
    return not (name in ("sign", "digit") and _ANY_INTEGER.search(gold))


def mutants(pairs: Sequence[tuple[str, str]], count: int, seed: int = 0) -> Iterator[tuple[str, str, str, str]]:
    """(kind of change, mutant, reference, right answer): ``count`` different wrong answers to the references.

    Each kind gets its turn as long as it finds something to change.
    """
    rng = random.Random(seed)
    seen: set[tuple[str, str]] = set()
    made = idle = 0
    names = list(MUTATIONS)
    while made < count and idle < 2_000_000:
        name = names[(made + idle) % len(names)]
        answer, gold = rng.choice(pairs)
        mutant = MUTATIONS[name](answer, rng) if _is_asked(name, gold) else None
        if mutant is None or mutant == answer or (mutant, gold) in seen:
            idle += 1
            continue
        seen.add((mutant, gold))
        made += 1
        yield name, mutant, gold, answer
