"""The rollouts of a step in the run folder: what was sampled, what it was worth, and the counts behind it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from openrlhf_ktae.advantage.batch import RolloutBatch
from openrlhf_ktae.advantage.term import AdvantageTerm, Outcome
from openrlhf_ktae.files import replacing
from openrlhf_ktae.training.step_metrics import ends


def token_text(tokenizer: Any) -> Callable[[int], str]:
    """A function from token id to readable text; a piece of a multi-byte character is shown as its vocabulary entry."""
    cache: dict[int, str] = {}
    # A vision model's processor holds the tokenizer.
    tokenizer = getattr(tokenizer, "tokenizer", tokenizer)

    def text(token_id: int) -> str:
        if token_id not in cache:
            piece = tokenizer.decode([token_id], skip_special_tokens=False)
            # Ids between the tokenizer's size and the model's padded vocabulary have no entry.
            entry = tokenizer.convert_ids_to_tokens(token_id) if "\ufffd" in piece else piece
            cache[token_id] = entry or f"<{token_id}>"
        return cache[token_id]

    return text


def write_rollouts(
    folder: Path,
    batch: RolloutBatch,
    outcome: Outcome,
    terms: Mapping[str, AdvantageTerm],
    text: Callable[[int], str],
) -> None:
    """Writes step_XXXXX.parquet (a row per rollout) and step_XXXXX_tokens.parquet (a row per group and distinct token).

    The first has a list column for every column of a term; the second is there if a term counts tokens.
    """
    folder.mkdir(exist_ok=True)
    schema = _SCHEMA
    for column in outcome.columns:
        schema = schema.append(pa.field(column, pa.list_(pa.float32())))
    rows = pa.Table.from_pylist(list(_rows(batch, outcome, text)), schema=schema)
    _write(rows, folder / f"step_{batch.step:05d}.parquet")
    for term in terms.values():
        statistics = term.token_table(batch)
        if statistics is not None:
            columns = {name: pa.array(column) for name, column in statistics.items()}
            columns["token"] = pa.array([text(int(token_id)) for token_id in statistics["token_id"]])
            columns["step"] = pa.array([batch.step] * len(statistics["token_id"]), pa.int32())
            _write(pa.table(columns), folder / f"step_{batch.step:05d}_tokens.parquet")


def _write(table: pa.Table, path: Path) -> None:
    with replacing(path) as part:
        pq.write_table(table, part, compression="zstd")


_SCHEMA = pa.schema(
    [
        ("step", pa.int32()),
        ("group", pa.int32()),
        ("rollout", pa.int32()),
        ("prompt", pa.string()),
        ("response", pa.string()),
        ("label", pa.string()),
        ("reward", pa.float32()),
        ("score", pa.float32()),
        ("correct", pa.bool_()),
        ("truncated", pa.bool_()),
        ("token_ids", pa.list_(pa.int32())),
        ("tokens", pa.list_(pa.string())),
        ("generated", pa.list_(pa.bool_())),
        ("log_prob", pa.list_(pa.float32())),
        ("advantage", pa.list_(pa.float32())),
    ]
)
"""Of every run; the columns of the terms follow."""


def _rows(batch: RolloutBatch, outcome: Outcome, text: Callable[[int], str]):
    rollouts: dict[int, int] = {}
    for row, (group, first, last) in enumerate(zip(batch.group.tolist(), *map(list, ends(batch.mask)), strict=True)):
        rollouts[group] = rollouts.get(group, -1) + 1
        token_ids = batch.token_ids[row, first:last].tolist()
        tokens = [text(token_id) for token_id in token_ids]
        score = None if batch.scores is None else batch.scores[row].item()
        yield {
            "step": batch.step,
            "group": group,
            "rollout": rollouts[group],
            "prompt": batch.prompts[row],
            "response": "".join(tokens),
            "label": batch.labels[row],
            "reward": batch.rewards[row].item(),
            "score": score,
            "correct": None if score is None else score > 0,
            "truncated": None if batch.truncated is None else bool(batch.truncated[row]),
            "token_ids": token_ids,
            "tokens": tokens,
            "generated": batch.mask[row, first:last].tolist(),
            "log_prob": batch.log_probs[row, first:last].tolist(),
            "advantage": outcome.advantages[row, first:last].tolist(),
        } | {name: values[row, first:last].tolist() for name, values in outcome.columns.items()}
