"""Key-token maps as plain data: one group of rollouts, token by token, small enough to embed."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from openrlhf_ktae.config import KEY_TOKEN_SHARE
from openrlhf_ktae.report.run_folder import Row, Run
from openrlhf_ktae.run_folder import VOCABULARY_FILE, read_vocabulary

SPECIAL_TOKEN = re.compile(
    r"<\|[^|\s]+\|>|</?s>|<(pad|eos|bos|unk|mask)>|\[(PAD|CLS|SEP|UNK|EOS|BOS)\]|</?think>", re.I
)
STATISTICS = ("a", "b", "c", "d", "m_c", "m_w", "fisher_p", "information_gain_bits", "cohens_h", "tf_contrast", "value")
COUNTS = STATISTICS[:6]
VALUE_BOUNDS = (KEY_TOKEN_SHARE, 0.25, 0.5, 0.75)
"""Shares of ktae.scale at which a value gets its next, stronger colour; the first one makes a key token."""
VALUE_TOLERANCE = 1e-5
RUN_LISTS = ("token_ids", "tokens", "generated", "log_prob", "advantage", "key_token_value")
"""Columns of the rollout log with an entry per token that have a place of their own on the page."""


@dataclass(frozen=True)
class GroupSummary:
    """Enough to list a group and to decide whether it is worth embedding."""

    step: int
    group: int
    size: int
    correct: int

    @property
    def interest(self) -> tuple[bool, int]:
        """Sort key, best first: mixed groups before the others, evenly split ones first."""
        return (self.correct in (0, self.size), abs(2 * self.correct - self.size))


def list_groups(step: int, rollout_file: Path) -> list[GroupSummary]:
    """All groups of one step, in the file's order. Reads two columns."""
    table = pq.read_table(rollout_file, columns=["group", "correct"]).to_pydict()
    sizes: Counter[int] = Counter(table["group"])
    correct: Counter[int] = Counter()
    for group, is_correct in zip(table["group"], table["correct"], strict=True):
        correct[group] += bool(is_correct)
    return [GroupSummary(step, int(group), size, correct[group]) for group, size in sizes.items()]


def find_wanted(runs: Sequence[Run], groups: Sequence[tuple[int, int]]) -> list[tuple[int, int, int]]:
    """(run, step, group) of every place where the runs hold one of `groups` (step, group).

    ValueError for a group that no run wrote.
    """
    found = [
        (i, step, group)
        for step, group in groups
        for i, run in enumerate(runs)
        if step in run.rollout_files and any(s.group == group for s in list_groups(step, run.rollout_files[step]))
    ]
    absent = [f"{step}:{group}" for step, group in groups if not any((step, group) == place[1:] for place in found)]
    if absent:
        steps = sorted({step for run in runs for step in run.rollout_files})
        raise ValueError(
            f"--group {', '.join(absent)}: no run wrote it; steps with rollouts: {', '.join(map(str, steps)) or 'none'}"
        )
    return found


def read_groups(rollout_file: Path, token_file: Path | None, groups: list[int]) -> dict[int, dict[str, Any]]:
    """Encode some groups of one step: group -> view (see `encode_group`). Reads the parts that hold them."""
    rows: dict[int, list[Row]] = {group: [] for group in groups}
    statistics: dict[int, list[Row]] = {group: [] for group in groups}
    for row in pq.read_table(rollout_file, filters=[("group", "in", groups)]).to_pylist():
        rows[row["group"]].append(row)
    if token_file is not None:
        for row in pq.read_table(token_file, filters=[("group", "in", groups)]).to_pylist():
            statistics[row["group"]].append(row)
    known = texts(rollout_file.with_name(VOCABULARY_FILE))
    return {group: encode_group(rows[group], statistics[group], known) for group in groups if rows[group]}


def texts(vocabulary: Path) -> dict[int, str]:
    """Token id -> text of a run; empty where nothing readable says it."""
    try:
        changed = (vocabulary if vocabulary.exists() else vocabulary.parent).stat().st_mtime_ns
        return _texts(vocabulary, changed)
    except (pa.ArrowInvalid, OSError, KeyError):
        return {}


@lru_cache(maxsize=8)
def _texts(vocabulary: Path, changed: int) -> dict[int, str]:
    return read_vocabulary(vocabulary) if vocabulary.exists() else _texts_of_steps(vocabulary.parent)


def _texts_of_steps(folder: Path) -> dict[int, str]:
    """From a run folder without a vocabulary: there every rollout has its tokens' texts beside their ids."""
    found: dict[int, str] = {}
    for file in folder.glob("step_*.parquet"):
        if "tokens" in pq.read_schema(file).names:
            table = pq.read_table(file, columns=["token_ids", "tokens"])
            ids, tokens = (column.combine_chunks().flatten() for column in table.columns)
            found |= dict(zip(ids.to_pylist(), tokens.to_pylist(), strict=True))
    return found


def encode_group(rows: list[Row], statistics: list[Row], texts: Mapping[int, str]) -> dict[str, Any]:
    """Plain data of one group's map.

    Tokens are positions in `vocabulary` (most frequent first), so a token's text and statistics stand there once. A
    rollout's values are stored only where they differ from its tokens' values, its advantage as one `base` where it
    is the same at every position. Log-probabilities are in hundredths of a nat. Without statistics the counts are
    made here from the rollouts, and p, information gain, h and r stay None.
    """
    rows = sorted(rows, key=lambda row: (not row["correct"], row["rollout"]))
    occurrences: Counter[int] = Counter()
    for row in rows:
        occurrences.update(row["token_ids"])
    order = [token for token, _ in occurrences.most_common()]
    position = {token: i for i, token in enumerate(order)}
    known = {row["token_id"]: row for row in (statistics or _count(rows))}
    of_tokens = [known.get(token, {}) for token in order]
    columns = {name: [_short(row.get(name)) for row in of_tokens] for name in STATISTICS}
    return {
        "prompt": str(rows[0].get("prompt") or ""),
        "label": str(rows[0].get("label") or ""),
        "has_statistics": bool(statistics),
        "vocabulary": [texts.get(token) or f"<id {token}>" for token in order],
        "token_ids": order,
        "special": [i for i, token in enumerate(order) if SPECIAL_TOKEN.fullmatch(texts.get(token) or "")],
        "statistics": columns,
        "columns": term_columns(rows[0]),
        "rollouts": [_encode_rollout(row, position, columns["value"]) for row in rows],
    }


def term_columns(row: Row) -> list[str]:
    """The columns that the advantage terms of a run wrote: every list of numbers that is not of every run."""
    return [
        name
        for name, values in row.items()
        if name not in RUN_LISTS and isinstance(values, list) and all(isinstance(v, float | None) for v in values)
    ]


def segment_starts(numbers: Sequence[float | None]) -> list[int]:
    """Places where a further segment begins, from the number of each token's; -1 is no segment."""
    starts, before = [], None
    for place, number in enumerate(numbers):
        if number is not None and number >= 0 and number != before:
            if before is not None:
                starts.append(place)
            before = number
    return starts


def _encode_rollout(row: Row, position: dict[int, int], value: list[float | None]) -> dict[str, Any]:
    tokens = [position[token] for token in row["token_ids"]]
    generated = row.get("generated") or [True] * len(tokens)
    rollout: dict[str, Any] = {
        "rollout": row["rollout"],
        "correct": bool(row["correct"]),
        "truncated": bool(row.get("truncated")),
        "reward": _short(row.get("reward")),
        "score": _short(row.get("score")),
        "tokens": tokens,
        "given": [i for i, is_generated in enumerate(generated) if not is_generated],
    }
    if row.get("branch") is not None:
        rollout["branch"] = row["branch"]
    if row.get("segment"):
        rollout["starts"] = segment_starts(row["segment"])
    if row.get("log_prob"):
        rollout["log_prob"] = [None if p is None else round(100 * p) for p in row["log_prob"]]
    values = [float(v or 0.0) for v in row.get("key_token_value") or [0.0] * len(tokens)]
    expected = [(value[t] or 0.0) if g else 0.0 for t, g in zip(tokens, generated, strict=False)]
    if any(abs(v - e) > VALUE_TOLERANCE for v, e in zip(values, expected, strict=False)):
        rollout["values"] = [_short(v) for v in values]
    columns = {name: [_short(number) for number in row[name]] for name in term_columns(row)}
    if columns:
        rollout["columns"] = columns
    advantages = row.get("advantage")
    if advantages:
        base = [a - v for a, v, g in zip(advantages, values, generated, strict=False) if g and a is not None]
        if base and max(base) - min(base) < 1e-4:
            rollout["base"] = _short(sum(base) / len(base))
        else:
            rollout["advantage"] = [_short(a) for a in advantages]
    return rollout


def _count(rows: list[Row]) -> list[Row]:
    """The counts of every distinct generated token, and its value as the rollouts hold it."""
    totals = Counter(bool(row["correct"]) for row in rows)
    containing: dict[bool, Counter[int]] = {True: Counter(), False: Counter()}
    occurring: dict[bool, Counter[int]] = {True: Counter(), False: Counter()}
    value: dict[int, float] = {}
    for row in rows:
        side = bool(row["correct"])
        generated = row.get("generated") or [True] * len(row["token_ids"])
        tokens = [t for t, g in zip(row["token_ids"], generated, strict=False) if g]
        containing[side].update(set(tokens))
        occurring[side].update(tokens)
        values = row.get("key_token_value") or [None] * len(generated)
        value |= {t: v for t, v, g in zip(row["token_ids"], values, generated, strict=False) if g}
    return [
        {
            "token_id": t,
            "a": containing[True][t],
            "b": containing[False][t],
            "c": totals[True] - containing[True][t],
            "d": totals[False] - containing[False][t],
            "m_c": occurring[True][t],
            "m_w": occurring[False][t],
            "value": value[t],
        }
        for t in value
    ]


def _short(value: Any) -> Any:
    """Six significant digits for floats; integers and None as they are."""
    return float(f"{value:.6g}") if isinstance(value, float) else value
