"""The numbers of an evaluation: pure functions over verdicts, one row per problem and one column per sample."""

from collections.abc import Sequence
from math import comb

import numpy as np
from scipy.stats import beta, binomtest

RESAMPLES = 10_000
"""Bootstrap resamples behind every interval and p-value."""

_CHUNK = 2_000_000
"""Most indices drawn at once, so that the bootstrap stays in a few tens of megabytes."""


def pass_at_k(samples: int, correct: int, k: int) -> float:
    """Probability that at least one of ``k`` samples is right, unbiased (Chen et al. 2021, arXiv 2107.03374, eq. 1).

    Args:
        samples: samples drawn for the problem, n.
        correct: right ones among them, c.
        k: size of the subset, between 1 and n.

    Returns:
        ``1 - C(n - c, k) / C(n, k)``, in [0, 1].

    Raises:
        ValueError: k or c outside its range.
    """
    if not 1 <= k <= samples:
        raise ValueError(f"pass@k: k is {k}, expected 1 to the {samples} samples drawn; draw more with --n")
    if not 0 <= correct <= samples:
        raise ValueError(f"pass@k: {correct} correct of {samples} samples, expected 0 to {samples}")
    return 1.0 - comb(samples - correct, k) / comb(samples, k)


def majority_groups(answers: Sequence[str | None], same: Sequence[Sequence[bool]]) -> list[list[int]]:
    """The largest groups of equivalent answers of one problem; several when they are equally large.

    Args:
        answers: the answer of each sample; None where no answer was found, which casts no vote.
        same: (K, K), whether two answers are equivalent. An answer joins the first group whose first member it equals.

    Returns:
        Sample indices of each largest group, in order of first appearance; empty when no sample has an answer.
    """
    groups: list[list[int]] = []
    for index, answer in enumerate(answers):
        if answer is None:
            continue
        for group in groups:
            if same[group[0]][index]:
                group.append(index)
                break
        else:
            groups.append([index])
    largest = max((len(group) for group in groups), default=0)
    return [group for group in groups if len(group) == largest]


def maj_at_k(answers: Sequence[str | None], correct: Sequence[bool], same: Sequence[Sequence[bool]]) -> float:
    """Score of the majority vote over one problem's samples, in [0, 1].

    A tie between groups counts the share of the tied groups that are right: the expected score of a fair draw.
    """
    winners = majority_groups(answers, same)
    if not winners:
        return 0.0
    return sum(correct[group[0]] for group in winners) / len(winners)


def bootstrap_means(scores: np.ndarray, rng: np.random.Generator, resamples: int = RESAMPLES) -> np.ndarray:
    """Means of bootstrap resamples of the problems.

    Args:
        scores: (P,) or (P, C) scores per problem; the columns of a problem are drawn together (paired).

    Returns:
        (resamples,) or (resamples, C) means.
    """
    scores = np.asarray(scores, dtype=np.float64)
    count = len(scores)
    if count == 0:
        raise ValueError("bootstrap: no problems; evaluate at least one")
    means = np.empty((resamples, *scores.shape[1:]))
    step = max(1, _CHUNK // count)
    for start in range(0, resamples, step):
        stop = min(start + step, resamples)
        means[start:stop] = scores[rng.integers(count, size=(stop - start, count))].mean(axis=1)
    return means


def interval(scores: np.ndarray, seed: int, resamples: int = RESAMPLES) -> tuple[float, float]:
    """95 % bootstrap percentile interval of the mean over problems.

    Where all problems score 0, or all score 1, resampling cannot show any spread; the exact binomial interval
    (Clopper-Pearson) stands in.
    """
    scores = np.asarray(scores, dtype=np.float64)
    if len(scores) and (np.all(scores == 0) or np.all(scores == 1)):
        return _exact_interval(int(scores.sum()), len(scores))
    means = bootstrap_means(scores, np.random.default_rng(seed), resamples)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def average_interval(
    tasks: Sequence[np.ndarray], seed: int, resamples: int = RESAMPLES
) -> tuple[float, float]:
    """95 % bootstrap interval of the unweighted mean of task scores; problems are resampled within their task."""
    means = _average_means(tasks, seed, resamples)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def mcnemar(first: np.ndarray, second: np.ndarray) -> float:
    """Two-sided p-value of McNemar's exact test for two (P,) vectors of 0/1 verdicts on the same problems."""
    first, second = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    if first.shape != second.shape:
        raise ValueError(f"McNemar: {first.shape} against {second.shape} verdicts, expected the same problems in both")
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    if only_first + only_second == 0:
        return 1.0
    return float(binomtest(only_first, only_first + only_second, 0.5).pvalue)


def paired_bootstrap(
    tasks: Sequence[np.ndarray], seed: int, resamples: int = RESAMPLES
) -> tuple[float, tuple[float, float], float]:
    """Mean paired difference over tasks, its 95 % interval and its two-sided p-value.

    Args:
        tasks: per task the (P,) differences "second minus first" of the problems' scores; problems are resampled
            within their task and the tasks' means are averaged unweighted. One array gives one task's numbers.

    Returns:
        Difference; interval; p-value of the shifted bootstrap, the share of resamples that stray from the observed
        difference by at least its size (with one added to both counts, so that it is never 0).
    """
    observed = float(np.mean([np.mean(differences) for differences in tasks]))
    means = _average_means(tasks, seed, resamples)
    low, high = np.quantile(means, [0.025, 0.975])
    # Rounding: a resample that gives exactly the observed size must count.
    strays = int((np.abs(means - observed) >= abs(observed) - 1e-12).sum())
    return observed, (float(low), float(high)), (1 + strays) / (1 + resamples)


def _average_means(tasks: Sequence[np.ndarray], seed: int, resamples: int) -> np.ndarray:
    # One generator per task: a task's draws do not depend on which other tasks stand beside it.
    means = [
        bootstrap_means(scores, np.random.default_rng([seed, index]), resamples) for index, scores in enumerate(tasks)
    ]
    return np.mean(means, axis=0)


def _exact_interval(successes: int, trials: int) -> tuple[float, float]:
    low = 0.0 if successes == 0 else float(beta.ppf(0.025, successes, trials - successes + 1))
    high = 1.0 if successes == trials else float(beta.ppf(0.975, successes + 1, trials - successes))
    return low, high
