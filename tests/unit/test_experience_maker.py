"""Key-token values in OpenRLHF's experience maker, on OpenRLHF's own objects."""

import pytest
import torch
from openrlhf_parts import SAMPLES, arguments, experiences, maker, plain_maker

from openrlhf_ktae.advantage import KtaeConfig, key_token_values
from openrlhf_ktae.training.experience_maker import require_rewards
from openrlhf_ktae.training.rollout_batch import gather

ESTIMATORS = ["group_norm", "dr_grpo", "rloo", "reinforce_baseline", "reinforce"]


def by_index(batches, name):
    """Rows of a field in sampling order, cut to their own length."""
    rows = {}
    for batch in batches:
        for row, index in enumerate(batch.index):
            rows[index] = getattr(batch, name)[row][batch.action_mask[row].bool()]
    return [rows[index] for index in sorted(rows)]


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_without_terms_it_is_openrlhf_bit_for_bit(estimator):
    args = arguments(algo__advantage__estimator=estimator)
    plain = plain_maker(args).compute_advantages_and_returns(experiences(6, 5, shuffle=True))
    for ours in (maker(args, ()), maker(args, ktae={"scale": 0.0})):
        found = ours.compute_advantages_and_returns(experiences(6, 5, shuffle=True))
        for theirs, mine in zip(plain, found, strict=True):
            assert torch.equal(mine.advantages, theirs.advantages)
            assert torch.equal(mine.returns, theirs.returns)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("shuffle", [False, True], ids=["in order", "dynamic batches"])
def test_the_values_are_added_to_every_estimator(estimator, shuffle):
    args = arguments(algo__advantage__estimator=estimator)
    plain = plain_maker(args).compute_advantages_and_returns(experiences(6, 5, shuffle=shuffle))
    ours = maker(args, ktae={"scale": 0.5}).compute_advantages_and_returns(experiences(6, 5, shuffle=shuffle))
    # Computed once more from the rows alone, one group at a time.
    rows = sorted(
        (
            (index, batch.sequences[row, 1:][batch.action_mask[row].bool()], batch.scores[row])
            for batch in plain
            for row, index in enumerate(batch.index)
        ),
        key=lambda entry: entry[0],
    )
    for start in range(0, len(rows), SAMPLES):
        group = rows[start : start + SAMPLES]
        token_ids = torch.nn.utils.rnn.pad_sequence([tokens for _, tokens, _ in group], batch_first=True)
        mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(t) for _, t, _ in group], batch_first=True)
        correct = torch.tensor([bool(score) for *_, score in group])
        values = key_token_values(
            token_ids, mask, correct, torch.zeros(SAMPLES, dtype=torch.long), KtaeConfig(scale=0.5)
        )
        before, after = by_index(plain, "advantages"), by_index(ours, "advantages")
        for offset in range(SAMPLES):
            index = start + offset
            expected = before[index] + values[offset][mask[offset].bool()]
            torch.testing.assert_close(after[index], expected, rtol=0, atol=1e-6)


def test_correctness_comes_from_scores_and_not_from_shaped_rewards():
    args = arguments()
    batches = experiences(4, 4)
    shaped = experiences(4, 4)
    for batch in shaped:
        batch.rewards = batch.rewards - 1.0  # a length penalty: correct rollouts get 0, wrong ones -1
    ours = maker(args)
    values = []
    for rollouts in (batches, shaped):
        ours.compute_advantages_and_returns(rollouts)
        assert ours.outcome is not None
        values.append(ours.outcome.columns["key_token_value"])
    assert torch.equal(*values)


@pytest.mark.parametrize("terms", [(), ("ktae",)])
def test_equal_rewards_give_exactly_zero_where_openrlhf_gives_10(terms):
    # The float32 mean of three rewards of 0.9 is not 0.9; OpenRLHF divides the difference by 1e-9 and clips at 10.
    args = arguments(rollout__n_samples_per_prompt=3)
    plain, ours = experiences(3, 4), experiences(3, 4)
    for batch in plain + ours:
        batch.rewards = torch.full_like(batch.rewards, 0.9)
        batch.scores = torch.zeros_like(batch.scores)
    before = plain_maker(args).compute_advantages_and_returns(plain)
    after = maker(args, terms).compute_advantages_and_returns(ours)
    assert max(batch.advantages.abs().max() for batch in before) == 10
    assert all(torch.count_nonzero(row) == 0 for row in by_index(after, "advantages"))


def test_metrics_of_the_step_are_kept():
    ours = maker(arguments())
    ours.compute_advantages_and_returns(experiences(6, 5))
    assert ours.outcome is not None and ours.outcome.seconds["ktae"] > 0
    assert {"ktae/key_token_frac", "ktae/saturated_frac", "ktae/degenerate_group_frac"} <= set(ours.outcome.metrics)


def test_missing_scores_stop_with_the_count():
    batches = experiences(2, 4)
    batches[1].scores = None
    with pytest.raises(ValueError, match="4 of 8 rollouts came back without reward and score"):
        require_rewards(batches, and_scores=True)
    require_rewards(batches)
    with pytest.raises(ValueError, match="4 of 8 rollouts"):
        maker(arguments()).make_experience_batch(batches)


def test_scores_other_than_0_and_1_are_refused():
    batches = experiences(2, 4)
    batches[0].scores[1] = 0.35
    with pytest.raises(ValueError, match=r"scores: found 0\.35, expected 0 \(wrong\) or 1 \(correct\)"):
        _ = gather(batches, SAMPLES).correct
