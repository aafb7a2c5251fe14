"""Grades responses: finds the answer, compares it with every accepted answer, says why it is wrong."""

import os
import threading
from collections import OrderedDict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from openrlhf_ktae.reward.answer import AnswerStyle, FinalAnswer, find_answer
from openrlhf_ktae.reward.equivalence import compare_cheaply
from openrlhf_ktae.reward.limits import Refused
from openrlhf_ktae.reward.pool import GraderPool

CORRECT, DIFFERENT, NO_ANSWER, TIMED_OUT = "correct", "different", "no answer", "timed out"


@dataclass(frozen=True)
class Verdict:
    """The outcome of grading one response."""

    correct: bool
    answer: str
    """The answer as the response writes it; empty when there is none."""
    formatted: bool
    """Whether an answer was found where the style wants it."""
    reason: str
    """``correct``, or why not: ``different``, ``no answer``, ``timed out``, ``refused: ...`` (beyond the limits of what
    is compared) or ``error: ...``."""

    @property
    def timed_out(self) -> bool:
        """Whether the comparison was killed at its deadline."""
        return self.reason == TIMED_OUT

    @property
    def failed(self) -> bool:
        """Whether the grader itself failed (out of memory, worker died, internal error)."""
        return self.reason.startswith("error")


def gold_answers(gold: Any) -> tuple[str, ...]:
    """The accepted answers: ``gold`` is a string, a number, or a list of either.

    Raises:
        ValueError: there is no answer in it.
    """
    answers = []
    for cell in gold if isinstance(gold, list | tuple) else [gold]:
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


class Grader:
    """Grades with a pool of workers, which start when the first answer needs them. Safe to use from many threads.

    Args:
        workers: worker processes.
        deadline_seconds: time for one comparison of an answer with a reference answer.
        memory_limit_mb: address space of a worker in MiB.
        cache_size: comparisons that are remembered.
    """

    def __init__(
        self, workers: int = 2, deadline_seconds: float = 5.0, memory_limit_mb: int = 1024, cache_size: int = 65536
    ) -> None:
        self._pool_arguments = (workers, deadline_seconds, memory_limit_mb)
        self._pool: GraderPool | None = None
        self._process_id = os.getpid()
        self._cache: OrderedDict[tuple[str, str], str] = OrderedDict()
        self._cache_size = cache_size
        self._lock = threading.Lock()

    def grade(self, response: str, gold: Any, style: AnswerStyle = "boxed") -> Verdict:
        """Whether a response's final answer equals ``gold`` (a string, a number, or a list of either: any counts)."""
        golds = gold_answers(gold)
        found = find_answer(response, style)
        return _verdict(found, self._reason(found, golds))

    def grade_many(self, pairs: Iterable[tuple[str, Any]], style: AnswerStyle = "boxed") -> list[Verdict]:
        """Grades (response, gold) pairs, in order; the workers share what needs them."""
        rows = [(find_answer(response, style), gold_answers(gold)) for response, gold in pairs]
        reasons: dict[tuple[str, tuple[str, ...]], str | None] = {}
        for found, golds in rows:
            if (found.text, golds) not in reasons:
                reasons[found.text, golds] = self._known_reason(found, golds)
        open_rows = [key for key, reason in reasons.items() if reason is None]
        if len(open_rows) == 1:  # as training calls it: no threads for one answer
            reasons[open_rows[0]] = self._reason(FinalAnswer(open_rows[0][0], True), open_rows[0][1])
        elif open_rows:
            with ThreadPoolExecutor(self._pool_arguments[0]) as threads:
                solved = threads.map(lambda key: self._reason(FinalAnswer(key[0], True), key[1]), open_rows)
                reasons.update(zip(open_rows, solved, strict=True))
        return [_verdict(found, reasons[found.text, golds] or DIFFERENT) for found, golds in rows]

    def warm_up(self) -> None:
        """Starts the workers now, and waits until they are ready."""
        self._workers().warm_up()

    def close(self) -> None:
        """Ends the workers. The grader starts new ones when it is used again."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()

    def _known_reason(self, found: FinalAnswer, golds: tuple[str, ...]) -> str | None:
        """The reason where no worker is needed to know it."""
        if not found.formatted:
            return NO_ANSWER
        reasons = [self._cheap_reason(found.text, gold) for gold in golds]
        return CORRECT if CORRECT in reasons else None if None in reasons else _worst(reasons)

    def _reason(self, found: FinalAnswer, golds: tuple[str, ...]) -> str:
        known = self._known_reason(found, golds)
        if known is not None:
            return known
        reasons = []
        for gold in golds:
            reason = self._cheap_reason(found.text, gold) or self._workers().compare(found.text, gold)
            self._remember((found.text, gold), reason)
            if reason == CORRECT:
                return CORRECT
            reasons.append(reason)
        return _worst(reasons)

    def _cheap_reason(self, answer: str, gold: str) -> str | None:
        with self._lock:
            reason = self._cache.get((answer, gold))
            if reason is not None:
                self._cache.move_to_end((answer, gold))
                return reason
        try:
            equal = compare_cheaply(answer, gold)
        except Refused as error:
            reason = f"refused: {error}"
        except Exception as error:  # an answer may hold anything; as in a worker, the verdict is wrong, and counted
            reason = f"error: {type(error).__name__}"
        else:
            reason = None if equal is None else CORRECT if equal else DIFFERENT
        if reason is not None:
            self._remember((answer, gold), reason)
        return reason

    def _remember(self, key: tuple[str, str], reason: str) -> None:
        # A worker that died may have been killed from outside; a long text is not worth its memory.
        if reason.startswith("error: worker") or reason.startswith("error: grader") or len(key[0]) > 4096:
            return
        with self._lock:
            self._cache[key] = reason
            while len(self._cache) > self._cache_size:
                self._cache.popitem(last=False)

    def _workers(self) -> GraderPool:
        with self._lock:
            # A forked copy of this process must not talk to its parent's workers.
            if self._pool is None or self._process_id != os.getpid():
                self._process_id = os.getpid()
                self._pool = GraderPool(*self._pool_arguments)
            return self._pool


_shared = Grader()


def grade(response: str, gold: Any, style: AnswerStyle = "boxed") -> Verdict:
    """:meth:`Grader.grade` with this process's shared grader and the default limits."""
    return _shared.grade(response, gold, style)


def grade_many(pairs: Iterable[tuple[str, Any]], style: AnswerStyle = "boxed") -> list[Verdict]:
    """:meth:`Grader.grade_many` with this process's shared grader and the default limits."""
    return _shared.grade_many(pairs, style)


def warm_up() -> None:
    """Starts the shared grader's workers now."""
    _shared.warm_up()


def _verdict(found: FinalAnswer, reason: str) -> Verdict:
    return Verdict(reason == CORRECT, found.text, found.formatted, reason)


def _worst(reasons: list[str | None]) -> str:
    """What to say about an answer that equals none of the reference answers."""
    for prefix in (TIMED_OUT, "error", "refused"):
        for reason in reasons:
            if reason is not None and reason.startswith(prefix):
                return reason
    return DIFFERENT
