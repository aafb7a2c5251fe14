"""Problem sets as they are published or kept locally, read into one shape."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from openrlhf_ktae.reward.answer import find_answer
from openrlhf_ktae.tasks.math.benchmarks import answers_of
from openrlhf_ktae.tasks.sources import rows_of

Format = Literal["columns", "math", "gsm8k", "dapo"]

_SHOWN_ROWS = 10
_DAPO_BEFORE = re.compile(r"^Solve the following math problem step by step\..*?\n\n", re.DOTALL)
_DAPO_AFTER = re.compile(r"\n\nRemember to put your answer on its own line after \"Answer:\"\.?\s*$")


@dataclass(frozen=True)
class SourceRow:
    """A problem with every accepted answer; ``level`` is MATH's difficulty from 1 to 5, None where there is none."""

    problem: str
    answers: tuple[str, ...]
    level: int | None = None


@dataclass(frozen=True)
class Source:
    """The problems of a source, in file order, and how many rows were left out for lacking a problem or an answer."""

    rows: tuple[SourceRow, ...]
    skipped: int = 0


def read_source(
    path: str | Path,
    format: Format = "columns",
    problem_column: str = "problem",
    answer_column: str = "answer",
    split: str = "train",
    skip_unreadable: bool = False,
) -> Source:
    r"""The problems of a source, in file order.

    Args:
        path: a .jsonl, .json (a list), .csv or .parquet file, a folder of such files (read in name order), or
            ``owner/name@commit`` of a Hub dataset.
        format: ``columns``: the two columns named here; ``math``: MATH (``problem``, the answer boxed in ``solution``,
            ``level``); ``gsm8k``: GSM8K (``question``, ``answer`` after ``####``); ``dapo``: DAPO-Math-17k (the user
            message in ``prompt`` without its instructions, ``reward_model.ground_truth``).
        split: of a folder, read the files whose path names this split or none (``train``, ``test``, ``validation``,
            ``dev``, ``eval``), or ``all``.
        skip_unreadable: leave out rows without a problem or an answer, and count them, instead of raising.

    Raises:
        ValueError: nothing there, missing columns, or rows without a problem or an answer, with their numbers from 1.
    """
    convert: dict[Format, Callable[[dict[str, Any]], SourceRow]] = {
        "columns": lambda row: SourceRow(_text(row[problem_column]), answers_of(row[answer_column])),
        "math": _math,
        "gsm8k": lambda row: SourceRow(_text(row["question"]), _boxless(find_answer(row["answer"], "hash").text)),
        "dapo": _dapo,
    }
    if format not in convert:
        raise ValueError(f"format: got {format!r}, expected one of {', '.join(convert)}")
    rows, incomplete = [], []
    for number, row in enumerate(rows_of(str(path), split), start=1):
        try:
            converted = convert[format](row)
        except KeyError as error:
            columns = ", ".join(row)
            raise ValueError(
                f"{path}, row {number}: no column {error}, found {columns}; name the columns or choose another format"
            ) from None
        rows.append(converted)
        if not converted.problem or not converted.answers:
            incomplete.append(number)
    if not rows:
        raise ValueError(f"{path}: no rows")
    if incomplete and not skip_unreadable:
        shown = ", ".join(map(str, incomplete[:_SHOWN_ROWS])) + (", ..." if len(incomplete) > _SHOWN_ROWS else "")
        raise ValueError(f"{path}: {len(incomplete)} rows without a problem or an answer (rows {shown}); complete them "
                         "or leave them out with --skip-unreadable")  # fmt: skip
    readable = [row for row in rows if row.problem and row.answers]
    return Source(tuple(readable), len(incomplete))


def _text(cell: Any) -> str:
    return cell.strip() if isinstance(cell, str) else ""


def _boxless(answer: str) -> tuple[str, ...]:
    return (answer,) if answer else ()


def _math(row: dict[str, Any]) -> SourceRow:
    answers = answers_of(row["answer"]) if "answer" in row else _boxless(find_answer(row["solution"], "boxed").text)
    level = re.search(r"[1-5]", str(row.get("level", "")))
    return SourceRow(_text(row["problem"]), answers, int(level.group()) if level else None)


def _dapo(row: dict[str, Any]) -> SourceRow:
    prompt = row["prompt"]
    if not isinstance(prompt, str):
        prompt = next((message["content"] for message in prompt if message["role"] == "user"), "")
    problem = _DAPO_AFTER.sub("", _DAPO_BEFORE.sub("", prompt))
    return SourceRow(_text(problem), answers_of(row["reward_model"]["ground_truth"]))
