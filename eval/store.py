"""The folder of one evaluation: settings.json, outputs.jsonl (append-only), results.json.

An evaluation that is killed at any moment goes on where it stopped: a record counts once its whole line is in the file.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any

from eval.records import ENCODING, Record, read_records, to_line
from openrlhf_ktae.files import open_lines, write_json

SETTINGS, OUTPUTS, RESULTS = "settings.json", "outputs.jsonl", "results.json"


class Store:
    """Opens or makes the folder of an evaluation with these settings; use as a context manager.

    Args:
        folder: where the evaluation is kept.
        settings: everything that decides the numbers; JSON values.

    Raises:
        ValueError: the folder holds an evaluation with other settings, or another process is writing there.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.folder = folder
        self._settings = json.loads(json.dumps(settings))
        self._file: IO[bytes] | None = None
        self.records: list[Record] = []

    def __enter__(self) -> "Store":
        file = open_lines(self.folder / OUTPUTS)
        try:
            _check_settings(self.folder, self._settings)
            self.records = read_records(self.folder / OUTPUTS)
        except BaseException:
            file.close()
            raise
        self._file = file
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()  # gives the lock back too
            self._file = None

    @property
    def done(self) -> set[tuple[str, int, int]]:
        """Keys of the samples that are there."""
        return {record.key for record in self.records}

    def append(self, records: Iterable[Record]) -> None:
        """Adds records to the file; they survive the death of this process from here on."""
        if self._file is None:
            raise ValueError(f"{self.folder}: not open for writing; use the store as a context manager")
        new = list(records)
        self._file.write("".join(map(to_line, new)).encode(*ENCODING))
        self._file.flush()
        self.records += new

    def write_results(self, results: Mapping[str, Any]) -> Path:
        """Writes results.json in one piece."""
        return write_json(self.folder / RESULTS, results)


def _check_settings(folder: Path, settings: dict[str, Any]) -> None:
    path = folder / SETTINGS
    # An evaluation that ended before its first sample binds nobody to its settings.
    has_outputs = (folder / OUTPUTS).stat().st_size > 0
    if not path.exists() or not has_outputs:
        if has_outputs:
            raise ValueError(f"{folder}: has outputs but no {SETTINGS}, so nobody knows how they came about; "
                             "name another --output")  # fmt: skip
        write_json(path, settings)
        return
    before = json.loads(path.read_text(encoding="utf-8"))
    changes = _differences(before, settings)
    if changes:
        raise ValueError(
            f"{folder}: holds an evaluation with other settings. {'; '.join(changes)}. "
            "Use those settings to go on with it, or name another --output"
        )


def _differences(before: dict[str, Any], now: dict[str, Any], prefix: str = "") -> list[str]:
    changes = []
    for name in [*before, *(name for name in now if name not in before)]:
        old, new = before.get(name), now.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            changes += _differences(old, new, f"{prefix}{name}.")
        elif old != new:
            changes.append(f"{prefix}{name}: was {old!r}, is {new!r}")
    return changes
