"""OpenRLHF's experience maker with the key-token advantage: rewrites ``experience.advantages``, nothing else."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from openrlhf.trainer.ppo_utils.experience import Experience
from openrlhf.trainer.ppo_utils.experience_maker import RemoteExperienceMaker

from openrlhf_ktae.advantage import batch_diagnostics, key_token_values
from openrlhf_ktae.config import KtaeConfig


@dataclass(frozen=True)
class RolloutBatch:
    """The rollouts of one step in one right-padded batch, rows in the order they were sampled.

    ``token_ids``, ``mask`` and the other (N, T) tensors hold positions 1 .. T of ``experience.sequences``: position j
    of OpenRLHF's action mask, log-probabilities and advantages belongs to ``sequences[:, j + 1]``.
    """

    token_ids: torch.Tensor
    mask: torch.Tensor
    correct: torch.Tensor
    group: torch.Tensor

    @classmethod
    def from_experiences(cls, experiences: list[Experience], samples_per_prompt: int) -> "RolloutBatch":
        """Regroups by ``experience.index``: with dynamic batches a group is spread over several experiences.

        Raises:
            ValueError: a rollout without a score, or a score that is neither 0 nor 1.
        """
        require_rewards(experiences, and_scores=True)
        order = torch.tensor([index for experience in experiences for index in experience.index])
        scores = torch.cat([experience.scores.flatten() for experience in experiences]).float()
        if not ((scores == 0) | (scores == 1)).all():
            found = scores[(scores != 0) & (scores != 1)][0].item()
            raise ValueError(
                f"scores: found {found:g}, expected 0 (wrong) or 1 (correct); let the reward source return `scores` "
                "beside `rewards` (key-token values count correct and wrong rollouts), or set ktae.scale=0"
            )
        inverse = torch.argsort(order)
        token_ids = stack_rows([experience.sequences[:, 1:] for experience in experiences])[inverse]
        mask = stack_rows([experience.action_mask for experience in experiences]).bool()[inverse]
        group = torch.arange(len(order)) // samples_per_prompt
        return cls(token_ids, mask, scores[inverse].bool(), group)


def require_rewards(experiences: list[Experience], and_scores: bool = False) -> None:
    """Stops where the reward source gave no rewards (OpenRLHF only logs an exception in a reward function).

    Raises:
        ValueError: with the number of rollouts concerned.
    """
    missing = sum(len(e.sequences) for e in experiences if e.rewards is None or (and_scores and e.scores is None))
    if missing:
        total = sum(len(experience.sequences) for experience in experiences)
        what = "reward and score" if and_scores else "reward"
        raise ValueError(
            f"scores: {missing} of {total} rollouts came back without {what}; the reward source failed on them (its "
            "exception is in train.log) or returns none (for KTAE its reward_func has to return `scores`)"
        )


def stack_rows(tensors: list[torch.Tensor]) -> torch.Tensor:
    """(B_i, T_i) tensors as one (sum B_i, max T_i) tensor, right-padded with 0."""
    length = max(tensor.size(1) for tensor in tensors)
    return torch.cat([torch.nn.functional.pad(tensor, (0, length - tensor.size(1))) for tensor in tensors])


class KtaeExperienceMaker(RemoteExperienceMaker):
    """Adds the key-token values to the advantages of any critic-free rollout-level estimator of OpenRLHF."""

    def __init__(self, *args, ktae: KtaeConfig, on_experiences: Callable[[list[Experience]], None], **kwargs) -> None:
        """``on_experiences`` is called with every finished batch, before OpenRLHF splits it for training."""
        super().__init__(*args, **kwargs)
        self.ktae = ktae
        self._on_experiences = on_experiences
        self.metrics: dict[str, float] = {}
        """Metrics of the last step, for the trainer to log."""
        self.key_token_values: torch.Tensor | None = None
        """(N, T) values of the last step, rows in sampling order; None where ktae.scale is 0."""

    def make_experience_batch(self, rollout_samples: list[Experience]) -> list[Experience]:
        """As upstream, but stops with a clear error where the reward source gave no score."""
        if self.ktae.scale > 0 or self.strategy.args.reward.remote_url:
            require_rewards(rollout_samples, and_scores=self.ktae.scale > 0)
        experiences = super().make_experience_batch(rollout_samples)
        self._on_experiences(experiences)
        return experiences

    @torch.no_grad()
    def compute_advantages_and_returns(self, experiences: list[Experience]) -> list[Experience]:
        """Upstream's rollout-level advantages, then the key-token values on top, under the action mask."""
        experiences = super().compute_advantages_and_returns(experiences)
        self.metrics, self.key_token_values = {}, None
        if self.ktae.scale == 0:
            return experiences
        if self.advantage_estimator == "group_norm":
            _remove_rounding_of_equal_rewards(experiences, self.args)
        start = time.perf_counter()
        batch = RolloutBatch.from_experiences(experiences, self.args.rollout.n_samples_per_prompt)
        values = key_token_values(batch.token_ids, batch.mask, batch.correct, batch.group, self.ktae)
        for experience in experiences:
            _add(experience, values)
        self.key_token_values = values
        self.metrics = batch_diagnostics(values, batch.mask, batch.correct, batch.group, self.ktae.scale)
        self.metrics["timing/ktae"] = time.perf_counter() - start
        return experiences


def _remove_rounding_of_equal_rewards(experiences: list[Any], args: Any) -> None:
    """Makes the group_norm advantage of a group with equal rewards exactly 0.

    experience_maker.py:284 divides the rounding error of the float32 mean by 1e-9: thirty rewards of 0.9 give every
    token an advantage of 179, which reward.clip_range cuts to 10.
    """
    index = torch.tensor([row for experience in experiences for row in experience.index])
    rewards = torch.cat([experience.rewards for experience in experiences])[torch.argsort(index)]
    groups = rewards.view(-1, args.rollout.n_samples_per_prompt)
    normed = (groups - groups.mean(-1, keepdim=True)) / (groups.std(-1, keepdim=True) + 1e-9)
    if args.reward.clip_range:
        normed = normed.clamp(*args.reward.clip_range)
    are_equal = groups.amax(-1, keepdim=True) == groups.amin(-1, keepdim=True)
    rounding = torch.where(are_equal, normed, 0.0).flatten()
    for experience in experiences:
        error = rounding[torch.tensor(experience.index)].unsqueeze(1)
        experience.advantages = experience.advantages - error * experience.action_mask


def _add(experience: Any, values: torch.Tensor) -> None:
    """Adds the rows of ``values`` (sampling order) that belong to ``experience`` to its advantages."""
    rows = values[torch.tensor(experience.index), : experience.advantages.size(1)]
    experience.advantages = experience.advantages + rows.to(experience.advantages.dtype)
