"""What a finished run achieved, from its metrics alone."""

import statistics
from collections.abc import Sequence
from typing import Any

from rich.table import Table

_PHASES = {
    "generation": "timing/generation",
    "log_probabilities": "timing/make_experience",
    "training": "timing/ppo_train",
    "weight_sync": "timing/broadcast",
    "evaluation": "timing/evaluation",
}


def summarize(
    lines: list[dict[str, Any]], seconds: dict[str, float], restarts: Sequence[dict[str, Any]] = ()
) -> dict[str, Any]:
    """Summary of a run.

    Args:
        lines: metrics.jsonl.
        seconds: phases outside training, by name (preparation, start).
        restarts: what run.json says about them.
    """
    steps = [line for line in lines if line["kind"] == "train"]
    evaluations = [line for line in lines if line["kind"] == "eval"]
    phases = {name: sum(line.get(metric) or 0.0 for line in lines) for name, metric in _PHASES.items()}
    step_seconds = [line["timing/step_total"] for line in steps if line.get("timing/step_total")]
    summary: dict[str, Any] = {
        "steps": steps[-1]["step"] if steps else 0,
        "step_seconds_median": round(statistics.median(step_seconds), 3) if step_seconds else None,
        "restarts": len(restarts),
        "seconds": {name: round(value, 2) for name, value in (seconds | phases).items()},
    }
    if evaluations:
        first, last = evaluations[0], evaluations[-1]
        source = next(name.removesuffix("/pass@1") for name in first if name.endswith("/pass@1"))
        summary |= {
            "accuracy_before": first[f"{source}/pass@1"] if first["step"] == 0 else None,
            "accuracy_after": last[f"{source}/pass@1"],
            "evaluation_problems": int(last.get(f"{source}/n") or 0),
            "response_tokens_before": first.get(f"{source}/response_length_mean") if first["step"] == 0 else None,
            "response_tokens_after": last.get(f"{source}/response_length_mean"),
        }
    return summary


def summary_table(summary: dict[str, Any]) -> Table:
    """The summary as a terminal table."""
    table = Table(title=None, show_header=True, header_style="bold")
    table.add_column("")
    table.add_column("before", justify="right")
    table.add_column("after", justify="right")
    for label, key, form in (
        ("accuracy (pass@1)", "accuracy", ".3f"),
        ("response tokens", "response_tokens", ".1f"),
    ):
        if f"{key}_after" in summary:
            values = (summary[f"{key}_before"], summary[f"{key}_after"])
            table.add_row(label, *("-" if value is None else format(value, form) for value in values))
    table.add_section()
    table.add_row("steps", "", str(summary["steps"]))
    if summary["restarts"]:
        table.add_row("restarts", "", str(summary["restarts"]))
    if summary["step_seconds_median"]:
        table.add_row("seconds per step (median)", "", f"{summary['step_seconds_median']:.2f}")
    for phase, seconds in summary["seconds"].items():
        table.add_row(f"seconds, {phase.replace('_', ' ')}", "", f"{seconds:.1f}")
    return table
