"""One reward function of several, each with its weight, for a reward file of your own."""

from collections.abc import Callable
from typing import Any

import torch

RewardFunction = Callable[..., dict[str, Any]]


def weighted(**parts: tuple[RewardFunction, float]) -> RewardFunction:
    """A ``reward_func`` whose rewards are the weighted sum of several: ``weighted(right=(f, 1.0), short=(g, 0.2))``.

    The ``scores`` of the first one say which rollouts are correct; those of the others are not looked at. Every
    ``extra_logs`` is kept, and each function's own rewards are the metric ``reward_<its name here>``.

    Raises:
        ValueError: no function; when called, rewards of another length than the batch.
    """
    if not parts:
        raise ValueError("weighted: no function; name at least one, such as weighted(right=(reward_func, 1.0))")

    def reward_func(queries: list[str], prompts: list[str], labels: list[Any], **kwargs: Any) -> dict[str, Any]:
        total, logs = torch.zeros(len(queries)), {}
        scores: list[Any] = []
        for name, (function, weight) in parts.items():
            result = function(queries, prompts, labels, **kwargs)
            rewards = torch.as_tensor(result["rewards"], dtype=torch.float32)
            if rewards.shape != total.shape:
                raise ValueError(f"{name}: rewards of shape {tuple(rewards.shape)}, expected ({len(queries)},)")
            total += weight * rewards
            scores.append(result.get("scores"))
            logs |= dict(result.get("extra_logs") or {}) | {f"reward_{name}": rewards}
        return {"rewards": total, "scores": scores[0], "extra_logs": logs}

    return reward_func
