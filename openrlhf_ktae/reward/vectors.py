"""Vectors written with unit vectors: ``3i + 4j - k``."""

import re

from openrlhf_ktae.reward.normalize import split_top

_SIGN = re.compile(r"[+-]")
_MULTIPLE = re.compile(
    r"(?P<factor>[^()+\s]+)\s*\((?P<sum>[^()]+)\)|\\frac\s*\{(?P<above>[^{}]+)\}\s*\{(?P<below>[^{}]+)\}"
)
_BOLD, _PLAIN = "⒤⒥⒦", "ijk"


def components(text: str, as_letters: bool = False) -> list[str] | None:
    """The three coefficients of a sum of unit vectors; None for anything else.

    Args:
        text: in the spelling of :func:`openrlhf_ktae.reward.normalize.plain`.
        as_letters: whether plain i, j, k are unit vectors too. They are only where the other side is a vector: an i
            alone is the imaginary unit.
    """
    units = _BOLD
    if not any(unit in text for unit in _BOLD):
        if not as_letters or not any(letter in text for letter in "jk"):
            return None
        units = _PLAIN
    if match := _MULTIPLE.fullmatch(text.strip()):
        inner = components(match["sum"] or match["above"], as_letters)
        if inner is None or any(unit in (match["factor"] or match["below"]) for unit in units):
            return None
        return [
            f"({match['factor']})({one})" if match["sum"] else rf"\frac{{{one}}}{{{match['below']}}}" for one in inner
        ]
    terms, signs = split_top(text, _SIGN)
    if not terms[0]:
        terms = terms[1:]
    else:
        signs = ["+", *signs]
    found: dict[int, str] = {}
    for sign, term in zip(signs, terms, strict=True):
        place = units.find(term[-1:]) if term else -1
        coefficient = term[:-1].strip().removesuffix(r"\cdot").removesuffix("*").strip()
        if place < 0 or place in found or coefficient.endswith("\\") or any(unit in coefficient for unit in units):
            return None
        found[place] = (
            f"-({coefficient or 1})"
            if sign == "-" and len(coefficient) > 1
            else (("-" if sign == "-" else "") + (coefficient or "1"))
        )
    return [found.get(place, "0") for place in range(3)] if found else None
