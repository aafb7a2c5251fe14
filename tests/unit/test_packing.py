"""Micro batches of the forward passes: similar lengths together, none above the limit, the workers equally busy."""

import random

import openrlhf_parts
import pytest
import torch
from openrlhf.trainer.ppo_utils.experience_maker import RemoteExperienceMaker

from openrlhf_ktae.training.packing import micro_batches

LIMIT = 4096


def published_lengths(rollouts: int, seed: int = 0) -> list[int]:
    """As reasoning models answer: most short, a few at the limit."""
    generator = random.Random(seed)
    return [100 + min(int(generator.lognormvariate(6.4, 0.7)), 3072) for _ in range(rollouts)]


def padded(batches: list[list[int]], lengths: list[int]) -> int:
    return sum(len(batch) * max(lengths[row] for row in batch) for batch in batches)


@pytest.mark.parametrize("workers", [1, 2, 8])
def test_every_rollout_is_in_one_micro_batch_and_none_exceeds_the_limit(workers):
    lengths = published_lengths(512)
    batches = micro_batches(lengths, LIMIT, workers)
    assert batches is not None and len(batches) % workers == 0
    assert sorted(row for batch in batches for row in batch) == list(range(512))
    assert max(sum(lengths[row] for row in batch) for batch in batches) <= LIMIT
    # Whatever packs better cannot do with fewer than this.
    assert len(batches) <= 1.25 * sum(lengths) / LIMIT + workers
    assert padded(batches, lengths) < 1.1 * sum(lengths)


def test_the_workers_attend_to_about_as_much():
    lengths = published_lengths(4096)
    batches = micro_batches(lengths, LIMIT, 8)
    assert batches is not None
    share = len(batches) // 8
    squares = [
        sum(lengths[row] ** 2 for batch in batches[worker * share : (worker + 1) * share] for row in batch)
        for worker in range(8)
    ]
    assert max(squares) < 1.05 * min(squares)


def test_a_rollout_longer_than_the_limit_is_alone():
    assert micro_batches([5, 50, 6, 3], 10, 1) == [[1], [2], [0, 3]]


def test_few_rollouts_are_spread_over_all_workers():
    batches = micro_batches([3, 3, 3, 3], 100, 4)
    assert batches is not None and sorted(batches) == [[0], [1], [2], [3]]
    # Five of them fill five micro batches, and two workers cannot have as many each.
    assert micro_batches([9, 9, 9, 9, 9], 10, 2) is None
    assert micro_batches([9], 10, 2) is None


def test_a_micro_batch_holds_no_more_rows_than_it_may():
    assert micro_batches([5, 9, 6, 3, 7, 8], 1000, 1, max_rows=2) == [[1, 5], [4, 2], [0, 3]]
    assert micro_batches([5, 9, 6, 3, 7, 8], 10, 1, max_rows=2) == [[1], [5], [4], [2], [0, 3]]


@pytest.mark.parametrize(("ranks", "dynamic"), [(1, True), (2, True), (1, False)])  # ring attention packs samples
def test_experiences_hold_the_same_rollouts_as_openrlhfs_in_less_memory(ranks, dynamic):
    args = openrlhf_parts.arguments(
        actor__num_gpus_per_node=2 * ranks, ds__ring_attn_size=ranks, train__dynamic_batch_enable=dynamic,
        rollout__max_tokens_per_gpu=32, train__max_tokens_per_gpu=32, rollout__micro_batch_size=4,
    )  # fmt: skip

    def rows(maker):
        maker.tokenizer = type("Words", (), {"pad_token_id": 0})
        rollouts = openrlhf_parts.experiences(8, 1)
        made = maker.split_rollout_samples(rollouts)
        assert len(made) % 2 == 0
        found = {}
        for experience in made:
            for row, place in enumerate(experience.index):
                length = int(experience.total_length[row])
                found[place] = (
                    experience.sequences[row, :length].tolist(), experience.action_mask[row, : length - 1].tolist(),
                    experience.prompts[row], float(experience.rewards[row]), float(experience.info["reward"][row]),
                )  # fmt: skip
                assert not experience.attention_mask[row, length:].any()
        return found, sum(experience.sequences.numel() for experience in made)

    theirs, their_size = rows(openrlhf_parts.plain_maker(args))
    ours, our_size = rows(openrlhf_parts.maker(args))
    assert ours == theirs and len(ours) == 8 * openrlhf_parts.SAMPLES
    assert our_size < their_size


@pytest.mark.parametrize(
    ("workers", "size", "packs"), [(2, 16, False), (1, 32, False), (1, 64, False), (1, 12, False), (1, 4, True)]
)
def test_rollouts_stay_as_they_come_where_sorting_gains_nothing_or_workers_would_get_fewer(workers, size, packs):
    args = openrlhf_parts.arguments(
        actor__num_gpus_per_node=workers, rollout__micro_batch_size=size, ds__packing_samples=packs
    )
    maker = openrlhf_parts.maker(args)
    maker.tokenizer = type("Words", (), {"pad_token_id": 0})
    made = maker.split_rollout_samples(openrlhf_parts.experiences(8, 1))
    assert [place for experience in made for place in experience.index] == list(range(32))


def test_openrlhf_pads_long_and_short_rollouts_to_the_same_length():
    """The reason. If this fails, upstream has changed its packing: see whether ours is still needed."""
    args = openrlhf_parts.arguments(
        actor__num_gpus_per_node=1, train__dynamic_batch_enable=True, rollout__max_tokens_per_gpu=40,
        train__max_tokens_per_gpu=40,
    )  # fmt: skip
    maker = openrlhf_parts.plain_maker(args)
    maker.tokenizer = type("Words", (), {"pad_token_id": 0})
    made = RemoteExperienceMaker.split_rollout_samples(maker, openrlhf_parts.experiences(8, 1))
    real = sum(int(experience.total_length.sum()) for experience in made)
    assert sum(torch.numel(experience.sequences) for experience in made) > 1.2 * real
