"""Which runs are seeds of the same experiment, and what each is called on the page."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from openrlhf_ktae.report.run_folder import Run


@dataclass(frozen=True)
class Cohort:
    """One line on every plot: a run alone, or the seeds of one recipe drawn as a mean with a band."""

    label: str
    members: tuple[int, ...]
    """Positions in the list of runs."""


def run_labels(runs: Sequence[Run]) -> list[str]:
    """One distinct label per run: its name, with the folder or a number where names repeat."""
    counts = Counter(run.name for run in runs)
    labels = [run.name if counts[run.name] == 1 else f"{run.name} ({run.path.resolve().name})" for run in runs]
    repeated = Counter(labels)
    return [label if repeated[label] == 1 else f"{label} #{i + 1}" for i, label in enumerate(labels)]


def find_cohorts(runs: Sequence[Run]) -> list[Cohort]:
    """Group the runs whose recipe, model and options agree in everything but the seed and the output paths."""
    labels = run_labels(runs)
    members: dict[str, list[int]] = {}
    for i, run in enumerate(runs):
        members.setdefault(_experiment(run) or f"run {i}", []).append(i)
    cohorts = []
    for positions in members.values():
        first = runs[positions[0]]
        label = labels[positions[0]]
        if len(positions) > 1:
            label = f"{first.info.get('recipe') or first.name} ({len(positions)} seeds)"
        cohorts.append(Cohort(label, tuple(positions)))
    return cohorts


def _experiment(run: Run) -> str | None:
    """A key that two seeds of one experiment share; None where run.json does not say enough to tell."""
    config = run.info.get("config")
    if not isinstance(config, dict) or not config or not run.info.get("recipe"):
        return None
    kept = {key: value for key, value in _flatten(config).items() if not _differs_between_seeds(key)}
    return json.dumps([run.info["recipe"], run.info.get("model"), kept], sort_keys=True, default=str)


def _differs_between_seeds(key: str) -> bool:
    last = key.rsplit(".", 1)[-1]
    return "seed" in last or last.endswith(("path", "dir", "output", "name", "port", "directory"))


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, inner in value.items():
        flat |= _flatten(inner, f"{prefix}.{key}" if prefix else str(key))
    return flat
