"""OpenRLHF's experience maker with the advantage terms of the run: rewrites ``experience.advantages``, nothing else."""

from typing import Any

import torch
from openrlhf.trainer.ppo_utils.experience import Experience
from openrlhf.trainer.ppo_utils.experience_maker import RemoteExperienceMaker

from openrlhf_ktae.advantage.batch import RolloutBatch
from openrlhf_ktae.advantage.segments import Trace
from openrlhf_ktae.advantage.term import Outcome, apply_terms
from openrlhf_ktae.training import returns
from openrlhf_ktae.training.options import TrainingOptions
from openrlhf_ktae.training.packing import packed
from openrlhf_ktae.training.rollout_batch import gather, gather_advantages, scatter_advantages, traces_of
from openrlhf_ktae.training.work_arrays import WorkArrays


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
            "exception is in train.log) or returns none (an advantage term of this run needs `scores`)"
        )


class ExperienceMaker(RemoteExperienceMaker):
    """Rollout-level advantages by OpenRLHF, then the advantage terms in their order."""

    def __init__(self, *args, options: TrainingOptions, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.terms = options.terms()
        self._needs = options.needs()
        self._needs_scores = "scores" in self._needs
        tokenizer = self.tokenizer
        special = {getattr(tokenizer, name, None) for name in ("pad_token_id", "eos_token_id")}
        self._special_token_ids = tuple(sorted(token_id for token_id in special if token_id is not None))
        self._traces: list[Trace] | None = None
        self._entropies: tuple[torch.Tensor, ...] | None = None
        self._memory = WorkArrays()
        self.step = 0
        """Number of the step whose rollouts come next; the trainer counts."""
        self.batch: RolloutBatch | None = None
        """The rollouts of the last step, until the trainer has read them."""
        self.outcome: Outcome | None = None
        """What the terms made of them."""

    def make_experience_batch(self, rollout_samples: list[Experience]) -> list[Experience]:
        """As upstream, but stops with a clear error where the reward source gave no score."""
        if self._needs_scores or self.args.reward.remote_url:
            require_rewards(rollout_samples, and_scores=self._needs_scores)
        # Concatenating experiences keeps OpenRLHF's fields alone; rows are numbered in this order.
        self._traces = traces_of(rollout_samples, is_needed="segments" in self._needs)
        return super().make_experience_batch(rollout_samples)

    def split_rollout_samples(self, rollout_samples):
        """The micro batches of `packing`, else upstream's."""
        batches = packed(rollout_samples, self.args, self.tokenizer.pad_token_id)
        return super().split_rollout_samples(rollout_samples) if batches is None else batches

    def _flatten_results(self, refs, duplicate_factor):
        results = super()._flatten_results(refs, duplicate_factor)
        if results and isinstance(results[0], tuple):  # our policy actor's, where something needs entropies
            log_probs, self._entropies = zip(*results, strict=True)
            return list(log_probs)
        return results

    def get_cumulative_returns(self, rewards: torch.Tensor, action_mask: torch.Tensor, gamma: float) -> Any:
        """Upstream's, to the bit and without its loop over positions."""
        if returns.takes(rewards, action_mask):
            return returns.cumulative_returns(rewards, action_mask, gamma)
        return super().get_cumulative_returns(rewards, action_mask, gamma)  # pyright: ignore[reportReturnType]

    @torch.no_grad()
    def compute_advantages_and_returns(self, experiences: list[Experience]) -> list[Experience]:
        """Upstream's rollout-level advantages, then the terms on top, under the action mask."""
        experiences = super().compute_advantages_and_returns(experiences)
        if self.advantage_estimator == "group_norm":
            remove_rounding_of_equal_rewards(experiences, self.args)
        samples = self.args.rollout.n_samples_per_prompt
        self.batch = gather(
            experiences, samples, self._entropies, self._special_token_ids, self.step, self._traces, self._memory
        )
        advantages = gather_advantages(experiences, self._memory)
        self._memory.drop_free()
        self.outcome = apply_terms(self.terms, self.batch, advantages, in_place=True)
        if self.batch.entropies is not None:
            self.outcome.columns["entropy"] = self.batch.entropies
        if self.batch.segments is not None:
            self.outcome.columns["segment"] = self.batch.segments.number
        if self.terms:
            scatter_advantages(experiences, self.outcome.advantages)
        self._entropies = self._traces = None
        return experiences


def remove_rounding_of_equal_rewards(experiences: list[Any], args: Any) -> None:
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
    if not rounding.any():
        return
    for experience in experiences:
        errors = rounding[torch.tensor(experience.index)]
        for row in errors.nonzero().flatten().tolist():
            experience.advantages[row] -= errors[row] * experience.action_mask[row]
