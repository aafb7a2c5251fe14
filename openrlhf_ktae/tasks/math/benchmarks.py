"""The five math benchmarks of the evaluation: loading, checking, and one shape for all."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openrlhf_ktae.hub import dataset_folder


@dataclass(frozen=True)
class Problem:
    """One benchmark problem. ``answers`` holds every accepted answer; any one of them counts."""

    task: str
    index: int
    problem: str
    answers: tuple[str, ...]
    difficulty: float | None = None


@dataclass(frozen=True)
class Benchmark:
    """What a benchmark must look like to give comparable numbers."""

    name: str
    title: str
    count: int
    """Number of problems."""
    fingerprint: str
    """First 16 hexadecimal digits of the SHA-256 over problems and answers in order (:func:`fingerprint`)."""


BENCHMARKS: dict[str, Benchmark] = {
    benchmark.name: benchmark
    for benchmark in (
        Benchmark("aime", "AIME 2024", 30, "26391ea3c014aa89"),
        Benchmark("amc", "AMC 2023", 83, "c5d634104850cc1d"),
        Benchmark("math", "MATH-500", 500, "ca46a572f5da330c"),
        Benchmark("minerva", "Minerva Math", 272, "4fd34d246d039403"),
        Benchmark("olympiad_bench", "OlympiadBench", 675, "3e4f0876f42bd2bf"),
    )
}
"""The benchmarks that have to be the published ones, by name; further entries change nobody's default run."""

DEFAULT_SUITE = ("aime", "amc", "math", "minerva", "olympiad_bench")
"""What is asked where nobody says which, in the order of the published tables."""


_WAY_OUT = "take the published suite, or name yours as a benchmark of your own (docs/evaluation.md)"


def fingerprint(problems: Iterable[Problem]) -> str:
    """Checksum of the problems and their answers, in order; 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for problem in problems:
        digest.update(json.dumps([problem.problem, list(problem.answers)], ensure_ascii=False).encode())
        digest.update(b"\n")
    return digest.hexdigest()[:16]


def load_benchmarks(path: str | Path, tasks: Iterable[str] | None = None) -> dict[str, list[Problem]]:
    """Load benchmarks from a local folder or from the Hugging Face Hub.

    Args:
        path: a folder written by ``datasets.DatasetDict.save_to_disk``, or ``owner/name@revision`` of a Hub dataset,
            where the revision is a full commit hash. The splits are named after the tasks; columns ``problem`` and
            ``answer``, optionally ``difficulty``.
        tasks: names out of :data:`BENCHMARKS`; None loads :data:`DEFAULT_SUITE`.

    Returns:
        The problems of each task, in file order.

    Raises:
        ValueError: unknown task, missing task or column, wrong count, wrong content, problem without an answer.
    """
    names = list(DEFAULT_SUITE if tasks is None else tasks)
    for name in names:
        if name not in BENCHMARKS:
            raise ValueError(f"tasks: got {name!r}, expected some of {', '.join(BENCHMARKS)}")
    suite = _open_suite(str(path))
    loaded = {}
    for name in names:
        if name not in suite:
            raise ValueError(f"benchmarks {path}: no task {name!r}, found {', '.join(suite)}; leave it out of tasks")
        loaded[name] = [_problem(name, index, row) for index, row in enumerate(suite[name])]
        _check(BENCHMARKS[name], loaded[name], str(path))
    return loaded


def answers_of(answer: Any) -> tuple[str, ...]:
    """The accepted answers of a dataset cell: a string, a number, or a list of either. Empty ones are dropped."""
    cells = answer if isinstance(answer, list | tuple) else [answer]
    texts = []
    for cell in cells:
        if cell is None or isinstance(cell, bool):
            continue
        # AMC keeps integers as floats: 142.0 is the answer "142".
        text = str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell).strip()
        if text and text.lower() != "nan":
            texts.append(text)
    return tuple(texts)


def _problem(task: str, index: int, row: dict[str, Any]) -> Problem:
    for column in ("problem", "answer"):
        if column not in row:
            raise ValueError(f"benchmark {task!r}: no column {column!r}, found {', '.join(row)}")
    answers = answers_of(row["answer"])
    if not answers:
        raise ValueError(f"benchmark {task!r}, row {index}: answer is {row['answer']!r}, expected text or a number")
    return Problem(task, index, row["problem"], answers, row.get("difficulty"))


def _check(benchmark: Benchmark, problems: list[Problem], path: str) -> None:
    if len(problems) != benchmark.count:
        raise ValueError(
            f"benchmark {benchmark.name!r} in {path}: {len(problems)} problems, expected {benchmark.count}; "
            f"its numbers would not be comparable; {_WAY_OUT}"
        )
    found = fingerprint(problems)
    if found != benchmark.fingerprint:
        raise ValueError(
            f"benchmark {benchmark.name!r} in {path}: fingerprint {found}, expected {benchmark.fingerprint}: problems "
            f"or answers differ from the published suite; {_WAY_OUT}"
        )


def _open_suite(path: str) -> Any:
    from datasets import DatasetDict, load_dataset, load_from_disk

    if Path(path).is_dir():
        suite = load_from_disk(path)
        if not isinstance(suite, DatasetDict):
            raise ValueError(f"benchmarks {path}: a single dataset, expected a DatasetDict with one split per task")
        return suite
    folder = dataset_folder("benchmarks", path)
    saved = sorted(folder.rglob("dataset_dict.json"))
    return load_from_disk(str(saved[0].parent)) if saved else load_dataset(str(folder))
