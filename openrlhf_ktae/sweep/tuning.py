"""Every arm at the value that suits it best: what is fair where a sweep asks for several, such as learning rates.

A value looks better than it is on the seeds that it was chosen on, and seeds that share a choice are not independent.
So some seeds choose (``tune_on`` of the sweep's file), and the others are measured.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from openrlhf_ktae.sweep.outcomes import Outcome, numbers_of
from openrlhf_ktae.sweep.plan import SweepFile, combinations_of, setting_name, value_labels

CHOSEN_BY = "area_under_curve"
"""Number of a run (summary.csv) whose mean over the seeds that choose is to be highest."""


@dataclass(frozen=True)
class Tuned:
    """The arms of one named setting, each at its best value."""

    setting: str
    values: Mapping[str, str]
    """Those that were compared, at which the baseline has finished the seeds that choose: value -> its setting."""
    chosen: Mapping[str, str | None]
    """By arm; None for one that has not finished those seeds at every value, and is left out."""
    outcomes: Mapping[str, Sequence[Outcome]]
    """By arm: the finished runs at its value, of the seeds that are measured."""


def tuned(outcomes: Sequence[Outcome], sweep: SweepFile) -> list[Tuned]:
    """The arms of every named setting at their best values; nothing where fewer than two values can be compared."""
    if not sweep.tune_on:
        return []
    finished = {(o.run.setting, o.run.arm, o.run.seed): o for o in outcomes if o.status == "finished"}

    def score(setting: str, arm: str) -> float | None:
        runs = [finished.get((setting, arm, seed)) for seed in sweep.tune_on]
        numbers = [numbers_of(run, ())[CHOSEN_BY] if run else None for run in runs]
        known = [number for number in numbers if number is not None]
        return statistics.fmean(known) if len(known) == len(numbers) else None

    tuned_name = ",".join(f"{label}=tuned" for label in value_labels(sweep))
    measured = [seed for seed in sweep.seeds if seed not in sweep.tune_on]
    found = []
    for name in sweep.settings or ("",):
        settings = {value: setting_name(name, value) for value in combinations_of(sweep)}
        compared = {value: at for value, at in settings.items() if score(at, sweep.baseline) is not None}
        if len(compared) < 2:
            continue
        chosen: dict[str, str | None] = {}
        at_best = {}
        for arm in sweep.arms:
            scores = {value: number for value, at in compared.items() if (number := score(at, arm)) is not None}
            best = max(scores, key=lambda value: scores[value]) if len(scores) == len(compared) else None
            runs = [finished.get((compared[best], arm, seed)) for seed in measured] if best else []
            chosen[arm], at_best[arm] = best, [run for run in runs if run]
        found.append(Tuned(setting_name(name, tuned_name), compared, chosen, at_best))
    return found
