"""The counts behind the key-token values, one row per distinct token of a group: for reports and for looking closer."""

from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray

from openrlhf_ktae.advantage.estimator.association import association
from openrlhf_ktae.advantage.estimator.inputs import DEFAULT_CONFIG, check_batch, strength_tables
from openrlhf_ktae.advantage.estimator.options import KtaeConfig
from openrlhf_ktae.advantage.estimator.torch_kernel import distinct_tokens


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
    config: KtaeConfig = DEFAULT_CONFIG,
) -> TokenStatistics:
    """Counts, tests and value of every distinct token of every group; arguments and errors as in `key_token_values`."""
    batch = check_batch(token_ids, mask, correct, group)
    chunks = list(distinct_tokens(batch, strength_tables(batch, config), config))

    def whole(name: str) -> torch.Tensor:
        parts = [getattr(chunk, name).cpu() for chunk in chunks]
        return torch.cat(parts) if parts else torch.zeros(0)

    index, token_id = _integers(whole("group")), _integers(whole("token_id"))
    order = np.lexsort((token_id, index))
    index, token_id = index[order], token_id[order]
    a, b, m_c, m_w = (_integers(whole(name))[order] for name in ("a", "b", "m_c", "m_w"))
    n_correct, n_wrong = batch.n_correct[index], batch.n_wrong[index]
    looked_up = np.zeros((3, len(index)))
    for pair in np.unique(np.stack([batch.n_correct, batch.n_wrong], axis=1), axis=0):
        here = (n_correct == pair[0]) & (n_wrong == pair[1])
        tables = association(int(pair[0]), int(pair[1]))
        for column, table in enumerate((tables.fisher_p, tables.information_gain_bits, tables.cohens_h)):
            looked_up[column, here] = table[a[here], b[here]]
    return TokenStatistics(
        group=batch.group_ids[index],
        token_id=token_id,
        a=a,
        b=b,
        c=n_correct - a,
        d=n_wrong - b,
        m_c=m_c,
        m_w=m_w,
        fisher_p=looked_up[0],
        information_gain_bits=looked_up[1],
        cohens_h=looked_up[2],
        tf_contrast=whole("tf_contrast").double().numpy()[order],
        value=whole("value").float().numpy()[order],
    )


def _integers(column: torch.Tensor) -> NDArray[np.int64]:
    return column.to(torch.int64).numpy()


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
