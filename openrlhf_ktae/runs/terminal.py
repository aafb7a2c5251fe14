"""What a person reads in the terminal while a run goes on."""

import time
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

console = Console(highlight=False)

_SAY_SECONDS = 30

_LINE = (
    ("accuracy", "rollout/accuracy", "{:.3f}"),
    ("reward", "rollout/reward_mean", "{:.3f}"),
    ("tokens", "rollout/response_length_mean", "{:.0f}"),
    ("entropy", "entropy_loss", "{:.3f}"),
    ("kl", "kl", "{:.4f}"),
    ("key tokens", "ktae/key_token_frac", "{:.0%}"),
    ("grad", "actor_grad_norm", "{:.2f}"),
    ("seconds", "timing/step_total", "{:.2f}"),
)


def say(text: str) -> None:
    """A line for the person, as it is."""
    console.print(escape(text), soft_wrap=True)


def say_error(head: str, text: str) -> None:
    """A line on standard error, its head in red."""
    Console(stderr=True, highlight=False).print(f"[bold red]{head}[/] {escape(text)}")


def warning_of(line: dict[str, Any], collapse_steps: int) -> str | None:
    """What a line of metrics.jsonl asks a person to look at."""
    steps = line.get("rollout/collapsed_steps") or 0
    if steps and steps % collapse_steps == 0:
        return f"has looked collapsed for {steps:.0f} steps in a row (accuracy, entropy): no checkpoint is written"
    return None


def format_line(line: dict[str, Any], total: int | None) -> str:
    """One line of metrics.jsonl for the terminal."""
    if line["kind"] == "eval":
        found = [f"{name} {value:.3f}" for name, value in line.items() if "/pass@" in name and value is not None]
        return f"  evaluation after step {line['step']}: {', '.join(found)}"
    step = f"{line['step']}/{total}" if total else str(line["step"])
    parts = [f"{name} {form.format(line[key])}" for name, key, form in _LINE if line.get(key) is not None]
    return f"step {step:>7}  " + "  ".join(parts)


class Counting:
    """Progress of something long: a bar with the time left, or a line every half minute where nobody sees a bar."""

    def __init__(self, what: str, total: int, done: int = 0) -> None:
        self._what, self._total, self._done, self._new = what, total, done, 0
        self._start = self._said = time.monotonic()
        columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        self._bar = Progress(
            TextColumn("{task.description}"), *columns, console=console, disable=not console.is_terminal
        )
        self._task = self._bar.add_task(what, total=total, completed=done)

    def __enter__(self) -> "Counting":
        self._bar.start()
        self._say("" if not self._done else " are there already")
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def count(self, new: int) -> None:
        """Counts ``new`` more that are done."""
        self._done, self._new = self._done + new, self._new + new
        self._bar.update(self._task, completed=self._done)
        now = time.monotonic()
        if now - self._said > _SAY_SECONDS or self._done == self._total:
            left = (now - self._start) / self._new * (self._total - self._done)
            self._say(f", {left / 60:.0f} min left" if self._done < self._total else f" in {now - self._start:.0f} s")

    def _say(self, text: str) -> None:
        self._said = time.monotonic()
        if not console.is_terminal:
            say(f"{self._what}: {self._done} of {self._total}{text}")
