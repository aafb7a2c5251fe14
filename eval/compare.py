"""Sets results side by side: intervals, and paired differences where the verdicts of both are known."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from eval.intervals import Difference, paired_difference
from eval.published import published_names, published_results
from eval.records import Record, read_records
from eval.results import by_problem
from eval.store import OUTPUTS, RESULTS
from openrlhf_ktae.tasks.math.benchmarks import BENCHMARKS

AVERAGE = "average"


@dataclass(frozen=True)
class Entry:
    """One result to compare."""

    label: str
    results: dict[str, Any]
    problems: dict[str, dict[int, list[Record]]]
    """Samples by task and problem; empty for a published result."""

    def row(self, task: str) -> dict[str, Any] | None:
        """Metrics of a task, or of :data:`AVERAGE`."""
        return self.results["average"] if task == AVERAGE else self.results["tasks"].get(task)


@dataclass(frozen=True)
class Comparison:
    """Several results on the tasks that any of them has."""

    entries: list[Entry]
    tasks: list[str]
    differences: dict[tuple[int, str], Difference]
    """(entry, task or :data:`AVERAGE`) -> difference to the first entry."""
    notes: list[str]


def compare(names: Sequence[str]) -> Comparison:
    """Compares results with the first one.

    Args:
        names: folders of evaluations, or names of the published table.

    Raises:
        ValueError: fewer than one name, neither folder nor published, or a folder without results.
    """
    if not names:
        raise ValueError("compare: no results; name a result folder or a model of the published table")
    entries = _with_distinct_labels([_entry(name) for name in names])
    tasks = [task for task in BENCHMARKS if any(entry.row(task) for entry in entries)]
    tasks += sorted({task for entry in entries for task in entry.results["tasks"]} - set(tasks))
    notes = [_partial_note(entry) for entry in entries if entry.results["partial"]]
    notes += _task_notes(entries, tasks)
    differences: dict[tuple[int, str], Difference] = {}
    first = entries[0]
    for number, entry in enumerate(entries[1:], start=1):
        if not first.problems or not entry.problems:
            notes.append(
                f"{entry.label} against {first.label}: no paired test, the table of published results has no verdicts "
                "per problem; compare the intervals"
            )
            continue
        pairs = _pairs(first, entry, notes)
        for task, (a, b) in pairs.items():
            one = _samples(first, task) == 1 == _samples(entry, task)
            differences[number, task] = paired_difference([a], [b], one_sample=one)
        if pairs:
            # The average of one task is that task; the same test then, and not another one of the same data.
            befores, afters = zip(*pairs.values(), strict=True)
            only = differences[number, next(iter(pairs))]
            differences[number, AVERAGE] = only if len(pairs) == 1 else paired_difference(befores, afters)
    return Comparison(entries, tasks, differences, notes)


def _entry(name: str) -> Entry:
    folder = Path(name)
    if (folder / RESULTS).is_file():
        results = json.loads((folder / RESULTS).read_text(encoding="utf-8"))
        return Entry(str(folder.resolve()), results, by_problem(read_records(folder / OUTPUTS)))
    if name in published_names():
        return Entry(name, published_results(name), {})
    if folder.is_dir():
        raise ValueError(f"{name}: no {RESULTS} in this folder; run or grade the evaluation first")
    raise ValueError(f"{name}: neither a result folder nor in the published table ({', '.join(published_names())})")


def _with_distinct_labels(entries: list[Entry]) -> list[Entry]:
    """Folders by the last parts of their paths that tell them apart: `mine`, or `a/mine` and `b/mine`."""
    labels = [entry.label for entry in entries]
    for parts in range(1, max(label.count("/") for label in labels) + 2):
        short = ["/".join(label.split("/")[-parts:]) for label in labels]
        if len(set(short)) == len(set(labels)):
            labels = short
            break
    entries = [replace(entry, label=label) for entry, label in zip(entries, labels, strict=True)]
    return [
        replace(entry, label=f"{entry.label} ({i + 1})") if labels.count(entry.label) > 1 else entry
        for i, entry in enumerate(entries)
    ]


def _partial_note(entry: Entry) -> str:
    return f"{entry.label} is partial: {'; '.join(entry.results['partial_because'])}"


def _task_notes(entries: Sequence[Entry], tasks: Sequence[str]) -> list[str]:
    missing = {entry.label: [task for task in tasks if not entry.row(task)] for entry in entries}
    return [
        f"{label} lacks {', '.join(lacking)}: its average is over the other tasks and not comparable"
        for label, lacking in missing.items()
        if lacking
    ]


def _samples(entry: Entry, task: str) -> int:
    return max(len(samples) for samples in entry.problems[task].values())


def _pairs(first: Entry, second: Entry, notes: list[str]) -> dict[str, tuple[list[float], list[float]]]:
    """Scores of both on the problems that both have, per task.

    Problems are the same where number and accepted answers are: an answer file of somebody else holds prompts and not
    problems.
    """
    pairs = {}
    for task in first.problems:
        ours, theirs = first.problems[task], second.problems.get(task, {})
        common = sorted(ours.keys() & theirs.keys())
        if not common:
            continue
        if any(ours[index][0].answers != theirs[index][0].answers for index in common):
            notes.append(f"{second.label} against {first.label}, {task}: the data differ, so no paired test")
            continue
        if len(common) < max(len(ours), len(theirs)):
            notes.append(f"{second.label} against {first.label}, {task}: paired on the {len(common)} problems of both")
        pairs[task] = tuple([_share(side[index]) for index in common] for side in (ours, theirs))
    return pairs


def _share(samples: Sequence[Record]) -> float:
    return sum(record.correct for record in samples) / len(samples)
