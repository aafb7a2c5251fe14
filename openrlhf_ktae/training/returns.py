"""Returns of OpenRLHF's REINFORCE family without its loop over positions, bit for bit."""

from typing import Any

import numpy as np
import torch

from openrlhf_ktae.advantage.estimator.cpu_kernel import jit


@jit
def _fill(rewards: Any, mask: Any, gamma: Any, returns: Any) -> None:
    for row in range(rewards.shape[0]):
        after = np.float32(0.0)
        for position in range(rewards.shape[1] - 1, -1, -1):
            # Upstream's operations in its order: 0 x -r is -0.0, and 0 x NaN stays NaN.
            after = np.float32(mask[row, position]) * rewards[row, position] + gamma * after
            returns[row, position] = after


def cumulative_returns(rewards: torch.Tensor, action_mask: torch.Tensor, gamma: float) -> torch.Tensor:
    """(B, T) discounted sums of what is still to come, from rewards (B, T) float32 under the mask, both on the CPU.

    In place of `RemoteExperienceMaker.get_cumulative_returns` (trainer/ppo_utils/experience_maker.py:424), which makes
    three tensors of B numbers for each of T positions.
    """
    returns = torch.empty_like(rewards)
    _fill(rewards.numpy(), action_mask.numpy(), np.float32(gamma), returns.numpy())
    return returns


def takes(rewards: torch.Tensor, action_mask: torch.Tensor | None) -> bool:
    """Whether `cumulative_returns` is for such tensors; upstream's loop takes any."""
    on_cpu = rewards.device.type == "cpu"
    return on_cpu and rewards.dtype == torch.float32 and action_mask is not None and not action_mask.is_floating_point()
