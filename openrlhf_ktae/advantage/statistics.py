"""The counts behind the key-token values, one row per distinct token of a group: for reports and for looking closer."""

from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray

from openrlhf_ktae.advantage.association import association
from openrlhf_ktae.advantage.batch import check_batch, strength_tables
from openrlhf_ktae.advantage.torch_kernel import distinct_tokens
from openrlhf_ktae.config import KtaeConfig

_DEFAULT_CONFIG = KtaeConfig()


@dataclass(frozen=True)
class TokenStatistics:
    """Equally long 1-D columns, one row per (group, distinct token), ordered by group, then token id."""

    group: NDArray[np.int64]
    """As given by the caller."""
    token_id: NDArray[np.int64]
    a: NDArray[np.int64]
    """Correct rollouts that contain the token."""
    b: NDArray[np.int64]
    """Wrong rollouts that contain it."""
    c: NDArray[np.int64]
    """Correct rollouts without it."""
    d: NDArray[np.int64]
    """Wrong rollouts without it."""
    m_c: NDArray[np.int64]
    """Occurrences in correct rollouts."""
    m_w: NDArray[np.int64]
    """Occurrences in wrong rollouts."""
    fisher_p: NDArray[np.float64]
    """Two-sided p of Fisher's exact test; 1 in groups with an empty class."""
    information_gain_bits: NDArray[np.float64]
    cohens_h: NDArray[np.float64]
    """Difference of the arcsine-transformed shares a / n_correct and b / n_wrong, in [-pi/2, pi/2]."""
    tf_contrast: NDArray[np.float64]
    """Contrast r of the BM25 term frequencies; 0 where a class of the group has no tokens."""
    value: NDArray[np.float32]
    """Key-token value K."""

    def __len__(self) -> int:
        return len(self.token_id)

    def take(self, rows: NDArray[np.int64]) -> "TokenStatistics":
        """These rows, in this order."""
        return TokenStatistics(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


def token_statistics(
    token_ids: torch.Tensor,
    mask: torch.Tensor,
    correct: torch.Tensor,
    group: torch.Tensor,
    config: KtaeConfig = _DEFAULT_CONFIG,
) -> TokenStatistics:
    """Counts, tests and value of every distinct token of every group; arguments and errors as in `key_token_values`."""
    batch = check_batch(token_ids, mask, correct, group)
    names = ("group", "token_id", "a", "b", "m_c", "m_w", "tf_contrast", "value")
    parts: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for tokens in distinct_tokens(batch, strength_tables(batch, config), config):
        for name in names:
            parts[name].append(getattr(tokens, name).cpu().numpy())
    real = ("tf_contrast", "value")
    columns = {
        name: np.concatenate([np.zeros(0, dtype=np.float64 if name in real else np.int64), *part])
        for name, part in parts.items()
    }
    order = np.lexsort((columns["token_id"], columns["group"]))
    columns = {name: column[order] for name, column in columns.items()}
    index = columns.pop("group")
    a, b = columns["a"], columns["b"]
    n_correct, n_wrong = batch.n_correct[index], batch.n_wrong[index]
    looked_up = {name: np.zeros(len(index)) for name in ("fisher_p", "information_gain_bits", "cohens_h")}
    for pair in np.unique(np.stack([batch.n_correct, batch.n_wrong], axis=1), axis=0):
        here = (n_correct == pair[0]) & (n_wrong == pair[1])
        tables = association(int(pair[0]), int(pair[1]))
        for name, column in looked_up.items():
            column[here] = getattr(tables, name)[a[here], b[here]]
    return TokenStatistics(
        group=batch.group_ids[index],
        c=n_correct - a,
        d=n_wrong - b,
        **looked_up,
        **{name: column for name, column in columns.items() if name != "value"},
        value=columns["value"].astype(np.float32),
    )


def top_tokens(statistics: TokenStatistics, group: int, count: int) -> TokenStatistics:
    """The `count` tokens of one group with the largest |K|, largest first; tokens with K = 0 are left out.

    Equal values, common where K saturates, are ordered by occurrences (most first), then by token id.
    A group without tokens, or without a key token, gives no rows. Raises ValueError for a negative count.
    """
    if count < 0:
        raise ValueError(f"count: got {count}, expected 0 or more")
    rows = np.flatnonzero(statistics.group == group)
    magnitude = np.abs(statistics.value[rows])
    occurrences = statistics.m_c[rows] + statistics.m_w[rows]
    order = np.lexsort((statistics.token_id[rows], -occurrences, -magnitude))
    order = order[magnitude[order] > 0][:count]
    return statistics.take(rows[order])
