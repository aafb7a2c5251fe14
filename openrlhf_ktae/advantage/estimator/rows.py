"""Compiled passes over an (N, T) batch that end where each row does: most of a step's batch lies behind its rows."""

from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from openrlhf_ktae.advantage.estimator.cpu_kernel import jit, row_length


def takes(*tensors: torch.Tensor) -> bool:
    """Whether these passes are for such tensors of numbers: in order, on the CPU, float32."""
    return all(t.device.type == "cpu" and t.dtype == torch.float32 and t.is_contiguous() for t in tensors)


def sums(values: torch.Tensor, mask: torch.Tensor, key: float, saturated: float) -> NDArray[np.float64]:
    """(N, 5) of each row under the mask: tokens, those with |K| > key, with |K| > saturated, sum of K, sum of |K|."""
    found = np.zeros((len(values), 5))
    _sum(values.view(-1).numpy(), _flat(mask), mask.size(1), np.float32(key), np.float32(saturated), found)
    return found


def add(advantages: torch.Tensor, added: torch.Tensor, mask: torch.Tensor) -> bool:
    """Adds to ``advantages`` under the mask, in place; whether all sums are finite."""
    return bool(_add(advantages.view(-1).numpy(), added.view(-1).numpy(), _flat(mask), mask.size(1)))


def ends(mask: torch.Tensor) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(N,) positions of the first one under the mask (N, T), and of the one behind the last; 0 and 0 without any."""
    first, last = np.zeros(len(mask), dtype=np.int64), np.zeros(len(mask), dtype=np.int64)
    _find_ends(_flat(mask), mask.size(1), first, last)
    return first, last


def _flat(mask: torch.Tensor) -> NDArray[np.uint8]:
    return mask.contiguous().view(torch.uint8).view(-1).numpy()


# In any order: float64 holds sums of a row's float32 numbers exactly, or nearly so, and vectors take half the time.
@partial(jit, fastmath={"reassoc"})
def _sum(values: Any, mask: Any, columns: Any, key: Any, saturated: Any, found: Any) -> None:
    for row in range(len(found)):
        base = row * columns
        length = row_length(mask[base : base + columns])
        of_row, is_token = values[base : base + length], mask[base : base + length]
        tokens, keys, full = np.int32(0), np.int32(0), np.int32(0)
        total, size = 0.0, 0.0
        for column in range(length):
            value = abs(of_row[column])
            tokens += np.int32(is_token[column])
            keys += np.int32(is_token[column] & (value > key))
            full += np.int32(is_token[column] & (value > saturated))
        for column in range(length):
            number = np.float64(of_row[column]) if is_token[column] else 0.0
            total += number
            size += abs(number)
        found[row, 0], found[row, 1], found[row, 2], found[row, 3], found[row, 4] = tokens, keys, full, total, size


@jit
def _add(advantages: Any, added: Any, mask: Any, columns: Any) -> Any:
    bad = np.uint8(0)
    for row in range(len(mask) // max(columns, 1)):
        base = row * columns
        end = base + row_length(mask[base : base + columns])
        of_row, more, is_token = advantages[base:end], added[base:end], mask[base:end]
        for column in range(end - base):
            total = of_row[column] + more[column]
            of_row[column] = total if is_token[column] else of_row[column]
            bad |= is_token[column] & np.uint8(not abs(total) < np.float32(np.inf))
    return bad == 0


@jit
def _find_ends(mask: Any, columns: Any, first: Any, last: Any) -> None:
    for row in range(len(last)):
        base = row * columns
        last[row] = row_length(mask[base : base + columns])
        if last[row] > 0:
            while mask[base + first[row]] == 0:
                first[row] += 1
