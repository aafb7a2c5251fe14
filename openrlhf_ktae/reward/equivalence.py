"""Whether an answer equals a reference answer: the only comparison, for training and for evaluation.

Structure, numbers and words are compared in microseconds (:mod:`.comparison`). What is left are pairs of expressions;
they go to a comparison of expressions, which is :mod:`openrlhf_ktae.reward.symbolic` or, to find out whether it is
needed at all, :func:`compare_cheaply`'s refusal to answer.
"""

import re

from openrlhf_ktae.reward.comparison import Comparison, SymbolicEquality
from openrlhf_ktae.reward.limits import MAX_LENGTH, Refused
from openrlhf_ktae.reward.normalize import plain
from openrlhf_ktae.reward.numbers import equal_numbers, read_number
from openrlhf_ktae.reward.parameters import readings
from openrlhf_ktae.reward.parse import parse
from openrlhf_ktae.reward.statement import read_statement
from openrlhf_ktae.reward.words import read_choices, split_choice


class Undecided(Exception):
    """Only the symbolic engine can tell."""


def is_equivalent(answer: str, gold: str) -> bool:
    """Whether an answer equals a reference answer. Computes in this process, with no deadline: trusted input only.

    Args:
        answer: the final answer, LaTeX or plain text, without its box.
        gold: the reference answer; its form is the one to match where form counts (a point is no interval).
    """
    from openrlhf_ktae.reward.symbolic import equal_expressions

    try:
        return compare(answer, gold, equal_expressions)
    except Refused:
        return False


def compare_cheaply(answer: str, gold: str) -> bool | None:
    """As :func:`is_equivalent`, without the symbolic engine; None when it is needed. At most some 0.1 ms."""

    def refuse(left: str, right: str) -> bool:
        raise Undecided

    try:
        return compare(answer, gold, refuse)
    except Undecided:
        return None


def compare(answer: str, gold: str, symbolic: SymbolicEquality) -> bool:
    """Whether an answer equals a reference answer, given a way to compare two expressions.

    Raises:
        Refused: expressions are left to compare that are too large for the symbolic engine.
    """
    answer, gold = answer.strip(), gold.strip()
    if answer == gold:
        return bool(answer)
    if max(len(answer), len(gold)) > MAX_LENGTH:
        raise Refused(f"longer than {MAX_LENGTH} characters")
    numbers = read_number(answer), read_number(gold)
    if numbers[0] is not None and numbers[1] is not None:
        return equal_numbers(numbers[0], numbers[1])
    answer, gold = plain(answer), plain(gold)
    if not answer or not gold:
        return False
    if answer.replace(" ", "") == gold.replace(" ", ""):
        return True
    comparison = Comparison(symbolic)
    choices = split_choice(answer), split_choice(gold)
    if choices[0] or choices[1]:
        return _same_choice(answer, gold, choices, comparison)
    if (several := _same_choices(answer, gold)) is not None:
        return several
    stated = read_statement(gold)
    return any(_same_value(reading, stated.body, comparison) for reading in readings(read_statement(answer), stated))


def _same_choice(
    answer: str, gold: str, choices: tuple[tuple[str, str] | None, tuple[str, str] | None], comparison: Comparison
) -> bool:
    """Compares ``(C) 27`` with ``C``, with 27, or with ``(C) 27``, where both have to agree."""
    left, right = choices
    if left and right:
        return left[0] == right[0] and _same_value(left[1], right[1], comparison)
    if left:
        return _same_value(left[0], gold, comparison) or _same_value(left[1], gold, comparison)
    assert right is not None
    return _same_value(answer, right[0], comparison) or _same_value(answer, right[1], comparison)


def _same_choices(answer: str, gold: str) -> bool | None:
    """Compares ``A, C`` with ``AC``; None where neither is a list of choices."""
    if max(len(answer), len(gold)) > _LONGEST_CHOICES:
        return None
    left, right = read_choices(answer), read_choices(gold)
    if left is None or right is None or not (left[1] or right[1]):
        return None
    return left[0] == right[0]


def _same_value(answer: str, gold: str, comparison: Comparison) -> bool:
    if comparison.nodes(parse(answer), parse(gold)):
        return True
    # 100,200 may be a number or a list; the other side says which.
    spaced = [_LIST_COMMA.sub(", ", text) if _THOUSANDS.fullmatch(text) else text for text in (answer, gold)]
    if [answer, gold] == spaced or (answer != spaced[0] and gold != spaced[1]):
        return False
    return comparison.nodes(parse(spaced[0]), parse(spaced[1]))


_LONGEST_CHOICES = 60
_THOUSANDS = re.compile(r"\d{1,3}(?:,\d{3})+")
_LIST_COMMA = re.compile(",")
