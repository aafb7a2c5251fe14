"""What a policy loss is. Imports no torch: options are read here too.

A loss is one file with a class ``Loss(PolicyLoss)``; docs/methods.md shows how to write one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from openrlhf_ktae.losses import LOSSES
from openrlhf_ktae.plugins import Kind, Plugin

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class LossInputs:
    """One micro-batch. (B, T) tensors are right-padded; values where ``mask`` is 0 mean nothing."""

    log_probs: Tensor
    """(B, T) of the policy in training, with a gradient."""
    old_log_probs: Tensor
    """(B, T) of the policy before the step."""
    advantages: Tensor
    mask: Tensor
    """(B, T), 1 at the tokens that take part in this pass."""
    ref_log_probs: Tensor | None
    rollout_log_probs: Tensor | None
    rewards: Tensor
    """(B,), length penalties included."""
    info: Mapping[str, Tensor]
    """(B,) numbers per rollout, those that the reward function returned among them."""
    prompts: Sequence[str]
    """The prompts of the rollouts, as the prompt set has them."""
    openrlhf: Callable[[], Tensor]
    """OpenRLHF's own policy loss of this micro-batch, a scalar."""
    data_parallel_size: int
    tokens: Tensor
    """Generated tokens of the optimizer step over all ranks, whatever ``mask`` leaves out."""
    rollouts: Tensor
    """Rollouts of the optimizer step over all ranks that have a generated token."""

    def token_mean(self, values: Tensor) -> Tensor:
        """(B, T) per-token losses as this micro-batch's part of the mean over all tokens of the optimizer step."""
        # DeepSpeed averages gradients over ranks: times their number, the parts add up to one mean.
        return (values * self.mask).sum() / self.tokens * self.data_parallel_size

    def rollout_mean(self, values: Tensor) -> Tensor:
        """(B,) per-rollout losses as this micro-batch's part of the mean over all rollouts of the optimizer step."""
        has_tokens = (self.mask.sum(-1) > 0).to(values.dtype)
        return (values * has_tokens).sum() / self.rollouts * self.data_parallel_size


@dataclass(frozen=True)
class LossResult:
    """A loss and what is worth logging about it."""

    loss: Tensor
    """Scalar; OpenRLHF adds its KL and entropy terms."""
    metrics: Mapping[str, Tensor] = field(default_factory=dict)
    """For metrics.jsonl: scalars, averaged over micro-batches by their tokens, or (B,) numbers, averaged over rollouts.

    The loss's name and a slash are put before a name that lacks them.
    """


class PolicyLoss(Plugin):
    """Base of every policy loss."""

    passes: ClassVar[int] = 1
    """How often the policy goes over the rollouts of a step."""
    needs: ClassVar[tuple[str, ...]] = ()
    """Entries of `openrlhf_ktae.advantage.term.NEEDS`."""
    includes_kl: ClassVar[bool] = False
    """Whether the loss itself holds the policy to the reference model: OpenRLHF then adds no KL term."""

    def prepare(self, args: Any) -> None:
        """Called once in every policy worker before the first step, with OpenRLHF's options."""

    def pass_mask(self, number: int, old_log_probs: Tensor, mask: Tensor) -> Tensor:
        """The tokens (B, T) of ``mask`` that take part in pass ``number`` (from 0): in loss, KL and entropy alike.

        Denominators stay those of ``mask``.
        """
        return mask

    def loss(self, inputs: LossInputs) -> Tensor | LossResult:
        """The loss of a micro-batch."""
        raise NotImplementedError


LOSS = Kind(
    option="policy_loss.name",
    package="openrlhf_ktae.losses",
    names=LOSSES,
    class_name="Loss",
    base=PolicyLoss,
    signature=("loss", ("inputs",)),
)
