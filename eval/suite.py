"""What is asked: the five benchmarks and the user's own, each with its prompt template."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from eval.records import difficulty_of
from openrlhf_ktae.reward.answer import AnswerStyle
from openrlhf_ktae.table_files import read_rows
from openrlhf_ktae.tasks.math.benchmarks import (
    BENCHMARKS,
    DEFAULT_SUITE,
    Problem,
    answers_of,
    fingerprint,
    load_benchmarks,
)
from openrlhf_ktae.tasks.task import TASK, BaseTask
from openrlhf_ktae.tasks.templates import Template, template

SHIPPED = {file.stem: file for file in sorted((Path(__file__).parent / "benchmarks").glob("*.yaml"))}
"""Benchmark files that come with the project, by name. A new one is a new file there."""


@dataclass(frozen=True)
class Task:
    """Problems of one benchmark and how they are asked."""

    name: str
    problems: list[Problem]
    template: Template
    fingerprint: str
    """Checksum of all problems and answers, before any limit."""
    total: int
    """Number of problems before any limit."""
    verifier: str = "math"
    """The task (`openrlhf_ktae.tasks`) whose verifier grades the answers."""


class Columns(BaseModel):
    """Names of the columns of a user's benchmark."""

    model_config = ConfigDict(extra="forbid")

    problem: str = "problem"
    answer: str = "answer"
    """Text, a number, or a list of either (any one counts)."""
    difficulty: str | None = None


class UserBenchmark(BaseModel):
    """A benchmark of the user's own, as its YAML file says it."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9_.-]+$")
    path: str
    """A .jsonl, .json, .csv or .parquet file, or a ``save_to_disk`` folder; relative to the YAML file."""
    split: str | None = None
    """Which split of a folder that has several."""
    columns: Columns = Columns()
    template: str | None = None
    """Prompt template; if not given that of the command line for math, else the task's own."""
    answer_style: AnswerStyle | None = None
    """Where the answer stands; if not given, where the template asks for it."""
    task: str = "math"
    """The task that it belongs to: its verifier grades, and it reads rows in its own shape."""


def load_tasks(
    data: str, names: Sequence[str] | None, benchmarks: Sequence[Path], template_name: str, limit: int | None
) -> list[Task]:
    """The tasks of an evaluation.

    Args:
        data: the suite: a ``save_to_disk`` folder or ``owner/name@commit`` of the Hub.
        names: tasks of the suite or of :data:`SHIPPED`; None: the default suite, or nothing of it where ``benchmarks``
            are given.
        benchmarks: YAML files of :class:`UserBenchmark`.
        template_name: prompt template of every task that names none itself.
        limit: only the first so many problems of each task.

    Raises:
        ValueError: unknown task or template, data that differ from the published suite, a broken benchmark file.
    """
    default = template(template_name)
    if limit is not None and limit < 1:
        raise ValueError(f"limit: got {limit}, expected at least 1; leave it out for all problems")
    if names is None:
        names = () if benchmarks else DEFAULT_SUITE
    for name in names:
        if name not in BENCHMARKS and name not in SHIPPED:
            raise ValueError(f"tasks: got {name!r}, expected some of {', '.join([*BENCHMARKS, *SHIPPED])}")
        if names.count(name) > 1:
            raise ValueError(f"tasks: {name!r} is named twice")
    of_suite = [name for name in names if name in BENCHMARKS]
    loaded = load_benchmarks(data, of_suite) if of_suite else {}
    tasks = [
        _task(name, loaded[name], default) if name in loaded else load_user_benchmark(SHIPPED[name], default)
        for name in names
    ]
    for path in benchmarks:
        tasks.append(load_user_benchmark(path, default))
        if tasks[-1].name in {*BENCHMARKS, *(task.name for task in tasks[:-1])}:
            raise ValueError(f"{path}: name {tasks[-1].name!r} is taken by another task; choose another")
    return [replace(task, problems=task.problems[:limit]) for task in tasks]


def load_user_benchmark(path: Path, default: Template) -> Task:
    """The task of a benchmark file.

    Raises:
        ValueError: the file or the data behind it is not as expected; names the field or the row.
    """
    try:
        benchmark = UserBenchmark.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: cannot be read as YAML ({error})") from error
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors())
        raise ValueError(f"{path}: {problems}; fields: {', '.join(UserBenchmark.model_fields)}") from error
    task = TASK.load(benchmark.task)
    verifier = task(task.Options())
    problems = [_problem(benchmark, verifier, index, row, path) for index, row in enumerate(_rows(benchmark, path))]
    if not problems:
        raise ValueError(f"{path}: no rows in {benchmark.path}")
    asked_with = default if benchmark.task == "math" else task.template
    asked_with = template(benchmark.template) if benchmark.template else asked_with
    if benchmark.answer_style:
        asked_with = replace(asked_with, answer_style=benchmark.answer_style)
    return replace(_task(benchmark.name, problems, asked_with), verifier=benchmark.task)


def _problem(benchmark: UserBenchmark, verifier: BaseTask, index: int, row: dict[str, Any], path: Path) -> Problem:
    own = verifier.read_row(row)
    if own is not None:
        return Problem(benchmark.name, index, *own)
    columns = benchmark.columns
    for column in (columns.problem, columns.answer, columns.difficulty):
        if column is not None and column not in row:
            raise ValueError(f"{path}, row {index}: no column {column!r}, found {', '.join(row)}; set columns")
    answers = answers_of(row[columns.answer])
    if not answers:
        raise ValueError(f"{path}, row {index}: answer is {row[columns.answer]!r}, expected text or a number")
    difficulty = difficulty_of(row[columns.difficulty]) if columns.difficulty else None
    return Problem(benchmark.name, index, str(row[columns.problem]), answers, difficulty)


def _task(name: str, problems: list[Problem], asked_with: Template) -> Task:
    return Task(name, problems, asked_with, fingerprint(problems), len(problems))


def _rows(benchmark: UserBenchmark, file: Path) -> Any:
    path = file.parent / benchmark.path
    if path.is_dir():
        return _folder_rows(benchmark, path, file)
    if not path.is_file():
        raise ValueError(f"{file}: path: no file or folder {path}")
    try:
        return read_rows(path)
    except ValueError as error:
        raise ValueError(f"{file}: path: {error}") from None


def _folder_rows(benchmark: UserBenchmark, path: Path, file: Path) -> Any:
    from datasets import DatasetDict, load_from_disk

    data = load_from_disk(str(path))
    if not isinstance(data, DatasetDict):
        return data
    if benchmark.split not in data:
        raise ValueError(f"{file}: split is {benchmark.split!r}, expected one of {', '.join(map(str, data))}")
    return data[benchmark.split]
