"""Returns without a loop, against OpenRLHF's loop."""

import pytest
import torch
from openrlhf_parts import arguments, experiences, maker, plain_maker


def same_bits(found: torch.Tensor, expected: torch.Tensor) -> bool:
    return found.dtype == expected.dtype and torch.equal(found.view(torch.int32), expected.view(torch.int32))


@pytest.mark.parametrize("gamma", [1.0, 0.9, 0.0])
@pytest.mark.parametrize("seed", range(4))
def test_returns_are_openrlhfs_to_the_bit_with_holes_and_any_gamma(gamma, seed):
    generator = torch.Generator().manual_seed(seed)
    shape = (7, 65)
    # A KL penalty puts a reward on every token; tool output leaves holes; one row generated nothing.
    rewards = torch.randn(shape, generator=generator)
    mask = (torch.rand(shape, generator=generator) < 0.7).long()
    mask[3] = 0
    found = maker(arguments(), ()).get_cumulative_returns(rewards, mask, gamma)
    assert same_bits(found, plain_maker(arguments()).get_cumulative_returns(rewards, mask, gamma))
    assert same_bits(maker(arguments(), ()).get_cumulative_returns(rewards, mask.bool(), gamma), found)


def test_a_reward_that_is_no_number_stays_where_openrlhf_has_it():
    rewards, mask = torch.zeros(2, 9), torch.ones(2, 9, dtype=torch.long)
    rewards[0, 4], rewards[1, 8] = float("nan"), float("inf")
    mask[1, 8] = 0
    found = maker(arguments(), ()).get_cumulative_returns(rewards, mask, 1.0)
    expected = plain_maker(arguments()).get_cumulative_returns(rewards, mask, 1.0)
    assert (
        torch.equal(found.isnan(), expected.isnan()) and found[0, :5].isnan().all() and not found[0, 5:].isnan().any()
    )


def test_other_dtypes_go_through_openrlhfs_loop():
    rewards, mask = torch.rand(3, 8, dtype=torch.float64), torch.ones(3, 8, dtype=torch.long)
    found = maker(arguments(), ()).get_cumulative_returns(rewards, mask, 1.0)
    assert torch.equal(found, plain_maker(arguments()).get_cumulative_returns(rewards, mask, 1.0))


@pytest.mark.parametrize("gamma", [1.0, 0.95])
def test_returns_and_advantages_of_a_step_are_openrlhfs_with_a_kl_penalty(gamma):
    def step(made):
        batches = experiences(6, 5, shuffle=True)
        generator = torch.Generator().manual_seed(1)
        for batch in batches:
            batch.kl = torch.rand(batch.kl.shape, generator=generator)
        made.kl_ctl.value = 0.1
        return made.compute_advantages_and_returns(batches)

    args = arguments(algo__advantage__estimator="reinforce", algo__advantage__gamma=gamma)
    for ours, theirs in zip(step(maker(args, ())), step(plain_maker(args)), strict=True):
        assert same_bits(ours.returns, theirs.returns) and same_bits(ours.advantages, theirs.advantages)
