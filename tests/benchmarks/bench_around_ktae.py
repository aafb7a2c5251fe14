"""KTAE in a trainer process beside the estimator alone, step by step, without Ray. Start it with --help.

With PYTHONPATH set to another checkout that one's package is measured.
"""

import copy
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Annotated, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
sys.path.append(str(Path(__file__).resolve().parents[2]))
os.environ["NUMBA_NUM_THREADS"] = "1"

import numpy as np
import torch
import typer
from ktae_rollouts import VOCABULARY, realistic_rollouts
from openrlhf_parts import Experience, RemoteExperienceMaker, arguments, maker

from openrlhf_ktae.advantage.estimator import values
from openrlhf_ktae.training.packing import packed
from openrlhf_ktae.training.responses import experience_of

SAMPLES, PROMPT_TOKENS = 16, 100


def experiences(prompts: int, args: Any) -> list[Experience]:
    """Micro batches as they come back from the policy."""
    rollouts, random = realistic_rollouts(prompts, SAMPLES), np.random.default_rng(0)
    question = random.integers(0, VOCABULARY, PROMPT_TOKENS).tolist()
    rows = []
    for token_ids, mask, group, correct in zip(
        rollouts.token_ids, rollouts.mask, rollouts.group.tolist(), rollouts.correct.tolist(), strict=True
    ):
        answer, score = token_ids[mask].tolist(), float(correct)
        response = {
            "prompt": f"prompt {group}", "label": "1", "reward": score, "scores": score, "rollout_log_probs": None,
            "observation_tokens": question + answer,
            "action_ranges": [(PROMPT_TOKENS, PROMPT_TOKENS + len(answer))],
        }  # fmt: skip
        rows.append(experience_of(response, 4096))
    batches = packed(rows, args, 0)
    assert batches is not None
    for batch in batches:
        batch.action_log_probs = -torch.rand(batch.action_mask.shape)
    return batches


def count_seconds(owner: Any, name: str, seconds: dict[str, float]) -> None:
    """Adds the seconds of ``owner.name`` up under its name."""
    function = getattr(owner, name)

    def timed(*args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        found = function(*args, **kwargs)
        seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - start
        return found

    setattr(owner, name, timed)


def main(
    prompts: Annotated[int, typer.Option(help="Prompts of a step, 16 rollouts each; 3 GB.", min=8)] = 1024,
    steps: Annotated[int, typer.Option(help="Steps.", min=2)] = 6,
) -> None:
    """Print seconds of the estimator and of what is around it for every step, then medians of all but the first."""
    torch.set_num_threads(1)
    args = arguments(
        rollout__n_samples_per_prompt=SAMPLES, train__dynamic_batch_enable=True, rollout__max_tokens_per_gpu=32768
    )
    batches, ours = experiences(prompts, args), maker(args)
    seconds: dict[str, float] = {}
    upstream, kernel = "compute_advantages_and_returns", "key_token_values"
    count_seconds(RemoteExperienceMaker, upstream, seconds)
    count_seconds(values, kernel, seconds)
    print(f"{sum(int(batch.action_mask.sum()) for batch in batches) / 1e6:.1f} M response tokens, one thread")
    found = []
    for _ in range(steps):
        of_step = [copy.copy(batch) for batch in batches]
        for batch in of_step:
            batch.info, batch.kl = dict(batch.info), torch.zeros_like(batch.action_log_probs)
        seconds.clear()
        start = time.perf_counter()
        ours.compute_advantages_and_returns(of_step)
        around = time.perf_counter() - start - seconds[upstream] - seconds[kernel]
        ours.batch = ours.outcome = None
        found.append((seconds[kernel], around, 1 + around / seconds[kernel]))
        print("estimator {:.3f} s, around it {:.3f} s, both over the estimator {:.2f}".format(*found[-1]))
    medians = [statistics.median(column) for column in zip(*found[1:], strict=True)]
    print("medians: estimator {:.3f} s, around it {:.3f} s, both over the estimator {:.2f}".format(*medians))


if __name__ == "__main__":
    typer.run(main)
