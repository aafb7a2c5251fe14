"""A*-PO beside its authors' code, on the same random inputs: the largest differences in values, loss and gradient.

    python tests/benchmarks/compare_a_star.py PATH/TO/A-PO

The path is a clone of the authors' public repository, which this project neither holds nor installs. The loss is
compute_policy_loss of verl/trainer/apo/core_algos.py, the values are those that _process_values of
verl/utils/dataset/rl_dataset.py puts into the data; both are read out of their files, whose imports need their stack.
"""

import argparse
import ast
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy
import pandas
import torch

from openrlhf_ktae.losses.a_star import AStarOptions, Loss, optimal_value
from openrlhf_ktae.losses.loss import LossInputs


def read(file: Path, name: str) -> Any:
    """A function of ``file``, or of a class in it, without running the rest."""
    found = next(node for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
                 if isinstance(node, ast.FunctionDef) and node.name == name)  # fmt: skip
    space: dict[str, Any] = {"torch": torch, "np": numpy}
    exec(compile(ast.Module([found], []), str(file), "exec"), space)
    return space[name]


def main() -> None:
    """Prints a line per quantity."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repository", type=Path, help="clone of A-PO")
    parser.add_argument("--batches", type=int, default=10, help="random batches (default: %(default)s)")
    given = parser.parse_args()
    their_loss = read(given.repository / "verl/trainer/apo/core_algos.py", "compute_policy_loss")
    their_values = read(given.repository / "verl/utils/dataset/rl_dataset.py", "_process_values")
    worst = {"V*": 0.0, "loss": 0.0, "gradient": 0.0}
    rows, length, samples = 64, 200, 8
    for seed in range(given.batches):
        generator = torch.Generator().manual_seed(seed)
        rewards = torch.randint(0, 2, (rows, samples), generator=generator).float().tolist()
        data = SimpleNamespace(
            dataframe=pandas.DataFrame(rewards, columns=[f"eval_{i}" for i in range(samples)]), beta1=0.5,
            num_gen_to_use=samples, filter_incorrect=False,
        )  # fmt: skip
        their_values(data)
        values = [optimal_value(row, 0.5) for row in rewards]
        theirs = torch.tensor(data.dataframe["v_star"].tolist())
        worst["V*"] = max(worst["V*"], (torch.tensor(values) - theirs).abs().max().item())

        lengths = torch.randint(1, length + 1, (rows, 1), generator=generator)
        mask = (torch.arange(length) < lengths).float()
        log_probs, ref_log_probs = torch.rand(2, rows, length, generator=generator).clamp(1e-4).log()
        outcome = torch.randint(0, 2, (rows,), generator=generator).float()
        token_rewards = torch.zeros(rows, length).scatter(1, lengths - 1, outcome.unsqueeze(1))
        loss = Loss(AStarOptions())
        loss.values = {str(row): value for row, value in enumerate(values)}
        results = []
        for is_ours in (True, False):
            policy = log_probs.clone().requires_grad_()
            if is_ours:
                result = loss.loss(
                    LossInputs(
                        log_probs=policy, old_log_probs=policy, advantages=policy, mask=mask,
                        ref_log_probs=ref_log_probs, rollout_log_probs=None, rewards=outcome, info={},
                        prompts=[str(row) for row in range(rows)], openrlhf=lambda: torch.zeros(()),
                        data_parallel_size=1, tokens=mask.sum(), rollouts=torch.tensor(float(rows)),
                    )
                ).loss  # fmt: skip
            else:
                result = their_loss(mask, ref_log_probs, policy, length, token_rewards, theirs, 1e-3)
            result.backward()
            assert policy.grad is not None
            results.append((result.detach(), policy.grad))
        (our_loss, our_gradient), (loss_of_theirs, their_gradient) = results
        worst["loss"] = max(worst["loss"], (our_loss - loss_of_theirs).abs().item())
        worst["gradient"] = max(worst["gradient"], (our_gradient - their_gradient).abs().max().item())
    for name, difference in worst.items():
        print(f"{name}: largest difference {difference:.2e} over {given.batches} batches")


if __name__ == "__main__":
    main()
