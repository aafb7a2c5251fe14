"""From OpenRLHF's experiences to one batch in sampling order, and back: once each a step.

A response is often much shorter than the longest one of its step. What lies behind it is neither read nor written: the
batch's memory comes zeroed (`work_arrays`).
"""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from openrlhf.trainer.ppo_utils.experience import Experience

from openrlhf_ktae.advantage.batch import RolloutBatch
from openrlhf_ktae.advantage.estimator.cpu_kernel import jit
from openrlhf_ktae.advantage.segments import Trace, segments_of
from openrlhf_ktae.training.work_arrays import WorkArrays


def gather(
    experiences: list[Experience],
    samples_per_prompt: int,
    entropies: Sequence[torch.Tensor] | None = None,
    special_token_ids: tuple[int, ...] = (),
    step: int = 0,
    traces: Sequence[Trace] | None = None,
    memory: WorkArrays | None = None,
) -> RolloutBatch:
    """The batch of a step. A group is spread over several experiences of different paddings.

    entropies: one (B, T - 1) tensor per experience.
    traces: how each rollout was sampled, in sampling order.
    memory: where the batch's (N, T) tensors are; None: in memory of their own.
    """
    places, memory = _places(experiences), memory or WorkArrays()
    index = np.concatenate([of_rows for of_rows, _ in places])
    order = torch.from_numpy(np.argsort(index, kind="stable"))

    def whole(name: str) -> list[Any] | None:
        found = [getattr(experience, name) for experience in experiences]
        return None if any(values is None for values in found) else found

    def steps(tensors: Sequence[torch.Tensor] | None) -> torch.Tensor | None:
        return None if tensors is None else _in_order(memory, places, tensors, np.float32)

    def numbers(values: list[Any] | None) -> torch.Tensor | None:
        return None if values is None else torch.cat([value.flatten() for value in values]).float()[order]

    def texts(name: str) -> list[str]:
        found = list(chain.from_iterable(getattr(experience, name) for experience in experiences))
        return [str(found[row]) for row in order.tolist()]

    log_probs, rewards, truncated = steps(whole("action_log_probs")), numbers(whole("rewards")), whole("truncated")
    assert log_probs is not None and rewards is not None  # OpenRLHF has computed with both
    token_ids = _in_order(memory, places, [e.sequences for e in experiences], np.int32, first=1)
    return RolloutBatch(
        token_ids=token_ids,
        mask=_in_order(memory, places, [e.action_mask for e in experiences], np.bool_),
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


def gather_advantages(experiences: list[Experience], memory: WorkArrays) -> torch.Tensor:
    """OpenRLHF's advantages (N, T), rows as in the batch."""
    return _in_order(memory, _places(experiences), [experience.advantages for experience in experiences], np.float32)


def scatter_advantages(experiences: list[Experience], advantages: torch.Tensor) -> None:
    """Puts the rows of ``advantages`` (N, T) back into the experiences they came from, up to each rollout's end."""
    rows = advantages.numpy()
    for experience, (places, lengths) in zip(experiences, _places(experiences), strict=True):
        whole = experience.advantages.float().contiguous()  # itself, where it is that already
        _copy_rows(rows, places, 0, lengths, whole.numpy(), np.arange(len(places)))
        experience.advantages = whole.to(experience.advantages.dtype)


Places = list[tuple[NDArray[np.int64], NDArray[np.int64]]]
"""By experience: its rollouts' places in the batch, and their positions (all their tokens but the first)."""


def _places(experiences: list[Experience]) -> Places:
    lengths = torch.cat([experience.total_length.flatten() for experience in experiences]).long().numpy() - 1
    of_experiences = np.split(lengths, np.cumsum([len(experience.index) for experience in experiences])[:-1])
    return [(np.array(e.index, dtype=np.int64), rows) for e, rows in zip(experiences, of_experiences, strict=True)]


def _in_order(
    memory: WorkArrays, places: Places, tensors: Sequence[torch.Tensor], dtype: Any, first: int = 0
) -> torch.Tensor:
    """A (B_i, first + T_i) tensor of each experience, from position ``first`` on, as one (N, max T_i) tensor in
    sampling order, right-padded with 0."""
    index, lengths = (np.concatenate(parts) for parts in zip(*places, strict=True))
    in_order = np.empty_like(lengths)
    in_order[index] = lengths
    rows = memory.zeros(in_order, max(tensor.size(1) for tensor in tensors) - first, dtype)
    for (of_rows, lengths), tensor in zip(places, tensors, strict=True):
        source = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).contiguous()
        _copy_rows(source.numpy(), np.arange(len(of_rows)), first, lengths, rows, of_rows)
    return torch.from_numpy(rows)


@jit
def _copy_rows(source: Any, from_rows: Any, first: Any, lengths: Any, target: Any, to_rows: Any) -> None:
    """Copies ``lengths[i]`` numbers, from position ``first`` of row ``from_rows[i]``, to row ``to_rows[i]``."""
    for row in range(len(lengths)):
        end = lengths[row]
        of, to = source[from_rows[row], first : first + end], target[to_rows[row], :end]
        for position in range(end):
            to[position] = of[position]


def _is_column(value: object, rows: int) -> bool:
    return isinstance(value, torch.Tensor) and value.numel() == rows
