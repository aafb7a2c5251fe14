"""Does the estimator find the tokens that decide? For tasks that know which those are (`Task.decisive`)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from openrlhf_ktae.config import KEY_TOKEN_SHARE, RewardConfig
from openrlhf_ktae.plugins import section_of
from openrlhf_ktae.run_folder import RunFolder, read_vocabulary
from openrlhf_ktae.tasks.task import TASK, BaseTask

_COLUMNS = ["group", "correct", "token_ids", "key_token_value"]


@dataclass(frozen=True)
class KeyTokenQuality:
    """Key tokens (|K| above 0.1 of ``ktae.scale``) against decisive ones, in groups with right and wrong rollouts."""

    step: int
    precision: float | None
    """Share of key tokens that decide; None without key tokens."""
    recall: float | None
    """Share of decisive tokens that are key tokens; None without decisive ones."""
    decisive_share: float
    """Share of all tokens that decide: the precision of key tokens picked blindly."""


def quality(
    step: int, values: Sequence[Sequence[float]], decisive: Sequence[Sequence[bool]], scale: float
) -> KeyTokenQuality | None:
    """Precision and recall over the rollouts given, one sequence each; None without a token."""
    if not any(map(len, values)):
        return None
    is_key = np.abs(np.concatenate([np.asarray(row, dtype=float) for row in values])) > KEY_TOKEN_SHARE * scale
    decides = np.concatenate([np.asarray(row, dtype=bool) for row in decisive])
    hits = int((is_key & decides).sum())
    return KeyTokenQuality(
        step,
        hits / int(is_key.sum()) if is_key.any() else None,
        hits / int(decides.sum()) if decides.any() else None,
        float(decides.mean()),
    )


def quality_over_run(folder: RunFolder) -> list[KeyTokenQuality]:
    """The estimator's quality at every logged step; empty where the task knows no decisive tokens or K is not there."""
    config = folder.read()["config"]
    if "ktae" not in config.get("advantage", {}).get("terms", ()):
        return []
    task, texts = task_of(config), read_vocabulary(folder.vocabulary)
    scale = float(config.get("ktae", {}).get("scale", 1.0))
    if not texts or task.decisive([""]) is None or not scale:
        return []
    found = []
    for file in sorted(folder.rollouts.glob("step_*.parquet")):
        if file.stem.endswith("_tokens"):
            continue
        rows = pq.read_table(file, columns=_COLUMNS).to_pylist()
        right = {row["group"] for row in rows if row["correct"]}
        wrong = {row["group"] for row in rows if not row["correct"]}
        rows = [row for row in rows if row["group"] in right & wrong]
        decisive = [task.decisive([texts[token] for token in row["token_ids"]]) or [] for row in rows]
        measured = quality(int(file.stem.partition("_")[2]), [row["key_token_value"] for row in rows], decisive, scale)
        found += [measured] if measured else []
    return found


def task_of(config: dict[str, Any]) -> BaseTask:
    """The task of a run, from the ``config`` of its run.json."""
    name = config.get("task", {}).get("name", "math")
    made = TASK.load(name)
    return made(made.Options(**config.get(section_of(name), {})), RewardConfig(**config.get("grader", {})))
