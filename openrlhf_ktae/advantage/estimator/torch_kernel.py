"""Key-token values with torch operations only: for tensors on a GPU, and wherever numba is missing.

Nothing here waits for the device once per group. Groups are taken in chunks; per chunk the host learns four sizes.
Distinct tokens are found without sorting: every position writes its own index into the entry of its (group, token),
whoever wins the entry stands for the token. Which one wins does not matter, so races between writers are harmless.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from openrlhf_ktae.advantage.estimator.inputs import Batch, StrengthTables, reject_token_ids
from openrlhf_ktae.advantage.estimator.options import KtaeConfig

# Bytes of working memory per chunk. A CPU chunk should stay in its caches, a GPU chunk should be large.
_CHUNK_BYTES = {"cpu": 32 * 2**20, "cuda": 768 * 2**20}
_BYTES_PER_POSITION = 96  # working memory of a position under the mask; padding takes less
_VOCABULARY = 2**18  # room for this many ids per group is planned; with larger ids a chunk may be halved


@dataclass(frozen=True)
class DistinctTokens:
    """One row per distinct (group, token) of a chunk; every column is 1-D and on the device of the tokens."""

    group: torch.Tensor
    """int64, index into the batch's groups."""
    token_id: torch.Tensor
    a: torch.Tensor
    """Correct rollouts that contain the token; b: wrong rollouts."""
    b: torch.Tensor
    m_c: torch.Tensor
    """Occurrences in correct rollouts; m_w: in wrong rollouts."""
    m_w: torch.Tensor
    tf_contrast: torch.Tensor
    """r, float64; 0 where a class of the group has no tokens."""
    value: torch.Tensor
    """K, float64."""


@dataclass(frozen=True)
class _Groups:
    """What is known about rows and groups, on the device of the tokens; rows are in the order of `batch.rows`."""

    strength: torch.Tensor
    cohens_h: torch.Tensor
    offset: torch.Tensor
    n_wrong: torch.Tensor
    row_group: torch.Tensor
    row_slot: torch.Tensor
    row_correct: torch.Tensor
    ignored: torch.Tensor


@dataclass(frozen=True)
class _Chunk:
    """The groups first to last - 1 and their tokens."""

    first: int
    last: int
    rows: slice | torch.Tensor
    """Where the chunk's rows are in the batch."""
    positions: torch.Tensor
    """(tokens,) int64, into the chunk's rows laid end to end."""
    row: torch.Tensor
    """(tokens,) int64, into the order of `batch.rows`."""
    ids: torch.Tensor
    """(tokens,) int64."""
    begin: int
    """The chunk's first row in the order of `batch.rows`."""
    lengths: torch.Tensor
    """(rows,) tokens under the mask."""
    vocabulary: int


def torch_values(
    batch: Batch, tables: StrengthTables, config: KtaeConfig, chunk_bytes: int | None = None
) -> torch.Tensor:
    """(N, T) float32 key-token values on the device of `batch.token_ids`; exactly 0 where the mask is 0."""
    result = torch.zeros(batch.token_ids.shape, dtype=torch.float32, device=batch.token_ids.device)
    columns = batch.token_ids.shape[1]
    for chunk, label, tokens in _counted_chunks(batch, tables, config, chunk_bytes):
        values = tokens.value.to(torch.float32).index_select(0, label)
        if isinstance(chunk.rows, slice):
            result[chunk.rows].view(-1).scatter_(0, chunk.positions, values)
        else:
            row = torch.div(chunk.positions, columns, rounding_mode="floor")
            result.view(-1).scatter_(0, chunk.positions + (chunk.rows[row] - row) * columns, values)
    return result


def distinct_tokens(
    batch: Batch, tables: StrengthTables, config: KtaeConfig, chunk_bytes: int | None = None
) -> Iterator[DistinctTokens]:
    """The distinct tokens of every group with their counts and values, a chunk of groups at a time."""
    for _, _, tokens in _counted_chunks(batch, tables, config, chunk_bytes):
        yield tokens


def _counted_chunks(
    batch: Batch, tables: StrengthTables, config: KtaeConfig, chunk_bytes: int | None
) -> Iterator[tuple[_Chunk, torch.Tensor, DistinctTokens]]:
    """Every chunk with the label of each of its tokens, a row of the distinct tokens that follow."""
    if batch.token_ids.numel() == 0:
        return
    budget = chunk_bytes or _CHUNK_BYTES.get(batch.token_ids.device.type, _CHUNK_BYTES["cuda"])
    groups = _groups_on_device(batch, tables, config)
    pending = list(_chunk_bounds(batch, budget))[::-1]
    while pending:
        first, last = pending.pop()
        chunk = _read_chunk(batch, first, last)
        if chunk is None:
            continue
        if last - first > 1 and (last - first) * chunk.vocabulary * 4 > 2 * budget:
            middle = (first + last) // 2
            pending += [(middle, last), (first, middle)]
            continue
        slots = int(np.diff(batch.starts[first : last + 1]).max())
        label, chosen, counts = _count(chunk, groups, slots, budget)
        yield chunk, label, _value(config, groups, chunk, chosen, counts)


def _groups_on_device(batch: Batch, tables: StrengthTables, config: KtaeConfig) -> _Groups:
    device, sizes = batch.token_ids.device, np.diff(batch.starts)

    def put(values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(device)

    return _Groups(
        strength=put(tables.strength),
        cohens_h=put(tables.cohens_h),
        offset=put(tables.offset),
        n_wrong=put(batch.n_wrong),
        row_group=put(np.repeat(np.arange(len(sizes)), sizes)),
        row_slot=put(np.arange(len(batch.rows)) - np.repeat(batch.starts[:-1], sizes)),
        row_correct=put(batch.correct[batch.rows]),
        ignored=torch.tensor(sorted(config.ignore_token_ids), dtype=torch.int64, device=device),
    )


def _chunk_bounds(batch: Batch, budget: int) -> Iterator[tuple[int, int]]:
    """Runs of groups whose working memory fits the budget; a group that does not fit alone is a chunk of its own."""
    row_bytes = batch.token_ids.shape[1] * _BYTES_PER_POSITION
    spent = batch.starts * row_bytes + np.arange(len(batch.starts)) * 4 * _VOCABULARY
    first = 0
    while first < len(spent) - 1:
        last = int(np.searchsorted(spent, spent[first] + budget, side="right")) - 1
        yield first, max(last, first + 1)
        first = max(last, first + 1)


def _row_selection(rows: NDArray[np.int64], device: torch.device) -> slice | torch.Tensor:
    if rows[-1] - rows[0] == len(rows) - 1 and bool((np.diff(rows) == 1).all()):
        return slice(int(rows[0]), int(rows[-1]) + 1)
    return torch.from_numpy(rows).to(device)


def _read_chunk(batch: Batch, first: int, last: int) -> _Chunk | None:
    """The tokens of some groups, or None if there are none. Raises ValueError for ids out of range."""
    device, columns = batch.token_ids.device, batch.token_ids.shape[1]
    begin, end = int(batch.starts[first]), int(batch.starts[last])
    rows = _row_selection(batch.rows[begin:end], device)
    positions = batch.mask[rows].reshape(-1).nonzero().squeeze(1)
    if len(positions) == 0:
        return None
    ids = batch.token_ids[rows].reshape(-1).index_select(0, positions).to(torch.int64)
    lowest, highest = torch.stack(torch.aminmax(ids)).tolist()
    reject_token_ids(lowest, highest)
    row_ends = torch.arange(0, end - begin + 1, device=device) * columns
    lengths = torch.searchsorted(positions, row_ends).diff()
    row = torch.arange(begin, end, device=device).repeat_interleave(lengths, output_size=len(positions))
    return _Chunk(first, last, rows, positions, row, ids, begin, lengths, highest + 1)


def _count(
    chunk: _Chunk, groups: _Groups, slots: int, budget: int
) -> tuple[torch.Tensor, torch.Tensor, tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Label the tokens of a chunk by distinct (group, token) and count those.

    Returns the label of every token, one token index for each label, and its counts (a, b, m_c, m_w).
    """
    ids, row = chunk.ids, chunk.row
    index = torch.arange(len(ids), dtype=torch.int32, device=ids.device)
    key = ((groups.row_group - chunk.first) * chunk.vocabulary).index_select(0, row).add_(ids)
    # Never cleared: only entries that were just written are read.
    owner = torch.empty((chunk.last - chunk.first) * chunk.vocabulary, dtype=torch.int32, device=ids.device)
    winner = owner.scatter_(0, key, index).index_select(0, key)
    del owner, key
    chosen = (winner == index).nonzero().squeeze(1)
    numbering = torch.empty(len(ids), dtype=torch.int64, device=ids.device)
    numbering.scatter_(0, chosen, torch.arange(len(chosen), device=ids.device))
    label = numbering.index_select(0, winner)
    del numbering, winner

    # Two counts in one integer: correct in the high half, wrong in the low half.
    once = torch.where(groups.row_correct, 1 << 32, 1).index_select(0, row)
    occurrences = torch.zeros(len(chosen), dtype=torch.int64, device=ids.device).index_add_(0, label, once)
    rollouts = torch.zeros_like(occurrences)
    block = max(1, budget // (4 * len(chosen)))
    for low in range(0, slots, block):
        rows_left = slice(None) if slots <= block else _tokens_of_slots(groups.row_slot, row, low, low + block)
        part_label = label[rows_left]
        key = ((groups.row_slot - low) * len(chosen)).index_select(0, row[rows_left]).add_(part_label)
        part_index = index[rows_left]
        owner = torch.empty(min(block, slots - low) * len(chosen), dtype=torch.int32, device=ids.device)
        first_in_row = owner.scatter_(0, key, part_index).index_select(0, key) == part_index
        rollouts.index_add_(0, part_label, torch.where(first_in_row, once[rows_left], 0))
    low_half = (1 << 32) - 1
    return label, chosen, (rollouts >> 32, rollouts & low_half, occurrences >> 32, occurrences & low_half)


def _tokens_of_slots(row_slot: torch.Tensor, row: torch.Tensor, low: int, high: int) -> torch.Tensor:
    """Indices of the tokens in the rows low to high - 1 of their groups: for groups too large to look at at once."""
    return ((row_slot >= low) & (row_slot < high)).index_select(0, row).nonzero().squeeze(1)


def _value(
    config: KtaeConfig,
    groups: _Groups,
    chunk: _Chunk,
    chosen: torch.Tensor,
    counts: tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor],
) -> DistinctTokens:
    a, b, m_c, m_w = counts
    group = groups.row_group.index_select(0, chunk.row.index_select(0, chosen))
    token_id = chunk.ids.index_select(0, chosen)
    local = group - chunk.first
    saturation_c, saturation_w, has_both = _saturations(config, groups, chunk)
    both = has_both.index_select(0, local)
    f_c = _term_frequency(config, m_c, saturation_c.index_select(0, local))
    f_w = _term_frequency(config, m_w, saturation_w.index_select(0, local))
    r = torch.where(both, f_c / (f_w + config.eps) - f_w / (f_c + config.eps), 0.0)
    entry = groups.offset.index_select(0, group) + a * (groups.n_wrong.index_select(0, group) + 1) + b
    association = groups.strength.index_select(0, entry) * (groups.cohens_h.index_select(0, entry) + config.gamma * r)
    value = torch.where(both, config.scale * torch.tanh(association / 2), 0.0)
    if len(groups.ignored) > 0:
        value = torch.where(torch.isin(token_id, groups.ignored), 0.0, value)
    return DistinctTokens(group, token_id, a, b, m_c, m_w, r, value)


def _saturations(config: KtaeConfig, groups: _Groups, chunk: _Chunk) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Per group of the chunk: k * T of the correct and of the wrong class, float64, and whether both have tokens."""
    rows = slice(chunk.begin, chunk.begin + len(chunk.lengths))
    row_group = groups.row_group[rows] - chunk.first
    is_correct = groups.row_correct[rows]
    zeros = torch.zeros(chunk.last - chunk.first, dtype=torch.int64, device=chunk.ids.device)
    t_c = zeros.index_add(0, row_group, torch.where(is_correct, chunk.lengths, 0))
    t_w = zeros.index_add(0, row_group, torch.where(is_correct, 0, chunk.lengths))
    both = (t_c > 0) & (t_w > 0)
    total_c, total_w = t_c.double() + 2.0 * config.tf_smoothing, t_w.double() + 2.0 * config.tf_smoothing
    mean = (total_c + total_w) / 2.0
    k_c = config.k1 * (1.0 - config.b0 + config.b0 * total_c / mean)
    k_w = config.k1 * (1.0 - config.b0 + config.b0 * total_w / mean)
    return k_c * total_c, k_w * total_w, both


def _term_frequency(config: KtaeConfig, occurrences: torch.Tensor, saturation: torch.Tensor) -> torch.Tensor:
    """BM25 term frequency, float64 (arXiv 2505.16826, eq. 12): m (k1 + 1) / (m + k T) is that of q = m / T."""
    smoothed = occurrences.double() + config.tf_smoothing
    return torch.where(smoothed > 0, smoothed * (config.k1 + 1.0) / (smoothed + saturation), 0.0)
