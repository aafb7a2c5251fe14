"""How sure a number is: intervals over problems, and paired tests between two models."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from openrlhf_ktae.intervals import wilson_interval

RESAMPLES = 10_000
SEED = 0
LEVEL = 0.95

_CHUNK = 500  # resamples drawn at once: bounds memory at 500 x problems


@dataclass(frozen=True)
class Difference:
    """A paired difference of two means, second minus first."""

    value: float
    interval: tuple[float, float]
    """95 % bootstrap interval over problems."""
    p_value: float
    test: str
    """``McNemar exact`` or ``paired bootstrap``."""
    pairs: int
    """Number of problems both have."""


def accuracy_interval(tasks: Sequence[Sequence[float]]) -> tuple[float, float]:
    """95 % interval of the unweighted mean of task means, of shares in [0, 1] per problem.

    One task with one sample a problem: Wilson's, which has a width at 60 of 60 too. Otherwise the bootstrap over
    problems; where all problems of a task are alike, so that it has no width, the mean of the tasks' Wilson intervals.
    """
    wilson = [wilson_interval(float(np.mean(scores)), len(scores)) for scores in tasks]
    if len(tasks) == 1 and all(score in (0.0, 1.0) for score in tasks[0]):
        return wilson[0]
    low, high = bootstrap_interval(tasks)
    if low == high:
        low, high = np.mean(wilson, axis=0)
    return float(low), float(high)


def bootstrap_interval(tasks: Sequence[Sequence[float]], seed: int = SEED) -> tuple[float, float]:
    """95 % percentile interval of the unweighted mean of task means, resampling problems within each task.

    Args:
        tasks: per task, one score per problem in [0, 1] (or any other real number); one task gives its own interval.
        seed: the same seed gives the same interval.
    """
    low, high = np.quantile(_resampled_means(tasks, seed), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def mcnemar_p_value(first: Sequence[bool], second: Sequence[bool]) -> float:
    """Two-sided exact McNemar test: the binomial test on the problems where exactly one of the two is correct."""
    from scipy.stats import binomtest

    gained = sum(b and not a for a, b in zip(first, second, strict=True))
    lost = sum(a and not b for a, b in zip(first, second, strict=True))
    if gained + lost == 0:
        return 1.0
    return float(binomtest(gained, gained + lost, 0.5).pvalue)


def paired_difference(
    first: Sequence[Sequence[float]], second: Sequence[Sequence[float]], seed: int = SEED, one_sample: bool = False
) -> Difference:
    """Difference of two models on the same problems, second minus first.

    Args:
        first: per task, the score of each problem: the share of its samples that are correct.
        second: the same problems in the same order.
        one_sample: every score is the verdict on one sample; a single task then gets the exact p-value of McNemar.

    The bootstrap's p-value is two-sided: twice the smaller share of resampled differences on the other side of zero
    (ties count on both sides), never below 1 / (resamples + 1).
    """
    gaps = [np.asarray(b, float) - np.asarray(a, float) for a, b in zip(first, second, strict=True)]
    means = _resampled_means(gaps, seed)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    value = float(np.mean([gap.mean() for gap in gaps]))
    if one_sample and len(gaps) == 1:
        p_value, test = mcnemar_p_value([a > 0.5 for a in first[0]], [b > 0.5 for b in second[0]]), "McNemar exact"
    else:
        # A sum of rounded means may miss zero by an ulp.
        tail = min(np.mean(means <= 1e-12), np.mean(means >= -1e-12))
        p_value, test = float(min(1.0, max(2 * tail, 1 / (RESAMPLES + 1)))), "paired bootstrap"
    return Difference(value, (float(low), float(high)), p_value, test, sum(map(len, gaps)))


def _resampled_means(tasks: Sequence[Sequence[float] | np.ndarray], seed: int) -> np.ndarray:
    """(RESAMPLES,) means of task means; each task draws from a generator of its own, so tasks can be added freely."""
    if not tasks or any(len(scores) == 0 for scores in tasks):
        raise ValueError("bootstrap: a task without problems; give at least one score per task")
    total = np.zeros(RESAMPLES)
    for task, scores in enumerate(tasks):
        values, rng = np.asarray(scores, float), np.random.default_rng([seed, task])
        for start in range(0, RESAMPLES, _CHUNK):
            draws = rng.integers(len(values), size=(_CHUNK, len(values)))
            total[start : start + _CHUNK] += values[draws].mean(axis=1)
    return total / len(tasks)
