"""Progress bars of the commands."""

import time
from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from eval.records import Record


class GradingProgress:
    """A bar over samples with what is known so far: tokens per second and accuracy. A context manager."""

    def __init__(self, console: Console, unit: str = "samples") -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(f"{unit}  {{task.fields[facts]}}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
        )
        self._bar = self._progress.add_task("grading", total=None, facts="")
        self._done = self._correct = self._tokens = self._new = 0
        self._start = time.monotonic()

    def __enter__(self) -> "GradingProgress":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def start(self, total: int, done: Sequence[Record] = (), description: str = "grading") -> None:
        """Sets the number of samples and those that are there already; the clock of the tokens starts."""
        self._progress.update(self._bar, total=total, description=description)
        self._count(done)
        self._tokens, self._start = 0, time.monotonic()
        self._show()

    def graded(self, records: Sequence[Record]) -> None:
        """Counts new records."""
        self._count(records)
        self._show()

    def _count(self, records: Sequence[Record]) -> None:
        self._done += len(records)
        self._correct += sum(record.correct for record in records)
        self._tokens += sum(record.tokens or 0 for record in records)

    def _show(self) -> None:
        facts = []
        if self._tokens:
            facts.append(f"{self._tokens / max(time.monotonic() - self._start, 1e-9):,.0f} tokens/s")
        if self._done:
            facts.append(f"{100 * self._correct / self._done:.1f} % correct")
        self._progress.update(self._bar, completed=self._done, facts="  ".join(facts))
