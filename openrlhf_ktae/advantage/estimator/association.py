"""Association of a token with correctness, as tables over (a, b): Fisher's exact test, information gain, Cohen's h.

In a group of n_correct correct and n_wrong wrong rollouts, a and b are the numbers of correct and wrong rollouts that
contain a token. Everything here depends on these four numbers only, so it is computed once per (n_correct, n_wrong)
in float64 and looked up afterwards.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# C(66, 33) is the largest central binomial coefficient below 2**63: up to here every sum of weights is an exact int64.
_EXACT_ROLLOUTS = 66
# Above it, weights carry a relative error of about n * 2**-53; weights that agree to this tolerance are ties.
_TIE_TOLERANCE = 1e-11

Table = NDArray[np.float64]


class Association(NamedTuple):
    """Read-only float64 tables of shape (n_correct + 1, n_wrong + 1), indexed by [a, b]."""

    fisher_p: Table
    """Two-sided p of Fisher's exact test, ties included exactly; exactly 1.0 where the exact p is 1."""
    fisher_strength: Table
    """F = 0 where p = 1, else exp(-2 p)."""
    information_gain_bits: Table
    """Information gain about correctness from knowing whether a rollout contains the token, in bits."""
    cohens_h: Table
    """asin sqrt(a / n_correct) - asin sqrt(b / n_wrong): positive where more of the correct rollouts have the token."""


@lru_cache(maxsize=1024)
def association(n_correct: int, n_wrong: int) -> Association:
    """The association tables of a group of n_correct + n_wrong rollouts (arXiv 2505.16826, eq. 4 to 9).

    Where a class is empty nothing can be associated: p = 1 and the other tables are 0.
    Raises ValueError for negative counts.
    """
    if n_correct < 0 or n_wrong < 0:
        raise ValueError(f"n_correct, n_wrong: got {n_correct}, {n_wrong}; expected counts of rollouts, 0 or more")
    fisher_p = _fisher_p(n_correct, n_wrong)
    tables = Association(
        fisher_p=fisher_p,
        fisher_strength=np.where(fisher_p == 1.0, 0.0, np.exp(-2.0 * fisher_p)),
        information_gain_bits=_information_gain_bits(n_correct, n_wrong),
        cohens_h=_cohens_h(n_correct, n_wrong),
    )
    for table in tables:
        table.setflags(write=False)
    return tables


def _fisher_p(n_correct: int, n_wrong: int) -> Table:
    table = np.ones((n_correct + 1, n_wrong + 1))
    is_exact = n_correct + n_wrong <= _EXACT_ROLLOUTS
    for containing in range(n_correct + n_wrong + 1):
        k = np.arange(max(0, containing - n_wrong), min(n_correct, containing) + 1)
        weights = (_exact_weights if is_exact else _relative_weights)(n_correct, n_wrong, containing, k)
        ordered = np.sort(weights)
        sums = np.cumsum(ordered)
        limits = weights if is_exact else weights * (1.0 + _TIE_TOLERANCE)
        included = np.searchsorted(ordered, limits, side="right")
        # Divided by the same sum, the p of a mode is exactly 1.0 in either arithmetic.
        table[k, containing - k] = np.where(included == len(k), 1.0, sums[included - 1] / sums[-1])
    return table


@lru_cache(maxsize=_EXACT_ROLLOUTS + 1)
def _binomials(n: int) -> NDArray[np.int64]:
    row = [1]
    for k in range(n):
        row.append(row[-1] * (n - k) // (k + 1))
    return np.array(row, dtype=np.int64)


def _exact_weights(n_correct: int, n_wrong: int, containing: int, k: NDArray[np.int64]) -> NDArray[np.int64]:
    """C(n_correct, k) C(n_wrong, containing - k): the hypergeometric probabilities times C(n, containing)."""
    return _binomials(n_correct)[k] * _binomials(n_wrong)[containing - k]


def _relative_weights(n_correct: int, n_wrong: int, containing: int, k: NDArray[np.int64]) -> Table:
    """The same weights relative to the largest one, multiplied outwards from it so that nothing overflows."""
    steps = ((n_correct - k) * (containing - k))[:-1] / ((k + 1) * (n_wrong - containing + k + 1))[:-1]
    mode = int(np.searchsorted(-steps, -1.0))  # the ratios of neighbours fall with k; the mode is where they cross 1
    above = np.cumprod(steps[mode:])
    below = np.cumprod(1.0 / steps[:mode][::-1])[::-1]
    return np.concatenate([below, [1.0], above])


def _entropy_bits(share: Table) -> Table:
    """Entropy of a yes/no question answered yes with this probability, in bits; 0 log 0 = 0."""
    other = 1.0 - share
    safe, safe_other = np.where(share > 0, share, 1.0), np.where(other > 0, other, 1.0)
    return -(share * np.log2(safe) + other * np.log2(safe_other))


def _information_gain_bits(n_correct: int, n_wrong: int) -> Table:
    n = n_correct + n_wrong
    if n_correct == 0 or n_wrong == 0:
        return np.zeros((n_correct + 1, n_wrong + 1))
    a, b = np.arange(n_correct + 1.0)[:, None], np.arange(n_wrong + 1.0)[None, :]
    containing = a + b
    without = n - containing
    entropy_with = _entropy_bits(np.divide(a, containing, out=np.zeros_like(containing), where=containing > 0))
    entropy_without = _entropy_bits(np.divide(n_correct - a, without, out=np.zeros_like(without), where=without > 0))
    entropy = _entropy_bits(np.array(n_correct / n))
    return np.maximum(0.0, entropy - (containing * entropy_with + without * entropy_without) / n)


def _cohens_h(n_correct: int, n_wrong: int) -> Table:
    if n_correct == 0 or n_wrong == 0:
        return np.zeros((n_correct + 1, n_wrong + 1))
    share_correct = np.arange(n_correct + 1.0) / n_correct
    share_wrong = np.arange(n_wrong + 1.0) / n_wrong
    return np.arcsin(np.sqrt(share_correct))[:, None] - np.arcsin(np.sqrt(share_wrong))[None, :]
