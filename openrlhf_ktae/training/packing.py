"""Micro batches of rollouts of about the same length, for the forward passes between sampling and training.

OpenRLHF takes rollouts as they come (experience_maker.py:71-76), or with dynamic batches deals lengths out so that
every micro batch holds as many tokens (experience_maker.py:54-69), long and short ones side by side: its search takes
longer than anything else of the trainer process at the paper's batch, and padding to the longest row makes three
quarters of what is then stored, sent and read.
"""

from collections.abc import Sequence
from typing import Any

from openrlhf.trainer.ppo_utils.experience import Experience


def micro_batches(
    lengths: Sequence[int], max_tokens: int, workers: int, max_rows: int | None = None
) -> list[list[int]] | None:
    """Rows of each micro batch, ``workers`` equally long parts of the list one after the other.

    Rows are taken from long to short until the next one would make more than ``max_tokens``, or more than ``max_rows``
    rows; a row that is longer has a micro batch of its own. Each worker gets long rows and short ones: attention costs
    the square of a length.
    None where there are too few rows to give every worker equally many micro batches of that size.

    Args:
        lengths: tokens of each rollout, prompt included.
        max_tokens: of a micro batch, without padding.
        workers: policy workers that see different data.
        max_rows: of a micro batch; None: as many as its tokens allow.
    """
    batches: list[list[int]] = [[]]
    tokens = 0
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        if batches[-1] and (tokens + lengths[row] > max_tokens or len(batches[-1]) == max_rows):
            batches.append([])
            tokens = 0
        batches[-1].append(row)
        tokens += lengths[row]
    wanted = -(-len(batches) // workers) * workers
    if wanted > len(lengths):
        return None
    while len(batches) < wanted:
        place = max(range(len(batches)), key=lambda place: len(batches[place]))
        half = len(batches[place]) // 2
        batches[place : place + 1] = batches[place][:half], batches[place][half:]
    # There and back again: the first worker gets the longest of the first round and the shortest of the second.
    rounds = [batches[start : start + workers] for start in range(0, wanted, workers)]
    dealt = [batch if number % 2 == 0 else batch[::-1] for number, batch in enumerate(rounds)]
    return [batch[worker] for worker in range(workers) for batch in dealt]


def packed(rollouts: list[Experience], args: Any, pad_token_id: int) -> list[Experience] | None:
    """In place of OpenRLHF's `RemoteExperienceMaker.split_rollout_samples`; None as above, and without dynamic batches
    where samples are packed, a worker has one micro batch, or some would have fewer rollouts than others."""
    ranks = args.ds.ring_attn_size * args.ds.tensor_parallel_size
    workers = args.actor.num_nodes * args.actor.num_gpus_per_node // ranks
    lengths = [int(rollout.total_length.item()) for rollout in rollouts]
    if args.train.dynamic_batch_enable:
        rows = micro_batches(lengths, args.rollout.max_tokens_per_gpu * ranks, workers)
    else:
        size = args.rollout.micro_batch_size
        more, rest = divmod(len(rollouts), size * workers)
        sorts = more > 1 and not rest and not args.ds.packing_samples
        rows = micro_batches(lengths, sum(lengths), workers, size) if sorts else None
    if rows is None:
        return None
    for place, rollout in enumerate(rollouts):
        rollout.index = [place]
    return [Experience.concat_experiences([rollouts[row] for row in batch], pad_token_id) for batch in rows]
