"""Random minibatches of whole prompts, in place of slices of rollouts sorted by length.

With dynamic batches OpenRLHF sorts all rollouts of a step by length, deals them to the workers and cuts each worker's
part into consecutive slices (trainer/ppo_utils/experience.py:250-283, replay_buffer.py:116-140): the first update of
a step sees its longest and shortest responses, the last one the middle. Here an update sees random prompts, each with
all its rollouts, and the workers get equally many of its tokens.
"""

import random
from collections.abc import Sequence
from dataclasses import fields
from itertools import chain, pairwise
from typing import Any

import torch
from openrlhf.trainer.ppo_utils.experience import Experience
from openrlhf.utils.seqlen_balancing import get_seqlen_balanced_partitions

from openrlhf_ktae.training.options import TrainingOptions

_ROWS = 32
"""Rollouts of an experience that is sent to a worker."""


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
    """In place of OpenRLHF's `balance_experiences` (trainer/ppo_trainer.py:231), in experiences of a few rollouts.

    Upstream makes one of each worker's rollouts and pads them all to the longest. Rollouts of about the same length
    stand together here, within their update; every worker gets equally many experiences.

    The order follows from ``train.seed`` and the rollouts themselves: the same rollouts make the same minibatches.
    """
    index = list(chain.from_iterable(experience.index for experience in experiences))
    lengths = [int(length) for experience in experiences for length in experience.total_length.tolist()]
    workers = args.actor.num_nodes * args.actor.num_gpus_per_node
    workers //= args.ds.ring_attn_size * args.ds.tensor_parallel_size
    parts = minibatch_rows(
        [position // args.rollout.n_samples_per_prompt for position in index],
        lengths,
        args.train.batch_size,
        workers,
        args.train.seed + sum(length * (position + 1) for length, position in zip(lengths, index, strict=True)),
    )
    share = args.train.batch_size // workers
    for part in parts:
        for start in range(0, len(part), share):
            part[start : start + share] = sorted(part[start : start + share], key=lambda row: -lengths[row])
    pieces = max(min(map(len, parts)) // _ROWS, 1)
    cuts = []
    for part in parts:
        edges = [piece * len(part) // pieces for piece in range(pieces + 1)]
        cuts += [part[start:end] for start, end in pairwise(edges)]
    return regrouped(experiences, lengths, cuts)


def regrouped(experiences: list[Experience], lengths: list[int], parts: list[list[int]]) -> list[Experience]:
    """The experience of the rows of each part, as `split_experience_batch` and `make_experience_batch` make it.

    Rows count through all ``experiences``; ``lengths`` are their tokens. Upstream's pair makes two dozen objects of
    every rollout, and a list of single numbers of every metric.
    """
    places = [(batch, row) for batch, experience in enumerate(experiences) for row in range(len(experience.sequences))]

    def steps(values: list[Any]) -> list[Any]:
        shorter = experiences[0].sequences.size(1) - values[0].size(1)  # by one, where a token has nothing before it
        made = []
        for part in parts:
            width = max(lengths[row] for row in part) - shorter
            rows = torch.zeros(len(part), width, dtype=values[0].dtype)
            for place, row in enumerate(part):
                batch, source = places[row]
                length = lengths[row] - shorter
                rows[place, :length] = values[batch][source, :length]
            made.append(rows)
        return made

    def column(values: list[Any]) -> list[Any]:
        if isinstance(values[0], torch.Tensor):
            whole = torch.cat(values)
            return [whole[part] for part in parts]
        whole = list(chain.from_iterable(values))
        return [[whole[row] for row in part] if whole else [] for part in parts]

    made: dict[str, list[Any]] = {}
    for name in (field.name for field in fields(Experience)):
        values = [getattr(experience, name) for experience in experiences]
        if name == "index" or values[0] is None:
            made[name] = [None] * len(parts)
        elif name == "info":
            columns = {key: column([info[key] for info in values]) for key in values[0]}
            made[name] = [{key: of[number] for key, of in columns.items()} for number in range(len(parts))]
        else:
            made[name] = steps(values) if Experience.is_step_tensor_field(name) else column(values)
    return [Experience(**{name: values[number] for name, values in made.items()}) for number in range(len(parts))]
