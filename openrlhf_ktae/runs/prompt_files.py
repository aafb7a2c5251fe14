"""The prompt sets of a run: local files have the columns and answers that the run needs, before anything starts."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from openrlhf_ktae.reward.rollouts import check_labels
from openrlhf_ktae.table_files import SUFFIXES, local_files, read_columns


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
    keys = {"data.input_key": args.data.input_key, "data.label_key": args.data.label_key}
    columns = {column: key_option for key_option, column in keys.items() if column}
    for path in local_files(datasets):
        if not path.exists():
            raise ValueError(f"{option}: {path} does not exist (looked in {Path.cwd()}); see `openrlhf-ktae data`")
        if path.suffix not in SUFFIXES:
            continue
        try:
            rows = read_prompts(path, columns, args.data.label_key, decode_label)
        except ValueError as error:
            raise ValueError(f"{option}: {error}") from None
        first = first or rows[0]
    return first


def read_prompts(
    path: Path, columns: Mapping[str, str], label_key: str | None, decode_label: Callable[[Any], Any] | None
) -> list[dict[str, Any]]:
    """The rows of a prompt file that has ``columns`` (`read_columns`), with labels that ``decode_label`` reads.

    Raises:
        ValueError: naming the file and the row.
    """
    rows = read_columns(path, columns)
    if label_key and decode_label:
        try:
            check_labels([row[label_key] for row in rows], decode_label)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
    return rows


def count_prompts(datasets: str) -> int | None:
    """Prompts of a comma-separated dataset option; None unless each set is a local .jsonl file."""
    names, files = [name for name in datasets.split(",") if name.strip()], list(local_files(datasets))
    if len(files) < len(names) or any(path.suffix != ".jsonl" for path in files):
        return None
    prompts = 0
    for path in files:
        with path.open("rb") as file:
            prompts += sum(1 for line in file if line.strip())
    return prompts
