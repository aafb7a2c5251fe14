"""Reads answers that somebody else generated: JSON lines, a JSON list of records, or a JSON object of such lists.

A record is ``{task or task_name, problem or prompt, answer or answers or gt, output or outputs or model_output}``; an
``outputs.jsonl`` of our own is one too. Several outputs are several samples, and so are several records of one problem.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.records import ENCODING, difficulty_of
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


def read_samples(path: Path) -> list[Sample]:
    """Every sample of the file, in its order.

    The number of a problem is its ``index`` where the records have one, otherwise its place among the problems of its
    task by first appearance.

    Raises:
        ValueError: no records; a record without one of the fields, named with its place in the file; a sample twice.
    """
    samples: list[Sample] = []
    numbers: dict[str, dict[Any, int]] = {}
    counts: dict[tuple[str, int], int] = {}
    seen: set[tuple[str, int, int]] = set()
    for place, row in _rows(path):
        try:
            for sample in _samples_of(row, numbers, counts):
                key = (sample.task, sample.index, sample.sample)
                if key in seen:
                    raise ValueError(
                        f"sample {sample.sample} of problem {sample.index} of {sample.task} is there twice"
                    )
                seen.add(key)
                samples.append(sample)
        except ValueError as error:
            raise ValueError(f"{path}, {place}: {error}") from error
    if not samples:
        raise ValueError(f"{path}: no records; expected at least one, as JSON lines or as a JSON list")
    return samples


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    text = path.read_bytes().decode(*ENCODING)
    start = text.lstrip()[:1]
    if start == "[" or (start == "{" and _is_one_object(text)):
        content = json.loads(text)
        lists = content if isinstance(content, dict) and not _is_record(content) else {None: content}
        for task, rows in lists.items():
            if isinstance(rows, dict):
                rows = [rows]
            if not isinstance(rows, list):
                raise ValueError(f"{path}: {task!r} holds {type(rows).__name__}, expected a list of records")
            for number, row in enumerate(rows, start=1):
                place = f"record {number}" if task is None else f"{task}, record {number}"
                yield place, {"task": task, **_object(row, path, place)} if task else _object(row, path, place)
        return
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{path}, line {number}: not JSON ({error})") from error
            yield f"line {number}", _object(row, path, f"line {number}")


def _is_one_object(text: str) -> bool:
    try:
        json.loads(text)
    except json.JSONDecodeError:
        return False
    return True


def _is_record(row: dict[str, Any]) -> bool:
    return any(name in row for names in (FIELDS["problem"], FIELDS["output"]) for name in names)


def _object(row: Any, path: Path, place: str) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise ValueError(f"{path}, {place}: {type(row).__name__}, expected an object with {_expected()}")
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
    task, problem = _text(_field(row, "task"), "task"), _text(_field(row, "problem"), "problem")
    answers = gold_answers(_field(row, "answer"))
    outputs = _field(row, "output")
    outputs = outputs if isinstance(outputs, list) else [outputs]
    if not outputs:
        raise ValueError("outputs: an empty list, expected at least one text")
    index = _count(row.get("index"), "index")
    if index is None:
        known = numbers.setdefault(task, {})
        index = known.setdefault(problem, len(known))
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
