"""Key-token advantages in TRL's GRPOTrainer (written for TRL 1.16): use KtaeGRPOTrainer in its place.

    from openrlhf_ktae.adapters.trl import KtaeGRPOTrainer

    trainer = KtaeGRPOTrainer(model=..., reward_funcs=[is_right, is_short], args=..., train_dataset=...)

The first reward function must say whether the answer is right, as 0 or 1; others may shape the reward as they like.
The metrics ``ktae/*`` (docs/runs.md) are logged beside TRL's own.
"""

import math
from typing import Any

import torch
from trl import GRPOTrainer

from openrlhf_ktae.advantage import KtaeConfig, batch_diagnostics, key_token_values


class KtaeGRPOTrainer(GRPOTrainer):
    """GRPOTrainer whose advantages are (rollouts, positions): TRL's rollout advantage plus the key-token value."""

    def __init__(self, *args: Any, ktae_config: KtaeConfig | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # TRL pads completions and ends them with these ids; they say nothing about the answer.
        ignored = {self._tokenizer.pad_token_id, *self.eos_token_ids}
        self.ktae_config = ktae_config or KtaeConfig(ignore_token_ids=tuple(sorted(ignored)))

    def _calculate_rewards(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        rewards = super()._calculate_rewards(*args, **kwargs)  # (rollouts of all processes, reward functions)
        self._correct = rewards[:, 0]
        return rewards

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        batch = super()._generate_and_score_completions(inputs)
        mask = batch["completion_mask"]
        if batch.get("tool_mask") is not None:
            mask = mask * batch["tool_mask"]
        # The rollouts of a prompt may lie on several processes: every process values all of them, then keeps its own.
        ids, everyones_mask = (
            self.accelerator.gather(self.accelerator.pad_across_processes(tensor, dim=1))
            for tensor in (batch["completion_ids"], mask)
        )
        mode = "train" if self.model.training else "eval"
        group = torch.arange(len(ids)) // (self.num_generations if mode == "train" else self.num_generations_eval)
        values = key_token_values(ids, everyones_mask, self._correct, group, self.ktae_config)
        measured = batch_diagnostics(values, everyones_mask, self._correct, group, self.ktae_config.scale)
        for name, value in measured.items():
            if math.isfinite(value):  # without a wrong rollout its mean is none
                self._metrics[mode][name].append(value)
        first = self.accelerator.process_index * len(mask)
        values = values[first : first + len(mask), : mask.shape[1]]
        batch["advantages"] = batch["advantages"][:, None] * mask + values
        return batch
