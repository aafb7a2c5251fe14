"""Over the whole run: which share of groups carries signal, which tokens the estimator rewards, how that moves."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from openrlhf_ktae.report.curves import series_of
from openrlhf_ktae.report.groups import texts
from openrlhf_ktae.report.run_folder import Run
from openrlhf_ktae.run_folder import VOCABULARY_FILE

TOP = 12
DRAWN = 5
ROWS = 32_000_000
"""Most rows of token files that are read; a step of 1,024 prompts has three million."""
MIN_MEAN = 0.01
"""Tokens whose mean value is nearer to 0 are neither positive nor negative."""


@dataclass(frozen=True)
class TokenHistories:
    """Every token of the groups with contrast (right and wrong rollouts), by token id; sums over those groups."""

    groups: NDArray[np.float64]
    occurrences: NDArray[np.float64]
    total: NDArray[np.float64]
    by_step: dict[int, tuple[NDArray[np.int64], NDArray[np.float64]]]
    """Step -> the ids it has, ascending, and the mean value of each."""
    texts: dict[int, str]

    @property
    def means(self) -> NDArray[np.float64]:
        """0 for an id that is nowhere."""
        return self.total / np.maximum(self.groups, 1)


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


def shown_steps(run: Run) -> list[int]:
    """The steps whose tokens are summed up: all, or as many as `ROWS` allows, spread over the run."""
    steps = sorted(run.token_files)
    if not steps:
        return []
    rows = pq.read_metadata(run.token_files[steps[-1]]).num_rows
    count = min(len(steps), max(2, ROWS // max(rows, 1)))
    return sorted({steps[round(place)] for place in np.linspace(0, len(steps) - 1, count)})


def token_histories(run: Run) -> TokenHistories:
    """Reads the token files of `shown_steps`."""
    sums = np.zeros((3, 0))
    by_step = {}
    for step in shown_steps(run):
        table = pq.read_table(run.token_files[step], columns=["token_id", "a", "b", "c", "d", "m_c", "m_w", "value"])
        token_id, a, b, c, d, m_c, m_w, value = (column.to_numpy() for column in table.columns)
        counts = (a + c > 0) & (b + d > 0) & np.isfinite(value.astype(float))
        token_id = token_id[counts]
        size = max(sums.shape[1], int(token_id.max(initial=-1)) + 1)
        sums = np.pad(sums, ((0, 0), (0, size - sums.shape[1])))
        weights = (None, (m_c + m_w)[counts], value[counts])
        found = np.stack([np.bincount(token_id, weight, size) for weight in weights])
        sums += found
        here = np.flatnonzero(found[0])
        by_step[step] = here, found[2, here] / found[0, here]
    groups, occurrences, total = sums
    return TokenHistories(groups, occurrences, total, by_step, texts(run.path / "rollouts" / VOCABULARY_FILE))


def top_run_tokens(histories: TokenHistories, count: int = TOP) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The most positive and the most negative tokens by mean value over the groups that hold them.

    A token needs enough groups to count: 5 % of the most common token's, at least 3; where no token has 3, 1 will do.
    """
    means, most = histories.means, histories.groups.max(initial=0)
    needed = max(3, round(0.05 * most)) if most >= 3 else 1
    kept = np.flatnonzero((histories.groups >= needed) & (np.abs(means) >= MIN_MEAN))
    order = kept[np.argsort(means[kept], kind="stable")].tolist()
    negative = [_row(token_id, histories) for token_id in order[:count] if means[token_id] < 0]
    positive = [_row(token_id, histories) for token_id in reversed(order[-count:]) if means[token_id] > 0]
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


def _row(token_id: int, histories: TokenHistories) -> dict[str, Any]:
    steps, means = [], []
    for step, (ids, of_step) in histories.by_step.items():
        place = int(np.searchsorted(ids, token_id))
        if place < len(ids) and ids[place] == token_id:
            steps.append(step)
            means.append(float(of_step[place]))
    return {
        "token": histories.texts.get(token_id, f"<id {token_id}>"),
        "mean": round(float(histories.means[token_id]), 4),
        "groups": int(histories.groups[token_id]),
        "occurrences": int(histories.occurrences[token_id]),
        "x": steps,
        "y": _short(means),
        "sparkline": sparkline(means),
    }


def _short(values: Sequence[float | None]) -> list[float | None]:
    return [None if value is None else float(f"{value:.5g}") for value in values]
