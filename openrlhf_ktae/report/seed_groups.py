"""Which runs are seeds of the same experiment, and what each is called on the page."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openrlhf_ktae.report.run_folder import Run

SHOWN_OPTIONS = 3
"""Most options in a run's name."""
_BOOKKEEPING = ("run.", "ckpt.", "logger.", "eval.")
"""Options that change what is kept of a run; they name it only where nothing else differs."""


@dataclass(frozen=True)
class Cohort:
    """One line on every plot: a run alone, or the seeds of one recipe drawn as a mean with a band."""

    label: str
    members: tuple[int, ...]
    """Positions in the list of runs."""


def run_labels(runs: Sequence[Run]) -> list[str]:
    """One distinct label per run: its name, and where names repeat the options that differ between those runs."""
    return _distinct_labels(runs, [_options(run, with_seed=True) for run in runs])


def find_cohorts(runs: Sequence[Run]) -> list[Cohort]:
    """Group the runs whose recipe, model and options agree in everything but the seed and the output paths."""
    members: dict[str, list[int]] = {}
    for i, run in enumerate(runs):
        members.setdefault(_experiment(run) or f"run {i}", []).append(i)
    firsts = [runs[positions[0]] for positions in members.values()]
    labels = _distinct_labels(firsts, [_options(run, with_seed=False) for run in firsts])
    return [
        Cohort(
            label if len(positions) == 1 else f"{label} ({_how_many([runs[i] for i in positions])})", tuple(positions)
        )
        for label, positions in zip(labels, members.values(), strict=True)
    ]


def _how_many(runs: Sequence[Run]) -> str:
    seeds = {str(run.info.get("seed")) for run in runs}
    if len(seeds) == len(runs):
        return f"{len(runs)} seeds"
    return f"{len(runs)} runs of {'seed ' + seeds.pop() if len(seeds) == 1 else f'{len(seeds)} seeds'}"


def _distinct_labels(runs: Sequence[Run], options: Sequence[dict[str, Any]]) -> list[str]:
    labels = []
    for i, run in enumerate(runs):
        peers = [other for other, peer in zip(options, runs, strict=True) if peer.name == run.name]
        names = {name for peer in peers for name in peer}
        differing = [name for name in names if len({_text(peer.get(name)) for peer in peers}) > 1]
        telling = [name for name in differing if not name.startswith(_BOOKKEEPING)] or differing
        shown = [f"{name}={_text(options[i].get(name))}" for name in sorted(telling)]
        if len(shown) > SHOWN_OPTIONS:
            shown = [*shown[:SHOWN_OPTIONS], f"{len(shown) - SHOWN_OPTIONS} more"]
        labels.append(", ".join([run.name, *shown]))
    counts = Counter(labels)
    labels = [
        label if counts[label] == 1 else f"{label} ({run.path.resolve().name})"
        for label, run in zip(labels, runs, strict=True)
    ]
    repeated = Counter(labels)
    return [label if repeated[label] == 1 else f"{label} #{i + 1}" for i, label in enumerate(labels)]


def _options(run: Run, with_seed: bool) -> dict[str, Any]:
    """Every option that can tell two runs apart by the name a person sets it with; OpenRLHF's have no section."""
    config = run.info.get("config")
    flat = _flatten(config) if isinstance(config, dict) else {}
    named = {name.removeprefix("openrlhf."): value for name, value in flat.items() if not _differs_by_itself(name)}
    named |= {"model": run.info.get("model")}
    return named | ({"seed": run.info.get("seed")} if with_seed else {})


def _text(value: Any) -> str:
    """A value as a person would write it; of a path its last part. An option that a run does not set is OpenRLHF's."""
    if value is None:
        return "default"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return f"[{', '.join(map(_text, value))}]"
    return Path(value).name if isinstance(value, str) and value.startswith("/") else str(value)


def _experiment(run: Run) -> str | None:
    """A key that two seeds of one experiment share; None where run.json does not say enough to tell."""
    config = run.info.get("config")
    if not isinstance(config, dict) or not config or not run.info.get("recipe"):
        return None
    kept = {key: value for key, value in _flatten(config).items() if not _differs_by_itself(key)}
    return json.dumps([run.info["recipe"], run.info.get("model"), kept], sort_keys=True, default=str)


def _differs_by_itself(key: str) -> bool:
    """Seeds, and what names a run's own places."""
    last = key.rsplit(".", 1)[-1]
    of_place = last.endswith(("path", "dir", "output", "run_name", "port", "directory"))
    return "seed" in last or of_place or key == "run.name"


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, inner in value.items():
        flat |= _flatten(inner, f"{prefix}.{key}" if prefix else str(key))
    return flat
