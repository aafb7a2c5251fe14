"""How long key-token values take for tensors on a GPU: `python tests/benchmarks/bench_ktae_gpu.py --help`."""

import statistics
import sys
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch.profiler import ProfilerActivity, profile

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "support"), str(Path(__file__).resolve().parents[2])]

from ktae_rollouts import Rollouts, realistic_rollouts  # noqa: E402

from openrlhf_ktae.advantage import key_token_values  # noqa: E402

console = Console()


def milliseconds(function, repeats: int) -> float:
    """Median time of a call by events on the device, after two that do not count."""
    for _ in range(2):
        function()
    measured = []
    for _ in range(repeats):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        function()
        end.record()
        torch.cuda.synchronize()
        measured.append(start.elapsed_time(end))
    return statistics.median(measured)


def kernels_and_synchronisations(function) -> tuple[int, int]:
    """Kernels started by a call, and how often the host waited for the device in it."""
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as recorded:
        function()
        torch.cuda.synchronize()
    counts = {event.key: event.count for event in recorded.key_averages()}
    waits = counts.get("cudaStreamSynchronize", 0)
    return counts.get("cudaLaunchKernel", 0) + counts.get("cudaLaunchKernelExC", 0), waits


def main(
    prompts: Annotated[int, typer.Option(help="Groups of the batch; the paper has 1024.", min=1)] = 1024,
    rollouts_per_prompt: Annotated[int, typer.Option(help="Rollouts of a group.", min=1)] = 16,
    columns: Annotated[int, typer.Option(help="Positions of a row.", min=1)] = 3072,
    repeats: Annotated[int, typer.Option(help="Measurements; the median is shown.", min=1)] = 20,
) -> None:
    """Time and kernels of the torch backend with ids already on the device, beside the bandwidth bound.

    Exits with 1 where no GPU is, or where the values differ from the CPU's by more than 1e-6.
    """
    if not torch.cuda.is_available():
        console.print("no GPU here")
        raise typer.Exit(1)
    on_host = realistic_rollouts(prompts, rollouts_per_prompt, columns)
    rollouts = Rollouts(*(tensor.cuda() for tensor in on_host))
    difference = (key_token_values(*rollouts).cpu() - key_token_values(*on_host)).abs().max().item()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    result = key_token_values(*rollouts)
    extra = torch.cuda.max_memory_allocated() - before - result.numel() * 4
    moved = sum(tensor.numel() * tensor.element_size() for tensor in (rollouts.token_ids, rollouts.mask, result))
    copied = torch.empty(moved // 2, dtype=torch.uint8, device="cuda")
    bound = milliseconds(copied.clone, repeats)
    kernels, waits = kernels_and_synchronisations(lambda: key_token_values(*rollouts))
    table = Table("", "", title=f"{torch.cuda.get_device_name()}: {int(on_host.mask.sum()):,} tokens")
    table.add_row("torch backend", f"{milliseconds(lambda: key_token_values(*rollouts), repeats):.2f} ms")
    table.add_row("bandwidth bound: move ids, mask and result once", f"{bound:.2f} ms")
    table.add_row("kernels", str(kernels))
    table.add_row("waits of the host", str(waits))
    table.add_row("extra memory", f"{extra / 2**20:.0f} MiB")
    table.add_row("largest difference from the CPU", f"{difference:.1e}")
    console.print(table)
    raise typer.Exit(0 if difference <= 1e-6 else 1)


if __name__ == "__main__":
    typer.run(main)
