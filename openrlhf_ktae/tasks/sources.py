"""Rows of data as they are published or kept locally: files, folders and sets on the Hub."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from openrlhf_ktae.hub import dataset_folder
from openrlhf_ktae.table_files import SUFFIXES, read_rows

_DESCRIPTIONS = ("dataset_info.json", "dataset_infos.json", "state.json")
"""Files of the Hub and of `datasets` that describe a set and hold no rows."""
_SPLITS = {
    "train": "train", "training": "train", "test": "test", "eval": "eval", "dev": "dev",
    "validation": "validation", "valid": "validation", "val": "validation",
}  # fmt: skip


def rows_of(path: str, split: str) -> Iterator[dict[str, Any]]:
    """The rows of a .jsonl, .json or .parquet file, of a folder of such files or of ``OWNER/NAME@COMMIT`` on the Hub.

    Of a folder the files are read whose path names ``split`` (train, test, validation, dev, eval) or no split; ``all``
    reads every file.

    Raises:
        ValueError: nothing there, no file of that split, or a file that cannot be read.
    """
    location = Path(path)
    if location.is_dir():
        yield from _folder_rows(location, split)
    elif location.is_file():
        yield from read_rows(location)
    else:
        yield from _folder_rows(dataset_folder("source", path), split)


def _folder_rows(folder: Path, split: str) -> Iterator[dict[str, Any]]:
    found = (file for file in folder.rglob("*") if file.suffix in SUFFIXES and file.name not in _DESCRIPTIONS)
    files = {file: _splits_of(file.relative_to(folder)) for file in sorted(found)}
    if not files:
        raise ValueError(f"{folder}: no {', '.join(SUFFIXES)} file in it")
    wanted = [file for file, splits in files.items() if split == "all" or not splits or split in splits]
    if not wanted:
        known = ", ".join(sorted(set().union(*files.values())))
        raise ValueError(f"{folder}: split: no file of {split!r}; found {known}")
    for file in wanted:
        yield from read_rows(file)


def _splits_of(path: Path) -> set[str]:
    """The splits that a path names as a word: ``main/train-00000.parquet`` is ``train``."""
    words = re.findall("[a-z]+", path.with_suffix("").as_posix().lower())
    return {_SPLITS[word] for word in words if word in _SPLITS}
