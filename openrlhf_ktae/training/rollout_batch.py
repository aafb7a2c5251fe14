"""From OpenRLHF's experiences to one batch in sampling order, and back: once each a step."""

from collections.abc import Sequence

import torch
from openrlhf.trainer.ppo_utils.experience import Experience

from openrlhf_ktae.advantage.batch import RolloutBatch


def gather(
    experiences: list[Experience],
    samples_per_prompt: int,
    entropies: Sequence[torch.Tensor] | None = None,
    special_token_ids: tuple[int, ...] = (),
    step: int = 0,
) -> RolloutBatch:
    """The batch of a step. With dynamic batches a group is spread over several experiences of different paddings.

    entropies: one (B, T - 1) tensor per experience.
    """
    index = [torch.tensor(experience.index) for experience in experiences]
    total = sum(map(len, index))

    def steps(tensors: Sequence[torch.Tensor] | None, dtype: torch.dtype) -> torch.Tensor | None:
        return None if tensors is None else _in_order(tensors, index, total, dtype)

    def numbers(name: str) -> torch.Tensor | None:
        found = [getattr(experience, name) for experience in experiences]
        return None if any(values is None for values in found) else _column(found, index, total)

    def steps_of(name: str) -> torch.Tensor | None:
        found = [getattr(experience, name) for experience in experiences]
        return None if any(values is None for values in found) else steps(found, torch.float32)

    rows = [(place, experience, row) for e, experience in enumerate(experiences) for row, place in enumerate(index[e])]
    rows.sort(key=lambda entry: int(entry[0]))
    truncated = numbers("truncated")
    return RolloutBatch(
        token_ids=_in_order([e.sequences[:, 1:] for e in experiences], index, total, torch.int32),
        mask=_in_order([e.action_mask for e in experiences], index, total, torch.bool),
        group=torch.arange(total) // samples_per_prompt,
        rewards=_column([e.rewards for e in experiences], index, total),
        log_probs=_in_order([e.action_log_probs for e in experiences], index, total, torch.float32),
        scores=numbers("scores"),
        ref_log_probs=steps_of("base_action_log_probs"),
        rollout_log_probs=steps_of("rollout_log_probs"),
        entropies=steps(entropies, torch.float32),
        truncated=None if truncated is None else truncated.bool(),
        info={
            name: _column([e.info[name] for e in experiences], index, total)
            for name in experiences[0].info
            if all(_is_column(e.info.get(name), len(e.index)) for e in experiences)
        },
        prompts=[experience.prompts[row] for _, experience, row in rows],
        labels=[str(experience.labels[row]) for _, experience, row in rows],
        special_token_ids=special_token_ids,
        step=step,
    )


def gather_advantages(experiences: list[Experience], like: RolloutBatch) -> torch.Tensor:
    """OpenRLHF's advantages (N, T), rows as in ``like``."""
    index = [torch.tensor(experience.index) for experience in experiences]
    return _in_order([e.advantages for e in experiences], index, len(like.mask), torch.float32)


def scatter_advantages(experiences: list[Experience], advantages: torch.Tensor) -> None:
    """Puts the rows of ``advantages`` (N, T) back into the experiences they came from."""
    for experience in experiences:
        length = experience.advantages.size(1)
        experience.advantages = advantages[torch.tensor(experience.index), :length].to(experience.advantages.dtype)


def _in_order(
    tensors: Sequence[torch.Tensor], index: list[torch.Tensor], total: int, dtype: torch.dtype
) -> torch.Tensor:
    """(B_i, T_i) tensors as one (N, max T_i) tensor in sampling order, right-padded with 0."""
    result = torch.zeros(total, max(tensor.size(1) for tensor in tensors), dtype=dtype)
    for tensor, places in zip(tensors, index, strict=True):
        result[places, : tensor.size(1)] = tensor.to(dtype)
    return result


def _column(values: list[torch.Tensor], index: list[torch.Tensor], total: int) -> torch.Tensor:
    result = torch.zeros(total)
    result[torch.cat(index)] = torch.cat([value.flatten().float() for value in values])
    return result


def _is_column(value: object, rows: int) -> bool:
    return isinstance(value, torch.Tensor) and value.numel() == rows
