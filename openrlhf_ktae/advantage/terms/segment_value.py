"""Segment policy optimisation (SPO): a segment is worth what it changes in the value of the text so far."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from pydantic import Field

from openrlhf_ktae.advantage.segments import Segments, group_means
from openrlhf_ktae.advantage.term import (
    AdvantageTerm,
    TermResult,
    refuse_kl_in_the_reward,
)
from openrlhf_ktae.config import Options
from openrlhf_ktae.plugins import refuse_length_penalties

if TYPE_CHECKING:
    from torch import Tensor

    from openrlhf_ktae.advantage.batch import RolloutBatch


class SegmentValueOptions(Options):
    """Section ``segment_value``."""

    threshold: float = Field(default=0.9, gt=0, le=1)
    """A token is uncertain where it was sampled with a probability below this. Others get advantage 0; 1 keeps all."""

    cut_every: int = Field(default=5, ge=1)
    """A rollout is cut behind every so-manieth uncertain token."""

    continuations: int = Field(default=9, ge=1)
    """Rollouts that go on from every cut; the mean of their rewards is its value."""

    max_cuts: int = Field(default=32, ge=1)
    """Most cuts of a rollout; what comes behind the last one is one segment. At most `max_cuts` x `continuations` texts
    are sampled beside every rollout."""


MAX_CONTINUATIONS = 4096
"""Texts that may be sampled beside one rollout."""


class Term(AdvantageTerm):
    """SPO-chain: A = V(behind the segment) - V(before it) at uncertain tokens; the last V is the rollout's own reward.

    V of the empty prefix is the mean reward of the prompt's rollouts.
    """

    Options = SegmentValueOptions
    needs = ("groups", "segments", "log_probs")
    replaces = True
    sampling = "chain"

    @classmethod
    def check(cls, options: SegmentValueOptions, args: Any) -> None:
        """The tree of continuations has to stay of a size that an engine can sample."""
        texts = options.max_cuts * options.continuations
        if texts > MAX_CONTINUATIONS:
            raise ValueError(
                f"segment_value.max_cuts, segment_value.continuations: {options.max_cuts} x {options.continuations} = "
                f"{texts} texts beside every rollout, at most {MAX_CONTINUATIONS}; lower one of them"
            )
        if args.rollout.temperature != 1 or args.rollout.top_p != 1:
            raise ValueError(
                f"rollout.temperature, rollout.top_p: {args.rollout.temperature:g} and {args.rollout.top_p:g}; "
                "segment_value cuts by the probabilities of an unchanged distribution: set both to 1"
            )
        refuse_kl_in_the_reward(args, "segment_value")
        refuse_length_penalties(args, "segment_value")

    def apply(self, batch: RolloutBatch, advantages: Tensor) -> TermResult:
        """The change of value of every segment, at its uncertain tokens."""
        segments = batch.segments
        assert segments is not None  # `needs`
        rewards = batch.rewards.double()
        before = values_before(segments, group_means(rewards, batch.group))
        changes = value_changes(before, rewards, segments.count)
        is_uncertain = (batch.log_probs < math.log(self.options.threshold)) | (self.options.threshold == 1)
        found = (segments.of_tokens(changes) * is_uncertain).to(advantages.dtype)
        tokens = batch.mask.sum().clamp(min=1)
        metrics = {
            "uncertain_frac": ((is_uncertain & batch.mask).sum() / tokens).item(),
            "segments_mean": segments.count.double().mean().item(),
            "change_abs_mean": changes.abs().sum().item() / max(int(segments.count.sum()), 1),
        }
        column = segments.of_tokens(before.nan_to_num(0)).float()
        return TermResult(found, metrics, {"segment_value": column})


def values_before(segments: Segments, of_prompts: Tensor) -> Tensor:
    """(N, S): the value of what stands before every segment; ``of_prompts`` (N,) where nothing does.

    Raises:
        ValueError: a later segment whose prefix nobody valued.
    """
    import torch

    before = segments.values.clone()
    before[:, 0] = before[:, 0].where(~before[:, 0].isnan(), of_prompts)
    there = torch.arange(before.size(1)) < segments.count.unsqueeze(1)
    if (before.isnan() & there).any():
        row, place = (before.isnan() & there).nonzero()[0].tolist()
        raise ValueError(f"rollout {row}: no value before segment {place}; the agent that sampled gave none")
    return before


def value_changes(before: Tensor, rewards: Tensor, count: Tensor) -> Tensor:
    """(N, S): V behind every segment less V before it, 0 where no segment is.

    Args:
        before: (N, S) values before the segments.
        rewards: (N,) what stands behind the last segment is worth.
        count: (N,) segments of each rollout.
    """
    import torch

    place = torch.arange(before.size(1))
    last = place == count.unsqueeze(1) - 1
    behind = torch.cat([before[:, 1:], before[:, :1]], dim=1)
    behind = torch.where(last, rewards.unsqueeze(1), behind)
    return torch.where(place < count.unsqueeze(1), behind - before, 0.0)
