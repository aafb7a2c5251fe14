"""Only high-entropy tokens ("Beyond the 80/20 Rule", arXiv 2506.01939; TRL's ``top_entropy_quantile``)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pydantic import Field

from openrlhf_ktae.advantage.term import AdvantageTerm, TermResult
from openrlhf_ktae.config import Options

if TYPE_CHECKING:
    from torch import Tensor

    from openrlhf_ktae.advantage.batch import RolloutBatch


class HighEntropyOptions(Options):
    """Section ``high_entropy``."""

    share: float = Field(default=0.2, gt=0, le=1)
    """Share of the generated tokens, those with the highest policy entropy, that keep their advantage (rho)."""


class Term(AdvantageTerm):
    """A'_t = A_t where H_t >= tau, else 0; tau is the entropy of the share's last token, over all rollouts of a step.

    The mean is still taken over all tokens. TRL takes tau per micro-batch of a device.
    """

    Options = HighEntropyOptions
    needs = ("entropies",)

    def apply(self, batch: RolloutBatch, advantages: Tensor) -> TermResult:
        """Sets the advantage of tokens below the threshold to 0."""
        assert batch.entropies is not None  # `needs`
        entropies = batch.entropies[batch.mask]
        if not len(entropies):
            return TermResult(advantages)
        kept = max(1, math.ceil(self.options.share * len(entropies)))
        threshold = entropies.kthvalue(len(entropies) - kept + 1).values
        is_kept = (batch.entropies >= threshold) & batch.mask
        metrics = {"threshold": threshold.item(), "kept_frac": is_kept.sum().item() / len(entropies)}
        return TermResult(advantages * is_kept, metrics, {"high_entropy": is_kept.to(advantages.dtype)})
