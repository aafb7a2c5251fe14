"""Is the torch kernel right on this device, and how fast? ``python -m openrlhf_ktae.advantage.estimator.check gpu``."""

import statistics
import sys
from collections.abc import Callable

import torch

from openrlhf_ktae.advantage.estimator.values import key_token_values

_TOLERANCE = 1e-6


Rollouts = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


def random_rollouts(groups: int, samples: int, columns: int) -> Rollouts:
    """Token ids, mask, correctness and group of rollouts of random lengths over a few hundred tokens."""
    generator = torch.Generator().manual_seed(0)
    rows = groups * samples
    lengths = torch.randint(1, columns + 1, (rows, 1), generator=generator)
    ids = torch.randint(0, 500, (rows, columns), generator=generator)
    correct = torch.rand(rows, generator=generator) < 0.5
    return ids, torch.arange(columns) < lengths, correct, torch.arange(groups).repeat_interleave(samples)


def milliseconds(function: Callable[[], object], repeats: int = 10) -> float:
    """Median time of a call by events on the GPU, after two that do not count."""
    measured = []
    for call in range(repeats + 2):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        function()
        end.record()
        torch.cuda.synchronize()
        measured += [start.elapsed_time(end)] if call > 1 else []
    return statistics.median(measured)


def main(device: str) -> int:
    """Compares the torch kernel with the numba kernel; on a GPU also its time with that of moving the data once."""
    rollouts = random_rollouts(groups=256, samples=16, columns=1024)
    expected = key_token_values(*rollouts, backend="numba")
    ids, mask, correct, group = (tensor.to("cuda" if device == "gpu" else "cpu") for tensor in rollouts)
    found = key_token_values(ids, mask, correct, group, backend="torch")
    difference = (found.cpu() - expected).abs().max().item()
    if device == "cpu":
        print(f"measured: largest difference from the numba kernel {difference:.1e}; no GPU to measure the time on")
        return int(difference > _TOLERANCE)
    moved = sum(tensor.numel() * tensor.element_size() for tensor in (ids, mask, found))
    copied = torch.empty(moved // 2, dtype=torch.uint8, device="cuda")
    took, bound = milliseconds(lambda: key_token_values(ids, mask, correct, group)), milliseconds(copied.clone)
    print(
        f"measured: {took:.2f} ms for {int(rollouts[1].sum()):,} tokens, {bound:.2f} ms to move them once; "
        f"largest difference from the CPU {difference:.1e}"
    )
    return int(difference > _TOLERANCE)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
