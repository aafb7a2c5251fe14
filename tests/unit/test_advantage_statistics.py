import math

import ktae_oracle
import numpy as np
import pytest
import torch

from openrlhf_ktae.advantage import KtaeConfig, batch_diagnostics, key_token_values, token_statistics, top_tokens
from openrlhf_ktae.advantage.estimator.rows import ends

IDS = torch.tensor([[1, 1, 3, 9], [1, 3, 9, 9], [2, 3, 3, 9], [3, 2, 9, 9], [5, 5, 9, 9]])
MASK = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 0, 0]])
CORRECT = torch.tensor([1, 1, 0, 0, 1])
GROUP = torch.tensor([4, 4, 4, 4, -2])


def test_counts_of_a_group_worked_by_hand():
    found = token_statistics(IDS, MASK, CORRECT, GROUP)
    assert found.group.tolist() == [-2, 4, 4, 4]
    assert found.token_id.tolist() == [5, 1, 2, 3]
    assert list(zip(found.a, found.b, found.c, found.d, strict=True)) == [
        (1, 0, 0, 0), (2, 0, 0, 2), (0, 2, 2, 0), (2, 2, 0, 0),
    ]  # fmt: skip
    assert found.m_c.tolist() == [2, 3, 0, 2]
    assert found.m_w.tolist() == [0, 0, 2, 3]
    np.testing.assert_allclose(found.fisher_p, [1, 1 / 3, 1 / 3, 1])
    np.testing.assert_allclose(found.information_gain_bits, [0, 1, 1, 0])
    np.testing.assert_allclose(found.cohens_h, [0, math.pi / 2, -math.pi / 2, 0])
    assert found.tf_contrast[0] == 0
    # q = 3/5 and k = 2 in both classes: f = 0.6 * 3 / 2.6, r = f / 1e-5.
    assert found.tf_contrast[1] == pytest.approx(0.6 * 3 / 2.6 / 1e-5)


def test_statistics_and_values_agree():
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 40, (40, 30), generator=generator)
    mask = torch.rand(40, 30, generator=generator) < 0.7
    correct, group = torch.rand(40, generator=generator) < 0.5, torch.randint(0, 4, (40,), generator=generator)
    config = KtaeConfig(gamma=0.01, ignore_token_ids=(3,))
    values = key_token_values(ids, mask, correct, group, config)
    found = token_statistics(ids, mask, correct, group, config)
    lookup = {(g, t): v for g, t, v in zip(found.group, found.token_id, found.value, strict=True)}
    seen = set()
    for row in range(40):
        for column in range(30):
            if mask[row, column]:
                key = (int(group[row]), int(ids[row, column]))
                assert values[row, column].item() == lookup[key]
                seen.add(key)
    assert seen == set(lookup)


def test_the_value_follows_from_the_columns():
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(0, 30, (12, 20), generator=generator)
    correct = torch.arange(12) % 3 == 0
    found = token_statistics(ids, torch.ones_like(ids), correct, torch.zeros(12, dtype=torch.int64))
    for row in range(len(found)):
        counts = [int(column[row]) for column in (found.a, found.b, found.m_c, found.m_w)]
        expected = ktae_oracle.key_token_value(KtaeConfig(), 4, 8, *counts, 80, 160)
        assert found.value[row] == pytest.approx(expected, abs=1e-6)


def test_top_tokens_come_by_size_of_value_then_by_occurrences():
    found = top_tokens(token_statistics(IDS, MASK, CORRECT, GROUP), 4, 10)
    # Token 3 is everywhere, its value is 0; 1 and 2 are saturated alike, 1 occurs more often.
    assert found.token_id.tolist() == [1, 2]
    assert len(top_tokens(token_statistics(IDS, MASK, CORRECT, GROUP), 4, 1)) == 1
    assert len(top_tokens(token_statistics(IDS, MASK, CORRECT, GROUP), -2, 5)) == 0
    with pytest.raises(ValueError, match="count"):
        top_tokens(found, 4, -1)


def test_statistics_of_nothing_are_empty():
    found = token_statistics(torch.zeros(0, 5, dtype=torch.int64), torch.zeros(0, 5), torch.zeros(0), torch.zeros(0))
    assert len(found) == 0


def test_diagnostics_worked_by_hand():
    values = torch.tensor([[1.0, 0.05, 7.0], [-0.5, 0.0, 7.0], [-1.0, 0.2, 0.0]])
    mask = torch.tensor([[1, 1, 0], [1, 1, 0], [1, 1, 1]])
    found = batch_diagnostics(values, mask, torch.tensor([1, 0, 0]), torch.tensor([0, 0, 5]))
    assert found == pytest.approx({
        "ktae/key_token_frac": 4 / 7,
        "ktae/value_mean_correct": 1.05 / 2,
        "ktae/value_mean_wrong": -1.3 / 5,
        "ktae/value_abs_mean_correct": 1.05 / 2,
        "ktae/value_abs_mean_wrong": 1.7 / 5,
        "ktae/value_abs_mean": 2.75 / 7,
        "ktae/saturated_frac": 2 / 7,
        "ktae/degenerate_group_frac": 1 / 2,
    })  # fmt: skip


def test_key_and_saturated_tokens_are_shares_of_the_scale():
    values = torch.tensor([[0.06, 0.04, 0.496, 0.49]])
    found = batch_diagnostics(values, torch.ones(1, 4), torch.tensor([1]), torch.tensor([0]), scale=0.5)
    assert found["ktae/key_token_frac"] == pytest.approx(3 / 4)
    assert found["ktae/saturated_frac"] == pytest.approx(1 / 4)


def test_diagnostics_of_no_tokens_are_nan_and_never_an_error():
    found = batch_diagnostics(torch.zeros(2, 0), torch.zeros(2, 0), torch.tensor([1, 1]), torch.tensor([0, 1]))
    assert found.pop("ktae/degenerate_group_frac") == 1.0
    assert all(math.isnan(value) for value in found.values())


@pytest.mark.parametrize("columns", [7, 600])
def test_diagnostics_of_blocks_of_rows_and_in_one_compiled_pass_are_the_same(monkeypatch, columns):
    values = torch.rand(50, columns) * 2 - 1
    mask = (torch.rand(50, columns) < 0.6) & (torch.arange(columns) < torch.randint(0, columns + 1, (50, 1)))
    batch = (mask, torch.rand(50) < 0.5, torch.arange(50) // 5)
    compiled = batch_diagnostics(values, *batch)
    in_torch = batch_diagnostics(values.T.contiguous().T, *batch)
    monkeypatch.setattr("openrlhf_ktae.advantage.estimator.diagnostics._BLOCK_POSITIONS", 20)
    of_blocks = batch_diagnostics(values.T.contiguous().T, *batch)
    assert compiled == pytest.approx(in_torch, abs=1e-12) and of_blocks == pytest.approx(in_torch, abs=1e-12)


def test_the_ends_of_a_row_are_those_of_its_mask():
    mask = torch.zeros(6, 600, dtype=torch.bool)
    mask[1, 0] = mask[2, 599] = mask[3, 10:300] = mask[5, 255:345] = True
    mask[4, [7, 256, 511]] = True
    first, last = ends(mask)
    assert first.tolist() == [0, 0, 599, 10, 7, 255] and last.tolist() == [0, 1, 600, 300, 512, 345]
