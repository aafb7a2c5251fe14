"""The rollouts of a step in the run folder, written beside training: what was sampled, and the counts behind its worth.

Everything goes from arrays to arrays: a step of the paper holds 13 million tokens.
"""

import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from openrlhf.utils.logging_utils import init_logger

from openrlhf_ktae.advantage.batch import RolloutBatch
from openrlhf_ktae.advantage.estimator.rows import ends
from openrlhf_ktae.advantage.term import AdvantageTerm, Outcome
from openrlhf_ktae.files import replacing
from openrlhf_ktae.run_folder import VOCABULARY_FILE, read_vocabulary

logger = init_logger(__name__)

LOG_PROB_STEPS = 256.0
"""Log-probabilities are written in steps of 1 / 256 nat, a quarter of the space, unless a term computes with them."""
ROW_GROUP_PROMPTS = 2
"""Prompts of a row group: a reader that wants one prompt reads so many."""
_TOKEN_ROWS = 2**15
"""Rows of a row group of the token file."""
_WITH_STATISTICS = ["group"]
"""Columns whose bounds stand beside every row group, for readers that look for a prompt."""

Text = Callable[[int], str]


def token_text(tokenizer: Any) -> Text:
    """A function from token id to readable text; a piece of a multi-byte character is shown as its vocabulary entry."""
    # A vision model's processor holds the tokenizer.
    tokenizer = getattr(tokenizer, "tokenizer", tokenizer)

    @cache
    def text(token_id: int) -> str:
        piece = tokenizer.decode([token_id], skip_special_tokens=False)
        # Ids between the tokenizer's size and the model's padded vocabulary have no entry.
        entry = tokenizer.convert_ids_to_tokens(token_id) if "\ufffd" in piece else piece
        return entry or f"<{token_id}>"

    return text


class Vocabulary:
    """The texts of a run's tokens, once for all its rollout files."""

    def __init__(self, path: Path, text: Text) -> None:
        """``text``: of a token id; ``path``: where `save` puts it, beside what a resumed run has there already."""
        self._path, self._text = path, text
        self._texts: dict[int, str] | None = None
        self._saved = 0

    def texts(self, token_ids: np.ndarray) -> pa.Array:
        """(T,) ids -> (T,) strings; each distinct one is decoded once."""
        if self._texts is None:
            self._texts = read_vocabulary(self._path)
            self._saved = len(self._texts)
        distinct, place = np.unique(token_ids, return_inverse=True)
        known = self._texts
        found = [
            known.get(token_id) or known.setdefault(token_id, self._text(token_id)) for token_id in distinct.tolist()
        ]
        return pa.array(found, pa.string()).take(pa.array(place))

    def save(self) -> None:
        """Writes the file, if there is a token that it lacks."""
        if self._texts is None or len(self._texts) == self._saved:
            return
        columns = {
            "token_id": pa.array(list(self._texts), pa.int32()),
            "token": pa.array(list(self._texts.values()), pa.string()),
        }
        _write(iter([pa.table(columns).sort_by("token_id")]), self._path)
        self._saved = len(self._texts)


@dataclass(frozen=True)
class _Step:
    batch: RolloutBatch
    outcome: Outcome
    terms: Mapping[str, AdvantageTerm]


class RolloutLog:
    """Writes the rollouts of logged steps in a thread of its own; `finish` waits until all of them are on the disk.

    One step may wait while another one is written; a third waits in `add`. A disk that cannot be written to costs the
    step's file and a warning, not the run.
    """

    def __init__(self, folder: Path, text: Text, share: float = 1.0) -> None:
        """``text``: of a token id; ``share``: ``run.rollout_log_share``."""
        self._folder, self._share = folder, share
        self._vocabulary = Vocabulary(folder / VOCABULARY_FILE, text)
        self._waiting: queue.Queue[_Step] = queue.Queue(maxsize=1)
        self._failure: Exception | None = None
        self._thread: threading.Thread | None = None

    def add(self, batch: RolloutBatch, outcome: Outcome, terms: Mapping[str, AdvantageTerm]) -> None:
        """Hands a step over; its tensors must not change any more."""
        self._raise()
        if self._thread is None:
            self._thread = threading.Thread(target=self._write_all, name="rollout log", daemon=True)
            self._thread.start()
        self._waiting.put(_Step(batch, outcome, terms))

    def finish(self) -> None:
        """Returns when every step handed over is written.

        Raises:
            Exception: whatever a term's ``token_table`` raised.
        """
        self._waiting.join()
        self._raise()

    def _raise(self) -> None:
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def _write_all(self) -> None:
        while True:
            step = self._waiting.get()
            try:
                write_rollouts(self._folder, step.batch, step.outcome, step.terms, self._vocabulary, self._share)
            except OSError as error:
                logger.warning(f"rollouts of step {step.batch.step} are not in {self._folder}: {error}")
            except Exception as error:  # handed to the thread that trains: `_raise`
                self._failure = error
            finally:
                del step
                self._waiting.task_done()


def write_rollouts(
    folder: Path,
    batch: RolloutBatch,
    outcome: Outcome,
    terms: Mapping[str, AdvantageTerm],
    vocabulary: Vocabulary,
    share: float = 1.0,
) -> None:
    """Writes step_XXXXX.parquet (a row per rollout) and step_XXXXX_tokens.parquet (a row per group and distinct token).

    The first has a list column for every column of a term; the second is there if a term counts tokens.
    """
    folder.mkdir(exist_ok=True)
    groups = logged_groups(batch, share)
    # A term must be recomputable from what is logged.
    is_exact = any("log_probs" in term.needs for term in terms.values())
    _write(_row_groups(batch, outcome, groups, vocabulary, is_exact), folder / f"step_{batch.step:05d}.parquet")
    for term in terms.values():
        statistics = term.token_table(batch)
        if statistics is not None:
            table = _token_table(statistics, batch.step, groups)
            parts = (table.slice(start, _TOKEN_ROWS) for start in range(0, max(len(table), 1), _TOKEN_ROWS))
            _write(parts, folder / f"step_{batch.step:05d}_tokens.parquet")


def logged_groups(batch: RolloutBatch, share: float) -> torch.Tensor:
    """The groups that are written, ascending: those with right and wrong answers, and others up to ``share`` of all.

    Where the reward source gives no scores, every group is an other one.
    """
    groups, place = batch.group.unique(return_inverse=True)
    if share >= 1:
        return groups
    scores = torch.zeros(len(place)) if batch.scores is None else (batch.scores > 0).float()
    mean = torch.zeros(len(groups)).scatter_reduce_(0, place, scores, "mean", include_self=False)
    is_mixed = (mean > 0) & (mean < 1)
    others = (~is_mixed).nonzero().flatten()
    missing = min(max(round(share * len(groups)) - int(is_mixed.sum()), 0), len(others))
    # Spread over the step, always the same ones.
    is_mixed[others[torch.arange(missing) * len(others) // max(missing, 1)]] = True
    return groups[is_mixed]


def _write(tables: Iterator[pa.Table], path: Path) -> None:
    """Each table a row group."""
    first = next(tables)
    settings = {"compression": "zstd", "compression_level": 6, "write_statistics": _WITH_STATISTICS}
    # Ids stand in ascending order in a group: their differences are small.
    delta = [name for name in ("token_id",) if name in first.column_names]
    rest = [name for name in first.column_names if name not in delta]
    settings |= {"use_dictionary": _leaves(first, rest), "column_encoding": dict.fromkeys(delta, "DELTA_BINARY_PACKED")}
    with replacing(path) as part, pq.ParquetWriter(part, first.schema, **settings) as writer:
        writer.write_table(first)
        for table in tables:
            writer.write_table(table)


def _leaves(table: pa.Table, names: list[str]) -> list[str]:
    """Parquet's names of columns."""
    return [f"{name}.list.element" if pa.types.is_list(table.schema.field(name).type) else name for name in names]


def _row_groups(
    batch: RolloutBatch, outcome: Outcome, groups: torch.Tensor, vocabulary: Vocabulary, is_exact: bool
) -> Iterator[pa.Table]:
    """The rows of a few prompts at a time; their texts are saved before the file is."""
    for some in groups.split(ROW_GROUP_PROMPTS):
        yield _rows(batch, outcome, torch.isin(batch.group, some).nonzero().flatten(), vocabulary, is_exact)
    vocabulary.save()


def _rows(
    batch: RolloutBatch, outcome: Outcome, rows: torch.Tensor, vocabulary: Vocabulary, is_exact: bool
) -> pa.Table:
    first, last = (ends_.tolist() for ends_ in ends(batch.mask[rows]))
    offsets = pa.array(np.cumsum([0, *(stop - start for start, stop in zip(first, last, strict=True))]), pa.int32())
    places = rows.tolist()

    def steps(values: torch.Tensor) -> np.ndarray:
        of_rows = values.numpy() if values.dtype != torch.bfloat16 else values.float().numpy()
        parts = [of_rows[row, start:stop] for row, start, stop in zip(places, first, last, strict=True)]
        return np.concatenate(parts)

    def listed(values: np.ndarray | pa.Array, kind: pa.DataType) -> pa.ListArray:
        return pa.ListArray.from_arrays(offsets, pa.array(values, kind))

    def numbers(values: np.ndarray) -> pa.ListArray:
        # What a term has no number for is NaN there, and null here.
        return pa.ListArray.from_arrays(offsets, pa.array(values.astype(np.float32), pa.float32(), from_pandas=True))

    def numeric(values: torch.Tensor | None, kind: pa.DataType) -> pa.Array:
        return pa.nulls(len(rows), kind) if values is None else pa.array(values[rows].numpy()).cast(kind)

    token_ids, log_probs = steps(batch.token_ids), steps(batch.log_probs)
    if not is_exact:
        log_probs = np.round(log_probs * LOG_PROB_STEPS) / LOG_PROB_STEPS
    group = batch.group[rows]
    columns = {
        "step": pa.array(np.full(len(rows), batch.step), pa.int32()),
        "group": pa.array(group.numpy(), pa.int32()),
        "rollout": pa.array(_place_in_group(group.numpy()), pa.int32()),
        "prompt": pa.array([batch.prompts[row] for row in places], pa.string()),
        "response": pc.call_function("binary_join", [listed(vocabulary.texts(token_ids), pa.string()), pa.scalar("")]),
        "label": pa.array([batch.labels[row] for row in places], pa.string()),
        "reward": numeric(batch.rewards, pa.float32()),
        "score": numeric(batch.scores, pa.float32()),
        "correct": numeric(None if batch.scores is None else batch.scores > 0, pa.bool_()),
        "truncated": numeric(batch.truncated, pa.bool_()),
        "token_ids": listed(token_ids, pa.int32()),
        "generated": listed(steps(batch.mask), pa.bool_()),
        "log_prob": listed(log_probs, pa.float32()),
        "advantage": listed(steps(outcome.advantages), pa.float32()),
    }
    if batch.segments is not None:
        columns["branch"] = numeric(batch.segments.branch, pa.int32())
    return pa.table(columns | {name: numbers(steps(of)) for name, of in outcome.columns.items()})


def _place_in_group(group: np.ndarray) -> np.ndarray:
    """0, 1, 2, ... within each run of equal numbers."""
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    return np.arange(len(group)) - np.repeat(starts, np.diff([*starts, len(group)]))


def _token_table(statistics: Mapping[str, Any], step: int, groups: torch.Tensor) -> pa.Table:
    kept = np.flatnonzero(np.isin(statistics["group"], groups.numpy()))
    columns = {name: _narrow(np.asarray(column)[kept]) for name, column in statistics.items()}
    return pa.table(columns | {"step": pa.array(np.full(len(kept), step), pa.int32())})


def _narrow(column: np.ndarray) -> pa.Array:
    """Counts and ids fit 32 bits, and nobody reads more than seven digits of a statistic."""
    narrow = {"i": np.int32, "f": np.float32}.get(column.dtype.kind)
    return pa.array(column if narrow is None else column.astype(narrow))
