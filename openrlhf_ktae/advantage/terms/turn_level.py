"""Turn-level credit for agents: every turn by what it earned from there on, and all of them by the outcome."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from openrlhf_ktae.advantage.segments import normalised
from openrlhf_ktae.advantage.term import AdvantageTerm, TermResult, refuse_kl_in_the_reward
from openrlhf_ktae.config import Options

if TYPE_CHECKING:
    from torch import Tensor

    from openrlhf_ktae.advantage.batch import RolloutBatch

EPSILON = 1e-4


class TurnLevelOptions(Options):
    """Section ``turn_level``."""

    gamma: float = Field(default=1.0, ge=0, le=1)
    """Discount of the rewards of later turns in the return of a turn."""

    weight: float = Field(default=1.0, ge=0)
    """Weight of a turn's advantage beside that of the outcome."""

    outcome: Literal["apart", "last_turn"] = "apart"
    """`apart`: A = A_outcome + weight x A_turn, normalised apart. `last_turn`: the outcome is a reward of the last
    turn, and A = A_turn."""


class Term(AdvantageTerm):
    """A of turn k = A_outcome + weight x A_k: A_k from the returns G_k = sum_l>=k gamma^(l-k) r_l of the k-th turns.

    Both are normalised over the prompt's rollouts (unbiased deviation + 1e-4), returns over those with a k-th turn. The
    rollout's reward is the outcome; what turns earned stands beside it.
    """

    Options = TurnLevelOptions
    needs = ("groups", "segments")
    replaces = True
    sampling = "turns"

    @classmethod
    def check(cls, options: TurnLevelOptions, args: Any) -> None:
        """The advantages of OpenRLHF's estimator are replaced."""
        refuse_kl_in_the_reward(args, "turn_level")

    def apply(self, batch: RolloutBatch, advantages: Tensor) -> TermResult:
        """Returns and outcome, each normalised by itself."""
        import torch

        segments = batch.segments
        assert segments is not None  # `needs`
        outcome, earned = batch.rewards.double(), segments.rewards.clone()
        rows = torch.arange(len(earned))
        if self.options.outcome == "last_turn":
            earned[rows, (segments.count - 1).clamp(min=0)] += outcome
        returns = discounted(earned, self.options.gamma)
        of_turns = torch.zeros_like(returns)
        for turn in range(returns.size(1)):
            there = segments.count > turn
            of_turns[there, turn] = normalised(returns[there, turn], batch.group[there], EPSILON)
        found = segments.of_tokens(of_turns)
        if self.options.outcome == "apart":
            of_outcome = normalised(outcome, batch.group, EPSILON).unsqueeze(1)
            found = of_outcome + self.options.weight * found
        metrics = {
            "turns_mean": segments.count.double().mean().item(),
            "earned_mean": segments.rewards.sum(1).mean().item(),
        }
        columns = {"turn_return": segments.of_tokens(returns).to(advantages.dtype)}
        return TermResult(found.to(advantages.dtype), metrics, columns)


def discounted(rewards: Tensor, gamma: float) -> Tensor:
    """(N, S) returns: what each turn and the later ones earn, discounted."""
    import torch

    returns, after = torch.zeros_like(rewards), torch.zeros_like(rewards[:, 0])
    for turn in range(rewards.size(1) - 1, -1, -1):
        after = rewards[:, turn] + gamma * after
        returns[:, turn] = after
    return returns
