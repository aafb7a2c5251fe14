"""Micro batches of an update: the same random rollouts as upstream's, those of about the same length together."""

import random

import openrlhf_parts  # stands in for CUDA where there is none, so that OpenRLHF can be imported
import pytest
import torch
from openrlhf.models.loss import aggregate_loss
from openrlhf.utils.loss_utils import iter_grad_accum_global_norm
from torch.utils.data import DataLoader

from openrlhf_ktae.training.length_sorted import LengthSortedBatches, length_sorted_loader

LENGTHS = [random.Random(row).randrange(5, 200) for row in range(96)]


def padded(batches: list[list[int]]) -> int:
    return sum(len(batch) * max(LENGTHS[row] for row in batch) for batch in batches)


def test_an_update_is_the_random_one_that_it_was_and_its_micro_batches_hold_similar_lengths():
    torch.manual_seed(7)
    order = torch.randperm(96).tolist()
    torch.manual_seed(7)
    batches = list(LengthSortedBatches(LENGTHS, batch_size=8, update_size=32))
    assert len(batches) == len(LengthSortedBatches(LENGTHS, 8, 32)) == 12
    for update in range(3):
        rows = [row for batch in batches[4 * update : 4 * update + 4] for row in batch]
        assert sorted(rows) == sorted(order[32 * update : 32 * update + 32])
        assert [LENGTHS[row] for row in rows] == sorted((LENGTHS[row] for row in rows), reverse=True)
    assert padded(batches) < 0.75 * padded([order[start : start + 8] for start in range(0, 96, 8)])
    assert batches != list(LengthSortedBatches(LENGTHS, 8, 32))  # another epoch, another order


def test_what_fills_no_micro_batch_is_dropped():
    batches = list(LengthSortedBatches(LENGTHS[:45], batch_size=8, update_size=32))
    assert [len(batch) for batch in batches] == [8] * 5 == [8] * len(LengthSortedBatches(LENGTHS[:45], 8, 32))


class Buffer(list):
    """A replay buffer of numbered rollouts."""

    def __init__(self, update_size: int, packing_samples: bool = False) -> None:
        super().__init__(range(96))
        self.update_size, self.packing_samples = update_size, packing_samples
        self.items = [openrlhf_parts.Experience(total_length=torch.tensor([length])) for length in LENGTHS]


def loaded(buffer: Buffer, **keywords) -> list[list[int]]:
    torch.manual_seed(3)
    keywords = {"batch_size": 8, "shuffle": True, "drop_last": True, "collate_fn": list} | keywords
    loader = length_sorted_loader(buffer, **keywords, options=None)  # type: ignore[arg-type]
    return list(loader)


def test_the_loader_sorts_within_random_updates():
    batches = loaded(Buffer(32))
    assert sorted(row for batch in batches for row in batch) == list(range(96))
    assert padded(batches) < 0.75 * padded(loaded(Buffer(8)))


@pytest.mark.parametrize(("update_size", "shuffle", "packs"), [(8, True, False), (32, False, False), (32, True, True)])
def test_one_micro_batch_an_order_that_is_not_random_and_packed_samples_are_left_to_upstream(
    update_size, shuffle, packs
):
    ours = loaded(Buffer(update_size, packs), shuffle=shuffle)
    torch.manual_seed(3)
    theirs = DataLoader(Buffer(8), batch_size=8, shuffle=shuffle, drop_last=True, collate_fn=list)  # type: ignore[arg-type]
    assert ours == list(theirs)


@pytest.mark.parametrize("by_token", [True, False])
def test_the_gradient_of_an_update_does_not_depend_on_which_rollouts_share_a_micro_batch(by_token):
    """The reason why they may be sorted. If this fails, upstream has changed how it weighs micro batches."""
    values = [torch.randn(length, generator=torch.Generator().manual_seed(row)) for row, length in enumerate(LENGTHS)]

    def total(batches):
        masks = []
        for rows in batches:
            width = max(LENGTHS[row] for row in rows)
            masks.append((rows, torch.stack([(torch.arange(width) < LENGTHS[row]).float() for row in rows])))
        loss = torch.zeros(())
        for (rows, mask), info in iter_grad_accum_global_norm(masks, None, len(masks), lambda item: item[1]):
            whole = torch.zeros_like(mask)
            for place, row in enumerate(rows):
                whole[place, : LENGTHS[row]] = values[row]
            loss += aggregate_loss(whole, mask, token_level_loss=by_token, **info) / len(masks)  # DeepSpeed's mean
        return loss

    as_they_come = total([list(range(start, start + 8)) for start in range(0, 96, 8)])
    torch.testing.assert_close(total(list(LengthSortedBatches(LENGTHS, 8, 96))), as_they_come)
