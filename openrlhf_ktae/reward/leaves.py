"""Compares two texts without structure: numbers with units, ratios, words, angles, and last expressions."""

import re
from collections.abc import Callable

from openrlhf_ktae.reward import angles
from openrlhf_ktae.reward.evaluate import compare_simple
from openrlhf_ktae.reward.limits import check_limits
from openrlhf_ktae.reward.normalize import latex
from openrlhf_ktae.reward.numbers import read_number
from openrlhf_ktae.reward.quantity import Quantity, compare_bases, compare_quantities, read_quantity, sizes
from openrlhf_ktae.reward.ratios import as_fraction, compare_clocks, proportions, read_ratio
from openrlhf_ktae.reward.units import differ
from openrlhf_ktae.reward.words import read_number_word, read_words

SymbolicEquality = Callable[[str, str], bool]


def compare_leaves(answer: str, gold: str, symbolic: SymbolicEquality) -> bool:
    """Whether two texts are equal; the symbolic engine is asked where nothing else can tell."""
    tight = answer.replace(" ", ""), gold.replace(" ", "")
    if tight[0] == tight[1]:
        return True
    bases = compare_bases(*tight)
    if bases is not None:
        return bases
    left, right = read_quantity(answer), read_quantity(gold)
    verdict = compare_quantities(left, right)
    if verdict is not None:
        return verdict
    verdict = _compare_words(answer, gold, left, right)
    if verdict is not None:
        return verdict
    if ":" in answer + gold or "to" in answer + gold:
        verdict = _compare_ratios(answer, gold, symbolic)
        if verdict is not None:
            return verdict
    # The engine reads f' as f.
    if differ(left.unit, right.unit) or answer.count("'") != gold.count("'"):
        return False
    return _compare_bodies(left, right, symbolic)


def equal_sides(parts: tuple[str, ...], gold_parts: tuple[str, ...], operator: str, symbolic: SymbolicEquality) -> bool:
    """Whether two equations or inequalities of two sides each have the same solutions, by a constant factor."""
    sides = [f"({parts[0]})-({parts[1]})", f"({gold_parts[0]})-({gold_parts[1]})"]
    for side in sides:
        check_limits(side)
    relation = "=0" if operator in "=≠" else ">0"
    return symbolic(latex(sides[0]) + relation, latex(sides[1]) + relation)


def _compare_bodies(left: Quantity, right: Quantity, symbolic: SymbolicEquality) -> bool:
    body, other = left.body, right.body
    if converted := sizes(left, right):
        body, other = f"({converted[0]})*({body})", f"({converted[1]})*({other})"
    is_degree = left.unit.name == "degree", right.unit.name == "degree"
    if is_degree[0] != is_degree[1] and angles.is_in_radians(other if is_degree[0] else body):
        in_radians = [
            angles.in_radians(f"{text}°") if flag else text for text, flag in zip((body, other), is_degree, strict=True)
        ]
        if _equal(in_radians[0], in_radians[1], symbolic):
            return True
    if "°" not in body + other:
        return _equal(body, other, symbolic)
    return any(_equal(first, second, symbolic) for first, second in angles.readings(body, other))


def _equal(answer: str, gold: str, symbolic: SymbolicEquality) -> bool:
    """Whether two expressions are equal for all values of their letters."""
    if answer.replace(" ", "") == gold.replace(" ", ""):
        return True
    simple = compare_simple(answer, gold)
    if simple is not None:
        return simple
    check_limits(answer)
    check_limits(gold)
    return symbolic(latex(answer), latex(gold))


def _compare_ratios(answer: str, gold: str, symbolic: SymbolicEquality) -> bool | None:
    """Compares ratios with each other or with a fraction; None when there is no ratio."""
    clocks = compare_clocks(answer, gold)
    if clocks is not None:
        return clocks
    left, right = read_ratio(answer), read_ratio(gold)
    if left is None and right is None:
        return None
    if left is not None and right is not None:
        equations = proportions(left, right)
        return equations is not None and all(compare_leaves(a, b, symbolic) for a, b in equations)
    fraction = as_fraction(left or right or [])
    if fraction is None:
        return False
    return compare_leaves(fraction, gold, symbolic) if right is None else compare_leaves(answer, fraction, symbolic)


def _compare_words(answer: str, gold: str, left: Quantity, right: Quantity) -> bool | None:
    """Compares words with words, and a number with a word for one; None for what is no words."""
    is_text = "‹" in answer + gold
    words = read_words(answer, is_text), read_words(gold, is_text)
    if words[0] is not None and words[1] is not None:
        return words[0] == words[1]
    if words[0] is None and words[1] is None:
        return None
    is_answer = words[0] is not None
    number = read_number_word(left.body if is_answer else right.body)
    other = read_number(right.body if is_answer else left.body)
    if number is not None and other is not None:
        return other.value == number
    return False if _is_prose(answer if is_answer else gold) or "nothing" in words else None


def _is_prose(text: str) -> bool:
    return "‹" in text or len(re.sub(r"\\[A-Za-z]+", "", text)) > 5
