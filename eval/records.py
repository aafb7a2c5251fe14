"""One graded sample: the line of ``outputs.jsonl``."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

ENCODING = ("utf-8", "surrogatepass")  # JSON of others may hold half a surrogate pair


@dataclass(frozen=True)
class Record:
    """A sample, what was found in it, and its verdict."""

    task: str
    index: int
    """Position of the problem in its task."""
    sample: int
    """Number of the sample of this problem, from 0."""
    problem: str
    answers: tuple[str, ...]
    """Every accepted answer."""
    prompt: str | None
    output: str
    answer: str | None
    """The final answer found in the output."""
    correct: bool
    formatted: bool
    """Whether an answer was found where the template asks for it."""
    reason: str
    """Why the grader decided so; ``timed out`` where it gave up on a comparison."""
    tokens: int | None = None
    """Generated tokens, the end-of-sequence token included; None where the generator is not known."""
    finish_reason: str | None = None
    """``stop`` or ``length``; None where the generator is not known."""
    difficulty: float | None = None

    @property
    def key(self) -> tuple[str, int, int]:
        """What makes a record unique in a file."""
        return self.task, self.index, self.sample


def to_line(record: Record) -> str:
    """The record as one line of JSON, with its newline."""
    return json.dumps(asdict(record), ensure_ascii=False) + "\n"


def from_line(line: str) -> Record:
    """The record of a line; ValueError, KeyError or TypeError where it is none."""
    values = json.loads(line)
    return Record(**{**values, "answers": tuple(values["answers"])})


def read_records(path: Path) -> list[Record]:
    """Every record of an ``outputs.jsonl``; a last line without its newline was torn by a kill and is left out.

    Raises:
        ValueError: a line that is no record, or a sample that stands there twice.
    """
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1].decode(*ENCODING)
    records = []
    # Not splitlines(): it also splits at U+2028 and other signs that JSON leaves as they are.
    for number, line in enumerate(whole.split("\n")[:-1], start=1):
        try:
            records.append(from_line(line))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}, line {number}: not a record of an evaluation ({error})") from error
    check_unique(records, path)
    return records


def difficulty_of(value: object) -> float | None:
    """A difficulty, such as 3, "3" or "Level 3", as a number; ValueError for anything that is none."""
    if value is None:
        return None
    # MATH writes "Level 3".
    text = value.strip().lower().removeprefix("level") if isinstance(value, str) else value
    try:
        return float(text)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise ValueError(f"difficulty: got {value!r}, expected a number; drop the field or number the levels") from None


def check_unique(records: Iterable[Record], path: Path) -> None:
    """ValueError when a sample stands there twice."""
    seen = set()
    for record in records:
        if record.key in seen:
            raise ValueError(
                f"{path}: task {record.task}, problem {record.index}, sample {record.sample} is there twice"
            )
        seen.add(record.key)
