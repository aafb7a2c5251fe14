"""From a response to an experience, and from experiences to those of the workers: values as OpenRLHF's own code's."""

from dataclasses import fields

import numpy as np
import openrlhf_parts
import pytest
import torch
from openrlhf.trainer.ppo_utils.experience import (
    Experience,
    make_experience_batch,
    remove_padding_in_sequences,
    split_experience_batch,
)
from openrlhf.trainer.ppo_utils.samples_generator import SamplesGenerator

from openrlhf_ktae.training.minibatches import regrouped
from openrlhf_ktae.training.responses import as_arrays, experience_of

ANSWER = {
    "prompt": "1+1=", "label": "2", "images": None, "reward": 0.5, "scores": 1.0, "truncated": False,
    "observation_tokens": [5, 6, 7, 8, 9], "action_ranges": [(2, 5)], "rollout_log_probs": None,
    "extra_logs": {"formatted": 1.0},
}  # fmt: skip
CASES = {
    "plain": {},
    "with the sampler's log-probabilities": {"rollout_log_probs": [0.0, 0.0, -0.1, -2.5, -1e-8]},
    "several turns": {"action_ranges": [(1, 2), (4, 5)]},
    "nothing generated": {"action_ranges": [(5, 5)]},
    "cut off": {"observation_tokens": list(range(3, 40)), "action_ranges": [(2, 37)], "truncated": True},
    "no reward": {"reward": None, "scores": None, "extra_logs": {}},
    "tensors of one element": {
        "reward": torch.tensor(0.25), "scores": torch.tensor([0.0]), "extra_logs": {"formatted": torch.tensor([[0.5]])},
    },
    "with an image": {"images": ["a.png"], "mm_train_inputs": {"pixel_values": torch.ones(1, 2)}},
}  # fmt: skip


def assert_equal(found, expected):
    for name in (field.name for field in fields(Experience)):
        one, other = getattr(found, name), getattr(expected, name)
        if name == "info":
            assert list(one) == list(other)
            pairs = [(one[key], other[key]) for key in other]
        else:
            pairs = [(one, other)]
        for left, right in pairs:
            if isinstance(right, torch.Tensor):
                assert left.dtype == right.dtype and torch.equal(left, right), name
            else:
                assert left == right, name


@pytest.mark.parametrize("changes", CASES.values(), ids=CASES)
@pytest.mark.parametrize("arrays", [False, True], ids=["as executors return it", "as it is sent"])
def test_an_experience_holds_what_openrlhf_makes_of_the_response(changes, arrays):
    expected = SamplesGenerator._process_response_into_experience(None, ANSWER | changes, max_len=20)
    response = as_arrays([ANSWER | changes])[0] if arrays else ANSWER | changes
    assert_equal(experience_of(response, max_len=20), expected)


def test_what_is_sent_holds_an_array_and_no_object_a_token():
    response = as_arrays([ANSWER | CASES["with the sampler's log-probabilities"]])[0]
    assert isinstance(response["observation_tokens"], np.ndarray)
    assert isinstance(response["rollout_log_probs"], np.ndarray)


def test_workers_find_the_rollouts_that_openrlhfs_regrouping_gives_them():
    batches = [openrlhf_parts.experiences(6, 5, shuffle=True) for _ in range(2)]
    for batch in batches:
        for experience in batch:
            experience.advantages = torch.rand(experience.action_mask.shape, generator=torch.Generator().manual_seed(1))
    lengths = [int(length) for experience in batches[0] for length in experience.total_length]
    order = torch.randperm(len(lengths), generator=torch.Generator().manual_seed(0)).tolist()
    parts = [order[start : start + 7] for start in range(0, len(order), 7)]
    ours = regrouped(batches[0], lengths, parts)
    rollouts = [rollout for experience in batches[1] for rollout in split_experience_batch(experience)]
    theirs = [make_experience_batch([rollouts[row] for row in part]) for part in parts]
    for one, other in zip(ours, theirs, strict=True):
        assert one.sequences.size(1) <= other.sequences.size(1)
        # What the replay buffer does with it (replay_buffer.py:52).
        rows = [remove_padding_in_sequences(split_experience_batch(experience)) for experience in (one, other)]
        assert len(rows[0]) == len(rows[1])
        for left, right in zip(*rows, strict=True):
            assert_equal(left, right)
