"""Key-token values on the CPU: numba, one pass over each group's tokens, groups spread over threads.

The working memory of a thread is a sparse set: `slot_of[t]` holds the slot of token t, and counts only if that slot is
in use in this group and says t itself, so nothing is cleared between groups. Plain threads run the compiled code
without the interpreter lock, which leaves OpenMP, fork and concurrent callers alone. Imported on first use only.
"""

import math
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np
import torch
from numba.core.errors import NumbaError
from numpy.typing import NDArray

from openrlhf_ktae.advantage.estimator.inputs import TOKEN_ID_LIMIT, Batch, StrengthTables, reject_token_ids
from openrlhf_ktae.advantage.estimator.options import KtaeConfig

COMPILE_ERRORS = (NumbaError, OSError)
"""What a machine on which numba cannot compile raises: the caller then falls back to torch."""

_FIRST_VOCABULARY = 2**18  # ids a thread is ready for at first; larger ones make it grow
_POSITIONS_PER_THREAD = 2**18  # below this a thread costs more than it saves
# Fields of a slot, int32: token id, last row that had it, rollouts (wrong, correct), occurrences (wrong, correct).
_WIDTH = 8
_TOKEN, _ROW, _ROLLOUTS, _OCCURRENCES = 0, 1, 2, 4


def jit(function: Callable, **options: Any) -> Any:
    try:
        return numba.njit(nogil=True, cache=True, error_model="numpy", **options)(function)
    except RuntimeError:  # no folder to cache in: neither beside this file, nor the user's, nor NUMBA_CACHE_DIR
        return numba.njit(nogil=True, error_model="numpy", **options)(function)


@jit
def row_length(mask):
    """Positions of a row up to the last one under the mask.

    256 at a time, because responses are often much shorter, and forwards: backwards memory comes at half the speed.
    """
    length, whole = 0, len(mask) // 256 * 256
    for start in range(0, whole, 256):
        found = np.uint8(0)
        block = mask[start : start + 256]
        for position in range(256):
            found |= block[position]
        if found != 0:
            length = start + 256
    for position in range(whole, len(mask)):
        if mask[position] != 0:
            length = position + 1
    while length > 0 and mask[length - 1] == 0:
        length -= 1
    return length


@jit
def _value(m_c, m_w, strength, cohens_h, saturation_c, saturation_w, gamma, scale, k1, eps):
    """K of one token. `saturation` is k * T: m (k1 + 1) / (m + k T) is the BM25 term frequency of q = m / T."""
    f_c = m_c * (k1 + 1.0) / (m_c + saturation_c) if m_c > 0.0 else 0.0
    f_w = m_w * (k1 + 1.0) / (m_w + saturation_w) if m_w > 0.0 else 0.0
    r = f_c / (f_w + eps) - f_w / (f_c + eps)
    return scale * math.tanh(strength * (cohens_h + gamma * r) / 2.0)


@jit
def _value_group(
    slots, used, slot_value, tokens_correct, tokens_wrong, offset, n_wrong, strength, cohens_h,
    gamma, scale, k1, b0, eps, smoothing, memo,
):  # fmt: skip
    """Write the value of every slot in use."""
    slot_value[: used + 1] = 0.0
    if tokens_correct == 0 or tokens_wrong == 0:
        return
    total_c, total_w = tokens_correct + 2.0 * smoothing, tokens_wrong + 2.0 * smoothing
    mean = (total_c + total_w) / 2.0
    saturation_c = k1 * (1.0 - b0 + b0 * total_c / mean) * total_c
    saturation_w = k1 * (1.0 - b0 + b0 * total_w / mean) * total_w
    memo[:] = np.nan
    for slot in range(1, used + 1):
        b, a = slots[slot * _WIDTH + _ROLLOUTS], slots[slot * _WIDTH + _ROLLOUTS + 1]
        m_w, m_c = slots[slot * _WIDTH + _OCCURRENCES], slots[slot * _WIDTH + _OCCURRENCES + 1]
        # Most distinct tokens are rare and share their four counts with many others of the group.
        key = ((a * 4 + b) * 4 + m_c) * 4 + m_w if (m_c | m_w) < 4 else -1
        if key >= 0 and memo[key] == memo[key]:
            slot_value[slot] = memo[key]
            continue
        entry = offset + a * (n_wrong + 1) + b
        value = np.float32(
            _value(
                m_c + smoothing, m_w + smoothing, strength[entry], cohens_h[entry],
                saturation_c, saturation_w, gamma, scale, k1, eps,
            )
        )  # fmt: skip
        slot_value[slot] = value
        if key >= 0:
            memo[key] = value


@jit
def _fill_groups(
    ids, ids_stride, mask, mask_stride, columns, rows, starts, is_correct, strength, cohens_h, offset, n_wrong, ignored,
    gamma, scale, k1, b0, eps, smoothing, lengths, slot_bits, values, first, last, slot_of, slots, slot_value, memo,
):  # fmt: skip
    """Write `values` (flat float32, all 0; `slot_bits`: the same memory as uint32) for the groups first to last - 1.

    Returns (groups done up to here, 0), or (group, id) at an id that does not fit `slot_of`.
    Indices are unsigned where it matters: numba then drops its test for negative ones.
    """
    vocabulary = np.uint64(len(slot_of))
    for group in range(first, last):
        used = np.uint32(0)
        totals_wrong = totals_correct = 0
        for place in range(starts[group], starts[group + 1]):
            row = rows[place]
            side = np.uint64(1 if is_correct[row] else 0)
            base, mask_base, ids_base = row * columns, row * mask_stride, row * ids_stride
            lengths[row] = length = row_length(mask[mask_base : mask_base + columns])
            tokens = 0
            for column in range(length):
                if mask[mask_base + column] == 0:
                    slot_bits[base + column] = 0
                    continue
                token = ids[ids_base + column]
                index = np.uint64(token)  # a negative id becomes a huge one
                if index >= vocabulary:
                    return group, np.int64(token)
                slot = slot_of[index]
                at = np.uint64(slot) * np.uint64(_WIDTH)
                if slot > used or slots[at + np.uint64(_TOKEN)] != token:
                    used = np.uint32(used + np.uint32(1))
                    slot = used
                    at = np.uint64(slot) * np.uint64(_WIDTH)
                    slot_of[index] = slot
                    slots[at + np.uint64(_TOKEN)] = token
                    slots[at + np.uint64(_ROW)] = -1
                    for field in range(4):
                        slots[at + np.uint64(_ROLLOUTS + field)] = 0
                # No branch: whether a token is new to its row is a coin toss that the processor cannot foresee.
                slots[at + np.uint64(_ROLLOUTS) + side] += np.int32(slots[at + np.uint64(_ROW)] != row)
                slots[at + np.uint64(_ROW)] = row
                slots[at + np.uint64(_OCCURRENCES) + side] += 1
                tokens += 1
                # The value is not known yet: the position keeps its slot until the group is counted.
                slot_bits[base + column] = slot
            totals_correct += tokens * np.int64(side)
            totals_wrong += tokens * (1 - np.int64(side))

        _value_group(
            slots, np.int64(used), slot_value, totals_correct, totals_wrong, offset[group], n_wrong[group],
            strength, cohens_h, gamma, scale, k1, b0, eps, smoothing, memo,
        )  # fmt: skip
        for token in ignored:
            if np.uint64(token) < vocabulary:
                slot = slot_of[token]
                if slot <= used and slots[np.int64(slot) * _WIDTH] == token:
                    slot_value[slot] = 0.0
        for place in range(starts[group], starts[group + 1]):
            base = rows[place] * columns
            for position in range(base, base + lengths[rows[place]]):
                values[position] = slot_value[slot_bits[position]]
    return last, np.int64(0)


class _Scratch:
    """The working memory of one thread: grows with the largest id it has seen and the largest group of the batch."""

    def __init__(self, largest_group: int) -> None:
        self.largest_group = largest_group
        self.grow(_FIRST_VOCABULARY)

    def grow(self, vocabulary: int) -> None:
        slots = min(vocabulary, self.largest_group) + 1
        slot_fields = np.empty(slots * _WIDTH, dtype=np.int32)
        slot_fields[:_WIDTH] = -1  # slot 0 is no token: what an entry that was never written points at
        slot_value, memo = np.empty(slots, dtype=np.float32), np.empty(256, dtype=np.float32)
        self.vocabulary = vocabulary
        self.buffers = (np.zeros(vocabulary, dtype=np.uint32), slot_fields, slot_value, memo)


def numba_values(batch: Batch, tables: StrengthTables, config: KtaeConfig, threads: int | None = None) -> torch.Tensor:
    """(N, T) float32 key-token values; exactly 0 where the mask is 0. The same bits for every number of threads.

    Raises one of COMPILE_ERRORS before anything is computed if numba cannot compile here.
    """
    count, columns = batch.token_ids.shape
    # Not torch.zeros: NumPy's come as zeros in large pages, and what lies behind a row's end is never written.
    result = torch.from_numpy(np.zeros((count, columns), dtype=np.float32))
    groups = len(batch.group_ids)
    if result.numel() == 0:
        return result
    ids, ids_stride = _flat(batch.token_ids)
    mask, mask_stride = _flat(batch.mask)
    values = result.view(-1).numpy()
    inputs = (
        ids, ids_stride, mask.view(np.uint8), mask_stride, columns, batch.rows, batch.starts, batch.correct,
        tables.strength, tables.cohens_h, tables.offset, batch.n_wrong,
        np.array(config.ignore_token_ids, dtype=np.int64),
        config.gamma, config.scale, config.k1, config.b0, config.eps, config.tf_smoothing,
        np.empty(count, dtype=np.int64), values.view(np.uint32), values,
    )  # fmt: skip
    largest_group = int(np.diff(batch.starts).max()) * columns
    scratch = _Scratch(largest_group)
    _fill_groups.compile(tuple(numba.typeof(argument) for argument in (*inputs, 0, groups, *scratch.buffers)))

    workers = min(threads or _usable_threads(), groups, 1 + result.numel() // _POSITIONS_PER_THREAD)
    if workers == 1:
        _work(inputs, iter([(0, groups)]), scratch)
        return result
    # Blocks small enough to share evenly: groups differ in length.
    block = max(1, groups // (workers * 16))
    blocks = iter([(first, min(first + block, groups)) for first in range(0, groups, block)])
    with ThreadPoolExecutor(workers - 1, thread_name_prefix="ktae") as pool:
        others = [pool.submit(_work, inputs, blocks, _Scratch(largest_group)) for _ in range(workers - 1)]
        _work(inputs, blocks, scratch)
    for other in others:
        other.result()
    return result


def _work(inputs: tuple[Any, ...], blocks: Iterator[tuple[int, int]], scratch: _Scratch) -> None:
    """Take blocks of groups until none is left; `next` on a list's iterator hands each block to one thread."""
    for first, last in blocks:
        done = first
        while done < last:
            done, token = _fill_groups(*inputs, done, last, *scratch.buffers)
            if done < last:
                reject_token_ids(int(token), int(token))
                scratch.grow(min(TOKEN_ID_LIMIT, max(int(token) + 1, 2 * scratch.vocabulary)))


def _flat(matrix: torch.Tensor) -> tuple[NDArray[Any], int]:
    """The memory of an (N, T) tensor as one contiguous array and the distance between its rows; copies only if it must.

    `sequences[:, 1:]`, the usual input in training, is read in place.
    """
    if (matrix.stride(1) != 1 and matrix.shape[1] > 1) or matrix.stride(0) < 0:
        matrix = matrix.contiguous()
    stride = matrix.stride(0) if matrix.shape[0] > 1 else matrix.shape[1]
    length = (matrix.shape[0] - 1) * stride + matrix.shape[1]
    return matrix.as_strided((length,), (1,)).numpy(), stride


def _usable_threads() -> int:
    """What numba would take: NUMBA_NUM_THREADS or the machine's CPUs, but never more than this process may run on.

    Asked of its configuration, because numba.get_num_threads() starts a threading layer that is not needed here.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    configured: int = numba.config.NUMBA_NUM_THREADS  # pyright: ignore[reportAttributeAccessIssue]
    return max(1, min(configured, allowed))
