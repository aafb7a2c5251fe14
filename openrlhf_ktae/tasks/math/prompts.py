"""OpenRLHF prompt sets: template, duplicates, benchmark problems taken out, JSON lines of input, label, datasource."""

import json
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from openrlhf_ktae.tasks.math.benchmarks import Problem
from openrlhf_ktae.tasks.math.sources import SourceRow
from openrlhf_ktae.tasks.templates import Template

NGRAM = 13
"""Words in a row that a training problem may not share with a benchmark problem (as for GPT-3, arXiv 2005.14165)."""

_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True)
class PromptSet:
    """Rows to write, and what was left out of them."""

    rows: tuple[dict[str, str], ...]
    read: int
    other_level: int
    duplicates: int
    contaminated: dict[str, int]
    """Problems left out because they occur in a benchmark, by the first benchmark that has them."""


class BenchmarkIndex:
    """Tells whether a problem occurs in a benchmark: the same words, or 13 words in a row in common."""

    def __init__(self, benchmarks: dict[str, list[Problem]]):
        self._exact: dict[tuple[str, ...], str] = {}
        self._grams: dict[tuple[str, ...], str] = {}
        for task, problems in benchmarks.items():
            for problem in problems:
                words = words_of(problem.problem)
                self._exact.setdefault(words, task)
                for gram in _grams(words):
                    self._grams.setdefault(gram, task)

    def find(self, problem: str) -> str | None:
        """The task that holds the problem, or None."""
        words = words_of(problem)
        if words in self._exact:
            return self._exact[words]
        return next((self._grams[gram] for gram in _grams(words) if gram in self._grams), None)


def words_of(problem: str) -> tuple[str, ...]:
    """The problem's words and numbers in lower case; spacing, punctuation and LaTeX signs make no difference."""
    return tuple(_WORD.findall(problem.lower()))


def _grams(words: tuple[str, ...]) -> Iterable[tuple[str, ...]]:
    return (words[start : start + NGRAM] for start in range(len(words) - NGRAM + 1))


def encode_label(answers: Collection[str]) -> str:
    """One answer as it is, several as a JSON list, which the reward function reads back."""
    answers = list(answers)
    return answers[0] if len(answers) == 1 else json.dumps(answers, ensure_ascii=False)


def make_prompts(
    source: Iterable[SourceRow],
    template: Template,
    datasource: str,
    levels: Collection[int] | None = None,
    benchmarks: dict[str, list[Problem]] | None = None,
    tokenizer: Any = None,
) -> PromptSet:
    """A training prompt set, in the source's order.

    Args:
        levels: MATH levels to keep; None keeps every problem. MATH has a few problems of "Level ?", which then go.
        benchmarks: problems that may not be trained on; None leaves the check out.
        tokenizer: for the chat templates.

    Raises:
        ValueError: a level is asked of problems that have none, or no problem is left.
    """
    index = BenchmarkIndex(benchmarks or {})
    rows: list[dict[str, str]] = []
    seen: set[str] = set()
    contaminated = dict.fromkeys(benchmarks or {}, 0)
    other_level = duplicates = 0
    problems = list(source)
    if levels is not None and all(row.level is None for row in problems):
        raise ValueError(f"levels: none of {len(problems)} rows has a level; leave --levels out for this source")
    for row in problems:
        if levels is not None and row.level not in levels:
            other_level += 1
        elif row.problem in seen:
            duplicates += 1
        elif (task := index.find(row.problem)) is not None:
            contaminated[task] += 1
        else:
            seen.add(row.problem)
            rows.append(_row(template.render(row.problem, tokenizer), row.answers, datasource))
    if not rows:
        raise ValueError(
            f"no problem is left of {len(problems)}: {other_level} of another level, {contaminated} in benchmarks"
        )
    return PromptSet(tuple(rows), len(problems), other_level, duplicates, contaminated)


def benchmark_prompts(
    benchmarks: dict[str, list[Problem]], template: Template, tokenizer: Any = None
) -> tuple[dict[str, str], ...]:
    """The benchmarks as an evaluation prompt set; ``datasource`` is the task."""
    return tuple(
        _row(template.render(problem.problem, tokenizer), problem.answers, task)
        for task, problems in benchmarks.items()
        for problem in problems
    )


def _row(prompt: str, answers: Collection[str], datasource: str) -> dict[str, str]:
    return {"input": prompt, "label": encode_label(answers), "datasource": datasource}
