"""What every backend starts from: checked inputs, rows ordered by group, and the association tables they need."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from openrlhf_ktae.advantage.estimator.association import association
from openrlhf_ktae.advantage.estimator.options import KtaeConfig

# A guard against ids that are no token ids: the CPU backend keeps four bytes per possible id and thread.
TOKEN_ID_LIMIT = 2**24

DEFAULT_CONFIG = KtaeConfig()  # pyright: ignore[reportCallIssue]

_ID_DTYPES = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


@dataclass(frozen=True)
class Rollouts:
    """What is known about rows and groups, on the host."""

    correct: NDArray[np.bool_]
    """(N,)."""
    rows: NDArray[np.int64]
    """(N,) rows sorted by group; inside a group in their given order."""
    group_ids: NDArray[np.int64]
    """(groups,) the distinct values of `group`, ascending."""
    starts: NDArray[np.int64]
    """(groups + 1,) group i owns rows[starts[i]:starts[i + 1]]."""
    n_correct: NDArray[np.int64]
    """(groups,)."""
    n_wrong: NDArray[np.int64]
    """(groups,)."""


@dataclass(frozen=True)
class Batch(Rollouts):
    """Checked inputs; the two tensors stay where they were."""

    token_ids: torch.Tensor
    """(N, T) int64 or int32."""
    mask: torch.Tensor
    """(N, T) bool."""


@dataclass(frozen=True)
class StrengthTables:
    """Association strength and direction of every (n_correct, n_wrong) in a batch, flattened into one array each.

    Group g finds the entry of (a, b) at offset[g] + a * (n_wrong[g] + 1) + b. All tables are float64.
    """

    strength: NDArray[np.float64]
    """S = (alpha F + beta IG) / (alpha + beta)."""
    cohens_h: NDArray[np.float64]
    offset: NDArray[np.int64]
    """(groups,)."""


def check_batch(token_ids: torch.Tensor, mask: torch.Tensor, correct: torch.Tensor, group: torch.Tensor) -> Batch:
    """Check shapes, dtypes and 0-1 values, and sort the rows by group; token ids are checked by the backends.

    Shapes as in `key_token_values`. Raises ValueError that names the argument, what it is and what it should be.
    """
    token_ids = torch.as_tensor(token_ids).detach()
    if token_ids.dim() != 2:
        raise ValueError(f"token_ids: shape {tuple(token_ids.shape)}, expected (N, T): one row per rollout")
    if token_ids.dtype not in _ID_DTYPES and token_ids.numel() > 0:
        raise ValueError(f"token_ids: dtype {token_ids.dtype}, expected an integer dtype such as torch.int64")
    if token_ids.dtype not in (torch.int64, torch.int32):
        token_ids = token_ids.to(torch.int64)
    checked_mask = check_mask(mask, "token_ids", token_ids)
    rollouts = check_rollouts(correct, group, len(token_ids))
    return Batch(**vars(rollouts), token_ids=token_ids, mask=checked_mask)


def check_mask(mask: torch.Tensor, other: str, like: torch.Tensor) -> torch.Tensor:
    """`mask` as bool, on the device and with the shape of the argument called `other`. Raises ValueError."""
    mask = torch.as_tensor(mask).detach()
    if mask.shape != like.shape:
        raise ValueError(f"mask: shape {tuple(mask.shape)}, expected {tuple(like.shape)} like {other}")
    if mask.device != like.device:
        raise ValueError(f"mask: on {mask.device}, expected {like.device} like {other}; move one of them")
    return _zero_one("mask", mask, "mark generated positions with 1")


def check_rollouts(correct: torch.Tensor, group: torch.Tensor, rows: int) -> Rollouts:
    """The rows in order of their groups, and each group's classes. Raises ValueError."""
    correct, group = torch.as_tensor(correct).detach(), torch.as_tensor(group).detach()
    for name, column in (("correct", correct), ("group", group)):
        if column.shape != (rows,):
            raise ValueError(f"{name}: shape {tuple(column.shape)}, expected ({rows},): one entry per rollout")
    if group.dtype not in _ID_DTYPES and group.numel() > 0:
        raise ValueError(f"group: dtype {group.dtype}, expected an integer dtype; number the prompts")
    is_correct = _zero_one("correct", correct, "compare rewards with a threshold of your own first").cpu().numpy()
    groups = group.cpu().numpy().astype(np.int64)
    order = np.argsort(groups, kind="stable").astype(np.int64)
    group_ids, sizes = np.unique(groups, return_counts=True)
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    n_correct = np.diff(np.concatenate([[0], np.cumsum(is_correct[order], dtype=np.int64)])[starts])
    return Rollouts(is_correct, order, group_ids, starts, n_correct, sizes.astype(np.int64) - n_correct)


def strength_tables(batch: Batch, config: KtaeConfig) -> StrengthTables:
    """The tables that the groups of this batch need, for the weights alpha and beta of `config`."""
    pairs, which = np.unique(np.stack([batch.n_correct, batch.n_wrong], axis=1), axis=0, return_inverse=True)
    tables = [association(int(n_correct), int(n_wrong)) for n_correct, n_wrong in pairs]
    total = config.alpha + config.beta
    strengths = [
        (config.alpha * table.fisher_strength + config.beta * table.information_gain_bits) / total for table in tables
    ]
    sizes = np.cumsum([0, *(strength.size for strength in strengths)])
    empty = [np.zeros(0)]
    return StrengthTables(
        strength=np.concatenate(empty + [strength.ravel() for strength in strengths]),
        cohens_h=np.concatenate(empty + [table.cohens_h.ravel() for table in tables]),
        offset=sizes[:-1][which.reshape(-1)] if len(pairs) else np.zeros(0, dtype=np.int64),
    )


def reject_token_ids(lowest: int, highest: int) -> None:
    """Raise ValueError unless every id under the mask lies in [0, TOKEN_ID_LIMIT)."""
    if lowest < 0 or highest >= TOKEN_ID_LIMIT:
        found = lowest if lowest < 0 else highest
        raise ValueError(
            f"token_ids: {found} under the mask, expected 0 <= id < {TOKEN_ID_LIMIT}; "
            "mask such positions out (ids at masked positions are never read)"
        )


def _zero_one(name: str, values: torch.Tensor, way_out: str) -> torch.Tensor:
    """`values` as bool; 0-1 numbers of any dtype are taken, anything else is refused. Row blocks keep it small."""
    if values.dtype == torch.bool:
        return values
    result = torch.empty(values.shape, dtype=torch.bool, device=values.device)
    block = max(1, 2**20 // max(1, values[:1].numel()))
    fits = torch.ones((), dtype=torch.bool, device=values.device)
    for first in range(0, len(values), block):
        part = values[first : first + block]
        result[first : first + block] = part != 0
        fits &= (part == result[first : first + block]).all()
    if not fits:
        other = values[(values != 0) & (values != 1)][0].item()
        raise ValueError(f"{name}: found the value {other}, expected only 0 and 1 (or bool); {way_out}")
    return result
