"""Rows of a data file, read as they are written: a table reader would turn the answer "025" into a number."""

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")


_OPENRLHF_READS = (*SUFFIXES, ".arrow")
_SHOWN_ROWS = 5


def local_files(datasets: str | None) -> Iterator[Path]:
    """The local files and folders of a comma-separated dataset option; hub names are left to OpenRLHF."""
    for name in filter(None, map(str.strip, (datasets or "").split(","))):
        path = Path(name.split("@")[0])
        if path.suffix in _OPENRLHF_READS or path.is_dir() or path.is_absolute() or name.startswith("."):
            yield path


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a .jsonl, .json (a list of objects), .csv (with a header) or .parquet file.

    Raises:
        ValueError: a file that cannot be read, another suffix, a line that is not JSON (with its number), or something
            else than objects.
    """
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{path}: got suffix {path.suffix!r}, expected one of {', '.join(SUFFIXES)}")
    try:
        rows = _READERS[path.suffix](path)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8: {error}") from None
    if not isinstance(rows, list):
        raise ValueError(f"{path}: holds {_kind(rows)}, expected a list with one object per row")
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise ValueError(f"{path}, row {number}: {_kind(row)}, expected an object")
    return rows


def read_columns(path: Path, columns: Mapping[str, str]) -> list[dict[str, Any]]:
    """`read_rows` of a file that has some columns in every row.

    Args:
        path: the file.
        columns: what names a column (an option), by column.

    Raises:
        ValueError: as `read_rows` says, no row, or rows without a column (with their numbers).
    """
    rows = read_rows(path)
    if not rows:
        raise ValueError(f"{path} is empty")
    for column, named_by in columns.items():
        lacking = [number for number, row in enumerate(rows, start=1) if row.get(column) is None]
        if lacking and not any(column in row for row in rows):
            found = ", ".join(sorted(rows[0]))
            raise ValueError(f"{named_by}: {column!r} is no column of {path} (columns: {found})")
        if lacking:
            shown = ", ".join(map(str, lacking[:_SHOWN_ROWS])) + (", ..." if len(lacking) > _SHOWN_ROWS else "")
            raise ValueError(f"{path}: {len(lacking)} of {len(rows)} rows without {column!r} (rows {shown})")
    return rows


def _json_lines(path: Path) -> list[Any]:
    rows = []
    # Never splitlines(): it also splits at the line separators that JSON allows inside of strings.
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
        if line.strip():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError as error:
                raise ValueError(f"{path}, line {number}: not JSON ({error.msg}, column {error.colno})") from None
    return rows


def _csv_rows(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8", newline="") as file:  # a cell keeps its line ends
        reader = csv.DictReader(file)
        try:
            return list(reader)
        except csv.Error as error:
            raise ValueError(f"{path}, line {reader.line_num + 1}: not CSV ({error})") from None


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {error.lineno}: not JSON ({error.msg}, column {error.colno})") from None


def _parquet_rows(path: Path) -> list[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with path.open("rb") as file:  # an error of the system says what is wrong, pyarrow's does not
            return pq.read_table(file).to_pylist()
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path}: not Parquet ({str(error).splitlines()[0]})") from None


_READERS = {".jsonl": _json_lines, ".json": _json, ".csv": _csv_rows, ".parquet": _parquet_rows}


def _kind(value: Any) -> str:
    return {dict: "an object", list: "a list", str: "a text", type(None): "null"}.get(type(value), "a number")
