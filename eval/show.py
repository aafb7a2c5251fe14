"""Writes a comparison, or one result, to the terminal and as Markdown."""

import re
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from eval.compare import AVERAGE, Comparison
from eval.tables import NONE, Table, tables, task_title
from openrlhf_ktae.reward.answer import STYLES

FEW_ANSWERS = 0.1
"""Share of responses with an answer up to which a note says where answers were looked for."""


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Prints every table and note."""
    for table in tables(comparison):
        console.print(_rich(_narrow(table), console.width))
    for note in comparison.notes:
        console.print(f"[yellow]{escape(note)}[/]")


def comparison_markdown(comparison: Comparison) -> str:
    """Every table and note as Markdown."""
    parts = []
    for table in tables(comparison):
        lines = [table.header, ["---", *["---:"] * (len(table.header) - 1)], *table.rows]
        parts.append(f"**{table.title}**\n\n" + "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines))
    if comparison.notes:
        parts.append("\n".join(f"- {note}" for note in comparison.notes))
    return "\n\n".join(parts) + "\n"


def print_results(results: Mapping[str, Any], console: Console) -> None:
    """Prints one evaluation: a column per task and their average, which fits into 80 columns with five tasks."""
    k = max(task["k"] for task in results["tasks"].values())
    names = ["", "problems", "pass@1 %", "95 % interval"]
    if k > 1:
        names += [f"maj@{k} %", f"pass@{k} %"]
    names += ["tokens, mean", "tokens, median", "tokens, most", "formatted %", "truncated %"]
    shown = list(results["tasks"].items())
    if len(shown) > 1:
        shown.append((AVERAGE, results["average"]))
    columns = [names]
    for task, row in shown:
        low, high = row["ci95"]
        cells = [
            task_title(task),
            str(row.get("n", "")),
            f"{100 * row['pass@1']:.1f}",
            f"{100 * low:.1f} to {100 * high:.1f}",
        ]
        if k > 1:
            cells += [_share(row["maj@k"]), _share(row.get(f"pass@{k}"))]
        cells += [_length(row.get(key)) for key in ("mean_tokens", "median_tokens", "max_tokens")]
        columns.append([*cells, _share(row["formatted"]), _share(row["truncated"])])
    header, *rows = map(list, zip(*columns, strict=True))
    title = "Partial result" if results["partial"] else "Result"
    console.print(_rich(Table("results", title, header, rows), console.width))
    for reason in results["partial_because"]:
        console.print(f"[yellow]partial: {escape(reason)}[/]")
    for task, row in results["tasks"].items():
        if warning := missing_answers(task, row, results["settings"].get("answer_styles", {}).get(task)):
            console.print(f"[yellow]{escape(warning)}[/]")
    for name, count in results["grader"].items():
        if count:
            console.print(f"[yellow]grader: {count} answers counted as wrong ({name.replace('_', ' ')})[/]")


def missing_answers(task: str, metrics: Mapping[str, Any], style: str | None) -> str | None:
    """Why an accuracy near 0 may say nothing about the model; None where answers were found."""
    if style is None or metrics["formatted"] > FEW_ANSWERS:
        return None
    return (
        f"{task}: only {metrics['formatted']:.1%} of the responses have an answer where it was looked for "
        f"(--answer-style {style}). If the model writes it elsewhere, grade what is there again with another one of "
        f"{', '.join(STYLES)}: python -m eval grade OUTPUT/outputs.jsonl --answer-style ..."
    )


def _narrow(table: Table) -> Table:
    """Tasks as rows where there are fewer results than tasks: it fits into 80 columns."""
    if len(table.rows) >= len(table.header) - 1:
        return table
    header, *rows = (list(cells) for cells in zip(table.header, *table.rows, strict=True))
    return Table(table.name, table.title, header, rows)


def _rich(table: Table, width: int) -> RichTable:
    rich = RichTable(title=escape(table.title), title_justify="left", title_style="bold", header_style="")
    header, *rows = _wrapped([table.header, *table.rows], width - 3 * len(table.header) - 1)
    for i, heading in enumerate(header):
        rich.add_column(escape(heading), justify="left" if i == 0 else "right", no_wrap=True)
    for row in rows:
        rich.add_row(*map(escape, row))
    return rich


_WORDS = re.compile(r"[^\s_+/-]+[_+/-](?=\S)|\S+?(?:\s+|$)")
_PIECES = re.compile(r"\[[^\]]*\]\s*|\([^)]*\)\s*|" + _WORDS.pattern)
"""Where a cell may break: between words and in a name; an interval or a count in brackets stays whole if it can."""


def _wrapped(rows: list[list[str]], width: int) -> list[list[str]]:
    """The cells with line breaks, so that the columns fit into ``width`` and no word breaks unless it has to."""
    columns = list(zip(*rows, strict=True))
    for pieces in (_PIECES, _WORDS):
        least = [
            max(len(piece.rstrip()) for cell in column for piece in [*pieces.findall(cell), ""]) for column in columns
        ]
        if sum(least) <= width:
            break
    widths, wanted = list(least), [max(map(len, column)) for column in columns]
    while sum(widths) < min(width, sum(wanted)):  # a character at a time to the column that lacks most
        widths[max(range(len(widths)), key=lambda i: wanted[i] - widths[i])] += 1
    return [[_lines(pieces.findall(cell), size) for cell, size in zip(row, widths, strict=True)] for row in rows]


def _lines(pieces: list[str], width: int) -> str:
    lines = [""]
    for piece in pieces:
        if lines[-1] and len((lines[-1] + piece).rstrip()) > width:
            lines.append("")
        lines[-1] += piece
    return "\n".join(line.rstrip() for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _share(value: float | None) -> str:
    return NONE if value is None else f"{100 * value:.1f}"


def _length(value: float | None) -> str:
    return NONE if value is None else f"{value:.0f}"
