"""Grades responses: finds the answer, compares it with every accepted answer, says why it is wrong."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from openrlhf_ktae.reward.answer import AnswerStyle, find_answer
from openrlhf_ktae.reward.numbers import equal_numbers, read_number


@dataclass(frozen=True)
class Verdict:
    """The outcome of grading one response."""

    correct: bool
    answer: str
    """The answer as the response writes it; empty when there is none."""
    formatted: bool
    """Whether an answer was found where the style wants it."""
    reason: str
    """``correct``, or why not: ``different``, ``no answer``, ``timed out``, or ``error: ...``."""

    @property
    def timed_out(self) -> bool:
        """Whether the comparison was killed at its deadline."""
        return self.reason == "timed out"

    @property
    def failed(self) -> bool:
        """Whether the grader itself failed (out of memory, crashed, internal error)."""
        return self.reason.startswith("error")


def gold_answers(gold: Any) -> tuple[str, ...]:
    """The accepted answers: ``gold`` is a string, a number, or a list of either.

    Raises:
        ValueError: there is no answer in it.
    """
    cells = gold if isinstance(gold, list | tuple) else [gold]
    answers = []
    for cell in cells:
        if isinstance(cell, bool) or not isinstance(cell, str | int | float):
            raise ValueError(f"label: got {cell!r} ({type(cell).__name__}), expected text or a number")
        if isinstance(cell, float):
            if cell != cell or cell in (float("inf"), float("-inf")):
                raise ValueError(f"label: got {cell!r}, expected a finite number")
            cell = int(cell) if cell.is_integer() else cell
        answers.append(str(cell).strip())
    if not any(answers):
        raise ValueError(f"label: got {gold!r}, expected an answer; drop the row or give it one")
    return tuple(answer for answer in answers if answer)


def grade(response: str, gold: Any, style: AnswerStyle = "boxed") -> Verdict:
    """Whether a response's final answer equals ``gold`` (a string, a number, or a list of either: any one counts)."""
    return grade_many([(response, gold)], style)[0]


def grade_many(pairs: Iterable[tuple[str, Any]], style: AnswerStyle = "boxed") -> list[Verdict]:
    """Grades (response, gold) pairs; see :func:`grade`."""
    return [_grade(response, gold_answers(gold), style) for response, gold in pairs]


def _grade(response: str, golds: Sequence[str], style: AnswerStyle) -> Verdict:
    found = find_answer(response, style)
    if not found.formatted:
        return Verdict(False, "", False, "no answer")
    for gold in golds:
        if found.text == gold:
            return Verdict(True, found.text, True, "correct")
        left, right = read_number(found.text), read_number(gold)
        if left is not None and right is not None and equal_numbers(left, right):
            return Verdict(True, found.text, True, "correct")
    return Verdict(False, found.text, True, "different")
