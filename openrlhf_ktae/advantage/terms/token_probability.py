"""Advantage reweighting (AR, "Do Not Let Low-Probability Tokens Over-Dominate in RL for LLMs", arXiv 2505.12929)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from openrlhf_ktae.advantage.term import AdvantageTerm, TermResult
from openrlhf_ktae.config import Options

if TYPE_CHECKING:
    from torch import Tensor

    from openrlhf_ktae.advantage.batch import RolloutBatch


class TokenProbabilityOptions(Options):
    """Section ``token_probability``."""

    alpha: float = Field(default=0.2, ge=0, le=1)
    """Weight of the token's probability: 0 leaves the advantage as it is, 1 multiplies by the probability."""


class Term(AdvantageTerm):
    """A'_t = (alpha pi_old(o_t) + 1 - alpha) A_t: the gradient of a token grows with 1 - pi, this takes it back."""

    Options = TokenProbabilityOptions
    needs = ("log_probs",)

    def apply(self, batch: RolloutBatch, advantages: Tensor) -> TermResult:
        """Weights every token by its probability under the policy that sampled."""
        alpha = self.options.alpha
        weight = alpha * batch.log_probs.exp() + (1 - alpha)
        metrics = {"weight_mean": weight[batch.mask].mean().item()}
        return TermResult(advantages * weight, metrics, {"probability_weight": weight})
