"""Reads answers that somebody else generated: JSON lines, a JSON list or object of records, or a Parquet file.

A record is ``{task or task_name, problem or prompt, answer or answers or gt, output or outputs or model_output}``, one
of our own ``outputs.jsonl``, or one of another evaluation program (:mod:`eval.saved_shapes`). Several outputs are
several samples, and so are several records of one problem.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from eval.records import ENCODING, difficulty_of
from eval.saved_shapes import is_repeated, standard_row
from openrlhf_ktae.reward.grading import gold_answers

FIELDS = {
    "task": ("task", "task_name"),
    "problem": ("problem", "prompt"),
    "answer": ("answers", "gt", "answer"),
    "output": ("outputs", "output", "model_output"),
}
"""What a record must say, and the names each may have; the first that is there counts. In a file of our own ``answer``
is the answer found and ``answers`` are the accepted ones."""


@dataclass(frozen=True)
class Sample:
    """An output that waits for its verdict."""

    task: str
    index: int
    sample: int
    problem: str
    answers: tuple[str, ...]
    prompt: str | None
    output: str
    tokens: int | None
    finish_reason: str | None
    difficulty: float | None


def read_samples(path: Path, on_unreadable: Callable[[str], None] | None = None) -> list[Sample]:
    """Every sample of the file, in its order.

    The number of a problem is its ``index`` where the records have one, otherwise its place among the problems of its
    task by first appearance. Where one text has different accepted answers (a prompt without the problem), every
    record of the task is a problem.

    Args:
        on_unreadable: told the place of a record that cannot be graded, and why; None: such a record raises.

    Raises:
        ValueError: no record that can be graded; with ``on_unreadable`` None also a record without one of the fields,
            named with its place in the file, or a sample twice.
    """
    rows: list[tuple[str, dict[str, Any]]] = []
    unreadable: list[str] = []

    def skip(place: str, error: ValueError) -> None:
        if on_unreadable is None:
            raise ValueError(f"{path}, {place}: {error}") from error
        unreadable.append(f"{place}: {error}")
        on_unreadable(unreadable[-1])

    before: set[tuple[Any, str]] = set()
    for place, content in _rows(path):
        try:
            row = _object(content() if callable(content) else content)
            if not is_repeated(row, before):
                rows.append((place, _checked(standard_row(row, path))))
        except ValueError as error:
            skip(place, error)
    samples: list[Sample] = []
    numbers: dict[str, dict[Any, int]] = {}
    counts: dict[tuple[str, int], int] = {}
    seen: set[tuple[str, int, int]] = set()
    unnamed = _tasks_without_problems([row for _, row in rows])
    for number, (place, row) in enumerate(rows):
        try:
            if row["task"] in unnamed:
                row = {**row, "problem_key": number}
            read = list(_samples_of(row, numbers, counts))
            for sample in read:
                if (sample.task, sample.index, sample.sample) in seen:
                    raise ValueError(
                        f"sample {sample.sample} of problem {sample.index} of {sample.task} is there twice"
                    )
            seen.update((sample.task, sample.index, sample.sample) for sample in read)
            samples += read
        except ValueError as error:
            skip(place, error)
    if not samples:
        why = f"; {len(unreadable)} cannot be read: {'; '.join(unreadable[:3])}" if unreadable else ""
        raise ValueError(f"{path}: no records; expected at least one, as JSON lines or as a JSON list{why}")
    return samples


def _checked(row: dict[str, Any]) -> dict[str, Any]:
    """The row with its fields under one name each.

    Raises:
        ValueError: a field is missing.
    """
    answers = _field(row, "answer")
    while isinstance(answers, list) and any(isinstance(cell, list) for cell in answers):  # [["9.6"]] of the authors
        answers = [one for cell in answers for one in (cell if isinstance(cell, list) else [cell])]
    return {
        **row,
        "task": _text(_field(row, "task"), "task"),
        "problem": _text(_field(row, "problem"), "problem"),
        "answers": gold_answers(answers),
        "outputs": _field(row, "output"),
    }


def _tasks_without_problems(rows: list[dict[str, Any]]) -> set[str]:
    """The tasks in which one text has several different accepted answers, so that it cannot be the problem."""
    answers: dict[tuple[str, str], tuple[str, ...]] = {}
    found = set()
    for row in rows:
        key = row["task"], row["problem"]
        if row.get("index") is None and answers.setdefault(key, row["answers"]) != row["answers"]:
            found.add(row["task"])
    return found


def _rows(path: Path) -> Iterator[tuple[str, Any]]:
    """The place and the content of each record; what has to be decoded first is a function that does it."""
    if path.suffix == ".parquet":
        import pyarrow.parquet

        yield from ((f"row {n}", row) for n, row in enumerate(pyarrow.parquet.read_table(path).to_pylist(), start=1))
        return
    text = path.read_bytes().decode(*ENCODING)
    start = text.lstrip()[:1]
    if start == "[" or (start == "{" and _is_one_object(text)):
        content = json.loads(text)
        if isinstance(content, dict) and content and all(key.isdigit() for key in content):  # OpenCompass
            yield from ((f"record {key!r}", row) for key, row in content.items())
            return
        lists = content if isinstance(content, dict) and not _is_record(content) else {None: content}
        for task, rows in lists.items():
            if isinstance(rows, dict):
                rows = [rows]
            if not isinstance(rows, list):
                raise ValueError(f"{path}: {task!r} holds {type(rows).__name__}, expected a list of records")
            for number, row in enumerate(rows, start=1):
                place = f"record {number}" if task is None else f"{task}, record {number}"
                yield place, {"task": task, **row} if task and isinstance(row, dict) else row
        return
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield f"line {number}", partial(_decoded, line)


def _decoded(line: str) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON ({error})") from error


def _is_one_object(text: str) -> bool:
    try:
        json.loads(text)
    except json.JSONDecodeError:
        return False
    return True


def _is_record(row: dict[str, Any]) -> bool:
    known = (*FIELDS["problem"], *FIELDS["output"], "resps", "model_response", "predictions", "prediction")
    return any(name in row for name in known)


def _object(row: Any) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise ValueError(f"{type(row).__name__}, expected an object with {_expected()}")
    return row


def _expected() -> str:
    return ", ".join(" or ".join(names) for names in FIELDS.values())


def _field(row: dict[str, Any], field: str) -> Any:
    for name in FIELDS[field]:
        if row.get(name) is not None:
            return row[name]
    found = ", ".join(row) or "nothing"
    raise ValueError(f"no {' or '.join(FIELDS[field])} (found {found})")


def _samples_of(
    row: dict[str, Any], numbers: dict[str, dict[Any, int]], counts: dict[tuple[str, int], int]
) -> Iterator[Sample]:
    task, problem, answers, outputs = row["task"], row["problem"], row["answers"], row["outputs"]
    outputs = outputs if isinstance(outputs, list) else [outputs]
    if not outputs:
        raise ValueError("outputs: an empty list, expected at least one text")
    index = _count(row.get("index"), "index")
    if index is None:
        known = numbers.setdefault(task, {})
        index = known.setdefault(row.get("problem_key", problem), len(known))
    lengths = _lengths(row, len(outputs))
    finishes = _each(row.get("finish_reason"), len(outputs), "finish_reason")
    for position, output in enumerate(outputs):
        given = _count(row.get("sample"), "sample")
        sample = given if given is not None else counts.get((task, index), 0)
        counts[task, index] = max(counts.get((task, index), 0), sample + 1)
        yield Sample(
            task,
            index,
            sample,
            problem,
            answers,
            row.get("prompt"),
            _text(output, "output"),
            lengths[position],
            finishes[position],
            difficulty_of(row.get("difficulty")),
        )


def _text(value: Any, field: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{field}: got {value!r} ({type(value).__name__}), expected text")
    return value


def _lengths(row: dict[str, Any], samples: int) -> list[int | None]:
    ids = row.get("model_output_token_ids")
    if isinstance(ids, list):
        if ids and all(isinstance(one, list) for one in ids) and len(ids) == samples:
            return [len(one) for one in ids]
        if samples == 1:
            return [len(ids)]
    return [_count(one, "tokens") for one in _each(row.get("tokens"), samples, "tokens")]


def _count(value: Any, field: str) -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise ValueError(f"{field}: got {value!r}, expected a whole number")


def _each(value: Any, samples: int, field: str) -> list[Any]:
    """One value per sample."""
    if not isinstance(value, list):
        return [value] * samples if samples == 1 else [None] * samples
    if len(value) != samples:
        raise ValueError(f"{field}: {len(value)} values, expected {samples}, one per output")
    return value
