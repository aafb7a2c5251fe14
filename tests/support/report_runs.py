"""Run folders for the report's tests: made-up metrics and rollouts, real key-token values."""

import json
import math
import random
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from openrlhf_ktae.advantage import KtaeConfig, batch_diagnostics, key_token_values, token_statistics
from openrlhf_ktae.run_folder import VOCABULARY_FILE

EOS = "<|im_end|>"
HOSTILE = "So </script><script>window.owned = 1</script><img src=x onerror='window.owned = 2'> &amp; $x^2$"
_PIECE = re.compile(r"<\|im_end\|>|\n+| ?[A-Za-z]+| ?\d| ?[^\sA-Za-z\d]+|\s")
_CORRECT = (
    "Let me compute this step by step.\n\nFirst, {x} + {y} = {s}.",
    "We carry the one, so the tens digit grows.\nTherefore the sum is {s}.",
    "Check: {s} - {y} = {x}. That is right, because subtraction undoes addition.",
)
_WRONG = (
    "I guess the sum is about {w}.\n\nWait, maybe {w} works.",
    "Hmm, {x} + {y} might be {w}.\nI am not sure, but probably.",
    "Without a check, the digits give {w}.",
)
_SHARED = ("The problem asks for {x} + {y}.", "Adding {x} and {y}:", "So we need the sum of {x} and {y}.")


class Pieces:
    """A word-level stand-in for a tokenizer: an id for every distinct piece of text, first come first served."""

    def __init__(self) -> None:
        self.ids: dict[str, int] = {EOS: 0}

    def split(self, text: str) -> tuple[list[int], list[str]]:
        pieces = _PIECE.findall(text)
        return [self.ids.setdefault(piece, len(self.ids)) for piece in pieces], pieces


def write_run(
    folder: Path,
    *,
    name: str = "arithmetic-grpo-ktae",
    steps: int = 40,
    rollout_steps: Sequence[int] = (1, 20, 40),
    groups: int = 3,
    size: int = 8,
    tokens: int = 90,
    seed: int = 0,
    scale: float = 1.0,
    status: str = "finished",
    hostile: bool = True,
    overrides: dict[str, Any] | None = None,
) -> Path:
    """Write a run folder and return it. `overrides` replaces metrics in the second half of the run.

    With `hostile`, the first rollout of every step's group 0 holds markup and a script.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rollouts").mkdir(exist_ok=True)
    rng = random.Random(seed)
    config = KtaeConfig(scale=scale, ignore_token_ids=(0,))
    write_run_json(folder, name, seed, status, config)
    pieces = Pieces()
    lines = []
    for step in range(1, steps + 1):
        row = training_row(rng, step, steps)
        if overrides and step > steps // 2:
            row |= overrides
        if step in rollout_steps:
            row |= write_rollouts(folder, step, rng, pieces, groups, size, tokens, config, step / steps, hostile)
        lines.append(row)
        if step % 10 == 0 or step == 1:
            lines.append(evaluation_row(rng, step, steps))
    text = "".join(json.dumps(_no_nan(row)) + "\n" for row in lines)
    (folder / "metrics.jsonl").write_text(text, encoding="utf-8")
    return folder


def write_run_json(folder: Path, name: str, seed: int, status: str, config: KtaeConfig) -> None:
    content = {
        "format": 1,
        "name": name,
        "recipe": "arithmetic-cpu",
        "status": status,
        "started_at": "2026-05-04T09:00:00+00:00",
        "finished_at": "2026-05-04T09:31:20+00:00" if status == "finished" else None,
        "argv": ["--rollout.batch_size", "16"],
        "config": {
            "openrlhf": {
                "rollout.batch_size": 16,
                "rollout.n_samples_per_prompt": 8,
                "train.seed": seed,
                "actor.adam.lr": 2e-5,
            },
            "ktae": config.model_dump(),
            "run": {"output": str(folder)},
        },
        "versions": {"openrlhf": "0.11.2", "torch": "2.13.0"},
        "git_commit": "0123456789" * 4 + "+changes",
        "seed": seed,
        "model": "tiny-qwen2-1m",
    }
    (folder / "run.json").write_text(json.dumps(content), encoding="utf-8")


def training_row(rng: random.Random, step: int, steps: int) -> dict[str, Any]:
    done = step / steps
    accuracy = min(0.95, 0.28 + 0.5 * (1 - math.exp(-2.4 * done)) + rng.gauss(0, 0.035))
    length = 92 - 18 * done + rng.gauss(0, 2)
    right = max(0.0, 0.05 + 0.3 * done + rng.gauss(0, 0.03))
    wrong = max(0.0, 0.3 - 0.22 * done + rng.gauss(0, 0.03))
    return {
        "kind": "train",
        "step": step,
        "time": f"2026-05-04T09:{min(59, step % 60):02d}:00+00:00",
        "seconds": 45.0 * step,
        "policy_loss": rng.gauss(0, 0.02),
        "ppo_clip_ratio": abs(rng.gauss(0.012, 0.006)),
        "ppo_kl": abs(rng.gauss(0.0008, 0.0004)),
        "kl": 0.002 + 0.02 * done + abs(rng.gauss(0, 0.002)),
        "actor_lr": 2e-5 * min(1, step / 5),
        "actor_grad_norm": abs(rng.gauss(0.6, 0.12)),
        "entropy_loss": 0.72 - 0.3 * done + rng.gauss(0, 0.015),
        "reward": accuracy,
        "rollout/reward_mean": accuracy,
        "rollout/reward_std": math.sqrt(accuracy * (1 - accuracy)),
        "rollout/accuracy": accuracy,
        "rollout/response_length_mean": length,
        "rollout/response_length_correct_mean": length - 9 + rng.gauss(0, 2),
        "rollout/response_length_wrong_mean": length + 11 + rng.gauss(0, 3),
        "rollout/truncated_rate": max(0.0, 0.03 + rng.gauss(0, 0.01)),
        "rollout/groups_all_correct_frac": right,
        "rollout/groups_all_wrong_frac": wrong,
        "ktae/key_token_frac": 0.31 + 0.05 * done + rng.gauss(0, 0.01),
        "ktae/value_mean_correct": 0.06 + 0.05 * done + rng.gauss(0, 0.01),
        "ktae/value_mean_wrong": -0.07 - 0.05 * done + rng.gauss(0, 0.01),
        "ktae/value_abs_mean": 0.14 + rng.gauss(0, 0.008),
        "ktae/saturated_frac": 0.08 + rng.gauss(0, 0.006),
        "ktae/degenerate_group_frac": min(1.0, right + wrong),
        "reward/timed_out_frac": 0.0,
        "reward/formatted_frac": min(1.0, 0.9 + 0.1 * done),
        "timing/generation": 14 + rng.gauss(0, 0.7),
        "timing/make_experience": 9 + rng.gauss(0, 0.4),
        "timing/ktae": 0.4,
        "timing/ppo_train": 19 + rng.gauss(0, 0.8),
        "timing/broadcast": 1.6,
        "timing/step_total": 45.0,
        "weights/vllm_logprob_diff_mean": 0.011 + abs(rng.gauss(0, 0.001)),
    }


def evaluation_row(rng: random.Random, step: int, steps: int) -> dict[str, Any]:
    accuracy = 0.3 + 0.45 * (1 - math.exp(-2.4 * step / steps)) + rng.gauss(0, 0.01)
    return {
        "kind": "eval",
        "step": step,
        "time": "2026-05-04T09:30:00+00:00",
        "seconds": 45.0 * step,
        "arithmetic/pass@1": accuracy,
        "arithmetic/pass@4": min(1.0, accuracy + 0.18),
        "arithmetic/n": 256,
        "arithmetic/response_length_mean": 80.0,
        "arithmetic/truncated_rate": 0.02,
    }


def write_rollouts(
    folder: Path,
    step: int,
    rng: random.Random,
    pieces: Pieces,
    groups: int,
    size: int,
    tokens: int,
    config: KtaeConfig,
    done: float,
    hostile: bool,
) -> dict[str, float]:
    """Both parquet files of one step. Returns the batch diagnostics."""
    rows: list[dict[str, Any]] = []
    for group in range(groups):
        x, y = rng.randint(11, 99), rng.randint(11, 99)
        n_correct = max(1, min(size - 1, round(size * (0.3 + 0.4 * done)) + rng.randint(-1, 1)))
        for rollout in range(size):
            is_correct = rollout % size < n_correct
            text = _response(rng, x, y, is_correct, tokens)
            if hostile and group == 0 and rollout == 0:
                text = HOSTILE + "\n" + text
            token_ids, texts = pieces.split(text + " \n" + EOS)
            rows.append(
                {
                    "step": step,
                    "group": group,
                    "rollout": rollout,
                    "prompt": f"What is {x} + {y}? Put the result in \\boxed{{}}.",
                    "response": text,
                    "label": str(x + y),
                    "reward": float(is_correct),
                    "score": float(is_correct),
                    "correct": is_correct,
                    "truncated": False,
                    "token_ids": token_ids,
                    "generated": [True] * len(texts),
                    "log_prob": [-rng.expovariate(3.0) for _ in texts],
                    "_n_correct": n_correct,
                }
            )
    longest = max(len(row["token_ids"]) for row in rows)
    token_ids = torch.zeros(len(rows), longest, dtype=torch.int64)
    mask = torch.zeros(len(rows), longest, dtype=torch.bool)
    for i, row in enumerate(rows):
        token_ids[i, : len(row["token_ids"])] = torch.tensor(row["token_ids"])
        mask[i, : len(row["token_ids"])] = True
    correct, group_ids = torch.tensor([row["correct"] for row in rows]), torch.tensor([row["group"] for row in rows])
    values = key_token_values(token_ids, mask, correct, group_ids, config)
    for i, row in enumerate(rows):
        share = row.pop("_n_correct") / size
        base = (float(row["correct"]) - share) / math.sqrt(share * (1 - share) * size / (size - 1))
        row["key_token_value"] = values[i, : len(row["token_ids"])].tolist()
        row["advantage"] = [base + value for value in row["key_token_value"]]
    pq.write_table(pa.Table.from_pylist(rows), folder / "rollouts" / f"step_{step:05d}.parquet")
    statistics = {
        key: pa.array(column)
        for key, column in asdict(token_statistics(token_ids, mask, correct, group_ids, config)).items()
    }
    statistics["step"] = pa.array([step] * len(statistics["token_id"]), pa.int32())
    vocabulary = pa.table({"token_id": list(pieces.ids.values()), "token": list(pieces.ids)})
    pq.write_table(vocabulary, folder / "rollouts" / VOCABULARY_FILE)
    pq.write_table(pa.table(statistics), folder / "rollouts" / f"step_{step:05d}_tokens.parquet")
    return batch_diagnostics(values, mask, correct, group_ids, config.scale)


def _response(rng: random.Random, x: int, y: int, is_correct: bool, tokens: int) -> str:
    sums = {"x": x, "y": y, "s": x + y, "w": x + y + rng.choice((-10, -1, 1, 10))}
    parts = [rng.choice(_SHARED).format(**sums)]
    own, other = (_CORRECT, _WRONG) if is_correct else (_WRONG, _CORRECT)
    while len(_PIECE.findall(" ".join(parts))) < tokens - 12:
        pool = own if rng.random() < 0.75 else (other if rng.random() < 0.4 else _SHARED)
        parts.append(rng.choice(pool).format(**sums) + ("\n" if rng.random() < 0.4 else ""))
    parts.append(f"The answer is \\boxed{{{sums['s' if is_correct else 'w']}}}.")
    return " ".join(parts)


def _no_nan(row: dict[str, Any]) -> dict[str, Any]:
    return {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in row.items()}


def group_rows(run: Path, step: int, group: int) -> list[dict]:
    """The rollouts of a group of a step, as the run logged them."""
    return [r for r in pq.read_table(run / "rollouts" / f"step_{step:05d}.parquet").to_pylist() if r["group"] == group]
