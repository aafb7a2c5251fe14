"""The tables of a comparison, as text cells, for the terminal, Markdown and the page alike."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from eval.compare import AVERAGE, Comparison, Entry
from openrlhf_ktae.tasks.math.benchmarks import BENCHMARKS

NONE = "–"


@dataclass(frozen=True)
class Table:
    """Cells in rows; the first column names the result."""

    name: str
    title: str
    header: list[str]
    rows: list[list[str]]


def tables(comparison: Comparison) -> list[Table]:
    """Accuracy, differences (where there are any), length, format, truncation."""
    found = [
        _per_task(comparison, "accuracy", "Accuracy in % with 95 % interval over problems", _accuracy),
        _differences(comparison),
        _per_task(comparison, "tokens", "Mean response length in tokens", lambda row: _number(row["mean_tokens"])),
        _per_task(comparison, "formatted", "Responses with a formatted answer in %", _share("formatted")),
        _per_task(comparison, "truncated", "Responses cut at the token limit in %", _share("truncated")),
    ]  # fmt: skip
    if any(row.get("k", 1) > 1 for entry in comparison.entries for row in entry.results["tasks"].values()):
        found.insert(1, _per_task(comparison, "majority", "maj@k in %", _share("maj@k")))
    return [table for table in found if table.rows]


def task_title(task: str) -> str:
    """The name of a task for people."""
    if task == AVERAGE:
        return "Average"
    return BENCHMARKS[task].title if task in BENCHMARKS else task


def entry_label(entry: Entry) -> str:
    """The name of a result, marked where it is partial."""
    return f"{entry.label} (partial)" if entry.results["partial"] else entry.label


def p_text(p_value: float) -> str:
    """A p-value to two digits, never as an exact zero."""
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.2g}"


def _per_task(comparison: Comparison, name: str, title: str, cell: Callable[[dict[str, Any]], str]) -> Table:
    columns = [*comparison.tasks, AVERAGE]
    rows = []
    for entry in comparison.entries:
        values = [entry.row(task) for task in columns]
        rows.append([entry_label(entry), *(cell(value) if value else NONE for value in values)])
    known = any(text != NONE for row in rows for text in row[1:])
    return Table(name, title, ["", *_headings(comparison)], rows if known else [])


def _headings(comparison: Comparison) -> list[str]:
    headings = []
    for task in comparison.tasks:
        counts = sorted({entry.row(task)["n"] for entry in comparison.entries if entry.row(task)})  # type: ignore[index]
        headings.append(f"{task_title(task)} (n\u00a0=\u00a0{'/'.join(map(str, counts))})")
    return [*headings, "Average"]


def _differences(comparison: Comparison) -> Table:
    rows = []
    for number, entry in enumerate(comparison.entries[1:], start=1):
        cells = []
        for task in [*comparison.tasks, AVERAGE]:
            difference = comparison.differences.get((number, task))
            if difference is None:
                cells.append(NONE)
                continue
            value, low, high = (f"{100 * points:+.1f}" for points in (difference.value, *difference.interval))
            mark = "*" if difference.test.startswith("McNemar") else ""
            cells.append(f"{value} [{low}, {high}] {p_text(difference.p_value)}{mark}")
        if any(cell != NONE for cell in cells):
            rows.append([entry_label(entry), *cells])
    title = (
        f"Difference to {comparison.entries[0].label} in points, paired by problem "
        "(* McNemar's exact test, otherwise paired bootstrap)"
    )
    return Table("differences", title, ["", *_headings(comparison)], rows)


def _accuracy(row: dict[str, Any]) -> str:
    low, high = row["ci95"]
    return f"{100 * row['pass@1']:.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def _share(name: str) -> Callable[[dict[str, Any]], str]:
    return lambda row: _percent(row[name])


def _percent(value: float | None) -> str:
    return NONE if value is None else f"{100 * value:.1f}"


def _number(value: float | None) -> str:
    return NONE if value is None else f"{value:.0f}"
