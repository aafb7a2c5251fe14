"""Read a run folder as it is: complete, still growing, or damaged. Nothing here raises for a damaged file."""

import json
import math
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from openrlhf_ktae.run_folder import FORMAT, VOCABULARY_FILE

ROLLOUT_COLUMNS = ("group", "rollout", "response", "correct", "token_ids")
TOKEN_COLUMNS = ("group", "token_id", "a", "b", "c", "d", "m_c", "m_w", "value")
_STEP_FILE = re.compile(r"step_(\d+)(_tokens)?\.parquet")

Row = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """What one run folder holds. `missing` says in whole sentences what could not be read."""

    path: Path
    name: str
    info: dict[str, Any]
    """run.json, or {} where there is none."""
    train: list[Row]
    """One row per optimisation step, ascending; values are float or None."""
    evaluations: list[Row]
    """One row per evaluation during training, ascending by step."""
    benchmarks: dict[str, dict[str, Row]]
    """evaluation/<name>/results.json: name -> task -> numbers."""
    rollout_files: dict[int, Path]
    token_files: dict[int, Path]
    missing: tuple[str, ...]

    @property
    def status(self) -> str:
        return str(self.info.get("status", "unknown"))

    def option(self, section: str, name: str) -> Any:
        """An option as run.json has it, None where it does not say."""
        config = self.info.get("config")
        options = config.get(section) if isinstance(config, dict) else None
        return options.get(name) if isinstance(options, dict) else None

    @property
    def scale(self) -> float:
        """The largest value a key token can have: ktae.scale, 1 where run.json does not say."""
        scale = self.option("ktae", "scale")
        return float(scale) if isinstance(scale, int | float) and scale > 0 else 1.0

    @property
    def has_key_tokens(self) -> bool:
        """Whether the run adds key-token values; true where run.json does not say."""
        terms = self.option("advantage", "terms")
        return self.option("ktae", "scale") != 0 and (not isinstance(terms, list) or "ktae" in terms)

    @property
    def last_step(self) -> int:
        return int(self.train[-1]["step"]) if self.train else 0


def read_run(path: Path) -> Run:
    """Read one run folder. ValueError if there is no run; what is missing of one becomes a sentence in `missing`."""
    if not path.is_dir():
        raise ValueError(f"run folder {path}: not a directory; give the folder that holds run.json and metrics.jsonl")
    if not any((path / name).exists() for name in ("run.json", "metrics.jsonl", "rollouts")):
        raise ValueError(
            f"run folder {path}: holds neither run.json nor metrics.jsonl nor rollouts/; name a run's folder, such as "
            "runs/latest"
        )
    missing: list[str] = []
    info = _read_json(path / "run.json", missing, "name, options and status are unknown")
    if info and info.get("format") != FORMAT:
        missing.append(
            f"run.json says format {info.get('format')!r}, this report knows {FORMAT}: read as far as it goes."
        )
    train, evaluations = _read_metrics(path / "metrics.jsonl", missing)
    rollout_files, token_files = _find_rollouts(path / "rollouts", missing)
    if not evaluations and train:
        missing.append("No evaluation during training is in metrics.jsonl: there is no accuracy curve.")
    run = Run(
        path=path,
        name=str(info.get("name") or path.resolve().name),
        info=info,
        train=train,
        evaluations=evaluations,
        benchmarks=_read_benchmarks(path / "evaluation", missing),
        rollout_files=rollout_files,
        token_files=token_files,
        missing=(),
    )
    return replace(run, missing=(*missing, *_missing_statistics(run)))


def input_times(path: Path) -> dict[str, float]:
    """Modification time of every file the page depends on: `--watch` rewrites the page when one changes."""
    patterns = ("run.json", "metrics.jsonl", "rollouts/*.parquet", "evaluation/*/results.json")
    times = {}
    for pattern in patterns:
        for file in path.glob(pattern):
            try:
                times[str(file)] = file.stat().st_mtime
            except FileNotFoundError:  # removed or renamed between glob and stat: the next look sees it
                continue
    return times


def _read_json(path: Path, missing: list[str], consequence: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8", errors="replace"))
    except FileNotFoundError:
        missing.append(f"{path.name} is missing: {consequence}.")
        return {}
    except json.JSONDecodeError as error:
        missing.append(f"{path.name} is damaged ({error.msg} in line {error.lineno}): {consequence}.")
        return {}
    if not isinstance(content, dict):
        missing.append(f"{path.name} holds a {type(content).__name__}, not an object: {consequence}.")
        return {}
    return content


def _read_metrics(path: Path, missing: list[str]) -> tuple[list[Row], list[Row]]:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        missing.append("metrics.jsonl is missing: there are no curves.")
        return [], []
    train: dict[int, Row] = {}
    evaluations: dict[int, Row] = {}
    damaged = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        row = _parse_metrics_line(line)
        if row is None:
            damaged.append(number)
            continue
        # A resumed run writes its steps again; the later line is what training went on from.
        (evaluations if row["kind"] == "eval" else train)[row["step"]] = row
    if damaged:
        which = f"line {damaged[0]}" if len(damaged) == 1 else f"lines {', '.join(map(str, damaged[:5]))}"
        more = f" and {len(damaged) - 5} more" if len(damaged) > 5 else ""
        missing.append(f"metrics.jsonl: {which}{more} of {len(lines)} cut off or damaged and left out.")
    if not train:
        missing.append("metrics.jsonl holds no training step yet: there are no training curves.")
    return [train[step] for step in sorted(train)], [evaluations[step] for step in sorted(evaluations)]


def _parse_metrics_line(line: str) -> Row | None:
    try:
        row = json.loads(line)
    except json.JSONDecodeError:
        return None
    if not isinstance(row, dict) or row.get("kind") not in ("train", "eval"):
        return None
    step = row.get("step")
    if isinstance(step, bool) or not isinstance(step, int | float) or not math.isfinite(step):
        return None
    return {key: _clean(value) for key, value in row.items()} | {"step": int(step)}


def _clean(value: Any) -> Any:
    """Numbers as finite floats, everything that is not a number or text as None."""
    if isinstance(value, bool | int | float):
        return float(value) if math.isfinite(value) else None
    return value if isinstance(value, str) else None


def _read_benchmarks(folder: Path, missing: list[str]) -> dict[str, dict[str, Row]]:
    results = {}
    for file in sorted(folder.glob("*/results.json")):
        content = _read_json(file, missing, f"the evaluation {file.parent.name} is left out")
        tasks = content.get("tasks")
        if isinstance(tasks, dict):
            kept = {str(task): numbers for task, numbers in tasks.items() if isinstance(numbers, dict)}
            if kept:
                results[file.parent.name] = kept
        elif content:
            missing.append(f"evaluation/{file.parent.name}/results.json has no `tasks`: left out.")
    return results


def _find_rollouts(folder: Path, missing: list[str]) -> tuple[dict[int, Path], dict[int, Path]]:
    rollouts: dict[int, Path] = {}
    tokens: dict[int, Path] = {}
    for file in sorted(folder.glob("step_*.parquet")) if folder.is_dir() else []:
        match = _STEP_FILE.fullmatch(file.name)
        if match is None:
            continue
        files, wanted = (tokens, TOKEN_COLUMNS) if match[2] else (rollouts, ROLLOUT_COLUMNS)
        try:
            columns = pq.read_schema(file).names
        except (pa.ArrowInvalid, OSError) as error:
            missing.append(f"rollouts/{file.name} cannot be read ({str(error).splitlines()[0][:90]}): left out.")
            continue
        absent = [name for name in wanted if name not in columns]
        if absent:
            missing.append(f"rollouts/{file.name} lacks the columns {', '.join(absent)}: left out.")
            continue
        files[int(match[1])] = file
    if not rollouts:
        missing.append("rollouts/ holds no readable step: there are no key-token maps.")
    elif not (folder / VOCABULARY_FILE).is_file() and "tokens" not in pq.read_schema(min(rollouts.values())).names:
        missing.append(f"rollouts/{VOCABULARY_FILE} is missing: tokens are shown by their ids.")
    return rollouts, tokens


def _missing_statistics(run: Run) -> list[str]:
    """One sentence for all steps with rollouts but without their token statistics, which only KTAE writes."""
    steps = sorted(set(run.rollout_files) - set(run.token_files))
    if not steps or not run.has_key_tokens:
        return []
    file = f"rollouts/step_{steps[0]:05d}_tokens.parquet"
    if len(steps) == 1:
        return [
            f"{file} is missing or damaged: step {steps[0]} shows counts and values, but not p, information gain, h "
            "and r."
        ]
    return [
        f"{file} and those of {len(steps) - 1} more steps are missing or damaged: steps {', '.join(map(str, steps))} "
        "show counts and values, but not p, information gain, h and r."
    ]


def run_status(path: Path) -> str:
    """The status in run.json alone; "unknown" where it cannot be read."""
    return str(_read_json(path / "run.json", [], "").get("status", "unknown"))
