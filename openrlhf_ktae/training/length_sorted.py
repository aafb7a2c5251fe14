"""Updates of random rollouts, in micro batches of about the same length.

Without dynamic batches OpenRLHF shuffles the rollouts of a step and pads every micro batch to its longest one
(trainer/ray/ppo_actor.py:163): where lengths differ, most of what it computes on is padding. The sum of the gradients
of an update's micro batches does not depend on which of its rollouts share one (utils/loss_utils.py:80).

Packed samples have no padding: there, sorting would only give the first micro batch more tokens than any random one.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Sampler

from openrlhf_ktae.training.options import TrainingOptions


class LengthSortedBatches(Sampler[list[int]]):
    """Rows of each micro batch: random updates, every update's rows from long to short.

    The longest come first: memory that is enough for them is enough for all.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, update_size: int) -> None:
        self._lengths, self._batch_size, self._update_size = lengths, batch_size, update_size

    def __iter__(self) -> Iterator[list[int]]:
        """As a shuffled loader that drops what fills no micro batch; the order is drawn from torch's generator."""
        order = torch.randperm(len(self._lengths)).tolist()
        for start in range(0, len(order), self._update_size):
            rows = sorted(order[start : start + self._update_size], key=lambda row: -self._lengths[row])
            whole = len(rows) - len(rows) % self._batch_size
            yield from (rows[first : first + self._batch_size] for first in range(0, whole, self._batch_size))

    def __len__(self) -> int:
        return len(self._lengths) // self._batch_size


def length_sorted_loader(
    replay_buffer: Any, batch_size: int, shuffle: bool, drop_last: bool, *, options: TrainingOptions, **others: Any
) -> DataLoader:
    """In place of the `DataLoader` of an optimisation; upstream's own where its order is not random or gains nothing.

    Args:
        replay_buffer: OpenRLHF's, with the rollouts of an update as ``update_size`` (`policy_actor`).
    """
    if not shuffle or replay_buffer.packing_samples or replay_buffer.update_size <= batch_size:
        return DataLoader(replay_buffer, batch_size=batch_size, shuffle=shuffle, drop_last=drop_last, **others)
    lengths = [int(rollout.total_length.item()) for rollout in replay_buffer.items]
    batches = LengthSortedBatches(lengths, batch_size, replay_buffer.update_size)
    return DataLoader(replay_buffer, batch_sampler=batches, **others)
