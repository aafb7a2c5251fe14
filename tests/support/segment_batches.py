"""Batches of rollouts in segments, and what a term makes of them."""

import torch

from openrlhf_ktae.advantage.batch import RolloutBatch
from openrlhf_ktae.advantage.segments import segments_of
from openrlhf_ktae.advantage.term import TERM, TermResult, apply_terms
from openrlhf_ktae.plugins import loaded

LENGTH, GIVEN = 24, 3
"""Positions of a batch, and tokens of a prompt."""


def bounds_of(lengths, gaps=0):
    """Segments of these lengths behind the prompt, with ``gaps`` tokens that nobody generated between them."""
    bounds, start = [], GIVEN
    for length in lengths:
        bounds.append((start, start + length))
        start += length + gaps
    return tuple(bounds)


def batch(traces, rewards, group, **changes) -> RolloutBatch:
    segments = segments_of(traces, LENGTH)
    values = {
        "token_ids": torch.full((len(traces), LENGTH), 7, dtype=torch.int32),
        "mask": segments.number >= 0,
        "group": torch.tensor(group),
        "rewards": torch.tensor(rewards, dtype=torch.float32),
        "log_probs": torch.full((len(traces), LENGTH), -1.0),
        "segments": segments,
    }
    return RolloutBatch(**(values | changes))


def applied(name, of, **options) -> TermResult:
    outcome = apply_terms(loaded(TERM, [name], {name: options}), of, torch.zeros(of.mask.shape))
    return TermResult(outcome.advantages, outcome.metrics, outcome.columns)


def assert_segments_have(found: torch.Tensor, of: RolloutBatch, expected: list[list[float]]) -> None:
    """Every token of a segment has its number, to 1e-6 of the largest."""
    assert of.segments is not None
    for row, numbers in enumerate(expected):
        for place, number in enumerate(numbers):
            tokens = found[row][of.segments.number[row] == place].double()
            assert len(tokens) and (tokens - number).abs().max() <= 1e-6 * max(1.0, abs(number))
