"""What stops a run before nonsense spreads."""

import math

import pytest
import torch

from openrlhf_ktae.advantage.batch import RolloutBatch
from openrlhf_ktae.config import RunOptions
from openrlhf_ktae.training.guards import WEIGHTS, CollapseWatch, Diverged, check_batch, check_update, count_non_finite

HEALTHY = {"policy_loss": 0.1, "kl": 0.0, "actor_grad_norm": 0.5, "reward": 0.2, WEIGHTS: 0.0}


def test_a_healthy_step_goes_on():
    check_update(HEALTHY, 3)
    check_update({}, 3)
    check_batch(batch(torch.zeros(2, 3)), torch.zeros(2, 3))


@pytest.mark.parametrize(
    ("status", "what"),
    [
        ({"policy_loss": math.nan}, "policy_loss is not finite"),
        ({"kl": math.inf}, "kl is not finite"),
        ({"actor_grad_norm": -1.0}, "actor_grad_norm is not finite"),
        ({WEIGHTS: 7.0}, "7 weights of the policy are not finite"),
    ],
)
def test_a_number_that_is_not_finite_stops_the_run_and_is_named(status, what):
    with pytest.raises(Diverged, match=f"step 3: {what}; stopped before the weights went to vLLM"):
        check_update(HEALTHY | status, 3)


def batch(log_probs):
    mask = torch.tensor([[True, True, False], [True, True, True]])
    return RolloutBatch(torch.zeros(2, 3), mask, torch.zeros(2), torch.ones(2), log_probs, step=1)


def test_rollouts_that_are_not_finite_are_named_and_counted():
    log_probs = torch.zeros(2, 3)
    log_probs[0, 2] = math.nan  # padding: means nothing
    check_batch(batch(log_probs), torch.zeros(2, 3))
    log_probs[1, 2] = math.nan
    with pytest.raises(Diverged, match="step 1: 1 of 5 numbers in log_probs are not finite"):
        check_batch(batch(log_probs), torch.zeros(2, 3))


def test_weights_are_counted_in_the_shards_of_zero_3_too():
    weights = [torch.nn.Parameter(torch.tensor([1.0, math.nan, math.inf])), torch.nn.Parameter(torch.empty(0))]
    weights[1].ds_tensor = torch.tensor([-math.inf])  # pyright: ignore[reportAttributeAccessIssue]
    assert count_non_finite(weights) == 3


def see(watch, *steps):
    return [watch.see({"rollout/accuracy": accuracy, "entropy_loss": entropy}) for accuracy, entropy in steps]


def test_accuracy_that_falls_to_zero_is_counted_in_a_row():
    assert see(CollapseWatch(100), (0.0, 1.0), (0.04, 1.0), (0.0, 1.0)) == [0, 0, 0]
    assert see(CollapseWatch(100), (0.3, 1.0), (0.0, 1.0), (0.0, 1.0), (0.1, 1.0), (0.0, None)) == [0, 1, 2, 0, 1]


def test_noise_and_sameness_are_counted_but_not_certainty():
    # The first step of an untrained model is noise too.
    steps = ((0.5, 4.85), (0.5, 1.0), (0.5, 4.85), (0.5, 1.0), (0.5, 0.0), (1.0, 0.0), (None, None))
    assert see(CollapseWatch(128), *steps) == [0, 0, 1, 0, 1, 0, 0]


def test_a_collapsed_run_stops_where_it_is_asked_to():
    watch = CollapseWatch(100)
    see(watch, (0.3, 1.0), (0.0, 1.0), (0.0, 1.0))
    watch.check(3, RunOptions(collapse_steps=3))
    watch.check(3, RunOptions(collapse_steps=2, stop_on_collapse=False))
    with pytest.raises(Diverged, match=r"collapsed for 2 steps: accuracy is 0, it was 0\.30 before"):
        watch.check(3, RunOptions(collapse_steps=2))
