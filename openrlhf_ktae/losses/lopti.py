"""Lopti, low-probability token isolation (arXiv 2505.12929): two passes over the rollouts of a step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from openrlhf_ktae.config import Options
from openrlhf_ktae.losses.loss import LossInputs, PolicyLoss

if TYPE_CHECKING:
    from torch import Tensor


class LoptiOptions(Options):
    """Section ``lopti``."""

    threshold: float = Field(default=0.5, gt=0, lt=1)
    """Tokens that the policy sampled with a probability below this go first (eta)."""


class Loss(PolicyLoss):
    """OpenRLHF's loss, first on the low-probability tokens, then from the updated weights on the others.

    Both passes use the log-probabilities from before the step; the mask covers KL and entropy too, and the mean is
    taken over all tokens in either pass.
    """

    Options = LoptiOptions
    passes = 2

    @classmethod
    def check(cls, options: LoptiOptions, args: Any) -> None:
        """The denominators of a pass are those of all tokens: only a mean over tokens has them."""
        if args.actor.loss_agg_mode != "token-mean" or args.actor.policy_loss_type != "ppo":
            raise ValueError(
                f"actor.loss_agg_mode, actor.policy_loss_type: got {args.actor.loss_agg_mode} and "
                f"{args.actor.policy_loss_type}; lopti splits a response into passes and needs token-mean and ppo"
            )

    def pass_mask(self, number: int, old_log_probs: Tensor, mask: Tensor) -> Tensor:
        """Low-probability tokens in pass 0, the others in pass 1."""
        is_low = old_log_probs.exp() < self.options.threshold
        return mask * (is_low if number == 0 else ~is_low)

    def loss(self, inputs: LossInputs) -> Tensor:
        """What OpenRLHF computes on the tokens of the pass."""
        return inputs.openrlhf()
