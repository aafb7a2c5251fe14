from fractions import Fraction
from itertools import product
from math import asin, exp, log2, sqrt

import ktae_oracle
import numpy as np
import pytest
from scipy.stats import fisher_exact

from openrlhf_ktae.advantage.estimator.association import association


def tables_up_to(largest):
    return product(range(1, largest + 1), range(1, largest + 1))


def test_fisher_equals_exact_integers_on_all_tables_up_to_16_rollouts_a_class():
    for n_correct, n_wrong in tables_up_to(16):
        exact = [
            [float(ktae_oracle.fisher_p(n_correct, n_wrong, a, b)) for b in range(n_wrong + 1)]
            for a in range(n_correct + 1)
        ]
        assert np.abs(association(n_correct, n_wrong).fisher_p - exact).max() <= 1e-12


def test_fisher_equals_scipy_on_tables_up_to_16_rollouts_a_class():
    for n_correct, n_wrong in tables_up_to(16):
        found = association(n_correct, n_wrong).fisher_p
        for a, b in product(range(n_correct + 1), range(n_wrong + 1)):
            expected = fisher_exact([[a, b], [n_correct - a, n_wrong - b]]).pvalue
            assert found[a, b] == pytest.approx(expected, abs=1e-12)


def test_fisher_is_one_exactly_where_the_exact_p_is_one():
    for n_correct, n_wrong in [*tables_up_to(12), (16, 16), (32, 32), (40, 30)]:
        found = association(n_correct, n_wrong)
        for a, b in product(range(n_correct + 1), range(n_wrong + 1)):
            is_one = ktae_oracle.fisher_p(n_correct, n_wrong, a, b) == 1
            assert (found.fisher_p[a, b] == 1.0) == is_one
            assert (found.fisher_strength[a, b] == 0.0) == is_one


@pytest.mark.parametrize("table", [(4, 4, 4, 4), (1, 1, 7, 7), (1, 0, 7, 8)])
def test_tables_whose_p_is_one(table):
    a, b, c, d = table
    assert association(a + c, b + d).fisher_p[a, b] == 1.0


@pytest.mark.parametrize("table", [(1, 8, 0, 9), (16, 0, 15, 1)])
def test_ties_are_included(table):
    a, b, c, d = table
    assert association(a + c, b + d).fisher_p[a, b] == pytest.approx(fisher_exact([[a, b], [c, d]]).pvalue, abs=1e-12)
    assert association(a + c, b + d).fisher_p[a, b] == 1.0


@pytest.mark.parametrize(("n_correct", "n_wrong"), [(33, 34), (50, 50), (128, 5), (1, 90), (64, 64)])
def test_fisher_beyond_int64_equals_exact_integers(n_correct, n_wrong):
    found = association(n_correct, n_wrong).fisher_p
    pairs = list(product(range(n_correct + 1), range(n_wrong + 1)))
    for a, b in pairs[:: max(1, len(pairs) // 400)]:
        exact = ktae_oracle.fisher_p(n_correct, n_wrong, a, b)
        assert abs(Fraction(found[a, b]) - exact) <= Fraction(1, 10**12)
        assert (found[a, b] == 1.0) == (exact == 1)


def test_fisher_of_a_very_large_group_is_finite_and_at_most_one():
    found = association(700, 500).fisher_p
    assert np.isfinite(found).all()
    assert found.min() >= 0.0
    assert found.max() == 1.0


def test_information_gain_equals_the_definition_on_all_tables_up_to_12():
    for n_correct, n_wrong in tables_up_to(12):
        found = association(n_correct, n_wrong).information_gain_bits
        for a, b in product(range(n_correct + 1), range(n_wrong + 1)):
            expected = ktae_oracle.information_gain(n_correct, n_wrong, a, b)
            assert found[a, b] == pytest.approx(expected, abs=1e-12)


def test_a_token_in_all_correct_and_no_wrong_rollouts_worked_by_hand():
    found = association(2, 2)
    assert found.fisher_p[2, 0] == pytest.approx(1 / 3, abs=1e-15)
    assert found.fisher_strength[2, 0] == pytest.approx(exp(-2 / 3), abs=1e-15)
    assert found.information_gain_bits[2, 0] == 1.0
    assert found.cohens_h[2, 0] == pytest.approx(asin(1.0), abs=1e-15)
    assert found.cohens_h[1, 0] == pytest.approx(asin(sqrt(0.5)), abs=1e-15)
    # One of three with the token is wrong: 1 - (3/4 H(1/3) + 1/4 * 0) bits.
    entropy = -(1 / 3 * log2(1 / 3) + 2 / 3 * log2(2 / 3))
    assert found.information_gain_bits[2, 1] == pytest.approx(1 - 0.75 * entropy, abs=1e-15)


def test_an_empty_class_associates_nothing():
    for sizes in [(0, 0), (0, 5), (5, 0)]:
        found = association(*sizes)
        assert (found.fisher_p == 1).all()
        assert not found.fisher_strength.any()
        assert not found.information_gain_bits.any()
        assert not found.cohens_h.any()


def test_tables_cannot_be_written_to():
    with pytest.raises(ValueError, match="read-only"):
        association(3, 3).fisher_p[0, 0] = 0.5


def test_negative_counts_are_refused():
    with pytest.raises(ValueError, match="n_correct, n_wrong"):
        association(-1, 3)
