"""What an evaluation leaves on disk while it runs: settings.json and an append-only outputs.jsonl."""

import fcntl
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import IO, Any

OUTPUTS = "outputs.jsonl"
SETTINGS = "settings.json"
_LOCK = ".lock"

Key = tuple[str, int, int]
"""Task, problem index, sample index: what makes an output unique."""


@dataclass(frozen=True)
class Record:
    """One graded response: a line of outputs.jsonl."""

    task: str
    index: int
    sample: int
    problem: str
    prompt: str
    gold: tuple[str, ...]
    """Accepted answers; any one counts."""
    output: str
    extracted: str | None
    """The final answer found in the output, None where there is none."""
    correct: bool
    formatted: bool
    reason: str
    """Why the verdict is what it is, in the grader's words."""
    tokens: int | None
    """Generated tokens; None where a foreign file does not say."""
    finish_reason: str | None
    """``stop``, ``length`` (cut off by the token limit), ``prompt_too_long``; None where a foreign file does not say."""
    difficulty: float | None = None

    @property
    def key(self) -> Key:
        return self.task, self.index, self.sample


def to_line(record: Record) -> str:
    """A record as one JSON line with its newline."""
    # A lone surrogate in a model's output cannot be encoded as UTF-8: ASCII escapes keep every string as it is.
    return json.dumps(asdict(record), ensure_ascii=True) + "\n"


def from_json(row: dict[str, Any]) -> Record:
    """A record from a parsed line; ValueError names the missing fields."""
    missing = [field.name for field in fields(Record) if field.name not in row and field.name != "difficulty"]
    if missing:
        raise ValueError(f"no field {', '.join(missing)}; found {', '.join(row)}")
    known = {field.name: row.get(field.name) for field in fields(Record)}
    return Record(**{**known, "gold": tuple(row["gold"])})  # pyright: ignore[reportArgumentType]


def read_records(path: Path) -> list[Record]:
    """The complete records of an outputs.jsonl. A torn last line, left by a killed run, is passed over.

    Raises:
        ValueError: a line that is no record, or a record that is there twice; the line number is named.
    """
    records: dict[Key, Record] = {}
    for number, line in enumerate(_complete_lines(path), start=1):
        try:
            record = from_json(json.loads(line))
        except (json.JSONDecodeError, ValueError, TypeError) as error:
            raise ValueError(f"{path}, line {number}: not a record of this evaluation ({error})") from error
        if record.key in records:
            raise ValueError(f"{path}, line {number}: {record.key} is there twice; remove one of the lines")
        records[record.key] = record
    return list(records.values())


def _complete_lines(path: Path) -> list[bytes]:
    content = path.read_bytes()
    lines = content.split(b"\n")
    return lines[:-1]  # what follows the last newline is empty or torn


class Store:
    """The output folder of one evaluation, open for one process at a time."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        """Opens or makes the folder, drops a torn last line, and reads what is there.

        Args:
            folder: the output folder.
            settings: everything that the outputs depend on, as JSON values.

        Raises:
            ValueError: the folder holds an evaluation with other settings, or another process writes to it.
        """
        self.folder = folder
        self.path = folder / OUTPUTS
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = self._take_lock()
        try:
            self._check_settings(settings)
            self._drop_torn_line()
            self.records = read_records(self.path) if self.path.exists() else []
        except ValueError:
            self._lock.close()
            raise
        self._file: IO[bytes] = self.path.open("ab")

    def append(self, records: Iterable[Record]) -> None:
        """Adds records and hands them to the operating system, so that a killed process loses none of them."""
        records = list(records)
        self._file.write("".join(map(to_line, records)).encode())
        self._file.flush()
        self.records.extend(records)

    def close(self) -> None:
        """Writes everything through to the disk and lets other processes in."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._lock.close()

    def _take_lock(self) -> IO[str]:
        lock = (self.folder / _LOCK).open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.close()
            raise ValueError(
                f"output {self.folder}: another evaluation is writing there; wait for it or name another folder"
            ) from error
        return lock

    def _check_settings(self, settings: Mapping[str, Any]) -> None:
        path = self.folder / SETTINGS
        settings = json.loads(json.dumps(settings))  # tuples become lists, as they are in the file
        if path.exists():
            differences = setting_differences(json.loads(path.read_text()), settings)
            if differences:
                raise ValueError(
                    f"output {self.folder} holds an evaluation with other settings: {'; '.join(differences)}; name "
                    f"another folder with --output, or go back to those settings to continue it"
                )
            return
        if self.path.exists():
            raise ValueError(f"output {self.folder} has {OUTPUTS} but no {SETTINGS}; name another folder with --output")
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(settings, indent=2) + "\n")
        temporary.replace(path)

    def _drop_torn_line(self) -> None:
        if not self.path.exists():
            return
        content = self.path.read_bytes()
        complete = content.rfind(b"\n") + 1
        if complete < len(content):
            with self.path.open("r+b") as file:
                file.truncate(complete)


def setting_differences(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> list[str]:
    """What differs between two settings, each as ``name: was X, now Y``; nested mappings are compared by entry."""
    differences = []
    for name in sorted({*before, *now}):
        old, new = before.get(name), now.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            differences += setting_differences(old, new, f"{prefix}{name}.")
        elif old != new:
            differences.append(f"{prefix}{name}: was {old!r}, now {new!r}")
    return differences
