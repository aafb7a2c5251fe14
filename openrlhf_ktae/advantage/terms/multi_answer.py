"""Several answers to every thought (GRPO-MA, arXiv 2509.24494): a thought is judged by all of its answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from openrlhf_ktae.advantage.segments import group_means, normalised
from openrlhf_ktae.advantage.term import AdvantageTerm, TermResult, refuse_kl_in_the_reward
from openrlhf_ktae.config import Options

if TYPE_CHECKING:
    from torch import Tensor

    from openrlhf_ktae.advantage.batch import RolloutBatch

EPSILON = 1e-9
"""As in OpenRLHF's group_norm, so that one answer a thought is GRPO."""


class MultiAnswerOptions(Options):
    """Section ``multi_answer``."""

    answers: int = Field(default=4, ge=1)
    """Answers to every thought (M); `rollout.n_samples_per_prompt` / M thoughts are sampled for a prompt."""

    end: str = Field(default="</think>", min_length=1)
    """Text that ends a thought and belongs to it. A rollout without it is a thought without an answer."""


class Term(AdvantageTerm):
    """A_thought = (V_i - mean V) / std V with V_i the mean reward of thought i's answers, A_answer = (R - mean) / std.

    Both over the prompt's rollouts, with unbiased deviations; the rollouts of a thought repeat it, so that it counts
    once for every answer.
    """

    Options = MultiAnswerOptions
    needs = ("groups", "segments")
    replaces = True
    sampling = "answers"

    @classmethod
    def check(cls, options: MultiAnswerOptions, args: Any) -> None:
        """K thoughts of M answers have to be what is sampled for a prompt."""
        samples = args.rollout.n_samples_per_prompt
        if samples % options.answers or samples // options.answers < 2:
            raise ValueError(
                f"multi_answer.answers: {options.answers} answers to every thought and rollout.n_samples_per_prompt of "
                f"{samples}; expected a multiple with at least 2 thoughts, such as {4 * options.answers}"
            )
        refuse_kl_in_the_reward(args, "multi_answer")

    def apply(self, batch: RolloutBatch, advantages: Tensor) -> TermResult:
        """Thoughts by the mean of their answers, answers by themselves."""
        import torch

        segments = batch.segments
        assert segments is not None  # `needs`
        rewards = batch.rewards.double()
        thought = branches(batch.group, segments.branch)
        value = group_means(rewards, thought)
        of_answers = normalised(rewards, batch.group, EPSILON)
        # One number a thought, whatever the number of its answers.
        first = torch.full((int(thought.max()) + 1,), len(thought)).scatter_reduce_(
            0, thought, torch.arange(len(thought)), "amin"
        )
        of_thoughts = normalised(value[first], batch.group[first], EPSILON)[thought]
        both = torch.stack([of_thoughts, of_answers], dim=1).to(advantages.dtype)
        found = both.gather(1, segments.number.clamp(0, 1).long())
        metrics = {
            "unanswered_frac": (segments.count < 2).double().mean().item(),
            "answers_differ_frac": (rewards != value).double().mean().item(),
        }
        # A thought's value is that of the prefix its answers go on from.
        behind = torch.where(segments.number == 1, value.float().unsqueeze(1), torch.nan)
        return TermResult(found, metrics, {"segment_value": behind})


def branches(group: Tensor, branch: Tensor) -> Tensor:
    """(N,) a number from 0 for every pair of group and branch."""
    _, number = (group * (int(branch.max()) + 1) + branch).unique(return_inverse=True)
    return number
