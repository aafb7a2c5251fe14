"""Stops training before nonsense reaches vLLM or a checkpoint: numbers that are not finite, and collapse."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from openrlhf_ktae.advantage.batch import RolloutBatch
from openrlhf_ktae.config import RunOptions

_UPDATE_METRICS = ("policy_loss", "kl", "ppo_kl", "logprobs_diff", "entropy_loss", "actor_grad_norm")
"""What an optimisation step reports; each is finite in a healthy run."""

WEIGHTS = "non_finite_weights"
"""Entry of a policy worker's status: how many weights are NaN or infinite after its updates."""

_LEARNT = 0.05
"""Accuracy that shows that a run could solve some prompts."""
_HIGH_ENTROPY, _ORDERED = 0.9, 0.75
"""Shares of the largest possible entropy (ln of the vocabulary's size): tokens are noise above the first; a run that
was never below the second started as noise, and has not collapsed."""
_LOW_ENTROPY = 1e-3
"""Nats per token from where on all rollouts of a prompt are the same."""
_SOLVED = 0.95
"""Accuracy from where on low entropy is certainty and not collapse."""


class Diverged(ValueError):
    """Training must not go on with these numbers; another attempt from the same checkpoint would meet them again."""


def check_batch(batch: RolloutBatch, advantages: torch.Tensor) -> None:
    """Stops before the update if a number of the step's rollouts is not finite.

    Raises:
        Diverged: naming the tensor and how many of its numbers.
    """
    of_tokens = {"log_probs": batch.log_probs, "ref_log_probs": batch.ref_log_probs, "advantages": advantages}
    # One pass says that all is well, prompts and padding included; what the mask leaves of the others is looked at.
    suspects = {name: tensor for name, tensor in of_tokens.items() if tensor is not None and not _all_finite(tensor)}
    tensors = {name: tensor[batch.mask] for name, tensor in suspects.items()}
    for name, tensor in ({"rewards": batch.rewards} | tensors).items():
        bad = int((~torch.isfinite(tensor)).sum())
        if bad:
            raise Diverged(_sentence(batch.step, f"{bad} of {tensor.numel()} numbers in {name} are not finite"))


def _all_finite(tensor: torch.Tensor) -> bool:
    return not tensor.numel() or all(bool(bound.isfinite()) for bound in tensor.aminmax())


def check_update(status: Mapping[str, Any], step: int) -> None:
    """Stops after the update and before the weights go to vLLM if something is not finite.

    DeepSpeed reports a gradient norm of -1 where the norm is NaN or infinite (runtime/utils.py: get_global_norm).

    Raises:
        Diverged: naming the metric or the number of weights.
    """
    for name in _UPDATE_METRICS:
        value = status.get(name)
        if value is not None and (not math.isfinite(value) or (name == "actor_grad_norm" and value < 0)):
            raise Diverged(_sentence(step, f"{name} is not finite"))
    if status.get(WEIGHTS):
        raise Diverged(_sentence(step, f"{status[WEIGHTS]:.0f} weights of the policy are not finite"))


def count_non_finite(parameters: Iterable[Any]) -> int:
    """How many of a worker's weights are NaN or infinite; under ZeRO-3 its own shards."""
    shards = (getattr(parameter, "ds_tensor", parameter) for parameter in parameters)
    return sum(int((~torch.isfinite(shard.detach())).sum()) for shard in shards)


def _sentence(step: int, what: str) -> str:
    return (
        f"step {step}: {what}; stopped before the weights went to vLLM. The step's rollouts are in "
        f"rollouts/step_{step:05d}.parquet, and the last checkpoint is from before it. Lower actor.adam.lr or "
        "actor.max_norm, or look at the rewards, before you resume"
    )


class CollapseWatch:
    """Counts the steps in a row in which a run looks collapsed.

    That is: no rollout is correct where more than 5 % once were, tokens have become noise (entropy above 90 % of its
    maximum), or all samples of a prompt are the same (entropy below 0.001) and not correct.
    """

    def __init__(self, vocabulary_size: int) -> None:
        self._max_entropy = math.log(vocabulary_size)
        self._best_accuracy = 0.0
        self._lowest_entropy = self._max_entropy
        self.steps = 0
        """Steps in a row up to the last one seen."""
        self.reason = ""
        """What the last step looked like, where `steps` is not 0."""

    def see(self, metrics: Mapping[str, Any]) -> int:
        """Takes a step's metrics; returns `steps`."""
        self.reason = self._suspicion(metrics.get("rollout/accuracy"), metrics.get("entropy_loss"))
        self.steps = self.steps + 1 if self.reason else 0
        self._best_accuracy = max(self._best_accuracy, metrics.get("rollout/accuracy") or 0.0)
        self._lowest_entropy = min(self._lowest_entropy, metrics.get("entropy_loss") or self._max_entropy)
        return self.steps

    def _suspicion(self, accuracy: float | None, entropy: float | None) -> str:
        if accuracy == 0 and self._best_accuracy > _LEARNT:
            return f"accuracy is 0, it was {self._best_accuracy:.2f} before"
        if entropy is None:
            return ""
        was_ordered = self._lowest_entropy < _ORDERED * self._max_entropy
        if was_ordered and entropy > _HIGH_ENTROPY * self._max_entropy:
            return f"entropy is {entropy:.2f} nats per token, near its maximum of {self._max_entropy:.2f}"
        if entropy < _LOW_ENTROPY and (accuracy or 0.0) < _SOLVED:
            return f"entropy is {entropy:.4f} nats per token, so all samples of a prompt are the same"
        return ""

    def check(self, step: int, run: RunOptions) -> None:
        """Stops a run that has looked collapsed for long enough, where it is asked to.

        Raises:
            Diverged: naming what it looks like.
        """
        if run.stop_on_collapse and self.steps >= run.collapse_steps:
            raise Diverged(
                f"step {step}: collapsed for {self.steps} steps: {self.reason}. No checkpoint was written since it "
                "began; lower actor.adam.lr before you resume, or set run.stop_on_collapse=false"
            )
