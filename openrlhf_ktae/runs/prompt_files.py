"""The prompt sets of a run: local files have the columns and answers that the run needs, before anything starts."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from openrlhf_ktae.reward.rollouts import check_labels
from openrlhf_ktae.table_files import SUFFIXES, read_rows

_OPENRLHF_READS = (*SUFFIXES, ".arrow")
_SHOWN_ROWS = 5


def local_files(datasets: str) -> Iterator[Path]:
    """The local files and folders of a comma-separated dataset option; hub names are left to OpenRLHF."""
    for name in datasets.split(","):
        path = Path(name.strip().split("@")[0])
        if path.suffix in _OPENRLHF_READS or path.is_dir() or path.is_absolute() or name.strip().startswith("."):
            yield path


def check_prompt_files(
    option: str, datasets: str | None, args: SimpleNamespace, decode_label: Callable[[Any], Any] | None
) -> dict[str, Any] | None:
    """Every local prompt file exists, has the named columns in every row and labels that ``decode_label`` reads.

    Folders, .arrow files and data sets of the hub are left to OpenRLHF. Returns the first row of the first file.

    Raises:
        ValueError: naming the option, the file and the row.
    """
    if not datasets:
        raise ValueError(f"{option}: not set; name a prompt set (see `openrlhf-ktae data --help`)")
    first: dict[str, Any] | None = None
    for path in local_files(datasets):
        if not path.exists():
            raise ValueError(f"{option}: {path} does not exist (looked in {Path.cwd()}); see `openrlhf-ktae data`")
        if path.suffix not in SUFFIXES:
            continue
        try:
            rows = read_rows(path)
            _check_rows(path, rows, args, decode_label)
        except UnicodeDecodeError as error:
            raise ValueError(f"{option}: {path} is not UTF-8: {error}") from None
        except ValueError as error:
            raise ValueError(f"{option}: {error}") from None
        first = first or rows[0]
    return first


def _check_rows(
    path: Path, rows: list[dict[str, Any]], args: SimpleNamespace, decode_label: Callable[[Any], Any] | None
) -> None:
    if not rows:
        raise ValueError(f"{path} is empty")
    for key_option in ("input_key", "label_key"):
        key = getattr(args.data, key_option)
        if not key:
            continue
        lacking = [number for number, row in enumerate(rows, start=1) if row.get(key) is None]
        if lacking and not any(key in row for row in rows):
            columns = ", ".join(sorted(rows[0]))
            raise ValueError(f"data.{key_option}: {key!r} is no column of {path} (columns: {columns})")
        if lacking:
            shown = ", ".join(map(str, lacking[:_SHOWN_ROWS])) + (", ..." if len(lacking) > _SHOWN_ROWS else "")
            raise ValueError(f"{path}: {len(lacking)} of {len(rows)} rows without {key!r} (rows {shown})")
    if args.data.label_key and decode_label:
        try:
            check_labels([row[args.data.label_key] for row in rows], decode_label)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
