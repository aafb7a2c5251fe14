"""Trees of segments (SPO-tree, arXiv 2505.23564): every edge is a sample, worth what it changes in the value."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from pydantic import Field

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

MAX_LEAVES = 4096
"""Texts at the ends of one prompt's tree."""


class TreeValueOptions(Options):
    """Section ``tree_value``."""

    branches: tuple[int, ...] = Field(default=(6, 6, 6), min_length=1)
    """Continuations of every prefix, by depth."""

    segment_tokens: int = Field(default=600, ge=1)
    """Tokens of a segment; those of the last depth go on to the end."""

    edges_per_step: int = Field(default=32, ge=1)
    """Most edges of one prompt in a step; a step trains on `rollout.batch_size` x `rollout.n_samples_per_prompt` edges
    in all."""

    max_age: int = Field(default=8, ge=1)
    """An edge that a step has no room for waits for fewer than so many steps; 1: edges are of their step alone."""


class Term(AdvantageTerm):
    """A = V(child) - V(parent) on the tokens of an edge; V of a leaf is its reward, of a node the mean of its children.

    Edges with A = 0 are not trained on.
    """

    Options = TreeValueOptions
    needs = ("groups", "segments")
    replaces = True
    sampling = "tree"

    @classmethod
    def check(cls, options: TreeValueOptions, args: Any) -> None:
        """The tree has to stay of a size that an engine can sample, and old edges need the sampler's probabilities."""
        leaves = math.prod(options.branches)
        if min(options.branches) < 1 or leaves > MAX_LEAVES or max(options.branches) < 2:
            factors = " x ".join(map(str, options.branches))
            raise ValueError(
                f"tree_value.branches: {factors} = {leaves} texts for every prompt, expected positive factors, one of "
                f"them above 1, with a product of at most {MAX_LEAVES}; lower one of them"
            )
        if options.max_age > 1 and args.algo.advantage.is_correction_level == "off":
            raise ValueError(
                f"tree_value.max_age: {options.max_age}, so a step trains on edges that older weights sampled, and "
                "algo.advantage.is_correction_level is off, so nothing corrects for that: set it to token or seq, or "
                "max_age to 1"
            )
        if args.algo.dynamic_filtering_enable:
            raise ValueError(
                "algo.dynamic_filtering_enable: tree_value leaves out what teaches nothing, edge by edge; set it to "
                "false"
            )
        refuse_kl_in_the_reward(args, "tree_value")
        refuse_length_penalties(args, "tree_value")

    def apply(self, batch: RolloutBatch, advantages: Tensor) -> TermResult:
        """The value of each edge's end, which is its reward, less that of its start."""
        import torch

        segments = batch.segments
        assert segments is not None  # `needs`
        before = segments.values[:, 0]
        if before.isnan().any():
            row = int(before.isnan().nonzero()[0])
            raise ValueError(
                f"rollout {row}: no value before its segment; tree_value trains on the edges of trees alone"
            )
        change = batch.rewards.double() - before
        found = segments.of_tokens(change.unsqueeze(1).expand_as(segments.values)).to(advantages.dtype)
        metrics = {"change_abs_mean": change.abs().mean().item()}
        for name in ("leaf_accuracy", "age", "depth"):
            if name in batch.info:
                metrics[f"{name}_mean"] = batch.info[name].mean().item()
        column = torch.where(batch.mask, before.float().unsqueeze(1), torch.nan)
        return TermResult(found, metrics, {"segment_value": column})
