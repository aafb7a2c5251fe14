"""Splits of made problems, disjoint whatever the seeds and the sizes: a problem's own content decides its split."""

import zlib
from typing import Literal

Split = Literal["warmup", "train", "evaluation"]

_TENTHS: dict[Split, frozenset[int]] = {
    "warmup": frozenset(range(0, 5)),
    "train": frozenset(range(5, 8)),
    "evaluation": frozenset(range(8, 10)),
}
"""Which tenths of the problem space belong to a split; a problem's tenth is a checksum of what makes it one."""


def split_of(key: str) -> Split:
    """The split of the problem that ``key`` stands for."""
    tenth = zlib.crc32(key.encode()) % 10
    return next(split for split, tenths in _TENTHS.items() if tenth in tenths)


def share_of(split: Split) -> float:
    """Share of the problem space that belongs to a split."""
    return len(_TENTHS[split]) / 10
