"""pass@k, maj@k, intervals and paired tests against values worked by hand or by another formula."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.intervals import accuracy_interval, bootstrap_interval, mcnemar_p_value, paired_difference
from eval.metrics import majority_score, pass_at_k, reported_ks
from openrlhf_ktae.intervals import wilson_interval


def same_number(a, b):
    from fractions import Fraction

    return Fraction(a) == Fraction(b)


def test_pass_at_k_of_hand_worked_cases():
    assert pass_at_k(4, 1, 1) == 0.25
    assert pass_at_k(4, 1, 2) == 0.5
    assert pass_at_k(4, 2, 2) == pytest.approx(5 / 6)
    assert pass_at_k(4, 0, 4) == 0.0
    assert pass_at_k(4, 1, 4) == 1.0


@given(st.integers(1, 7).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))))
def test_pass_at_k_is_the_share_of_subsets_with_a_correct_sample(case):
    samples, correct, k = case
    subsets = list(combinations([i < correct for i in range(samples)], k))
    assert pass_at_k(samples, correct, k) == pytest.approx(sum(map(any, subsets)) / len(subsets))


def test_pass_at_k_refuses_impossible_counts():
    with pytest.raises(ValueError, match="k is 5, expected 1 to the 4 samples"):
        pass_at_k(4, 2, 5)
    with pytest.raises(ValueError, match="5 correct"):
        pass_at_k(4, 5, 1)


def test_reported_ks_are_powers_of_two_and_the_sample_count():
    assert reported_ks(1) == [1]
    assert reported_ks(8) == [1, 2, 4, 8]
    assert reported_ks(6) == [1, 2, 4, 6]


def test_majority_counts_equivalent_answers_as_one():
    # By string, "3" wins with two votes; by value, one half has three.
    answers = ["3", "1/2", "0.5", "3", "2/4"]
    assert majority_score(answers, [False, True, True, False, True], same_number) == 1.0
    assert majority_score(answers, [True, False, False, True, False], same_number) == 0.0


def test_majority_tie_is_the_expected_score_of_a_fair_draw():
    assert majority_score(["1", "2"], [True, False], same_number) == 0.5
    assert majority_score(["1", "2", "3"], [True, False, False], same_number) == pytest.approx(1 / 3)


def test_samples_without_an_answer_do_not_vote():
    assert majority_score([None, None, "1"], [False, False, True], same_number) == 1.0
    assert majority_score([None, None], [False, False], same_number) == 0.0


def test_interval_of_zero_one_scores_is_the_binomial_one():
    from scipy.stats import binom

    low, high = bootstrap_interval([[1.0] * 40 + [0.0] * 60])
    assert low == pytest.approx(binom.ppf(0.025, 100, 0.4) / 100, abs=0.011)
    assert high == pytest.approx(binom.ppf(0.975, 100, 0.4) / 100, abs=0.011)


def test_a_task_with_one_sample_a_problem_has_wilsons_interval():
    assert accuracy_interval([[1.0] * 60]) == pytest.approx((0.93983, 1.0), abs=1e-5)
    assert accuracy_interval([[0.0] * 10]) == pytest.approx((0.0, 0.27753), abs=1e-5)
    assert accuracy_interval([[1.0, 0.0] * 50]) == pytest.approx(wilson_interval(0.5, 100))


def test_several_samples_and_averages_have_the_bootstraps_interval_unless_it_has_no_width():
    shares = [[0.25, 0.5, 1.0, 0.75] * 9]
    assert accuracy_interval(shares) == bootstrap_interval(shares)
    two = [[1.0, 0.0] * 20, [1.0] * 30]
    assert accuracy_interval(two) == bootstrap_interval(two)
    low, high = accuracy_interval([[1.0] * 60, [1.0] * 10])
    assert (low, high) == pytest.approx(((0.93983 + 0.72247) / 2, 1.0), abs=1e-5)


def test_interval_of_an_average_weighs_tasks_equally():
    # Task two never varies: the average's interval is half of task one's, shifted by a half.
    one = [1.0] * 10 + [0.0] * 20
    low, high = bootstrap_interval([one])
    assert bootstrap_interval([one, [1.0] * 500]) == pytest.approx(((low + 1) / 2, (high + 1) / 2))


def test_interval_depends_on_the_seed_alone():
    scores = [[0.0, 1.0, 0.5, 0.25] * 7]
    assert bootstrap_interval(scores, seed=3) == bootstrap_interval(scores, seed=3)


def test_interval_of_no_problems_is_refused():
    with pytest.raises(ValueError, match="without problems"):
        bootstrap_interval([[]])


def test_mcnemar_of_hand_worked_counts():
    # 8 gained, 1 lost: 2 * (C(9,0) + C(9,1)) / 2^9 = 20 / 512.
    first = [False] * 8 + [True] + [True] * 50
    second = [True] * 8 + [False] + [True] * 50
    assert mcnemar_p_value(first, second) == pytest.approx(20 / 512)
    assert mcnemar_p_value(first, first) == 1.0


def test_one_sample_difference_uses_mcnemar():
    first, second = [0.0] * 8 + [1.0] * 51, [1.0] * 8 + [0.0] + [1.0] * 50
    difference = paired_difference([first], [second], one_sample=True)
    assert difference.value == pytest.approx(7 / 59)
    assert (difference.test, difference.p_value) == ("McNemar exact", pytest.approx(20 / 512))
    assert difference.interval[0] > 0


def test_paired_bootstrap_sees_a_small_steady_gain_that_unpaired_intervals_hide():
    first = [0.1 * (i % 10) for i in range(60)]
    second = [score + 0.05 for score in first]
    difference = paired_difference([first], [second])
    assert difference.test == "paired bootstrap"
    assert difference.interval == pytest.approx((0.05, 0.05))
    assert difference.p_value < 0.001
    assert bootstrap_interval([first])[1] > bootstrap_interval([second])[0]


def test_equal_models_have_p_value_one():
    scores = [[0.5, 0.25, 1.0], [0.0, 1.0]]
    assert paired_difference(scores, scores).p_value == 1.0
