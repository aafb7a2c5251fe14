"""Intervals over seeds, paired differences and the sign test, against known values and simulated seeds."""

import math

import numpy as np
import pytest
from scipy import stats

from openrlhf_ktae.sweep.statistics import (
    area_under_curve,
    mean_interval,
    median_with_unreached,
    paired_difference,
    sign_test,
    steps_to,
)


def coverage(draw, n: int, samples: int = 800) -> float:
    """Share of the intervals of samples of size n that hold 0, the true mean."""
    rng = np.random.default_rng(n)
    estimates = [mean_interval(draw(rng, n)) for _ in range(samples)]
    return sum(e.low <= 0 <= e.high for e in estimates) / samples


@pytest.mark.parametrize("n", [3, 5, 8, 10])
def test_intervals_hold_the_true_mean_of_simulated_seeds(n):
    assert 0.93 <= coverage(lambda rng, n: rng.normal(0, 0.03, n), n) <= 0.97


def test_intervals_of_accuracies_over_512_problems_hold_it_too():
    def draw(rng, n):
        return (rng.binomial(512, 0.7, n) - rng.binomial(512, 0.7, n)) / 512

    assert 0.93 <= coverage(draw, 10) <= 0.97


def test_few_seeds_have_students_interval_by_hand():
    # mean 2, standard deviation 1, t(0.975, 2) = 4.3027
    estimate = mean_interval([1, 2, 3])
    assert estimate.mean == 2
    assert (estimate.low, estimate.high) == pytest.approx(
        (2 - 4.30265 / math.sqrt(3), 2 + 4.30265 / math.sqrt(3)), 1e-5
    )
    assert mean_interval([0.5]) == type(estimate)(0.5, None, None, 1)


def test_the_bootstrap_is_near_students_interval_where_values_are_normal():
    values = np.random.default_rng(1).normal(0.1, 0.02, 20)
    estimate = mean_interval(values)
    half = 2.09302 * values.std(ddof=1) / math.sqrt(20)  # t(0.975, 19)
    assert estimate.low == pytest.approx(values.mean() - half, abs=0.002)
    assert estimate.high == pytest.approx(values.mean() + half, abs=0.002)
    assert mean_interval(values) == estimate  # the same values, the same interval


def test_no_interval_is_far_wider_than_students():
    for n in (5, 8):
        rng, share = np.random.default_rng(n), []
        for values in rng.normal(0, 0.03, (200, n)):
            estimate = mean_interval(values)
            students = 2 * stats.t.ppf(0.975, n - 1) * values.std(ddof=1) / math.sqrt(n)
            share.append((estimate.high - estimate.low) / students)
        assert np.quantile(share, 0.95) < 1.5, n


def test_equal_values_have_no_width():
    estimate = mean_interval([0.25] * 6)
    assert (estimate.low, estimate.high) == (0.25, 0.25)
    rounded = mean_interval([0.3 + 0.1 * seed - 0.1 * seed for seed in range(6)])
    assert rounded.low == rounded.high == pytest.approx(0.3)


def test_values_most_of_which_are_the_same_have_students_interval():
    estimate = mean_interval([0.01] * 8 + [0.02])
    half = 2.30600 * 0.01 / 9  # t(0.975, 8), standard error
    assert (estimate.low, estimate.high) == pytest.approx((0.1 / 9 - half, 0.1 / 9 + half), rel=1e-4)


@pytest.mark.parametrize("values", [[], [0.1, math.nan]])
def test_values_that_are_none_or_not_finite_are_refused(values):
    with pytest.raises(ValueError, match="expected at least one, all finite"):
        mean_interval(values)


@pytest.mark.parametrize(
    ("differences", "p"), [([1] * 5, 0.0625), ([1] * 10, 2 / 1024), ([1] * 8 + [-1] * 2, 0.109375), ([0, 0], 1.0)]
)
def test_the_sign_test_has_the_binomial_p(differences, p):
    assert sign_test(differences) == pytest.approx(p)


def test_a_planted_effect_is_found_and_a_planted_null_is_not():
    rng = np.random.default_rng(3)
    seeds = {seed: rng.normal(0.6, 0.05) for seed in range(10)}  # seeds differ more than arms do
    better = {seed: value + 0.03 + rng.normal(0, 0.01) for seed, value in seeds.items()}
    same = {seed: value + rng.normal(0, 0.01) for seed, value in seeds.items()}
    found, nothing = paired_difference(better, seeds), paired_difference(same, seeds)
    assert found.excludes_zero and found.estimate.low > 0 and found.sign_p < 0.05 and found.higher == 10
    assert not nothing.excludes_zero and nothing.sign_p > 0.05


def test_nulls_are_found_as_often_as_the_confidence_says():
    rng = np.random.default_rng(4)
    found = sum(
        paired_difference(dict(enumerate(rng.normal(0, 1, 6))), dict(enumerate(rng.normal(0, 1, 6)))).excludes_zero
        for _ in range(600)
    )
    assert 0.025 < found / 600 < 0.08


def test_only_seeds_of_both_arms_are_paired():
    difference = paired_difference({1: 0.5, 2: 0.7, 9: 0.0}, {1: 0.4, 2: 0.8, 3: 0.9})
    assert difference.estimate.n == 2 and (difference.higher, difference.lower) == (1, 1)
    assert difference.estimate.mean == pytest.approx(0)
    assert paired_difference({1: 0.5}, {2: 0.5}) is None


def test_area_under_the_curve_is_the_mean_height():
    assert area_under_curve([0, 10, 40], [0.2, 0.4, 0.4]) == pytest.approx((0.3 * 10 + 0.4 * 30) / 40)
    assert area_under_curve([0], [0.2]) is None


def test_steps_to_a_level_are_between_the_evaluations():
    assert steps_to([0, 10, 20], [0.4, 0.6, 0.9], 0.7) == pytest.approx(10 + 10 / 3)
    assert steps_to([0, 10], [0.9, 0.95], 0.8) == 0
    assert steps_to([0, 10], [0.4, 0.6], 0.8) is None
    with pytest.raises(ValueError, match="expected them to ascend"):
        steps_to([0, 0], [0.4, 0.6], 0.5)


def test_a_level_that_some_seeds_never_reach_has_a_median_as_long_as_most_do():
    assert median_with_unreached([10, None, 20]) == 20
    assert median_with_unreached([10, None]) is None
    assert median_with_unreached([]) is None
