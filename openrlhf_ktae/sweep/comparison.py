"""Arms against the baseline: for every setting, what each arm reached and how it differs on the same seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from openrlhf_ktae.sweep.outcomes import Curve, Outcome, numbers_of
from openrlhf_ktae.sweep.plan import SweepFile, settings_of
from openrlhf_ktae.sweep.statistics import (
    Difference,
    Estimate,
    mean_interval,
    median_with_unreached,
    paired_difference,
)
from openrlhf_ktae.sweep.tuning import Tuned, tuned


@dataclass(frozen=True)
class Measure:
    """A number of a run that arms are compared by."""

    name: str
    """As in summary.csv."""
    title: str
    digits: int


MEASURES = (
    Measure("area_under_curve", "mean accuracy over training", 3),
    Measure("accuracy_last", "accuracy at the end", 3),
    Measure("response_tokens_last", "response tokens at the end", 1),
    Measure("step_seconds", "seconds per step", 2),
    Measure("key_token_precision_first", "precision of key tokens, first step", 2),
    Measure("key_token_precision_last", "precision of key tokens, last", 2),
    Measure("key_token_recall_first", "recall of key tokens, first step", 2),
    Measure("key_token_recall_last", "recall of key tokens, last", 2),
    Measure("decisive_share_first", "share of decisive tokens, first step", 2),
)


@dataclass(frozen=True)
class Band:
    """A curve over the seeds of an arm."""

    steps: tuple[int, ...]
    estimates: tuple[Estimate, ...]


@dataclass(frozen=True)
class ArmResult:
    """One arm in one setting. Only finished runs count."""

    setting: str
    arm: str
    is_baseline: bool
    planned: int
    finished: int
    estimates: Mapping[str, Estimate]
    """By measure; those that no run has are not there."""
    differences: Mapping[str, Difference]
    """To the baseline, by measure."""
    reached: Mapping[float, tuple[int, float | None]]
    """Level of accuracy -> runs that reached it, median step (None where fewer than half did)."""
    accuracy: Band
    response_tokens: Band
    tuned: Tuned | None = None
    """Where every arm is at its best value: which, of how many."""


def compare(outcomes: Sequence[Outcome], sweep: SweepFile) -> list[ArmResult]:
    """Every arm of every setting, in the order of the sweep's file; after them, every arm at its best value."""
    results = []
    for setting in settings_of(sweep):
        here = [outcome for outcome in outcomes if outcome.run.setting == setting]
        baseline = [outcome for outcome in here if outcome.run.arm == sweep.baseline]
        for arm in sweep.arms:
            results.append(_result(setting, arm, [o for o in here if o.run.arm == arm], baseline, sweep))
    for found in tuned(outcomes, sweep):
        baseline = found.outcomes[sweep.baseline]
        for arm, at_best in found.outcomes.items():
            results.append(_result(found.setting, arm, at_best, baseline, sweep, found))
    return results


def _result(
    setting: str,
    arm: str,
    outcomes: Sequence[Outcome],
    baseline: Sequence[Outcome],
    sweep: SweepFile,
    at_best: Tuned | None = None,
) -> ArmResult:
    finished = [outcome for outcome in outcomes if outcome.status == "finished"]
    estimates, differences = {}, {}
    for measure in MEASURES:
        values = _by_start(outcomes, measure.name)
        if values:
            estimates[measure.name] = mean_interval(list(values.values()))
        difference = paired_difference(values, _by_start(baseline, measure.name))
        if difference and arm != sweep.baseline:
            differences[measure.name] = difference
    reached = {}
    for level in sweep.reach:
        steps = [numbers_of(outcome, (level,))[f"steps_to_{level:g}"] for outcome in finished]
        reached[level] = sum(step is not None for step in steps), median_with_unreached(steps)
    return ArmResult(
        setting,
        arm,
        arm == sweep.baseline,
        len(sweep.seeds) - (len(sweep.tune_on) if at_best else 0),
        len(finished),
        estimates,
        differences,
        reached,
        _band([outcome.accuracy for outcome in finished]),
        _band([outcome.response_tokens for outcome in finished]),
        at_best,
    )


def _by_start(outcomes: Sequence[Outcome], name: str) -> dict[tuple[int, str], float]:
    """A number of each finished run by what makes two runs a pair: seed and start model."""
    numbers = {_start(o): numbers_of(o, ()).get(name) for o in outcomes if o.status == "finished"}
    return {start: number for start, number in numbers.items() if number is not None}


def _start(outcome: Outcome) -> tuple[int, str]:
    return outcome.run.seed, outcome.start_model or ""


def unpaired(outcomes: Sequence[Outcome], sweep: SweepFile) -> list[str]:
    """A sentence for every arm with runs that start from other weights than the baseline's of the same seed."""
    finished = [outcome for outcome in outcomes if outcome.status == "finished"]
    of_baseline = {(o.run.setting, o.run.seed): _start(o) for o in finished if o.run.arm == sweep.baseline}
    others: dict[str, list[int]] = {}
    for outcome in finished:
        baseline = of_baseline.get((outcome.run.setting, outcome.run.seed))
        if baseline is not None and baseline != _start(outcome):
            name = ", ".join(part for part in (outcome.run.setting, outcome.run.arm) if part)
            others.setdefault(name, []).append(outcome.run.seed)
    return [
        f"{name}: started from other weights than {sweep.baseline} on seeds {', '.join(map(str, seeds))}, "
        "which are left out of the differences"
        for name, seeds in others.items()
    ]


def _band(curves: Sequence[Curve]) -> Band:
    """Mean and interval over the runs, at the steps that all of them have."""
    if not curves:
        return Band((), ())
    steps = sorted(set.intersection(*(set(curve[0]) for curve in curves)))
    values = [dict(zip(*curve, strict=True)) for curve in curves]
    return Band(tuple(steps), tuple(mean_interval([of_run[step] for of_run in values]) for step in steps))


def rows_of(results: Sequence[ArmResult]) -> list[dict[str, Any]]:
    """The comparison as rows of text: an arm and a measure each, with intervals, difference and sign test."""
    rows = []
    for result in results:
        for measure in MEASURES:
            if measure.name not in result.estimates:
                continue
            estimate, difference = result.estimates[measure.name], result.differences.get(measure.name)
            row = {"setting": result.setting, "arm": result.arm, "measure": measure.name}
            row |= _columns("", estimate)
            row |= _columns("difference_", difference.estimate if difference else None)
            row |= {
                "higher": difference.higher if difference else "",
                "lower": difference.lower if difference else "",
                "sign_p": f"{difference.sign_p:.4g}" if difference else "",
            }
            rows.append(row)
    return rows


def _columns(prefix: str, estimate: Estimate | None) -> dict[str, Any]:
    def text(value: float | None) -> str:
        return "" if value is None else f"{value:.6g}"

    return {
        f"{prefix}mean": text(estimate.mean if estimate else None),
        f"{prefix}low": text(estimate.low if estimate else None),
        f"{prefix}high": text(estimate.high if estimate else None),
        f"{prefix}n": estimate.n if estimate else "",
    }


def with_interval(estimate: Estimate | None, digits: int, signed: bool = False) -> str:
    """``0.713 (0.690 to 0.736)``; without an interval the number alone, ``-`` for none."""
    if estimate is None:
        return "-"

    def text(value: float) -> str:
        return f"{value:{'+' if signed else ''}.{digits}f}".replace("-", "−")

    if estimate.low is None or estimate.high is None:
        return text(estimate.mean)
    return f"{text(estimate.mean)} ({text(estimate.low)} to {text(estimate.high)})"


def reached_text(result: ArmResult, level: float) -> str:
    """``step 23 (4 of 5 runs)``: the median step, and how many runs reached the level at all."""
    runs, median = result.reached[level]
    if not result.finished:
        return "-"
    return f"{'not reached' if median is None else f'step {median:.0f}'} ({runs} of {result.finished} runs)"
