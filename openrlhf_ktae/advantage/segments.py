"""Stretches of rollouts that are judged apart: a thought and its answer, turns, what lies between two cuts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Trace:
    """How one rollout was sampled, as the engine that sampled it says it."""

    bounds: tuple[tuple[int, int], ...]
    """First token of every segment and the one behind its last, prompt included, in their order."""
    rewards: tuple[float, ...] = ()
    """What every segment earned by itself, beside the rollout's reward; none: nothing."""
    values: tuple[float | None, ...] = ()
    """Estimated value of what stands before every segment; None where nobody estimated it."""
    branch: int = 0
    """Rollouts of a prompt with the same number share their first segment."""


@dataclass(frozen=True)
class Segments:
    """The segments of N rollouts, at most S each, in one right-padded batch."""

    number: Tensor
    """(N, T) int32: which segment of its rollout a token belongs to, from 0; -1 outside of any."""
    count: Tensor
    """(N,) int64: segments of each rollout."""
    rewards: Tensor
    """(N, S) float64; 0 where a segment earned nothing or is not there."""
    values: Tensor
    """(N, S) float64; NaN where nobody estimated one."""
    branch: Tensor
    """(N,) int64."""

    def of_tokens(self, values: Tensor) -> Tensor:
        """(N, T): to every token the number of its segment, from (N, S) numbers; 0 outside of segments."""
        inside = self.number >= 0
        return values.gather(1, self.number.clamp(min=0).long()) * inside


def segments_of(traces: Sequence[Trace], length: int) -> Segments:
    """The segments of rollouts whose batch has ``length`` positions; position j is token j + 1 of a rollout.

    Raises:
        ValueError: segments that overlap or stand in no order, or rewards or values that are not one a segment.
    """
    import torch

    most = max((len(trace.bounds) for trace in traces), default=0) or 1
    number = torch.full((len(traces), length), -1, dtype=torch.int32)
    rewards = torch.zeros(len(traces), most, dtype=torch.float64)
    values = torch.full((len(traces), most), torch.nan, dtype=torch.float64)
    for row, trace in enumerate(traces):
        end_before = 1
        for name, given in (("rewards", trace.rewards), ("values", trace.values)):
            if given and len(given) != len(trace.bounds):
                raise ValueError(f"rollout {row}: {len(given)} {name} for {len(trace.bounds)} segments")
        for place, (start, end) in enumerate(trace.bounds):
            if start < end_before or end < start:
                raise ValueError(
                    f"rollout {row}: segment {place} takes tokens {start} to {end}, expected a start of at least "
                    f"{end_before} and an end behind it"
                )
            number[row, start - 1 : end - 1] = place
            end_before = end
        rewards[row, : len(trace.rewards)] = torch.tensor(trace.rewards, dtype=torch.float64)
        for place, value in enumerate(trace.values):
            values[row, place] = torch.nan if value is None else value
    return Segments(
        number,
        torch.tensor([len(trace.bounds) for trace in traces]),
        rewards,
        values,
        torch.tensor([trace.branch for trace in traces]),
    )


def normalised(numbers: Tensor, group: Tensor, epsilon: float) -> Tensor:
    """(N,): each number less its group's mean, over its group's unbiased standard deviation plus ``epsilon``.

    ``group``: (N,) int64 from 0. A group of one gets 0.
    """
    centred = numbers - group_means(numbers, group)
    sizes = group.bincount()
    squares = centred.new_zeros(len(sizes)).index_add_(0, group, centred**2)
    deviation = (squares / (sizes - 1).clamp(min=1)).sqrt()
    return centred / (deviation[group] + epsilon)


def group_means(numbers: Tensor, group: Tensor) -> Tensor:
    """(N,): the mean of each number's group; ``group``: (N,) int64 from 0. Equal numbers have exactly that mean."""
    sizes = group.bincount()
    means = numbers.new_zeros(len(sizes)).index_add_(0, group, numbers) / sizes.clamp(min=1)
    lowest = numbers.new_full((len(sizes),), float("inf")).scatter_reduce_(0, group, numbers, "amin")
    highest = numbers.new_full((len(sizes),), float("-inf")).scatter_reduce_(0, group, numbers, "amax")
    return means.where(lowest != highest, lowest)[group]


def tree_values(parents: Sequence[int], rewards: Sequence[float | None]) -> list[float]:
    """The value of every node of a tree: a leaf's reward, a node's mean over its children.

    Args:
        parents: the parent of each node, which stands before it; -1 for the root.
        rewards: of the leaves; None for nodes with children.

    Raises:
        ValueError: a leaf without a reward.
    """
    sums, counts = [0.0] * len(parents), [0] * len(parents)
    values = [0.0] * len(parents)
    for node in range(len(parents) - 1, -1, -1):
        reward = rewards[node]
        if counts[node] == 0 and reward is None:
            raise ValueError(f"node {node} of a tree has neither children nor a reward")
        values[node] = sums[node] / counts[node] if counts[node] else float(reward)  # pyright: ignore
        if parents[node] >= 0:
            sums[parents[node]] += values[node]
            counts[parents[node]] += 1
    return values
