"""A finding about a run, and what the checks of `health` count with."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from openrlhf_ktae.report.curves import series_of
from openrlhf_ktae.report.run_folder import Run

SOLVED_ACCURACY = 0.9
"""Rollout accuracy of the last quarter from which a task counts as solved: little entropy and signal are its end."""
MIN_STEPS = 8
"""Trends are not judged on fewer steps than this."""


@dataclass(frozen=True)
class Finding:
    """`level` is "problem", "watch" or "fine"; `title` is the fact, `detail` the numbers and where to look."""

    level: str
    title: str
    detail: str


def measured(run: Run, *names: str) -> tuple[list[int], list[float]]:
    """Steps and values of the first metric of `names` that the run holds, gaps left out."""
    steps, values = series_of(run.train, names)
    kept = [(step, value) for step, value in zip(steps, values, strict=True) if value is not None]
    return [step for step, _ in kept], [value for _, value in kept]


def check_share(
    run: Run,
    names: tuple[str, ...],
    watch: float,
    problem: float,
    bad: str,
    good: str,
    words: str,
    hint: str = "",
    whole_run: bool = False,
) -> Finding | None:
    """A finding about a share that should stay small: the mean of the last 5 steps, or of the whole run."""
    _, values = measured(run, *names)
    if not values:
        return None
    share = fmean(values if whole_run else values[-5:])
    span = f"all {len(values)} steps" if whole_run else last_steps(len(values))
    detail = f"{share:.1%} {words} ({span}; {names[0]})."
    if share > watch:
        return Finding("problem" if share > problem else "watch", bad, detail + hint)
    return Finding("fine", good, detail)


def last_steps(count: int, most: int = 5) -> str:
    """ "the last 5 steps", or of a shorter run "all 4 steps"."""
    return f"the last {most} steps" if count > most else f"all {count} steps" if count > 1 else "the only step"


def is_solved(run: Run) -> bool:
    """Whether the rollouts of the last quarter were right so often that nothing is left to learn."""
    _, accuracy = measured(run, "rollout/accuracy")
    return len(accuracy) >= MIN_STEPS and fmean(quarters(accuracy)[1]) >= SOLVED_ACCURACY


def quarters(values: Sequence[float]) -> tuple[Sequence[float], Sequence[float]]:
    """The first and the last quarter, of two values at least."""
    size = max(2, len(values) // 4)
    return values[:size], values[-size:]
