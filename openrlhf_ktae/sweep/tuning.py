"""Every arm at the value that suits it best: what is fair where a sweep asks for several, such as learning rates.

A value chosen on the seeds that it is then measured on looks better than it is. So a seed's value is chosen on the
arm's other seeds, for the baseline as for every arm.
"""

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from openrlhf_ktae.sweep.outcomes import Outcome, numbers_of
from openrlhf_ktae.sweep.plan import SweepFile, combinations_of, setting_name

CHOSEN_BY = "area_under_curve"
"""Number of a run (summary.csv) whose mean over the other seeds is to be highest."""
FEWEST_SEEDS = 3
"""A value is chosen on two other seeds at least."""


@dataclass(frozen=True)
class Tuned:
    """The arms of one named setting, each at its best value."""

    setting: str
    outcomes: Mapping[str, Sequence[Outcome]]
    """By arm, an outcome a seed; none for an arm that has not finished the same seeds at every value."""
    chosen: Mapping[str, Mapping[str, int]]
    """By arm: value -> seeds for which it was chosen, most often first."""


def tuned(outcomes: Sequence[Outcome], sweep: SweepFile) -> list[Tuned]:
    """The arms of every named setting at their best values; none where fewer than two values can be compared.

    The values that count are those at which the baseline has finished three seeds; an arm takes part with the seeds
    that it has finished at all of them.
    """
    finished = {(o.run.setting, o.run.arm, o.run.seed): o for o in outcomes if o.status == "finished"}
    numbers = {run: numbers_of(outcome, ())[CHOSEN_BY] for run, outcome in finished.items()}
    scores = {run: number for run, number in numbers.items() if number is not None}
    found = []
    for name in sweep.settings or ("",):
        settings = {value: setting_name(name, value) for value in combinations_of(sweep)}

        def seeds(arm: str, values: Sequence[str], settings: Mapping[str, str] = settings) -> list[int]:
            return [seed for seed in sweep.seeds if all((settings[value], arm, seed) in scores for value in values)]

        values = [value for value in settings if len(seeds(sweep.baseline, [value])) >= FEWEST_SEEDS]
        if len(values) < 2 or len(seeds(sweep.baseline, values)) < FEWEST_SEEDS:
            continue
        at_best, chosen = {}, {}
        for arm in sweep.arms:
            common = seeds(arm, values)
            of_seed = {seed: {value: scores[settings[value], arm, seed] for value in values} for seed in common}
            picked = chosen_on_other_seeds(of_seed) if len(common) >= FEWEST_SEEDS else {}
            at_best[arm] = [finished[settings[value], arm, seed] for seed, value in picked.items()]
            chosen[arm] = dict(Counter(picked.values()).most_common())
        label = ",".join(f"{part.partition('=')[0]}=tuned" for part in values[0].split(","))
        found.append(Tuned(setting_name(name, label), at_best, chosen))
    return found


def chosen_on_other_seeds(scores: Mapping[int, Mapping[str, float]]) -> dict[int, str]:
    """For each seed the value whose mean score over the other seeds is highest, the first of equals.

    Args:
        scores: seed -> value -> score; the same values for every seed, two seeds at least.
    """
    picked = {}
    for seed, of_seed in scores.items():
        others = [score for other, score in scores.items() if other != seed]
        picked[seed] = max(of_seed, key=lambda value: statistics.fmean(score[value] for score in others))
    return picked
