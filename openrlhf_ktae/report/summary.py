"""The head of the page: what a run is, and its few numbers that matter."""

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

from openrlhf_ktae.intervals import wilson_interval
from openrlhf_ktae.report.curves import PASS_AT, series_of
from openrlhf_ktae.report.findings import last_steps
from openrlhf_ktae.report.overview import sparkline
from openrlhf_ktae.report.run_folder import Run

STATUS_WORDS = {"running": "Running", "finished": "Finished", "failed": "Failed", "interrupted": "Interrupted"}

_TILES = (
    ("Training reward", ("rollout/reward_mean", "reward"), "{:.3f}", ""),
    ("Response length", ("rollout/response_length_mean", "response_length"), "{:.0f}", "tokens"),
    ("Key tokens", ("ktae/key_token_frac",), "{:.1%}", "of tokens"),
    ("Seconds a step", ("timing/step_total",), "{:.1f}", ""),
)


def describe(run: Run, label: str) -> dict[str, Any]:
    """Facts of one run as text: name, status, recipe, model, duration and so on; absent ones are left out."""
    config = run.info.get("config")
    facts = [
        ("Recipe", run.info.get("recipe")),
        ("Model", run.info.get("model")),
        ("Steps", str(run.last_step) if run.train else None),
        ("Started", _date(run.info.get("started_at"))),
        ("Duration", duration(run)),
        ("Seed", run.info.get("seed")),
    ]
    return {
        "name": label,
        "status": run.status,
        "status_word": STATUS_WORDS.get(run.status, "Status unknown"),
        "facts": [(name, str(value)) for name, value in facts if value not in (None, "")],
        "git_commit": run.info.get("git_commit"),
        "versions": _table(run.info.get("versions")),
        "options": _options(config if isinstance(config, dict) else {}),
        "tiles": tiles(run),
        "benchmarks": benchmarks(run),
    }


def tiles(run: Run) -> list[dict[str, Any]]:
    """Headline numbers: the last evaluation of each set, then means of the last five steps against the first five."""
    made = []
    sources = sorted({m[1] for row in run.evaluations for key in row if (m := PASS_AT.fullmatch(key)) and m[2] == "1"})
    for source in sources[:2]:
        name = f"{source}/pass@1"
        rows = [row for row in run.evaluations if isinstance(row.get(name), float)]
        if rows:
            low, high = wilson_interval(rows[-1][name], rows[-1].get(f"{source}/n") or 0.0)
            note = f"95 % interval {low:.1%} to {high:.1%}" if rows[-1].get(f"{source}/n") else "interval unknown"
            before = f"{rows[0][name]:.1%} at step {rows[0]['step']}" if len(rows) > 1 else ""
            made.append(
                {
                    "title": f"{source} pass@1",
                    "value": f"{rows[-1][name]:.1%}",
                    "unit": "",
                    "note": note,
                    "before": before,
                    "line": _line([row[name] for row in rows]),
                }
            )
    for title, names, form, unit in _TILES:
        _, series = series_of(run.train, names)
        values = [value for value in series if value is not None]
        if values:
            first, last = values[:5], values[-5:]
            made.append(
                {
                    "title": title,
                    "value": form.format(sum(last) / len(last)),
                    "unit": unit,
                    "note": f"mean of {last_steps(len(values))}",
                    "before": form.format(sum(first) / len(first)) + " at first",
                    "line": _line(values),
                }
            )
    return made


def benchmarks(run: Run) -> list[dict[str, Any]]:
    """Rows of the table of evaluation results (evaluation/<name>/results.json)."""
    rows = []
    for name, tasks in run.benchmarks.items():
        for task, numbers in tasks.items():
            accuracy, interval = numbers.get("pass@1"), numbers.get("ci95")
            if not isinstance(accuracy, int | float):
                continue
            low = high = None
            if isinstance(interval, list) and len(interval) == 2 and all(isinstance(x, int | float) for x in interval):
                low, high = interval
            rows.append(
                {
                    "evaluation": name,
                    "task": task,
                    "accuracy": accuracy,
                    "low": low,
                    "high": high,
                    "n": numbers.get("n"),
                }
            )
    return rows


def duration(run: Run) -> str | None:
    """Time from start to end, or to the last step where the run has not ended, in words."""
    start, end = _moment(run.info.get("started_at")), _moment(run.info.get("finished_at"))
    if start and end:
        seconds = (end - start).total_seconds()
    elif run.train and isinstance(run.train[-1].get("seconds"), float):
        seconds = run.train[-1]["seconds"]
    else:
        return None
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def _line(values: Sequence[float]) -> str:
    """A sparkline over the values' own range, at most 60 points."""
    kept = values[:: max(1, len(values) // 60)]
    low, high = min(kept), max(kept)
    return sparkline([2 * (v - low) / (high - low) - 1 if high > low else 0.0 for v in kept]) if len(kept) > 1 else ""


def _options(config: dict[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    return [(section, _table(values)) for section, values in config.items() if isinstance(values, dict) and values]


def _table(values: Any) -> list[tuple[str, str]]:
    return [(str(key), str(value)) for key, value in sorted(values.items())] if isinstance(values, dict) else []


def _moment(text: Any) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except (ValueError, AttributeError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


def _date(text: Any) -> str | None:
    moment = _moment(text)
    return moment.strftime("%d %b %Y, %H:%M") if moment else None
