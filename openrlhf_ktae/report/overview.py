"""Over the whole run: which share of groups carries signal, which tokens the estimator rewards, how that moves."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow.parquet as pq

from openrlhf_ktae.report.curves import series_of
from openrlhf_ktae.report.run_folder import Run

TOP = 12
DRAWN = 5
MIN_MEAN = 0.01
"""Tokens whose mean value is nearer to 0 are neither positive nor negative."""


@dataclass
class TokenHistory:
    """One token text over the run; sums over the groups in which it occurs."""

    groups: int = 0
    occurrences: int = 0
    total: float = 0.0
    by_step: dict[int, list[float]] = field(default_factory=dict)

    @property
    def mean(self) -> float:
        return self.total / self.groups


def group_shares(run: Run) -> dict[str, Any] | None:
    """Share of groups all correct, mixed and all wrong, per step; None where the run did not log it."""
    names = ("rollout/groups_all_correct_frac", "rollout/groups_all_wrong_frac")
    rows = [row for row in run.train if all(isinstance(row.get(name), float) for name in names)]
    if not rows:
        return None
    steps, right = series_of(rows, names[:1])
    _, wrong = series_of(rows, names[1:])
    mixed = [max(0.0, 1.0 - (r or 0.0) - (w or 0.0)) for r, w in zip(right, wrong, strict=True)]
    return {"x": steps, "all_correct": _short(right), "mixed": _short(mixed), "all_wrong": _short(wrong)}


def token_histories(run: Run) -> dict[str, TokenHistory]:
    """Every token text of the run's groups with contrast (both correct and wrong rollouts)."""
    histories: dict[str, TokenHistory] = {}
    for step, file in sorted(run.token_files.items()):
        table = pq.read_table(file, columns=["token", "a", "b", "c", "d", "m_c", "m_w", "value"]).to_pydict()
        for token, a, b, c, d, m_c, m_w, value in zip(*table.values(), strict=True):
            if a + c == 0 or b + d == 0 or value is None:
                continue
            history = histories.setdefault(token, TokenHistory())
            history.groups += 1
            history.occurrences += m_c + m_w
            history.total += value
            history.by_step.setdefault(step, []).append(value)
    return histories


def top_run_tokens(
    histories: dict[str, TokenHistory], count: int = TOP
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The most positive and the most negative tokens by mean value over the groups that hold them.

    A token needs enough groups to count: 5 % of the most common token's, at least 3; where no token has 3, 1 will do.
    """
    most = max((history.groups for history in histories.values()), default=0)
    needed = max(3, round(0.05 * most)) if most >= 3 else 1
    kept = sorted(
        ((t, h) for t, h in histories.items() if h.groups >= needed and abs(h.mean) >= MIN_MEAN),
        key=lambda item: item[1].mean,
    )
    negative = [_row(token, history) for token, history in kept[:count] if history.mean < 0]
    positive = [_row(token, history) for token, history in reversed(kept[-count:]) if history.mean > 0]
    return positive, negative


def sparkline(values: Sequence[float], width: float = 96.0, height: float = 22.0) -> str:
    """SVG polyline points; the vertical middle is 0 and the ends are -1 and +1, the range of a value at scale 1."""
    limit = max([1.0, *(abs(value) for value in values)])
    across = width / max(1, len(values) - 1)
    return " ".join(f"{i * across:.1f},{height / 2 * (1 - value / limit):.1f}" for i, value in enumerate(values))


def overview(run: Run) -> dict[str, Any]:
    """Plain data of the Groups view of one run."""
    positive, negative = top_run_tokens(token_histories(run))
    return {"shares": group_shares(run), "positive": positive, "negative": negative, "drawn": DRAWN}


def _row(token: str, history: TokenHistory) -> dict[str, Any]:
    steps = sorted(history.by_step)
    means = [sum(history.by_step[s]) / len(history.by_step[s]) for s in steps]
    return {
        "token": token,
        "mean": round(history.mean, 4),
        "groups": history.groups,
        "occurrences": history.occurrences,
        "x": steps,
        "y": _short(means),
        "sparkline": sparkline(means),
    }


def _short(values: Sequence[float | None]) -> list[float | None]:
    return [None if value is None else float(f"{value:.5g}") for value in values]
