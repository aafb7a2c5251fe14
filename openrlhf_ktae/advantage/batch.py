"""The rollouts of one step as the terms, the metrics and the rollout log see them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from openrlhf_ktae.advantage.segments import Segments


@dataclass(frozen=True)
class RolloutBatch:
    """N rollouts in one right-padded batch, rows in the order they were sampled: a group's rollouts stand together.

    (N, T) tensors hold positions 1 .. T of OpenRLHF's ``sequences``: position j belongs to ``sequences[:, j + 1]``, as
    in its action mask, log-probabilities and advantages. Where ``mask`` is 0 (prompt, tool output, padding) their
    values mean nothing.
    """

    token_ids: torch.Tensor
    """(N, T) int32."""
    mask: torch.Tensor
    """(N, T) bool, true at the tokens the policy generated."""
    group: torch.Tensor
    """(N,) int64, number of the prompt."""
    rewards: torch.Tensor
    """(N,) float32, length penalties included."""
    log_probs: torch.Tensor
    """(N, T) of the policy that sampled, at the sampling temperature."""
    scores: torch.Tensor | None = None
    """(N,) correctness, 0 or 1; None where the reward source gives none. Terms read `correct`."""
    ref_log_probs: torch.Tensor | None = None
    """(N, T) of the reference model; only with a KL term in the loss."""
    rollout_log_probs: torch.Tensor | None = None
    """(N, T) as vLLM computed them; only with algo.advantage.is_correction_level."""
    entropies: torch.Tensor | None = None
    """(N, T) of the policy's next-token distribution, in nats; only where a term needs them."""
    truncated: torch.Tensor | None = None
    """(N,) bool, whether a response ended at the length limit."""
    segments: Segments | None = None
    """Stretches that are judged apart; None where the rollouts were sampled each by itself, in one turn."""
    info: Mapping[str, torch.Tensor] = field(default_factory=dict)
    """(N,) float32 each: what the reward function returned beside the reward (``extra_logs``)."""
    prompts: Sequence[str] = ()
    labels: Sequence[str] = ()
    special_token_ids: tuple[int, ...] = ()
    """The tokenizer's padding and end-of-sequence ids: they carry no reasoning."""
    step: int = 0
    """Number of the training step, from 1."""

    @property
    def samples_per_prompt(self) -> int:
        """Rollouts of a group; all groups have the same number."""
        return int((self.group == self.group[0]).sum())

    @property
    def correct(self) -> torch.Tensor:
        """(N,) bool, whether the final answer is right.

        Raises:
            ValueError: rollouts without a score, or a score that is neither 0 nor 1.
        """
        if self.scores is None:
            raise ValueError(
                "scores: the reward source gave none; let it return `scores` (1 correct, 0 wrong) beside `rewards`, or "
                "take the terms that count correct rollouts out of advantage.terms"
            )
        is_verdict = (self.scores == 0) | (self.scores == 1)
        if not is_verdict.all():
            raise ValueError(
                f"scores: found {self.scores[~is_verdict][0].item():g}, expected 0 (wrong) or 1 (correct); let the "
                "reward source return `scores` beside `rewards` that say what counts as correct"
            )
        return self.scores.bool()
