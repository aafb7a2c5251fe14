"""Group baselines for several agents (AdvEvo-MARL, arXiv 2510.01586): agents of one function share one baseline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from openrlhf_ktae.advantage.segments import group_means
from openrlhf_ktae.advantage.term import AdvantageTerm, TermResult, refuse_kl_in_the_reward
from openrlhf_ktae.config import Options

if TYPE_CHECKING:
    from torch import Tensor

    from openrlhf_ktae.advantage.batch import RolloutBatch


class FunctionalGroupOptions(Options):
    """Section ``functional_group``."""

    key: str = Field(default="group_id", min_length=1)
    """Entry of the reward source's `extra_logs` (an agent's `info`) that says, as a number, which agents share a
    baseline."""


class Term(AdvantageTerm):
    """A = R - b_g, with b_g the mean reward of the prompt's rollouts whose agents are of the same functional group."""

    Options = FunctionalGroupOptions
    needs = ("groups",)
    replaces = True

    @classmethod
    def check(cls, options: FunctionalGroupOptions, args: Any) -> None:
        """The advantages of OpenRLHF's estimator are replaced."""
        refuse_kl_in_the_reward(args, "functional_group")

    def apply(self, batch: RolloutBatch, advantages: Tensor) -> TermResult:
        """Rewards less the mean of the agents of the same function.

        Raises:
            ValueError: rollouts that do not say their group.
        """
        import torch

        key = self.options.key
        if key not in batch.info:
            known = ", ".join(sorted(batch.info)) or "nothing"
            raise ValueError(
                f"functional_group.key: no rollout says {key!r} (they say {known}); let the agent or the reward source "
                f"return it in extra_logs"
            )
        rewards = batch.rewards.double()
        agents, agent = batch.info[key].unique(return_inverse=True)
        _, together = (batch.group * len(agents) + agent).unique(return_inverse=True)
        found = rewards - group_means(rewards, together)
        metrics = {f"reward_mean_{name:g}": rewards[agent == i].mean().item() for i, name in enumerate(agents.tolist())}
        column = batch.info[key].to(advantages.dtype).unsqueeze(1).expand_as(advantages)
        whole = found.to(advantages.dtype).unsqueeze(1).expand_as(advantages)
        return TermResult(torch.clone(whole), metrics, {"functional_group": column})
