"""What a batch's key-token values look like, as the numbers that become the `ktae/*` metrics."""

import importlib
import math

import numpy as np
import torch
from numpy.typing import NDArray

from openrlhf_ktae.advantage.estimator.inputs import check_mask, check_rollouts
from openrlhf_ktae.advantage.estimator.values import with_numba
from openrlhf_ktae.config import KEY_TOKEN_SHARE

SATURATED_SHARE = 0.99
"""Tokens with |K| above this share of the scale are saturated."""
_BLOCK_POSITIONS = 2**18  # a block and what is made of it stay in the processor's cache


def batch_diagnostics(
    values: torch.Tensor, mask: torch.Tensor, correct: torch.Tensor, group: torch.Tensor, scale: float = 1.0
) -> dict[str, float]:
    """Summary of key-token values over the tokens under the mask; a mean over no tokens is NaN.

    values: (N, T) from `key_token_values`; mask (N, T), correct (N,), group (N,) as there; scale: the one of the
    values, which is the most that |K| can be.

    ktae/key_token_frac: share of tokens with |K| > KEY_TOKEN_SHARE x scale. ktae/saturated_frac: with |K| >
    SATURATED_SHARE x scale.
    ktae/value_mean_correct, _wrong: mean K over the tokens of correct and of wrong rollouts.
    ktae/value_abs_mean_correct, _wrong, ktae/value_abs_mean: mean |K|, per class and over all.
    ktae/degenerate_group_frac: share of groups whose rollouts are all correct or all wrong, so that K = 0.
    Raises ValueError, naming the argument, for shapes, dtypes or values that make no sense.
    """
    values = torch.as_tensor(values).detach()
    if not values.is_floating_point():
        raise ValueError(f"values: dtype {values.dtype}, expected the floats that key_token_values returns")
    if values.dim() != 2:
        raise ValueError(f"values: shape {tuple(values.shape)}, expected (N, T)")
    mask = check_mask(mask, "values", values)
    rollouts = check_rollouts(correct, group, len(values))
    sums = _sums(values, mask, KEY_TOKEN_SHARE * scale, SATURATED_SHARE * scale)
    tokens, key_tokens, saturated, _, size = sums.sum(axis=0).tolist()
    tokens_correct, _, _, value_correct, size_correct = sums[rollouts.correct].sum(axis=0).tolist()
    tokens_wrong, _, _, value_wrong, size_wrong = sums[~rollouts.correct].sum(axis=0).tolist()
    degenerate = float(((rollouts.n_correct == 0) | (rollouts.n_wrong == 0)).sum())
    return {
        "ktae/key_token_frac": _share(key_tokens, tokens),
        "ktae/value_mean_correct": _share(value_correct, tokens_correct),
        "ktae/value_mean_wrong": _share(value_wrong, tokens_wrong),
        "ktae/value_abs_mean_correct": _share(size_correct, tokens_correct),
        "ktae/value_abs_mean_wrong": _share(size_wrong, tokens_wrong),
        "ktae/value_abs_mean": _share(size, tokens),
        "ktae/saturated_frac": _share(saturated, tokens),
        "ktae/degenerate_group_frac": _share(degenerate, float(len(rollouts.group_ids))),
    }


def _sums(values: torch.Tensor, mask: torch.Tensor, key: float, saturated: float) -> NDArray[np.float64]:
    """(N, 5) of each row: tokens, key tokens, saturated tokens, sum of K, sum of |K|."""

    def compiled() -> NDArray[np.float64]:
        rows = importlib.import_module("openrlhf_ktae.advantage.estimator.rows")
        return rows.sums(values, mask, key, saturated) if rows.takes(values) else sums_with_torch()

    def sums_with_torch() -> NDArray[np.float64]:
        per_row = torch.zeros(len(values), 5, dtype=torch.float64, device=values.device)
        block = max(1, _BLOCK_POSITIONS // max(1, values.shape[1]))
        for first in range(0, len(values), block):
            part = torch.where(mask[first : first + block], values[first : first + block].float(), 0.0)
            size = part.abs()
            sums = per_row[first : first + block]
            sums[:, 0] = mask[first : first + block].sum(dim=1)
            sums[:, 1] = (size > key).sum(dim=1)
            sums[:, 2] = (size > saturated).sum(dim=1)
            sums[:, 3] = part.sum(dim=1, dtype=torch.float64)
            sums[:, 4] = size.sum(dim=1, dtype=torch.float64)
        return per_row.cpu().numpy()

    return with_numba(compiled, sums_with_torch)


def _share(part: float, whole: float) -> float:
    return part / whole if whole > 0 else math.nan
