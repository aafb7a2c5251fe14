"""Random minibatches of whole prompts, in place of slices of rollouts sorted by length.

With dynamic batches OpenRLHF sorts all rollouts of a step by length, deals them to the workers and cuts each worker's
part into consecutive slices (trainer/ppo_utils/experience.py:250-283, replay_buffer.py:116-140): the first update of
a step sees its longest and shortest responses, the last one the middle. Here an update sees random prompts, each with
all its rollouts, and the workers get equally many of its tokens.
"""

import random
from collections.abc import Sequence
from itertools import chain
from typing import Any

from openrlhf.trainer.ppo_utils.experience import Experience, make_experience_batch, split_experience_batch
from openrlhf.utils.seqlen_balancing import get_seqlen_balanced_partitions

from openrlhf_ktae.training.options import TrainingOptions


def minibatch_rows(
    groups: Sequence[int], lengths: Sequence[int], batch_size: int, workers: int, seed: int
) -> list[list[int]]:
    """Which rollouts each worker trains on, in the order of the updates.

    Update u trains on rows u x B/W ... (u + 1) x B/W of every worker (B ``batch_size``, W ``workers``). The prompts are
    in random order, a prompt's rollouts together; its rollouts fall into two updates only where ``batch_size`` is no
    multiple of the rollouts of a prompt. Rollouts that fill no update come last.

    Args:
        groups: the prompt of each rollout.
        lengths: tokens of each rollout, prompt included.
        batch_size: rollouts of an update; a multiple of ``workers``.
        workers: policy workers that see different data.
        seed: of the order of the prompts.
    """
    prompts: dict[int, list[int]] = {}
    for row, group in enumerate(groups):
        prompts.setdefault(group, []).append(row)
    order = sorted(prompts)
    random.Random(seed).shuffle(order)
    rows = [row for group in order for row in prompts[group]]
    parts: list[list[int]] = [[] for _ in range(workers)]
    full = len(rows) - len(rows) % batch_size
    for start in range(0, full, batch_size):
        update = rows[start : start + batch_size]
        shares: Any = get_seqlen_balanced_partitions([lengths[row] for row in update], workers, equal_size=True)
        for part, share in zip(parts, shares, strict=True):
            part.extend(update[position] for position in share)
    for worker, part in enumerate(parts):
        part.extend(rows[full + worker :: workers])
    return [part for part in parts if part]


def random_minibatches(
    experiences: list[Experience], args: Any, *, options: TrainingOptions | None = None
) -> list[Experience]:
    """In place of OpenRLHF's `balance_experiences` (trainer/ppo_trainer.py:231): one experience a policy worker.

    The order follows from ``train.seed`` and the rollouts themselves: the same rollouts make the same minibatches.
    """
    index = list(chain.from_iterable(experience.index for experience in experiences))  # splitting drops it
    rollouts = list(chain.from_iterable(split_experience_batch(experience) for experience in experiences))
    lengths = [int(rollout.total_length) for rollout in rollouts]
    workers = args.actor.num_nodes * args.actor.num_gpus_per_node
    parts = minibatch_rows(
        [position // args.rollout.n_samples_per_prompt for position in index],
        lengths,
        args.train.batch_size,
        workers // args.ds.ring_attn_size // args.ds.tensor_parallel_size,
        args.train.seed + sum(length * (position + 1) for length, position in zip(lengths, index, strict=True)),
    )
    return [make_experience_batch([rollouts[row] for row in part]) for part in parts]
