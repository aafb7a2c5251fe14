"""Key-token advantages in verl (written for verl 0.9.1): let it import this module, set algorithm.adv_estimator=ktae.

    VERL_USE_EXTERNAL_MODULES=openrlhf_ktae.adapters.verl python -m verl.trainer.main_ppo ...

A registered estimator is given the rewards, mask and prompt of every rollout, but not its tokens. They are handed on
here by wrapping `verl.trainer.ppo.ray_trainer.compute_advantage`, and the metrics `ktae/*` (docs/runs.md) join verl's
own by wrapping `compute_data_metrics` there. That serves RayPPOTrainer (`trainer.use_v1=False`); the newer trainer
leaves `responses` out of what it fetches for advantages, so there it stops with an error.
"""

from contextvars import ContextVar
from functools import wraps
from typing import Any

import numpy as np
import torch
from verl.trainer.ppo import core_algos, ray_trainer

from openrlhf_ktae.advantage import KtaeConfig, batch_diagnostics, key_token_values

_batch: ContextVar[Any] = ContextVar("batch")
_measured: dict[str, float] = {}
"""Metrics of the step whose advantages were computed last; the trainer is one process and takes step after step."""


@core_algos.register_adv_est("ktae")
def ktae_advantage(
    token_level_rewards: torch.Tensor, response_mask: torch.Tensor, index: np.ndarray, config: Any = None, **_: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """verl's GRPO advantage plus the key-token value, (rollouts, positions), as advantages and as returns.

    Correctness is the reward function's `acc` (verl's own graders report it), never the shaped reward. Options of the
    estimator come from `algorithm.ktae`, a mapping of KtaeConfig's fields.
    """
    data = _batch.get()
    if "responses" not in data.batch:
        raise ValueError("responses: not among the batch's columns, expected the token ids; set trainer.use_v1=False")
    if "acc" not in data.non_tensor_batch:
        raise ValueError(
            "acc: the reward function did not report whether answers are right, expected 0 or 1 for every rollout; "
            'return {"score": ..., "acc": ...} from it'
        )
    normalise = True if config is None else config.get("norm_adv_by_std_in_grpo", True)
    advantages, _returns = core_algos.compute_grpo_outcome_advantage(
        token_level_rewards, response_mask, index, norm_adv_by_std_in_grpo=normalise
    )
    options = KtaeConfig(**({} if config is None else config.get("ktae", None) or {}))
    correct = torch.as_tensor(data.non_tensor_batch["acc"].astype(np.float32))
    _names, numbers = np.unique(index.astype(str), return_inverse=True)
    group = torch.from_numpy(numbers.reshape(-1))
    values = key_token_values(data.batch["responses"], response_mask, correct, group, options)
    _measured.update(batch_diagnostics(values, response_mask, correct, group, options.scale))
    advantages = advantages + values.to(advantages.dtype)
    return advantages, advantages


def _hand_on_the_batch(compute_advantage: Any) -> Any:
    @wraps(compute_advantage)
    def with_batch(data: Any, *args: Any, **kwargs: Any) -> Any:
        token = _batch.set(data)
        try:
            return compute_advantage(data, *args, **kwargs)
        finally:
            _batch.reset(token)

    return with_batch


def _add_our_metrics(compute_data_metrics: Any) -> Any:
    @wraps(compute_data_metrics)
    def with_ours(*args: Any, **kwargs: Any) -> dict[str, Any]:
        metrics = {**compute_data_metrics(*args, **kwargs), **_measured}
        _measured.clear()
        return metrics

    return with_ours


ray_trainer.compute_advantage = _hand_on_the_batch(ray_trainer.compute_advantage)
ray_trainer.compute_data_metrics = _add_our_metrics(ray_trainer.compute_data_metrics)
