"""Rows of a data file, read as they are written: a table reader would turn the answer "025" into a number."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a .jsonl, .json (a list of objects), .csv (with a header) or .parquet file.

    Raises:
        ValueError: another suffix, a line that is not JSON (with its number), or something else than objects.
    """
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{path}: got suffix {path.suffix!r}, expected one of {', '.join(SUFFIXES)}")
    if path.suffix == ".parquet":
        return _parquet_rows(path)
    if path.suffix == ".csv":
        return _csv_rows(path)
    text = path.read_text(encoding="utf-8")
    rows = list(_json_lines(path, text)) if path.suffix == ".jsonl" else _json(path, text)
    if not isinstance(rows, list):
        raise ValueError(f"{path}: holds {_kind(rows)}, expected a list with one object per row")
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise ValueError(f"{path}, row {number}: {_kind(row)}, expected an object")
    return rows


def _json_lines(path: Path, text: str) -> Iterator[Any]:
    # Never splitlines(): it also splits at the line separators that JSON allows inside of strings.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                yield json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{path}, line {number}: not JSON ({error.msg}, column {error.colno})") from None


def _csv_rows(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8", newline="") as file:  # a cell keeps its line ends
        reader = csv.DictReader(file)
        try:
            return list(reader)
        except csv.Error as error:
            raise ValueError(f"{path}, line {reader.line_num + 1}: not CSV ({error})") from None


def _json(path: Path, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {error.lineno}: not JSON ({error.msg}, column {error.colno})") from None


def _parquet_rows(path: Path) -> list[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(path).to_pylist()
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path}: not Parquet ({str(error).splitlines()[0]})") from None


def _kind(value: Any) -> str:
    return {dict: "an object", list: "a list", str: "a text", type(None): "null"}.get(type(value), "a number")
