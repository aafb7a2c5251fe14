"""Finished runs without their folders: what summary.csv and curves.csv of a sweep say of them.

Run folders are large and stay on the machine that trained them; the two tables go anywhere. With them a sweep's page is
made again, and the sweep goes on elsewhere with the runs that are left.
"""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from openrlhf_ktae.sweep.plan import PlannedRun

Row = Mapping[str, str]


@dataclass(frozen=True)
class Record:
    """A finished run, as the tables have it."""

    summary: Row
    curve: Sequence[Row]

    def number(self, column: str) -> float | None:
        """A number of summary.csv; None where there is none."""
        return _number(self.summary, column)

    def points(self, column: str) -> tuple[tuple[int, ...], tuple[float, ...]]:
        """Steps and values of a column of curves.csv."""
        found = [(int(row["step"]), _number(row, column)) for row in self.curve]
        kept = [(step, value) for step, value in found if value is not None]
        return tuple(step for step, _ in kept), tuple(value for _, value in kept)


def _number(row: Row, column: str) -> float | None:
    text = row.get(column) or ""
    return float(text) if text else None


def read_records(summary: Path) -> dict[str, Record]:
    """The finished runs of summary.csv by name, with their rows of curves.csv beside it; none without the file.

    Raises:
        ValueError: a row that no sweep wrote, with file and line.
    """
    curves: dict[str, list[Row]] = {}
    for name, row in _rows(summary.with_name("curves.csv"), ("step", "accuracy")):
        curves.setdefault(name, []).append(row)
    return {
        name: Record(row, curves.get(name, []))
        for name, row in _rows(summary, ("status", "steps"))
        if row["status"] == "finished"
    }


def _rows(path: Path, numbers: Sequence[str]) -> list[tuple[str, Row]]:
    if not path.is_file():
        return []
    found = []
    with path.open(encoding="utf-8", newline="") as file:
        for row in (reader := csv.DictReader(file)):
            try:
                name = PlannedRun(row["setting"], row["arm"], int(row["seed"]), "", ()).name
                if any(column != "status" and not math.isfinite(float(row[column])) for column in numbers):
                    raise ValueError
            except (KeyError, TypeError, ValueError):
                raise ValueError(
                    f"{path}, line {reader.line_num}: no row that a sweep writes (setting, arm, seed, "
                    f"{', '.join(numbers)}); take the row out, or the file away"
                ) from None
            found.append((name, row))
    return found
