"""A training step of the tiny model on two threads: with OpenMP threads that spin while they wait, and that sleep.

    python tests/benchmarks/bench_waiting_threads.py              # the machine for itself
    python tests/benchmarks/bench_waiting_threads.py --busy 4     # beside four processes that compute

Alternating processes; the median step of each.
"""

import os
import statistics
import subprocess
import sys
from typing import Annotated

import typer

from openrlhf_ktae.cpu_vllm import OPENMP

POLICIES = {
    "spin": {"OMP_WAIT_POLICY": "active"},
    "library's default": {},
    "sleep at once": {"OMP_WAIT_POLICY": "passive"},
    "here": OPENMP,
}
STEP = """
import statistics, sys, time
import torch
from openrlhf_ktae.tasks.tiny_model import make_model

torch.set_num_threads(2)
torch.manual_seed(0)
model = make_model(0).float()
tokens = torch.randint(3, 120, (64, 64))
optimizer = torch.optim.Adam(model.parameters())
seconds = []
for _ in range(int(sys.argv[1]) + 3):
    start = time.perf_counter()
    model(tokens).logits.log_softmax(-1).mean().backward()
    optimizer.step()
    optimizer.zero_grad()
    seconds.append(time.perf_counter() - start)
print(statistics.median(seconds[3:]))
"""


def main(
    busy: Annotated[int, typer.Option(help="Processes that compute beside it.", min=0)] = 0,
    steps: Annotated[int, typer.Option(help="Steps of a process.", min=3)] = 15,
    rounds: Annotated[int, typer.Option(help="Processes of each kind.", min=1)] = 3,
) -> None:
    """Times steps; prints the median seconds of one by policy."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy)]
    found: dict[str, list[float]] = {name: [] for name in POLICIES}
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    try:
        for _ in range(rounds):
            for name, policy in POLICIES.items():
                command = [sys.executable, "-c", STEP, str(steps)]
                done = subprocess.run(command, env=environment | policy, stdout=subprocess.PIPE, text=True, check=True)
                found[name].append(float(done.stdout))
    finally:
        for other in others:
            other.kill()
    for name, seconds in found.items():
        print(f"{name}: {statistics.median(seconds):.4f} s a step ({', '.join(f'{s:.4f}' for s in seconds)})")


if __name__ == "__main__":
    typer.run(main)
