"""How long key-token values take on the CPU, beside what bounds them. Start it with --help."""

import ctypes
import gc
import math
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numba
import torch
import typer
from rich.console import Console
from rich.table import Table

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "support"), str(Path(__file__).resolve().parents[2])]

from ktae_rollouts import VOCABULARY, Rollouts, realistic_rollouts  # noqa: E402

from openrlhf_ktae.advantage import key_token_values  # noqa: E402
from openrlhf_ktae.advantage.estimator.association import association  # noqa: E402

console = Console(width=max(110, Console().width))


@numba.njit(nogil=True)
def _read_and_write(ids, mask, values):
    total = 0
    for position in range(len(ids)):
        total += ids[position] * mask[position]
        values[position] = total
    return total


def io_floor(rollouts: Rollouts) -> torch.Tensor:
    """One pass over ids and mask and one write of a new float32 per position: what no estimator can undercut."""
    values = torch.empty(rollouts.token_ids.shape, dtype=torch.float32)
    mask = rollouts.mask.view(torch.uint8).view(-1).numpy()
    _read_and_write(rollouts.token_ids.view(-1).numpy(), mask, values.view(-1).numpy())
    return values


def sort_keys(rollouts: Rollouts) -> torch.Tensor:
    """One int64 key (group, token) for every position under the mask."""
    keys = rollouts.token_ids + rollouts.group[:, None] * VOCABULARY
    return keys[rollouts.mask]


def dictionary_values(rollouts: Rollouts) -> torch.Tensor:
    """The estimator as one would first write it: dictionaries per group, a Python call per distinct token."""
    values = torch.zeros(rollouts.token_ids.shape)
    for name in rollouts.group.unique().tolist():
        rows = (rollouts.group == name).nonzero().squeeze(1).tolist()
        tokens = {row: rollouts.token_ids[row][rollouts.mask[row]].tolist() for row in rows}
        sides = [[row for row in rows if bool(rollouts.correct[row]) == side] for side in (True, False)]
        if not all(sides):
            continue
        occurrences = [Counter(token for row in side for token in tokens[row]) for side in sides]
        containing = [Counter(token for row in side for token in set(tokens[row])) for side in sides]
        totals = [sum(counter.values()) for counter in occurrences]
        tables = association(len(sides[0]), len(sides[1]))
        value = {}
        for token in occurrences[0].keys() | occurrences[1].keys():
            shares = [counter[token] / total for counter, total in zip(occurrences, totals, strict=True)]
            lengths = [1 + total / (sum(totals) / 2) for total in totals]
            f_c, f_w = (3 * share / (share + length) for share, length in zip(shares, lengths, strict=True))
            entry = containing[0][token], containing[1][token]
            strength = (tables.fisher_strength[entry] + tables.information_gain_bits[entry]) / 2
            contrast = f_c / (f_w + 1e-5) - f_w / (f_c + 1e-5)
            value[token] = math.tanh(strength * (tables.cohens_h[entry] + contrast) / 2)
        for row in rows:
            values[row, rollouts.mask[row]] = torch.tensor([value[token] for token in tokens[row]])
    return values


def seconds(function: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Median and fastest time of a call, after one that does not count."""
    function()
    measured = []
    for _ in range(repeats):
        started = time.perf_counter()
        function()
        measured.append(time.perf_counter() - started)
    return statistics.median(measured), min(measured)


def peak_extra_bytes(function: Callable[[], object]) -> int:
    """By how much the process grows at most during a call, its result included (resident pages, sampled each ms)."""
    gc.collect()
    # Give freed memory back first, or a result that fits into it would not show.
    ctypes.CDLL(None).malloc_trim(0)
    done, before = threading.Event(), _resident_bytes()
    peak = before

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.001):
            peak = max(peak, _resident_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    result = function()
    peak = max(peak, _resident_bytes())
    done.set()
    watcher.join()
    del result
    return peak - before


def _resident_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) * 1024


def measure(rollouts: Rollouts, title: str, repeats: int, with_dictionary: bool, threads: int) -> None:
    tokens = int(rollouts.mask.sum())
    keys = sort_keys(rollouts)

    def sort() -> object:
        return torch.sort(keys)

    output = rollouts.token_ids.numel() * 4
    cases: list[tuple[str, Callable[[], object], int]] = [
        ("I/O floor: read ids and mask, write float32", lambda: io_floor(rollouts), repeats),
        ("numba, 1 thread", lambda: key_token_values(*rollouts, backend="numba", threads=1), repeats),
        (f"numba, {threads} threads", lambda: key_token_values(*rollouts, backend="numba", threads=threads), repeats),
        ("torch on the CPU, 1 thread", lambda: key_token_values(*rollouts, backend="torch"), repeats),
        ("one torch.sort of the int64 keys, 1 thread", sort, max(1, repeats // 2)),
    ]
    if with_dictionary:
        cases.append(("dictionaries in Python, per group", lambda: dictionary_values(rollouts), 1))
    table = Table("", title=f"{title}: {tokens:,} tokens")
    for column in ("median s", "fastest s", "ns per token", "fastest", "x I/O floor", "fastest", "extra MiB"):
        table.add_column(column, justify="right")
    floors = None
    for name, function, times in cases:
        found = seconds(function, times)
        floors = floors or found
        extra = f"{(peak_extra_bytes(function) - output) / 2**20:+.0f}" if function is not sort else ""
        per_token = [f"{value / tokens * 1e9:.1f}" for value in found]
        ratios = [f"{value / floor:.2f}" for value, floor in zip(found, floors, strict=True)]
        table.add_row(name, *(f"{value:.4f}" for value in found), *per_token, *ratios, extra)
    console.print(table)


def main(
    prompts: Annotated[int, typer.Option(help="Groups of each batch.", min=1)] = 64,
    group_sizes: Annotated[str, typer.Option(help="Rollouts per group, comma-separated.")] = "8,16,32,64",
    columns: Annotated[int, typer.Option(help="Positions of a row.", min=1)] = 3072,
    mean_length: Annotated[float, typer.Option(help="Mean tokens of a rollout.", min=1)] = 800,
    repeats: Annotated[int, typer.Option(help="Measurements of each case.", min=1)] = 7,
    threads: Annotated[int, typer.Option(help="Threads of the many-thread case.", min=1)] = 2,
    paper: Annotated[bool, typer.Option(help="The paper's batch instead: 1024 x 16 x 3072, about 2 GiB.")] = False,
    dictionary: Annotated[bool, typer.Option(help="Measure the dictionary implementation too (slow).")] = True,
) -> None:
    """Time each backend, one sort, the I/O floor and a naive implementation on realistic rollouts.

    On a machine that others use, the fastest of many measurements says more than the median. `extra MiB` is the growth
    of the process beyond the float32 result. Torch uses one thread throughout.
    """
    torch.set_num_threads(1)
    for size in [16] if paper else [int(size) for size in group_sizes.split(",")]:
        count = 1024 if paper else prompts
        rollouts = realistic_rollouts(count, size, columns, mean_length)
        title = f"{count} groups x {size} rollouts x {columns} positions"
        measure(rollouts, title, repeats, dictionary, threads)


if __name__ == "__main__":
    typer.run(main)
