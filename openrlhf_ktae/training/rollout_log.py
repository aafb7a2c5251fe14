"""The rollouts of a step in the run folder: what was sampled, what it was worth, and the counts behind it."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from openrlhf.trainer.ppo_utils.experience import Experience

from openrlhf_ktae.advantage import token_statistics
from openrlhf_ktae.config import KtaeConfig
from openrlhf_ktae.files import replacing
from openrlhf_ktae.training.experience_maker import RolloutBatch

_GRADER_METRICS = {
    "formatted": "reward/formatted_frac",
    "timed_out": "reward/timed_out_frac",
    "grader_error": "reward/grader_error_frac",
}
"""Names under which the reward function reports, and the metrics they become."""


def token_text(tokenizer: Any) -> Callable[[int], str]:
    """A function from token id to readable text; a piece of a multi-byte character is shown as its vocabulary entry."""
    cache: dict[int, str] = {}
    # A vision model's processor holds the tokenizer.
    tokenizer = getattr(tokenizer, "tokenizer", tokenizer)

    def text(token_id: int) -> str:
        if token_id not in cache:
            piece = tokenizer.decode([token_id], skip_special_tokens=False)
            # Ids between the tokenizer's size and the model's padded vocabulary have no entry.
            entry = tokenizer.convert_ids_to_tokens(token_id) if "\ufffd" in piece else piece
            cache[token_id] = entry or f"<{token_id}>"
        return cache[token_id]

    return text


def step_metrics(experiences: list[Experience], samples_per_prompt: int) -> dict[str, float]:
    """Accuracy, lengths by correctness, group composition, grader health and sampler agreement of one step."""
    metrics: dict[str, float] = {}
    for name, metric in _GRADER_METRICS.items():
        if all(name in experience.info for experience in experiences):
            metrics[metric] = torch.cat([e.info[name].flatten().float() for e in experiences]).mean().item()
    if all(experience.rollout_log_probs is not None for experience in experiences):
        difference = [(e.action_log_probs - e.rollout_log_probs).abs() * e.action_mask for e in experiences]
        tokens = sum(int(e.action_mask.sum()) for e in experiences)
        metrics["weights/vllm_logprob_diff_mean"] = sum(d.sum().item() for d in difference) / max(tokens, 1)
    if any(experience.scores is None for experience in experiences):
        return metrics
    order = torch.argsort(torch.tensor([index for e in experiences for index in e.index]))
    scores = torch.cat([e.scores.flatten() for e in experiences]).float()[order]
    lengths = torch.cat([e.response_length.flatten() for e in experiences]).float()[order]
    correct = scores > 0
    per_group = correct.view(-1, samples_per_prompt).float().mean(1)
    metrics |= {
        "rollout/accuracy": correct.float().mean().item(),
        "rollout/response_length_correct_mean": lengths[correct].mean().item(),
        "rollout/response_length_wrong_mean": lengths[~correct].mean().item(),
        "rollout/groups_all_correct_frac": (per_group == 1).float().mean().item(),
        "rollout/groups_all_wrong_frac": (per_group == 0).float().mean().item(),
    }
    return metrics


def write_rollouts(
    folder: Path,
    step: int,
    experiences: list[Experience],
    values: torch.Tensor | None,
    samples_per_prompt: int,
    ktae: KtaeConfig,
    text: Callable[[int], str],
) -> None:
    """Writes step_XXXXX.parquet (a row per rollout) and step_XXXXX_tokens.parquet (a row per group and distinct token).

    ``values``: key-token values (N, T) in sampling order, or None where the key-token term is off.
    """
    folder.mkdir(exist_ok=True)
    rows = [row for experience in experiences for row in _rows(experience, values, samples_per_prompt, step, text)]
    rows.sort(key=lambda row: (row["group"], row["rollout"]))
    _write(pa.Table.from_pylist(rows, schema=_ROLLOUT_SCHEMA), folder / f"step_{step:05d}.parquet")
    if values is None:
        return
    batch = RolloutBatch.from_experiences(experiences, samples_per_prompt)
    statistics = asdict(token_statistics(batch.token_ids, batch.mask, batch.correct, batch.group, ktae))
    columns = {name: pa.array(column) for name, column in statistics.items()}
    columns["token"] = pa.array([text(int(token_id)) for token_id in statistics["token_id"]])
    columns["step"] = pa.array([step] * len(statistics["token_id"]), pa.int32())
    _write(pa.table(columns), folder / f"step_{step:05d}_tokens.parquet")


def _write(table: pa.Table, path: Path) -> None:
    with replacing(path) as part:
        pq.write_table(table, part, compression="zstd")


_ROLLOUT_SCHEMA = pa.schema(
    [
        ("step", pa.int32()),
        ("group", pa.int32()),
        ("rollout", pa.int32()),
        ("prompt", pa.string()),
        ("response", pa.string()),
        ("label", pa.string()),
        ("reward", pa.float32()),
        ("score", pa.float32()),
        ("correct", pa.bool_()),
        ("truncated", pa.bool_()),
        ("token_ids", pa.list_(pa.int32())),
        ("tokens", pa.list_(pa.string())),
        ("generated", pa.list_(pa.bool_())),
        ("log_prob", pa.list_(pa.float32())),
        ("advantage", pa.list_(pa.float32())),
        ("key_token_value", pa.list_(pa.float32())),
    ]
)


def _rows(experience: Any, values, samples_per_prompt: int, step: int, text: Callable[[int], str]):
    for row, index in enumerate(experience.index):
        mask = experience.action_mask[row].bool()
        positions = mask.nonzero().flatten()
        first, last = (int(positions[0]), int(positions[-1]) + 1) if len(positions) else (0, 0)
        # action_mask[:, j] belongs to sequences[:, j + 1]: OpenRLHF drops the first position.
        token_ids = experience.sequences[row, 1:][first:last].tolist()
        tokens = [text(token_id) for token_id in token_ids]
        score = None if experience.scores is None else experience.scores.flatten()[row].item()
        yield {
            "step": step,
            "group": index // samples_per_prompt,
            "rollout": index % samples_per_prompt,
            "prompt": experience.prompts[row],
            "response": "".join(tokens),
            "label": str(experience.labels[row]),
            "reward": experience.rewards.flatten()[row].item(),
            "score": score,
            "correct": None if score is None else score > 0,
            "truncated": bool(experience.truncated.flatten()[row]),
            "token_ids": token_ids,
            "tokens": tokens,
            "generated": mask[first:last].tolist(),
            "log_prob": experience.action_log_probs[row, first:last].tolist(),
            "advantage": experience.advantages[row, first:last].tolist(),
            "key_token_value": values[index, first:last].tolist() if values is not None else [0.0] * len(tokens),
        }
