"""Products of bfloat16 on this processor: PyTorch's own, and in float32 (`openrlhf_ktae/training/cpu_products.py`).

    python tests/benchmarks/bench_cpu_products.py

A training pass (forward and backward) of the start model of `recipes/sweeps/start/filler_0` over 128 rollouts of 28
tokens, a process for each kind, alternating; medians of processor time and their ratio.
"""

import statistics
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

MODEL = Path(__file__).parents[2] / "recipes" / "sweeps" / "start" / "filler_0" / "model"

PASS = """
import sys, time
import torch
from transformers import AutoModelForCausalLM
from openrlhf_ktae.training import cpu_products

torch.set_num_threads(1)
if sys.argv[2] == "in float32":
    cpu_products.in_float32()
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.bfloat16, attn_implementation="eager")
tokens = torch.randint(3, model.config.vocab_size, (128, 28))
for _ in range(2):  # the first one warms up
    start = time.process_time()
    model(tokens).logits.float().log_softmax(-1).sum().backward()
    seconds = time.process_time() - start
print(seconds)
"""


def main(rounds: Annotated[int, typer.Option(help="Processes of each kind.", min=1)] = 5) -> None:
    """Times both kinds."""
    seconds: dict[str, list[float]] = {"PyTorch's own": [], "in float32": []}
    for _ in range(rounds):
        for kind, found in seconds.items():
            done = subprocess.run(
                [sys.executable, "-c", PASS, str(MODEL), kind], capture_output=True, text=True, check=True
            )
            found.append(float(done.stdout))
    own, ours = (statistics.median(found) for found in seconds.values())
    print(f"A pass, seconds of one core: {own:.2f} PyTorch's own, {ours:.2f} in float32; ratio {own / ours:.1f}")


if __name__ == "__main__":
    typer.run(main)
