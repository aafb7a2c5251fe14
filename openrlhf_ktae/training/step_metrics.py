"""Metrics of a step that come from its rollouts alone."""

import torch

from openrlhf_ktae.advantage.batch import RolloutBatch
from openrlhf_ktae.advantage.estimator.rows import ends

_GRADER_METRICS = {
    "formatted": "reward/formatted_frac",
    "timed_out": "reward/timed_out_frac",
    "grader_error": "reward/grader_error_frac",
}
"""Names under which the reward function reports, and the metrics they become."""

GENERATED_TOKENS = "generated_tokens"
"""Entry of a rollout's ``info``: its share of what was generated for its prompt, continuations included."""


def step_metrics(batch: RolloutBatch) -> dict[str, float]:
    """Accuracy, lengths by correctness, group composition, grader health and sampler agreement of one step."""
    metrics = {metric: batch.info[name].mean().item() for name, metric in _GRADER_METRICS.items() if name in batch.info}
    if GENERATED_TOKENS in batch.info:
        generated = batch.info[GENERATED_TOKENS].sum().item()
        metrics["rollout/generated_per_trained_token"] = generated / max(int(batch.mask.sum()), 1)
    if batch.rollout_log_probs is not None:
        difference = (batch.log_probs - batch.rollout_log_probs).abs() * batch.mask
        metrics["weights/vllm_logprob_diff_mean"] = difference.sum().item() / max(int(batch.mask.sum()), 1)
    if batch.scores is None:
        return metrics
    correct = batch.scores > 0
    first, last = ends(batch.mask)
    lengths = torch.from_numpy(last - first).float()
    per_group = correct.view(-1, batch.samples_per_prompt).float().mean(1)
    return metrics | {
        "rollout/accuracy": correct.float().mean().item(),
        "rollout/response_length_correct_mean": lengths[correct].mean().item(),
        "rollout/response_length_wrong_mean": lengths[~correct].mean().item(),
        "rollout/groups_all_correct_frac": (per_group == 1).float().mean().item(),
        "rollout/groups_all_wrong_frac": (per_group == 0).float().mean().item(),
    }
