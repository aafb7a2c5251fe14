"""Curves as plain data: which metrics stand on which plot, seeds as bands, evaluation with intervals."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from openrlhf_ktae.intervals import wilson_interval
from openrlhf_ktae.report.run_folder import Row, Run
from openrlhf_ktae.report.seed_groups import Cohort

PASS_AT = re.compile(r"(.+)/pass@(\d+)")


@dataclass(frozen=True)
class Line:
    label: str
    metrics: tuple[str, ...]
    """The metric, then older or upstream names for the same quantity; the first that a run holds is drawn."""


@dataclass(frozen=True)
class Panel:
    key: str
    section: str
    title: str
    unit: str
    about: str
    lines: tuple[Line, ...]
    percent: bool = False


def _panel(key: str, section: str, title: str, unit: str, about: str, *lines: tuple[str, ...], percent: bool = False):
    return Panel(key, section, title, unit, about, tuple(Line(line[0], line[1:]) for line in lines), percent)


PANELS: tuple[Panel, ...] = (
    _panel("reward", "Outcome", "Training reward", "mean per rollout", "What the policy is trained to raise.",
           ("reward", "rollout/reward_mean", "reward")),
    _panel("accuracy", "Outcome", "Training accuracy", "share of rollouts", "Rollouts whose final answer is right.",
           ("correct", "rollout/accuracy"), percent=True),
    _panel("length", "Responses", "Response length", "tokens", "A gap between right and wrong is worth a look.",
           ("all", "rollout/response_length_mean", "response_length"),
           ("correct", "rollout/response_length_correct_mean"), ("wrong", "rollout/response_length_wrong_mean")),
    _panel("truncated", "Responses", "Cut off at the length limit", "share of rollouts",
           "A response that was cut off has no answer.", ("cut off", "rollout/truncated_rate"), percent=True),
    _panel("formatted", "Responses", "Answer found, grading timed out", "share of rollouts",
           "What the reward function could not read or not finish.",
           ("answer found", "reward/formatted_frac"), ("timed out", "reward/timed_out_frac"), percent=True),
    _panel("entropy", "Optimisation", "Policy entropy", "nats per token", "Near 0 the policy no longer explores.",
           ("entropy", "entropy_loss", "entropy")),
    _panel("kl", "Optimisation", "KL divergence", "nats per token",
           "From the reference model, and from the policy that made the rollouts.",
           ("to the reference", "kl"), ("to the rollout policy", "ppo_kl")),
    _panel("grad_norm", "Optimisation", "Gradient norm", "before clipping", "Spikes announce instability.",
           ("gradient norm", "actor_grad_norm")),
    _panel("clip", "Optimisation", "Clip fraction", "share of tokens", "Tokens whose ratio left the trust region.",
           ("clipped", "ppo_clip_ratio"), percent=True),
    _panel("loss", "Optimisation", "Policy loss", "loss", "Its sign and size say little; jumps do.",
           ("policy loss", "policy_loss")),
    _panel("learning_rate", "Optimisation", "Learning rate", "per step", "What the schedule gave.",
           ("learning rate", "actor_lr")),
    _panel("key_tokens", "Key tokens", "Key tokens", "share of tokens",
           "Tokens with a value that matters, and tokens whose value is at its limit.",
           ("key tokens", "ktae/key_token_frac"), ("saturated", "ktae/saturated_frac"), percent=True),
    _panel("value_mean", "Key tokens", "Key-token value", "mean of K",
           "Above 0 in correct rollouts and below 0 in wrong ones: the estimator separates them.",
           ("in correct rollouts", "ktae/value_mean_correct"), ("in wrong rollouts", "ktae/value_mean_wrong")),
    _panel("value_abs", "Key tokens", "Size of the key-token value", "mean of |K|", "How much the estimator adds.",
           ("all", "ktae/value_abs_mean"), ("in correct rollouts", "ktae/value_abs_mean_correct"),
           ("in wrong rollouts", "ktae/value_abs_mean_wrong")),
    _panel("degenerate", "Key tokens", "Groups without contrast", "share of groups",
           "All rollouts right or all wrong: K is 0 there.",
           ("without contrast", "ktae/degenerate_group_frac"), percent=True),
    _panel("vllm_diff", "Machine", "Policy against vLLM", "|log-prob difference|, nats",
           "Small and flat, if each step's weights reach vLLM.", ("difference", "weights/vllm_logprob_diff_mean")),
)  # fmt: skip

PHASES: tuple[tuple[str, str], ...] = (
    ("generation", "timing/generation"),
    ("experience", "timing/make_experience"),
    ("key tokens", "timing/ktae"),
    ("training", "timing/ppo_train"),
    ("weights to vLLM", "timing/broadcast"),
)
_DRAWN_ELSEWHERE = {"rollout/groups_all_correct_frac", "rollout/groups_all_wrong_frac", "timing/step_total"}
_NOT_METRICS = {"kind", "step", "time", "seconds"}


def series_of(rows: Sequence[Row], names: Sequence[str]) -> tuple[list[int], list[float | None]]:
    """Steps and values of the first of `names` that any row holds as a number; null stays None (a gap)."""
    for name in names:
        if any(isinstance(row.get(name), float) for row in rows):
            kept = [row for row in rows if name in row]
            return [row["step"] for row in kept], [v if isinstance(v := row[name], float) else None for row in kept]
    return [], []


def cohort_series(runs: Sequence[Run], cohort: Cohort, names: Sequence[str]) -> dict[str, Any] | None:
    """One drawn line: x, y, and for several seeds the minimum and maximum and each seed's own line.

    The mean at a step is over the seeds that reached it, so a seed that stopped early does not cut the others off.
    """
    members = [series_of(runs[i].train, names) for i in cohort.members]
    members = [(x, y) for x, y in members if x]
    if not members:
        return None
    if len(members) == 1:
        x, y = members[0]
        return {"x": x, "y": _rounded(y)}
    values: dict[int, list[float]] = {}
    for x, y in members:
        for step, value in zip(x, y, strict=True):
            if value is not None:
                values.setdefault(step, []).append(value)
    steps = sorted(values)
    return {
        "x": steps,
        "y": _rounded(sum(values[s]) / len(values[s]) for s in steps),
        "low": _rounded(min(values[s]) for s in steps),
        "high": _rounded(max(values[s]) for s in steps),
        "seeds": [{"x": x, "y": _rounded(y)} for x, y in members],
    }


def evaluation_panels(runs: Sequence[Run], cohorts: Sequence[Cohort]) -> list[dict[str, Any]]:
    """One plot per evaluation set: pass@1 with an interval, other pass@k beside it.

    The interval of a run is the 95 % Wilson interval over its problems, that of several seeds their lowest to highest.
    """
    found: dict[str, set[int]] = {}
    for run in runs:
        for row in run.evaluations:
            for key in row:
                if m := PASS_AT.fullmatch(key):
                    found.setdefault(m[1], set()).add(int(m[2]))
    about = "Error bars: 95 % Wilson interval over the problems"
    if any(len(cohort.members) > 1 for cohort in cohorts):
        about += "; where several seeds are one line, the lowest to the highest seed"
    panels = []
    for source, ks in found.items():
        lines = []
        for c, cohort in enumerate(cohorts):
            lines += _evaluation_lines([runs[i] for i in cohort.members], source, c, cohort.label)
        if lines:
            panels.append(
                {
                    "key": f"evaluation-{len(panels)}",
                    "section": "Outcome",
                    "title": f"Evaluation accuracy: {source}",
                    "unit": " and ".join(f"pass@{k}" for k in sorted(ks)) if len(ks) < 3 else "pass@k",
                    "about": about + ".",
                    "percent": True,
                    "lines": lines,
                    "kind": "evaluation",
                }
            )
    return panels


def _evaluation_lines(seeds: Sequence[Run], source: str, cohort: int, label: str) -> list[dict[str, Any]]:
    keys = {key for run in seeds for row in run.evaluations for key in row}
    ks = sorted(int(m[2]) for key in keys if (m := PASS_AT.fullmatch(key)) and m[1] == source)
    lines = []
    for k in ks:
        name = f"{source}/pass@{k}"
        rows = [row for run in seeds for row in run.evaluations if isinstance(row.get(name), float)]
        by_step: dict[int, list[Row]] = {}
        for row in rows:
            by_step.setdefault(row["step"], []).append(row)
        steps = sorted(by_step)
        rates = [[row[name] for row in by_step[step]] for step in steps]
        if not steps:
            continue
        line: dict[str, Any] = {"cohort": cohort, "run": label, "label": f"pass@{k}", "x": steps}
        line["y"] = _rounded(sum(values) / len(values) for values in rates)
        counts = [row.get(f"{source}/n") for row in rows]
        if len(seeds) > 1:
            line |= {"low": _rounded(map(min, rates)), "high": _rounded(map(max, rates))}
        elif k == ks[0] and all(isinstance(n, float) for n in counts):
            bounds = [wilson_interval(row[name], n or 0.0) for row, n in zip(rows, counts, strict=True)]
            line |= {"low": _rounded(b[0] for b in bounds), "high": _rounded(b[1] for b in bounds)}
        lines.append(line)
    return lines


def curve_panels(runs: Sequence[Run], cohorts: Sequence[Cohort]) -> list[dict[str, Any]]:
    """Every plot of the Curves view, in order, as JSON-ready data; plots without a single number are left out."""
    panels = evaluation_panels(runs, cohorts)
    for panel in PANELS:
        panels += _line_panel(runs, cohorts, panel)
    panels += _phase_panels(runs, cohorts)
    known = {name for panel in PANELS for line in panel.lines for name in line.metrics}
    known |= {name for _, name in PHASES} | _DRAWN_ELSEWHERE | _NOT_METRICS
    others = sorted(
        {
            key
            for run in runs
            for row in run.train
            for key, value in row.items()
            if key not in known and isinstance(value, float)
        }
    )
    for number, name in enumerate(others):
        other = Panel(f"other-{number}", "Everything else", name, "", "", (Line(name, (name,)),))
        panels += _line_panel(runs, cohorts, other)
    return panels


def _line_panel(runs: Sequence[Run], cohorts: Sequence[Cohort], panel: Panel) -> list[dict[str, Any]]:
    lines = []
    for c, cohort in enumerate(cohorts):
        for line in panel.lines:
            series = cohort_series(runs, cohort, line.metrics)
            if series is not None:
                lines.append({"cohort": c, "run": cohort.label, "label": line.label, **series})
    if not lines:
        return []
    return [
        {
            "key": panel.key,
            "section": panel.section,
            "title": panel.title,
            "unit": panel.unit,
            "about": panel.about,
            "percent": panel.percent,
            "lines": lines,
            "kind": "lines",
        }
    ]


def _phase_panels(runs: Sequence[Run], cohorts: Sequence[Cohort]) -> list[dict[str, Any]]:
    panels = []
    for c, cohort in enumerate(cohorts):
        for i in cohort.members[:1]:
            rows = [_without_overlap(row) for row in runs[i].train]
            lines = [
                {"cohort": c, "run": cohort.label, "label": label, "x": x, "y": _rounded(y)}
                for label, name in PHASES
                for x, y in [series_of(rows, (name,))]
                if x
            ]
            if lines:
                title = "Seconds by phase" if len(cohorts) == 1 else f"Seconds by phase: {cohort.label}"
                about = "Where a step's time goes." if len(cohort.members) == 1 else "The first seed's time."
                panels.append(
                    {
                        "key": f"phases-{c}",
                        "section": "Machine",
                        "title": title,
                        "unit": "seconds per step",
                        "about": about,
                        "percent": False,
                        "lines": lines,
                        "kind": "stack",
                    }
                )
    return panels


def _without_overlap(row: Row) -> Row:
    """OpenRLHF times the key-token values as a part of making experience; a stack must not count them twice."""
    whole, part = row.get("timing/make_experience"), row.get("timing/ktae")
    if isinstance(whole, float) and isinstance(part, float):
        return row | {"timing/make_experience": max(0.0, whole - part)}
    return row


def _rounded(values: Iterable[float | None]) -> list[float | None]:
    """Five significant digits: more than a plot shows, half the bytes."""
    return [None if value is None else float(f"{value:.5g}") for value in values]
