"""Ratios such as ``2:3`` and times of day such as ``3:45``."""

import re

from openrlhf_ktae.reward.normalize import split_top
from openrlhf_ktae.reward.numbers import read_number

_COLON = re.compile(r"\s*:\s*|\s*‹\s*to\s*›\s*|(?<=\d)\s+to\s+(?=\d)")
_CLOCK = re.compile(r"(\d{1,2}:[0-5]\d)(?::[0-5]\d)?\s*‹?\s*(?:([ap])\.?\s*m\.?)?\s*›?", re.IGNORECASE)
_MOST_TERMS = 6


def read_ratio(text: str) -> list[str] | None:
    """The terms of a ratio, at least two; None for anything else."""
    if ":" not in text and "to" not in text:
        return None
    terms, _ = split_top(text, _COLON)
    if not 1 < len(terms) <= _MOST_TERMS or not all(terms) or any(_COLON.search(term) for term in terms):
        return None  # a colon within a term: brackets that do not close
    return terms


def compare_clocks(answer: str, gold: str) -> bool | None:
    """Compares two times of day, which never are proportional; None when one of them cannot be one."""
    left, right = _CLOCK.fullmatch(answer.strip()), _CLOCK.fullmatch(gold.strip())
    if left is None or right is None:
        return None
    halves = {(match[2] or "").lower() for match in (left, right)} - {""}
    return left[1].lstrip("0") == right[1].lstrip("0") and len(halves) < 2


def proportions(left: list[str], right: list[str]) -> list[tuple[str, str]] | None:
    """The equations (each a pair of expressions) that make two ratios the same; None when their lengths differ."""
    if len(left) != len(right):
        return None
    if any(_is_zero(term) for term in (*left, *right)):
        return list(zip(left, right, strict=True))  # what is proportional to zero says nothing
    first, other = left[0], right[0]
    return [(f"({first})({b})", f"({other})({a})") for a, b in zip(left[1:], right[1:], strict=True)]


def _is_zero(term: str) -> bool:
    number = read_number(term)
    return number is not None and number.value == 0


def as_fraction(terms: list[str]) -> str | None:
    """A ratio of two terms as a fraction."""
    return rf"\frac{{{terms[0]}}}{{{terms[1]}}}" if len(terms) == 2 else None
