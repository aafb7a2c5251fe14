"""OpenRLHF's own policy loss, untouched: PPO's clipped surrogate or GSPO, as `actor.*` and `algo.advantage.*` say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from openrlhf_ktae.losses.loss import LossInputs, PolicyLoss

if TYPE_CHECKING:
    from torch import Tensor


class Loss(PolicyLoss):
    """The default."""

    def loss(self, inputs: LossInputs) -> Tensor:
        """What OpenRLHF computes."""
        return inputs.openrlhf()
