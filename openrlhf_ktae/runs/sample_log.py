"""Graded samples on disk, one a line: a command that is killed at any moment goes on where it stopped.

A sample counts once its whole line is in the file.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from openrlhf_ktae.files import open_lines


@dataclass(frozen=True)
class Graded:
    """One sample and its reward."""

    row: int
    """Line of the prompt set, from 0."""
    sample: int
    reward: float
    is_correct: bool
    tokens: int
    is_truncated: bool
    is_failure: bool
    """Whether the grader broke on it; the reward is that of a wrong answer."""


class SampleLog:
    """The graded samples on disk; use as a context manager.

    Raises:
        ValueError: another command writes there, or the samples were drawn with other settings.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self._path, self._settings = path, json.loads(json.dumps(settings))
        self._file: IO[bytes] | None = None
        self.done: dict[tuple[int, int], Graded] = {}

    def __enter__(self) -> "SampleLog":
        self._file = open_lines(self._path)
        try:
            self._read(self._file.readlines())
        except BaseException:
            self._file.close()
            raise
        return self

    def _read(self, lines: list[bytes]) -> None:
        if not lines:
            self._write([self._settings])
            return
        before = json.loads(lines[0])
        changed = [name for name in self._settings if before.get(name) != self._settings[name]]
        if changed:
            said = "; ".join(f"{name} was {before.get(name)!r}, is {self._settings[name]!r}" for name in changed)
            raise ValueError(
                f"{self._path}: holds samples drawn with other settings ({said}); use those to go on with them, name "
                "another --output, or delete the file"
            )
        for line in lines[1:]:
            one = Graded(*json.loads(line))
            self.done[one.row, one.sample] = one

    def append(self, new: Sequence[Graded]) -> None:
        """Adds samples; they survive the death of this process from here on."""
        self._write([list(vars(one).values()) for one in new])
        self.done |= {(one.row, one.sample): one for one in new}

    def _write(self, contents: Sequence[Any]) -> None:
        assert self._file is not None  # it is a context manager
        self._file.write("".join(json.dumps(content) + "\n" for content in contents).encode())
        self._file.flush()

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()  # gives the lock back too
