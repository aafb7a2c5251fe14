"""Kalman-filtered group baseline (KRPO, "Kalman Filter Enhanced GRPO", arXiv 2505.07527)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from openrlhf_ktae.advantage.term import AdvantageTerm, TermResult, refuse_kl_in_the_reward
from openrlhf_ktae.config import Options

if TYPE_CHECKING:
    from torch import Tensor

    from openrlhf_ktae.advantage.batch import RolloutBatch

_EPSILON = 1e-8


class KalmanBaselineOptions(Options):
    """Section ``kalman_baseline``."""

    process_noise: float = Field(default=1e-5, ge=0)
    """Variance by which the mean reward may move from one rollout to the next (Q)."""

    measurement_noise: float = Field(default=1e-2, gt=0)
    """Variance of a single reward around it (R)."""


class Term(AdvantageTerm):
    """A_i = (r_i - x_i) / (sqrt(P_i) + 1e-8), x and P of a scalar filter that has seen the rollouts 1 .. i of a group.

    The filter starts at x = 0, P = 1; its gain is nearly 1 / i, so x is a running mean and the advantage depends on the
    order in which a group was sampled.
    """

    Options = KalmanBaselineOptions
    needs = ("groups",)
    replaces = True

    @classmethod
    def check(cls, options: KalmanBaselineOptions, args: Any) -> None:
        """The filter is a baseline of its own."""
        if args.algo.advantage.estimator != "group_norm":
            raise ValueError(
                f"algo.advantage.estimator: got {args.algo.advantage.estimator}; kalman_baseline takes the place of "
                "group_norm's baseline and of no other: set group_norm"
            )
        refuse_kl_in_the_reward(args, "kalman_baseline")

    def apply(self, batch: RolloutBatch, advantages: Tensor) -> TermResult:
        """Filters the rewards of every group in sampling order."""
        rewards = batch.rewards.double().view(-1, batch.samples_per_prompt)
        state, variance = rewards.new_zeros(len(rewards)), 1.0
        filtered = rewards.new_zeros(rewards.shape)
        for i in range(rewards.size(1)):
            predicted = variance + self.options.process_noise
            gain = predicted / (predicted + self.options.measurement_noise)
            state = state + gain * (rewards[:, i] - state)
            variance = (1 - gain) * predicted
            filtered[:, i] = (rewards[:, i] - state) / (variance**0.5 + _EPSILON)
        baseline = filtered.flatten().to(advantages.dtype).unsqueeze(1).expand_as(advantages)
        return TermResult(baseline, {"advantage_abs_mean": filtered.abs().mean().item()})
