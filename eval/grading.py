"""Verdicts for samples, with the grader that training uses."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from eval.records import ENCODING, Record, to_line
from eval.results import summarise
from eval.saved_outputs import Sample, read_samples
from eval.store import OUTPUTS, RESULTS, SETTINGS
from openrlhf_ktae.config import RewardConfig
from openrlhf_ktae.files import write_json
from openrlhf_ktae.reward.answer import STYLES, AnswerStyle
from openrlhf_ktae.reward.grading import grade
from openrlhf_ktae.tasks.task import TASK, BaseTask

_BATCH = 64
_SHOWN = 20  # unreadable records that results.json names


def grade_samples(
    samples: Sequence[Sample],
    styles: Mapping[str, AnswerStyle],
    on_graded: Callable[[Sequence[Record]], None] = lambda _: None,
    verifiers: Mapping[str, str] | None = None,
) -> list[Record]:
    """Graded records of the samples, in their order.

    Args:
        samples: what to grade.
        styles: where the answer stands, per task.
        on_graded: called with each finished batch.
        verifiers: the task of the project whose verifier grades, per task; ``math`` for those that it leaves out.
    """
    records: list[Record] = []
    for start in range(0, len(samples), _BATCH):
        batch = samples[start : start + _BATCH]
        verdicts: dict[int, Any] = {}
        for task in {sample.task for sample in batch}:
            verifier = _verifier((verifiers or {}).get(task, "math"), styles[task])
            places = [i for i, sample in enumerate(batch) if sample.task == task]
            graded = verifier.verdicts([(batch[i].output, _reference(verifier, batch[i])) for i in places])
            verdicts |= dict(zip(places, graded, strict=True))
        new = [_record(sample, verdicts[i]) for i, sample in enumerate(batch)]
        on_graded(new)
        records += new
    return records


@cache
def _verifier(name: str, style: AnswerStyle) -> BaseTask:
    task = TASK.load(name)
    return task(task.Options(), RewardConfig(answer_style=style))


def _reference(verifier: BaseTask, sample: Sample) -> Any:
    return verifier.decode_label(sample.answers[0] if len(sample.answers) == 1 else list(sample.answers))


def _record(sample: Sample, verdict: Any) -> Record:
    return Record(
        sample.task,
        sample.index,
        sample.sample,
        sample.problem,
        sample.answers,
        sample.prompt,
        sample.output,
        verdict.answer if verdict.formatted else None,
        verdict.correct,
        verdict.formatted,
        verdict.reason,
        sample.tokens,
        sample.finish_reason,
        sample.difficulty,
    )


def grade_file(
    path: Path,
    output: Path,
    style: AnswerStyle | None,
    on_graded: Callable[[Sequence[Record]], None] = lambda _: None,
    on_start: Callable[[int], None] = lambda _: None,
    on_unreadable: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Grades a file of answers into the folder ``output`` (settings.json, outputs.jsonl, results.json); the results.

    The same file gives the same bytes. ``style`` None takes each task's style from the settings.json beside the file
    (an evaluation of our own), or ``boxed``. With ``on_unreadable`` a record that cannot be graded is told to it,
    counted in ``results["unreadable"]`` and left out; without it such a record raises.

    Raises:
        ValueError: nothing to grade, records that lack something, an unknown style, or an output folder that holds
            the very file that is read.
    """
    if style is not None and style not in STYLES:
        raise ValueError(f"answer style: got {style!r}, expected one of {', '.join(STYLES)}")
    if (output / OUTPUTS).resolve() == path.resolve():
        raise ValueError(f"{output}: holds the file that is to be graded; name another --output")
    unreadable: list[str] = []

    def note(record: str) -> None:
        unreadable.append(record)
        if on_unreadable is not None:
            on_unreadable(record)

    samples = read_samples(path, None if on_unreadable is None else note)
    on_start(len(samples))
    before = _settings_beside(path)
    styles: dict[str, AnswerStyle] = {
        sample.task: style or before.get("answer_styles", {}).get(sample.task, "boxed") for sample in samples
    }
    verifiers = before.get("verifiers", {})
    records = grade_samples(samples, styles, on_graded, verifiers)
    settings = {"graded_from": path.name, **before, "answer_styles": dict(sorted(styles.items()))}
    results = summarise(records, settings, equivalence())
    if unreadable:
        results["unreadable"] = {"records": len(unreadable), "first": unreadable[:_SHOWN]}
        results["partial"] = True
        results["partial_because"].append(f"{len(unreadable)} records cannot be read")
    output.mkdir(parents=True, exist_ok=True)
    lines = "".join(to_line(record) for record in sorted(records, key=lambda record: record.key))
    (output / OUTPUTS).write_bytes(lines.encode(*ENCODING))
    write_json(output / SETTINGS, settings)
    write_json(output / RESULTS, results)
    return results


def equivalence() -> Callable[[str, str], bool]:
    """Whether two answers say the same, by the grader; each pair is decided once."""

    @cache
    def equivalent(answer: str, other: str) -> bool:
        # Both are a model's: only the grader's workers may be stopped when such a comparison takes for ever.
        return grade(f"<answer>{answer}</answer>", other, "tags").correct

    return equivalent


def _settings_beside(path: Path) -> dict[str, Any]:
    settings = path.with_name(SETTINGS)
    if path.name != OUTPUTS or not settings.exists():
        return {}
    return json.loads(settings.read_text(encoding="utf-8"))
