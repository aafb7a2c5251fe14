"""What came out of the runs of a sweep: curves, and a row of numbers per run (summary.csv)."""

import csv
import io
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openrlhf_ktae.files import replacing
from openrlhf_ktae.run_folder import RunFolder
from openrlhf_ktae.sweep.folder import SweepFolder, seconds_of
from openrlhf_ktae.sweep.key_tokens import KeyTokenQuality, quality_over_run
from openrlhf_ktae.sweep.plan import PlannedRun, SweepFile
from openrlhf_ktae.sweep.records import Record
from openrlhf_ktae.sweep.statistics import area_under_curve, steps_to

Curve = tuple[tuple[int, ...], tuple[float, ...]]
"""Steps, ascending, and a value each."""


@dataclass(frozen=True)
class Outcome:
    """One run of a sweep, as far as it went."""

    run: PlannedRun
    status: str
    reason: str | None = None
    commit: str | None = None
    accuracy: Curve = ((), ())
    """Of the first evaluation set, before training (step 0) and during it."""
    response_tokens: Curve = ((), ())
    """Mean length of the same responses."""
    steps: int = 0
    step_seconds: float | None = None
    """Median."""
    seconds: float | None = None
    """Wall clock of the attempt that finished, starting costs included."""
    key_tokens: tuple[KeyTokenQuality, ...] = ()
    start_model: str | None = None
    """Fingerprint of the weights that training started from; None where that is not known."""
    start_seconds: float | None = None
    """Of ``seconds``: before the first rollouts."""


def read_outcomes(folder: SweepFolder, runs: Sequence[PlannedRun]) -> list[Outcome]:
    """The outcome of every run, begun or not."""
    return [_read(folder, run) for run in runs]


def _read(folder: SweepFolder, run: PlannedRun) -> Outcome:
    state = folder.state(run)
    status = folder.status(run, state)
    if state.newest is None:
        return _recorded(run, folder.records[run.name]) if status == "finished" else Outcome(run, status)
    described, lines = state.newest.read(), state.newest.metrics()
    evaluations = {line["step"]: line for line in lines if line["kind"] == "eval"}
    found = next((name for line in evaluations.values() for name in line if name.endswith("/pass@1")), None)
    source = found.removesuffix("/pass@1") if found else None
    trained = [line for line in lines if line["kind"] == "train"]
    seconds = [line["timing/step_total"] for line in trained if line.get("timing/step_total")]
    return Outcome(
        run,
        status,
        described.get("reason"),
        described.get("git_commit"),
        _curve(evaluations, f"{source}/pass@1"),
        _curve(evaluations, f"{source}/response_length_mean"),
        max((line["step"] for line in trained), default=0),
        statistics.median(seconds) if seconds else None,
        seconds_of(described),
        _key_tokens(state.newest) if status == "finished" else (),
        described.get("start_model"),
        _start_seconds(state.newest),
    )


def _recorded(run: PlannedRun, record: Record) -> Outcome:
    qualities = [
        KeyTokenQuality(
            int(record.number("steps") or 0),
            record.number(f"key_token_precision_{when}"),
            record.number(f"key_token_recall_{when}"),
            share,
        )
        for when in ("first", "last")
        if (share := record.number("decisive_share_first")) is not None
    ]
    return Outcome(
        run,
        "finished",
        commit=record.summary.get("commit") or None,
        accuracy=record.points("accuracy"),
        response_tokens=record.points("response_tokens"),
        steps=int(record.number("steps") or 0),
        step_seconds=record.number("step_seconds"),
        seconds=record.number("run_seconds"),
        key_tokens=tuple(qualities),
        start_model=record.summary.get("start_model") or None,
        start_seconds=record.number("start_seconds"),
    )


def _start_seconds(attempt: RunFolder) -> float | None:
    if not attempt.summary_file.is_file():  # not finished
        return None
    return json.loads(attempt.summary_file.read_text(encoding="utf-8"))["seconds"].get("start")


def _curve(lines: dict[int, dict[str, Any]], name: str) -> Curve:
    kept = [(step, line[name]) for step, line in sorted(lines.items()) if line.get(name) is not None]
    return tuple(step for step, _ in kept), tuple(value for _, value in kept)


_measured: dict[Path, tuple[KeyTokenQuality, ...]] = {}
"""A finished run does not change; reading its rollouts takes a second."""


def _key_tokens(attempt: RunFolder) -> tuple[KeyTokenQuality, ...]:
    if attempt.path not in _measured:
        _measured[attempt.path] = tuple(quality_over_run(attempt))
    return _measured[attempt.path]


def numbers_of(outcome: Outcome, reach: Sequence[float]) -> dict[str, float | None]:
    """The numbers of a run, by name; None where there is none.

    ``area_under_curve`` is the mean accuracy over training, ``steps_to_0.8`` the step that first reaches 0.8.
    """
    steps, accuracy = outcome.accuracy
    lengths = outcome.response_tokens[1]
    quality = outcome.key_tokens
    numbers: dict[str, float | None] = {
        "accuracy_first": accuracy[0] if accuracy else None,
        "accuracy_last": accuracy[-1] if accuracy else None,
        "area_under_curve": area_under_curve(steps, accuracy),
        "response_tokens_first": lengths[0] if lengths else None,
        "response_tokens_last": lengths[-1] if lengths else None,
        "step_seconds": outcome.step_seconds,
        "run_seconds": outcome.seconds,
        "start_seconds": outcome.start_seconds,
        "key_token_precision_first": quality[0].precision if quality else None,
        "key_token_precision_last": quality[-1].precision if quality else None,
        "key_token_recall_first": quality[0].recall if quality else None,
        "key_token_recall_last": quality[-1].recall if quality else None,
        "decisive_share_first": quality[0].decisive_share if quality else None,
    }
    return numbers | {f"steps_to_{level:g}": steps_to(steps, accuracy, level) for level in reach}


def write_summary(outcomes: Sequence[Outcome], sweep: SweepFile, path: Path) -> Path:
    """Writes summary.csv, a row per run, and beside it curves.csv, a row per run and evaluation."""
    rows = [
        {
            "setting": outcome.run.setting,
            "arm": outcome.run.arm,
            "seed": outcome.run.seed,
            "status": outcome.status,
            "steps": outcome.steps,
        }
        | {name: _short(value) for name, value in numbers_of(outcome, sweep.reach).items()}
        | {
            "reason": outcome.reason or "",
            "commit": outcome.commit or "",
            "start_model": outcome.start_model or "",
        }
        for outcome in outcomes
    ]
    points = [
        {
            "setting": outcome.run.setting,
            "arm": outcome.run.arm,
            "seed": outcome.run.seed,
            "step": step,
            "accuracy": _short(value),
            "response_tokens": _short(dict(zip(*outcome.response_tokens, strict=True)).get(step)),
        }
        for outcome in outcomes
        for step, value in zip(*outcome.accuracy, strict=True)
    ]
    write_csv(points, path.with_name("curves.csv"))
    return write_csv(rows, path)


def write_csv(rows: Sequence[dict[str, Any]], path: Path) -> Path:
    """Writes rows of the same columns in one step; nothing but the file for no rows."""
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    with replacing(path) as part:
        part.write_text(text.getvalue(), encoding="utf-8")
    return path


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
