"""Entropy weighting: tokens at which the policy hesitates count more.

This is the multiplicative form that public code uses under the name GTPO; the paper of that name (arXiv 2508.04349)
shapes token rewards by the entropy's share among the rollouts at a position instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from openrlhf_ktae.advantage.term import AdvantageTerm, TermResult
from openrlhf_ktae.config import Options

if TYPE_CHECKING:
    from torch import Tensor

    from openrlhf_ktae.advantage.batch import RolloutBatch


class EntropyWeightOptions(Options):
    """Section ``entropy_weight``."""

    beta: float = Field(default=0.1, ge=0)
    """Weight of the entropy relative to its mean; 0 leaves the advantage as it is."""


class Term(AdvantageTerm):
    """A'_t = A_t (1 + beta H_t / mean H), the mean over all generated tokens of the step; no gradient through H."""

    Options = EntropyWeightOptions
    needs = ("entropies",)

    def apply(self, batch: RolloutBatch, advantages: Tensor) -> TermResult:
        """Weights every token by its entropy."""
        assert batch.entropies is not None  # `needs`
        mean = batch.entropies[batch.mask].mean()
        # A policy without any entropy left has no token to prefer.
        relative = batch.entropies / mean if mean > 0 else batch.entropies
        weight = 1 + self.options.beta * relative
        metrics = {"entropy_mean": mean.item(), "weight_max": weight[batch.mask].max().item()}
        return TermResult(advantages * weight, metrics, {"entropy_weight": weight})
