"""Our methods beside their authors' code, on the same random inputs: the largest difference.

    python tests/benchmarks/compare_methods.py --ar PATH/TO/AR-Lopti --krpo PATH/TO/KRPO_LLMs_RL

The paths are clones of the authors' public repositories, which this project neither holds nor installs. From AR-Lopti
the function that reweights advantages is read out of verl/trainer/ppo/ray_trainer.py (the module itself needs their
whole stack), and the mask of a pass is what its training loop computes; from KRPO, group_advantages of train.py.
"""

import argparse
import ast
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional

from openrlhf_ktae.advantage.batch import RolloutBatch
from openrlhf_ktae.advantage.term import TERM, apply_terms
from openrlhf_ktae.losses.loss import LOSS
from openrlhf_ktae.plugins import loaded


def read(file: Path, *names: str) -> dict[str, Any]:
    """Functions and classes of ``file`` by name, without running the rest of it."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    tree.body = [node for node in tree.body if getattr(node, "name", None) in names]
    space: dict[str, Any] = {"torch": torch, "F": torch.nn.functional}
    exec(compile(tree, str(file), "exec"), space)
    return space


def random_batch(seed: int, groups: int = 64, samples: int = 12, length: int = 200) -> RolloutBatch:
    """Rewards of 0 and 1, probabilities over the whole range, responses of all lengths."""
    generator = torch.Generator().manual_seed(seed)
    rows = groups * samples
    lengths = torch.randint(1, length + 1, (rows, 1), generator=generator)
    mask = torch.arange(length) < lengths
    return RolloutBatch(
        token_ids=torch.zeros(rows, length, dtype=torch.int32),
        mask=mask,
        group=torch.arange(rows) // samples,
        rewards=torch.randint(0, 2, (rows,), generator=generator).float(),
        log_probs=torch.rand(rows, length, generator=generator).clamp(1e-4).log() * mask,
    )


def main() -> None:
    """Prints a line per method."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ar", type=Path, required=True, help="clone of AR-Lopti")
    parser.add_argument("--krpo", type=Path, required=True, help="clone of KRPO_LLMs_RL")
    parser.add_argument("--batches", type=int, default=10, help="random batches (default: %(default)s)")
    paths = parser.parse_args()
    theirs = read(paths.ar / "verl/trainer/ppo/ray_trainer.py", "compute_reweight_advantage")
    theirs |= read(paths.krpo / "train.py", "KalmanFilter", "group_advantages")
    worst = {"token_probability": 0.0, "kalman_baseline": 0.0, "lopti": 0.0}
    lopti = next(iter(loaded(LOSS, ["lopti"], {"lopti": {"threshold": 0.5}}).values()))
    for seed in range(paths.batches):
        batch = random_batch(seed)
        advantages = torch.randn(batch.mask.shape, generator=torch.Generator().manual_seed(seed))

        def ours(name: str, batch=batch, advantages=advantages, **options) -> torch.Tensor:
            return apply_terms(loaded(TERM, [name], {name: options}), batch, advantages).advantages

        reweighted = theirs["compute_reweight_advantage"](
            advantages, batch.log_probs, "both_linear_normal", 0.3, 0.7, 1.0
        )
        filtered = torch.cat([theirs["group_advantages"](rewards) for rewards in batch.rewards.view(64, 12)])
        isolated = torch.where(batch.log_probs.exp() < 0.5, batch.mask.float(), 0.0)
        for name, difference in {
            "token_probability": (ours("token_probability", alpha=0.3) - reweighted)[batch.mask],
            "kalman_baseline": (ours("kalman_baseline") - filtered.unsqueeze(1))[batch.mask],
            "lopti": lopti.pass_mask(0, batch.log_probs, batch.mask.float()) - isolated,
        }.items():
            worst[name] = max(worst[name], difference.abs().max().item())
    for name, difference in worst.items():
        print(f"{name}: largest difference {difference:.2e} over {paths.batches} batches")


if __name__ == "__main__":
    main()
