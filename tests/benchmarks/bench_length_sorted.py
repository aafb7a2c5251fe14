"""Forward and backward passes over the rollouts of a step: in one batch, in random micro batches, in sorted ones.

    python tests/benchmarks/bench_length_sorted.py RUN_FOLDER --step 1     # a step that the run logged

On the CPU, with the run's start model, its rollouts' lengths, and the attention of `configs/cluster/cpu.yaml`.
Alternating; medians, and their ratio to one batch.
"""

import statistics
import time
from pathlib import Path
from typing import Annotated

import pyarrow.parquet as pq
import torch
import typer
from transformers import AutoModelForCausalLM, AutoTokenizer

from openrlhf_ktae.run_folder import RunFolder
from openrlhf_ktae.training.length_sorted import LengthSortedBatches


def lengths_of(folder: RunFolder, step: int) -> list[int]:
    """Tokens of each rollout of a step, prompt included."""
    tokenizer = AutoTokenizer.from_pretrained(folder.read()["model"])
    rows = pq.read_table(folder.rollouts / f"step_{step:05d}.parquet", columns=["prompt", "token_ids"]).to_pylist()
    return [len(tokenizer.encode(row["prompt"])) + len(row["token_ids"]) for row in rows]


def padded(batches: list[list[int]], lengths: list[int]) -> int:
    """Positions that are computed on."""
    return sum(len(batch) * max(lengths[row] for row in batch) for batch in batches)


def main(
    run: Annotated[Path, typer.Argument(help="A run folder; its model has to be there still.")],
    step: Annotated[int, typer.Option(help="A step that it logged.", min=1)] = 1,
    size: Annotated[int, typer.Option(help="Rollouts of a micro batch.", min=1)] = 32,
    rounds: Annotated[int, typer.Option(help="Passes over the step of each kind.", min=1)] = 7,
    threads: Annotated[int, typer.Option(help="Threads of PyTorch.", min=1)] = 1,
) -> None:
    """Times the passes of a policy update without its optimizer."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    folder = RunFolder(run)
    model = AutoModelForCausalLM.from_pretrained(
        folder.read()["model"], dtype=torch.bfloat16, attn_implementation="eager"
    )
    lengths = lengths_of(folder, step)
    order = torch.randperm(len(lengths)).tolist()
    kinds = {
        "one batch": [order],
        f"random, {size} each": [order[start : start + size] for start in range(0, len(order), size)],
        f"sorted, {size} each": list(LengthSortedBatches(lengths, size, len(lengths))),
    }

    def passes(batches: list[list[int]]) -> float:
        start = time.perf_counter()
        for rows in batches:
            width = max(lengths[row] for row in rows)
            tokens = torch.randint(3, model.config.vocab_size, (len(rows), width))
            mask = torch.arange(width) < torch.tensor([[lengths[row]] for row in rows])
            log_probs = model(tokens, attention_mask=mask.long()).logits.float().log_softmax(-1)
            (log_probs[:, :-1].gather(-1, tokens[:, 1:, None])[..., 0] * mask[:, 1:]).sum().backward()
        model.zero_grad()
        return time.perf_counter() - start

    for batches in kinds.values():
        passes(batches)
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(rounds):
        for name, batches in kinds.items():
            seconds[name].append(passes(batches))
    print(f"{len(lengths)} rollouts, {sum(lengths)} tokens; {threads} threads, medians of {rounds}")
    whole = statistics.median(seconds["one batch"])
    for name, batches in kinds.items():
        median = statistics.median(seconds[name])
        share = padded(batches, lengths) / sum(lengths)
        print(f"{name:>18}: {median:.2f} s, {median / whole:.2f} times one batch; {share:.2f} positions a token")


if __name__ == "__main__":
    typer.run(main)
