"""Minibatches are random prompts with all their rollouts, dealt evenly; OpenRLHF's are slices sorted by length."""

import random

import openrlhf_parts
import pytest
from openrlhf.trainer.ppo_utils.experience import balance_experiences, split_experience_batch

from openrlhf_ktae.training.minibatches import minibatch_rows, random_minibatches


def updates_of(parts, batch_size, workers):
    """Rows of each update, all workers together."""
    share = batch_size // workers
    count = min(len(part) for part in parts) // share
    return [[row for part in parts for row in part[u * share : (u + 1) * share]] for u in range(count)]


def published_step(seed=0, prompts=64, samples=16):
    """Lengths as a step has them: a prompt's rollouts are of similar length, and the prompts come shortest first."""
    generator = random.Random(seed)
    lengths = [100 + 40 * prompt + generator.randrange(200) for prompt in range(prompts) for _ in range(samples)]
    return [row // samples for row in range(prompts * samples)], lengths


def test_an_update_holds_whole_prompts_and_every_rollout_is_there_once():
    groups, lengths = published_step()
    parts = minibatch_rows(groups, lengths, batch_size=128, workers=8, seed=3)
    assert sorted(row for part in parts for row in part) == list(range(1024))
    for update in updates_of(parts, 128, 8):
        assert len({groups[row] for row in update}) == 128 // 16


def test_no_update_is_the_one_of_the_long_responses():
    groups, lengths = published_step()
    overall = sum(lengths) / len(lengths)
    means = [
        sum(lengths[row] for row in update) / len(update)
        for seed in range(20)
        for update in updates_of(minibatch_rows(groups, lengths, 128, 8, seed), 128, 8)
    ]
    # Eight random prompts of 64, spread evenly over 2560 tokens: a standard error of 2560 / sqrt(12 * 8).
    errors = [abs(mean - overall) / (2560 / (12 * 8) ** 0.5) for mean in means]
    assert max(errors) < 4 and sum(error < 1 for error in errors) > len(errors) / 2
    # No place in the step is special: the first update is as long as the last, on average.
    first, last = sum(means[0::8]) / 20, sum(means[7::8]) / 20
    assert abs(first - last) < 3 * (2 / 20) ** 0.5 * 2560 / (12 * 8) ** 0.5


def test_the_workers_of_an_update_get_equally_many_tokens():
    groups, lengths = published_step()
    parts = minibatch_rows(groups, lengths, batch_size=128, workers=8, seed=0)
    for update in range(8):
        tokens = [sum(lengths[row] for row in part[update * 16 : (update + 1) * 16]) for part in parts]
        assert max(tokens) - min(tokens) < 0.02 * sum(tokens) / 8


def test_the_order_follows_from_the_seed():
    groups, lengths = published_step()
    rows = [minibatch_rows(groups, lengths, 128, 8, seed) for seed in (1, 1, 2)]
    assert rows[0] == rows[1] != rows[2]


@pytest.mark.parametrize(("rollouts", "full"), [(40, 2), (16, 1), (15, 0)])
def test_rollouts_that_fill_no_update_come_last(rollouts, full):
    groups, lengths = [row // 4 for row in range(rollouts)], [10 + row for row in range(rollouts)]
    parts = minibatch_rows(groups, lengths, batch_size=16, workers=4, seed=0)
    assert sorted(row for part in parts for row in part) == list(range(rollouts))
    # OpenRLHF makes as many updates as every worker can fill.
    assert min(len(part) for part in parts) // 4 == full


def test_openrlhf_deals_slices_of_rollouts_sorted_by_length_and_we_do_not():
    """The reason: upstream's first update holds the step's longest rollouts."""
    args = openrlhf_parts.arguments(
        actor__num_gpus_per_node=2, train__batch_size=16, rollout__batch_size=16, train__dynamic_batch_enable=True,
        train__max_tokens_per_gpu=64, rollout__micro_batch_size=4,
    )  # fmt: skip
    batches = [openrlhf_parts.experiences(16, 8, shuffle=True) for _ in range(2)]  # splitting drops their index

    def updates(parts):
        rows = [split_experience_batch(part) for part in parts]
        assert [len(part) for part in rows] == [32, 32]
        return [[row for part in rows for row in part[u * 8 : (u + 1) * 8]] for u in range(4)]

    theirs = updates(balance_experiences(batches[0], args))
    lengths = sorted(int(row.total_length) for update in theirs for row in update)
    assert sorted(int(row.total_length) for row in theirs[0]) == lengths[:8] + lengths[-8:]
    ours = updates(random_minibatches(batches[1], args))
    assert sorted(int(row.total_length) for update in ours for row in update) == lengths
    for update in ours:
        assert len({row.prompts[0] for row in update}) == 16 // openrlhf_parts.SAMPLES
