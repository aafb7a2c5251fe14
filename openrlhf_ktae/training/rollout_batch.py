"""From OpenRLHF's experiences to one batch in sampling order, and back: once each a step.

A response is often much shorter than the longest one of its step. What lies behind it is neither read nor written: the
batch's memory comes zeroed, and pages that nobody touches take none.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import torch
from openrlhf.trainer.ppo_utils.experience import Experience

from openrlhf_ktae.advantage.batch import RolloutBatch
from openrlhf_ktae.advantage.segments import Trace, segments_of


def gather(
    experiences: list[Experience],
    samples_per_prompt: int,
    entropies: Sequence[torch.Tensor] | None = None,
    special_token_ids: tuple[int, ...] = (),
    step: int = 0,
    traces: Sequence[Trace] | None = None,
) -> RolloutBatch:
    """The batch of a step. With dynamic batches a group is spread over several experiences of different paddings.

    entropies: one (B, T - 1) tensor per experience.
    traces: how each rollout was sampled, in sampling order.
    """
    places = _places(experiences)
    index = list(chain.from_iterable(experience.index for experience in experiences))
    order = sorted(range(len(index)), key=index.__getitem__)

    def whole(name: str) -> list[Any] | None:
        found = [getattr(experience, name) for experience in experiences]
        return None if any(values is None for values in found) else found

    def steps(tensors: Sequence[torch.Tensor] | None) -> torch.Tensor | None:
        return None if tensors is None else _in_order(places, tensors, torch.float32)

    def numbers(values: list[Any] | None) -> torch.Tensor | None:
        return None if values is None else torch.cat([value.flatten().float() for value in values])[order]

    def texts(name: str) -> list[str]:
        found = list(chain.from_iterable(getattr(experience, name) for experience in experiences))
        return [str(found[row]) for row in order]

    log_probs, rewards, truncated = steps(whole("action_log_probs")), numbers(whole("rewards")), whole("truncated")
    assert log_probs is not None and rewards is not None  # OpenRLHF has computed with both
    token_ids = _in_order(places, [e.sequences[:, 1:] for e in experiences], torch.int32)
    return RolloutBatch(
        token_ids=token_ids,
        mask=_in_order(places, [e.action_mask for e in experiences], torch.bool),
        group=torch.arange(len(index)) // samples_per_prompt,
        rewards=rewards,
        log_probs=log_probs,
        scores=numbers(whole("scores")),
        ref_log_probs=steps(whole("base_action_log_probs")),
        rollout_log_probs=steps(whole("rollout_log_probs")),
        entropies=steps(entropies),
        truncated=None if truncated is None else torch.cat([value.flatten().bool() for value in truncated])[order],
        segments=None if traces is None else segments_of(traces, token_ids.size(1)),
        info={
            name: found
            for name in experiences[0].info
            if all(_is_column(e.info.get(name), len(e.index)) for e in experiences)
            and (found := numbers([e.info[name] for e in experiences])) is not None
        },
        prompts=texts("prompts"),
        labels=texts("labels"),
        special_token_ids=special_token_ids,
        step=step,
    )


TRACE = "trace"
"""Attribute under which a rollout's experience carries its `Trace` from the generator to the experience maker."""


def traces_of(rollouts: Sequence[Experience], is_needed: bool) -> list[Trace] | None:
    """How each rollout was sampled; None where they were sampled each by itself.

    Raises:
        ValueError: some or all say nothing, and a method of the run reads it.
    """
    found: list[Trace | None] = [getattr(rollout, TRACE, None) for rollout in rollouts]
    traces = [trace for trace in found if trace is not None]
    missing = len(found) - len(traces)
    if is_needed and missing:
        raise ValueError(
            f"{missing} of {len(found)} rollouts do not say their segments; let the agent return `turn_rewards`, one "
            "for every entry of action_ranges, or take the terms that read segments out of advantage.terms"
        )
    return None if missing else traces


def gather_advantages(experiences: list[Experience]) -> torch.Tensor:
    """OpenRLHF's advantages (N, T), rows as in the batch."""
    return _in_order(_places(experiences), [experience.advantages for experience in experiences], torch.float32)


def scatter_advantages(experiences: list[Experience], advantages: torch.Tensor) -> None:
    """Puts the rows of ``advantages`` (N, T) back into the experiences they came from, up to each rollout's end."""
    rows = advantages.numpy()
    for experience, places in zip(experiences, _places(experiences), strict=True):
        whole = experience.advantages.float()  # itself, where it is float32 already
        target = whole.numpy()
        for row, (place, length) in enumerate(places):
            target[row, :length] = rows[place, :length]
        experience.advantages = whole.to(experience.advantages.dtype)


Places = list[list[tuple[int, int]]]
"""By experience, then by row: the rollout's place in the batch, and its positions (all its tokens but the first)."""


def _places(experiences: list[Experience]) -> Places:
    lengths = [(experience.total_length.flatten().long() - 1).tolist() for experience in experiences]
    return [list(zip(e.index, of_rows, strict=True)) for e, of_rows in zip(experiences, lengths, strict=True)]


def _in_order(places: Places, tensors: Sequence[torch.Tensor], dtype: torch.dtype) -> torch.Tensor:
    """A (B_i, T_i) tensor of each experience as one (N, max T_i) tensor in sampling order, right-padded with 0."""
    # Not torch.zeros, which writes its zeros.
    rows = np.zeros((sum(map(len, places)), max(tensor.size(1) for tensor in tensors)), dtype=_NUMPY[dtype])
    for of_rows, tensor in zip(places, tensors, strict=True):
        source = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
        for row, (place, length) in enumerate(of_rows):
            rows[place, :length] = source[row, :length]
    return torch.from_numpy(rows)


_NUMPY = {torch.int32: np.int32, torch.bool: np.bool_, torch.float32: np.float32}


def _is_column(value: object, rows: int) -> bool:
    return isinstance(value, torch.Tensor) and value.numel() == rows
