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

from openrlhf_ktae.advantage.batch import TOKEN_ID_LIMIT, Batch, StrengthTables, reject_token_ids
from openrlhf_ktae.config import KtaeConfig

# Bytes of working memory per chunk. A CPU chunk should stay in its caches, a GPU chunk should be large.
_CHUNK_BYTES = {"cpu": 96 * 2**20, "cuda": 768 * 2**20}
_BYTES_PER_TOKEN = 72  # working memory for each token under the mask, measured with torch 2.13


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
    tokens_correct: torch.Tensor
    tokens_wrong: torch.Tensor
    row_group: torch.Tensor
    row_slot: torch.Tensor
    row_correct: torch.Tensor
    ignored: torch.Tensor


def torch_values(
    batch: Batch, tables: StrengthTables, config: KtaeConfig, chunk_bytes: int | None = None
) -> torch.Tensor:
    """(N, T) float32 key-token values on the device of `batch.token_ids`; exactly 0 where the mask is 0."""
    result = torch.zeros(batch.token_ids.shape, dtype=torch.float32, device=batch.token_ids.device)
    columns = batch.token_ids.shape[1]
    for rows, positions, label, tokens in _chunks(batch, tables, config, chunk_bytes):
        values = tokens.value.to(torch.float32)[label]
        if isinstance(rows, slice):
            result[rows].view(-1)[positions] = values
        else:
            row = torch.div(positions, columns, rounding_mode="floor")
            result.view(-1)[positions + (rows[row] - row) * columns] = values
    return result


def distinct_tokens(
    batch: Batch, tables: StrengthTables, config: KtaeConfig, chunk_bytes: int | None = None
) -> Iterator[DistinctTokens]:
    """The distinct tokens of every group with their counts and values, a chunk of groups at a time."""
    for _, _, _, tokens in _chunks(batch, tables, config, chunk_bytes):
        yield tokens


def _chunks(
    batch: Batch, tables: StrengthTables, config: KtaeConfig, chunk_bytes: int | None
) -> Iterator[tuple[slice | torch.Tensor, torch.Tensor, torch.Tensor, DistinctTokens]]:
    device, columns = batch.token_ids.device, batch.token_ids.shape[1]
    if batch.token_ids.numel() == 0:
        return
    budget = chunk_bytes or _CHUNK_BYTES.get(device.type, _CHUNK_BYTES["cuda"])
    lengths = batch.mask.sum(dim=1, dtype=torch.int32).cpu().numpy().astype(np.int64)[batch.rows]
    groups = _groups_on_device(batch, tables, config, lengths)
    # Ids at masked positions may be anything; they only make this bound loose, and the chunks smaller.
    vocabulary = min(max(1, int(batch.token_ids.max()) + 1), TOKEN_ID_LIMIT)
    for first, last in _chunk_bounds(batch, lengths, vocabulary, budget):
        begin, end = int(batch.starts[first]), int(batch.starts[last])
        rows = _row_selection(batch.rows[begin:end], device)
        positions = batch.mask[rows].reshape(-1).nonzero().squeeze(1)
        if len(positions) == 0:
            continue
        ids = batch.token_ids[rows].reshape(-1)[positions].to(torch.int64)
        lowest, highest = torch.stack(torch.aminmax(ids)).tolist()
        reject_token_ids(lowest, highest)
        row = torch.div(positions, columns, rounding_mode="floor") + begin
        slots = int(np.diff(batch.starts[first : last + 1]).max())
        label, tokens = _count(ids, row, groups, config, (first, last), highest + 1, slots, budget)
        yield rows, positions, label, tokens


def _groups_on_device(batch: Batch, tables: StrengthTables, config: KtaeConfig, lengths: NDArray[np.int64]) -> _Groups:
    device = batch.token_ids.device
    sizes = np.diff(batch.starts)
    is_correct = batch.correct[batch.rows]
    totals = np.concatenate([[0], np.cumsum(lengths)])[batch.starts]
    totals_correct = np.concatenate([[0], np.cumsum(np.where(is_correct, lengths, 0))])[batch.starts]

    def put(values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(device)

    return _Groups(
        strength=put(tables.strength),
        cohens_h=put(tables.cohens_h),
        offset=put(tables.offset),
        n_wrong=put(batch.n_wrong),
        tokens_correct=put(np.diff(totals_correct).astype(np.float64)),
        tokens_wrong=put(np.diff(totals - totals_correct).astype(np.float64)),
        row_group=put(np.repeat(np.arange(len(sizes)), sizes)),
        row_slot=put(np.arange(len(batch.rows)) - np.repeat(batch.starts[:-1], sizes)),
        row_correct=put(is_correct),
        ignored=torch.tensor(sorted(config.ignore_token_ids), dtype=torch.int64, device=device),
    )


def _chunk_bounds(batch: Batch, lengths: NDArray[np.int64], vocabulary: int, budget: int) -> Iterator[tuple[int, int]]:
    """Runs of groups whose working memory fits the budget; a group that does not fit alone is a chunk of its own."""
    ends = np.concatenate([[0], np.cumsum(lengths)])[batch.starts]
    row_bytes = batch.token_ids.shape[1] * (1 + batch.token_ids.element_size())
    spent = ends * _BYTES_PER_TOKEN + batch.starts * row_bytes + np.arange(len(ends)) * 4 * vocabulary
    first = 0
    while first < len(ends) - 1:
        last = int(np.searchsorted(spent, spent[first] + budget, side="right")) - 1
        last = max(last, first + 1)
        yield first, last
        first = last


def _row_selection(rows: NDArray[np.int64], device: torch.device) -> slice | torch.Tensor:
    if rows[-1] - rows[0] == len(rows) - 1 and bool((np.diff(rows) == 1).all()):
        return slice(int(rows[0]), int(rows[-1]) + 1)
    return torch.from_numpy(rows).to(device)


def _count(
    ids: torch.Tensor,
    row: torch.Tensor,
    groups: _Groups,
    config: KtaeConfig,
    bounds: tuple[int, int],
    vocabulary: int,
    slots: int,
    budget: int,
) -> tuple[torch.Tensor, DistinctTokens]:
    """Label every token with its distinct (group, token), and count and value those. `ids`, `row`: (tokens,)."""
    index = torch.arange(len(ids), dtype=torch.int32, device=ids.device)
    row_group = groups.row_group[row]
    key = (row_group - bounds[0]) * vocabulary + ids
    # Never cleared: only entries that were just written are read.
    owner = torch.empty((bounds[1] - bounds[0]) * vocabulary, dtype=torch.int32, device=ids.device)
    owner[key] = index
    winner = owner[key]
    del owner, key
    chosen = (winner == index).nonzero().squeeze(1)
    numbering = torch.empty_like(index, dtype=torch.int64)
    numbering[chosen] = torch.arange(len(chosen), device=ids.device)
    label = numbering[winner]
    del numbering, winner

    once = torch.where(groups.row_correct, 1 << 32, 1)[row]  # two counts in one integer: correct high, wrong low
    occurrences = torch.zeros(len(chosen), dtype=torch.int64, device=ids.device).index_add_(0, label, once)
    rollouts = torch.zeros_like(occurrences)
    slot = groups.row_slot[row]
    block = max(1, budget // (4 * len(chosen)))
    for low in range(0, slots, block):
        part = None if block >= slots else ((slot >= low) & (slot < low + block)).nonzero().squeeze(1)
        first = _first_in_row(slot - low, label, index, len(chosen), part, min(block, slots))
        rollouts.index_add_(0, label[first], once[first])
    high, low_bits = 32, (1 << 32) - 1
    return label, _value(
        config,
        groups,
        row_group[chosen],
        ids[chosen],
        (rollouts >> high, rollouts & low_bits, occurrences >> high, occurrences & low_bits),
    )


def _first_in_row(
    slot: torch.Tensor, label: torch.Tensor, index: torch.Tensor, labels: int, part: torch.Tensor | None, slots: int
) -> torch.Tensor:
    """Indices of one token for each (rollout, distinct token), among the tokens in `part` (all of them if None)."""
    if part is not None:
        slot, label, index = slot[part], label[part], index[part]
    key = slot * labels + label
    owner = torch.empty(slots * labels, dtype=torch.int32, device=slot.device)
    owner[key] = index
    first = (owner[key] == index).nonzero().squeeze(1)
    return first if part is None else part[first]


def _value(
    config: KtaeConfig,
    groups: _Groups,
    group: torch.Tensor,
    token_id: torch.Tensor,
    counts: tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor],
) -> DistinctTokens:
    a, b, m_c, m_w = counts
    entry = groups.offset[group] + a * (groups.n_wrong[group] + 1) + b
    strength, cohens_h = groups.strength[entry], groups.cohens_h[entry]
    smoothing = 2.0 * config.tf_smoothing
    t_c, t_w = groups.tokens_correct, groups.tokens_wrong
    both = (t_c > 0) & (t_w > 0)
    t_c, t_w = t_c + smoothing, t_w + smoothing
    mean = (t_c + t_w) / 2
    f_c = _term_frequency(config, m_c, group, t_c, mean)
    f_w = _term_frequency(config, m_w, group, t_w, mean)
    r = torch.where(both[group], f_c / (f_w + config.eps) - f_w / (f_c + config.eps), 0.0)
    value = config.scale * torch.tanh(strength * (cohens_h + config.gamma * r) / 2)
    value = torch.where(both[group], value, 0.0)
    if len(groups.ignored) > 0:
        value = torch.where(torch.isin(token_id, groups.ignored), 0.0, value)
    return DistinctTokens(group, token_id, a, b, m_c, m_w, r, value)


def _term_frequency(
    config: KtaeConfig, occurrences: torch.Tensor, group: torch.Tensor, total: torch.Tensor, mean: torch.Tensor
) -> torch.Tensor:
    """Okapi BM25 term frequency of each token in one class of its group, float64 (arXiv 2505.16826, eq. 12)."""
    saturation = config.k1 * (1.0 - config.b0 + config.b0 * total / mean)
    share = (occurrences.to(torch.float64) + config.tf_smoothing) / total[group]
    weighted = share * (config.k1 + 1.0) / (share + saturation[group])
    return torch.where(share > 0, weighted, 0.0)  # also where total or the denominator is 0
