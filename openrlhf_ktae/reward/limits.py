"""What is given to the symbolic engine at all: expressions whose mere construction could take for ever are not."""

import re

from openrlhf_ktae.reward.numbers import MAX_DIGITS

MAX_LENGTH = 2000
"""Longest answer that is compared as mathematics; a longer one equals only the same text."""

_MAX_NESTING = 40
_MAX_EXPONENT = 2000
_MAX_POWERS = 3
_MAX_FACTORIAL = 1000

_LONG_DIGITS = re.compile(rf"\d{{{MAX_DIGITS + 1},}}")
_EXPONENT = re.compile(r"\^\s*[{(]*\s*[+-]?\s*(\d+)")
_TOWER = re.compile(
    r"\d[})\s]*\^\s*[{(]*\s*\d+[})\s]*\^|\^\s*[{(]*\s*\d+\s*\^\s*[{(]*\s*\d+\s*\^|(?:\^\s*[A-Za-z0-9]+\s*){4}"
)
_FACTORIAL = re.compile(r"(\d+)\s*[)}]*\s*!")
_NESTED_FACTORIAL = re.compile(r"!\s*[)}\]]*\s*!")


class Refused(Exception):
    """The answer is beyond the limits of what is given to the symbolic engine."""


def check_limits(text: str) -> None:
    """Refuses expressions that are too deeply nested, or have numbers, exponents or factorials that are too large.

    Raises:
        Refused: naming the limit.
    """
    nesting, powers = _depths(text)
    if nesting > _MAX_NESTING:
        raise Refused(f"nested more than {_MAX_NESTING} deep")
    if powers > _MAX_POWERS or _TOWER.search(text):
        raise Refused("a tower of powers")
    if _LONG_DIGITS.search(text):
        raise Refused(f"a number of more than {MAX_DIGITS} digits")
    for match in _EXPONENT.finditer(text):
        if len(match[1]) > 6 or int(match[1]) > _MAX_EXPONENT:
            raise Refused(f"an exponent above {_MAX_EXPONENT}")
    if _NESTED_FACTORIAL.search(text):
        raise Refused("a factorial of a factorial")
    for match in _FACTORIAL.finditer(text):
        if len(match[1]) > 6 or int(match[1]) > _MAX_FACTORIAL:
            raise Refused(f"a factorial above {_MAX_FACTORIAL}")


def _depths(text: str) -> tuple[int, int]:
    """How deep brackets are nested, and how deep exponents in brackets are."""
    groups: list[bool] = []  # whether each open bracket holds an exponent
    nesting = powers = 0
    previous = ""
    for character in text:
        if character in "([{⦃":
            groups.append(previous == "^")
            nesting, powers = max(nesting, len(groups)), max(powers, sum(groups) if previous == "^" else 0)
        elif character in ")]}⦄" and groups:
            groups.pop()
        if not character.isspace():
            previous = character
    return nesting, powers
