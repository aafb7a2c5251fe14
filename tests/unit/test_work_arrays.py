"""Memory of a step that the next one finds again, and never one that somebody still reads."""

import numpy as np
import torch
from openrlhf_parts import arguments, experiences, maker

from openrlhf_ktae.training.work_arrays import WorkArrays


def lent(memory: WorkArrays, lengths: list[int], columns: int) -> torch.Tensor:
    array = memory.zeros(np.array(lengths), columns, np.float32)
    for row, length in enumerate(lengths):
        array[row, :length] = row + 1
    return torch.from_numpy(array)


def test_memory_that_nobody_reads_any_more_comes_back_as_zeros():
    memory = WorkArrays()
    first = lent(memory, [5, 0, 7], 7)
    place = first.data_ptr()
    del first
    second = memory.zeros(np.array([2, 3, 1, 1]), 5, np.float32)
    assert second.shape == (4, 5) and not second.any()
    assert torch.from_numpy(second).data_ptr() == place


def test_memory_that_a_tensor_or_a_part_of_it_reads_is_not_lent_again():
    memory = WorkArrays()
    whole = lent(memory, [3, 2], 4)
    part = whole.numpy()[0, :2]  # as the rollout log holds it
    del whole
    other = lent(memory, [4, 4], 4)
    assert part.tolist() == [1, 1] and other.tolist() == [[1] * 4, [2] * 4]


def test_memory_of_another_kind_or_too_small_is_not_taken_and_given_back():
    memory = WorkArrays()
    small = lent(memory, [3], 4)
    del small
    larger, mask = lent(memory, [3, 3], 4), memory.zeros(np.array([3, 3]), 4, np.bool_)
    assert mask.dtype == np.bool_ and not mask.any()
    memory.drop_free()
    assert len(memory._held) == 2  # not three
    del larger, mask
    memory.drop_free()
    assert memory._held == []


def test_a_step_in_used_memory_is_the_same_step_and_leaves_one_that_is_kept_alone():
    used = maker(arguments())
    used.compute_advantages_and_returns(experiences(6, 5, seed=1))
    kept, outcome = used.batch, used.outcome
    assert kept is not None and outcome is not None
    before = kept.token_ids.clone(), outcome.advantages.clone()
    for seed in (2, 3):
        fresh, in_used = maker(arguments()), experiences(7, 4, seed=seed, shuffle=True)
        in_fresh = fresh.compute_advantages_and_returns(experiences(7, 4, seed=seed, shuffle=True))
        for ours, theirs in zip(used.compute_advantages_and_returns(in_used), in_fresh, strict=True):
            assert torch.equal(ours.advantages, theirs.advantages)
        assert used.batch is not None and fresh.batch is not None
        for name in ("token_ids", "mask", "log_probs"):
            assert torch.equal(getattr(used.batch, name), getattr(fresh.batch, name))
        used.batch = used.outcome = None
    assert torch.equal(kept.token_ids, before[0]) and torch.equal(outcome.advantages, before[1])
