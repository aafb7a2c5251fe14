"""What is checked of a sweep before its first run: that every run can be, and that arms of one seed are comparable."""

from collections.abc import Sequence
from pathlib import Path

from openrlhf_ktae.recipe import RunConfig, resolve
from openrlhf_ktae.sweep.plan import PlannedRun, SweepFile
from openrlhf_ktae.tasks.task import MadeOptions

_SAME_FOR_ALL = {
    "actor.model_name_or_path": "start from the same model",
    "data.prompt_dataset": "see the same prompts",
    "data.max_samples": "see the same prompts",
    "rollout.batch_size": "see the same prompts",
    "algo.dynamic_filtering_enable": "see the same prompts",
    "eval.dataset": "answer the same problems",
}
"""Options that make arms of one seed comparable, with what two that differ in them do not do."""
_COLLAPSE_NOTE = (
    "run.stop_on_collapse is on: a run that collapses is not finished and does not count, which flatters its arm; "
    "set it to false"
)


def resolved_runs(runs: Sequence[PlannedRun]) -> list[tuple[PlannedRun, RunConfig]]:
    """Every run with its recipe and options, resolved before any starts.

    Raises:
        ValueError: an option that cannot be.
    """
    resolved = []
    for run in runs:
        try:
            resolved.append((run, resolve(run.recipe, list(run.overrides))))
        except ValueError as error:
            raise ValueError(f"{run.name}: {error}") from error
    return resolved


def check_runs(sweep: SweepFile, resolved: Sequence[tuple[PlannedRun, RunConfig]]) -> list[str]:
    """Returns in what an arm differs from the baseline besides its method.

    Raises:
        ValueError: two runs that would make each other's prompts and model anew.
    """
    notes: dict[str, None] = {}
    made: dict[Path, tuple[str, MadeOptions]] = {}
    of_baseline: dict[tuple[str, int], RunConfig] = {}
    for run, config in resolved:
        if run.arm == sweep.baseline:
            of_baseline[run.setting, run.seed] = config
        options = config.make_task().options
        if isinstance(options, MadeOptions):
            other, before = made.setdefault(Path(options.directory).resolve(), (run.name, options))
            if before != options:
                raise ValueError(
                    f"{run.name}: makes its prompts and model in {options.directory}, as {other} does with other "
                    f"options; say {config.task}.directory, and the paths of data and model, in the setting"
                )
    for run, config in resolved:
        baseline = of_baseline[run.setting, run.seed]
        for option, both in _SAME_FOR_ALL.items():
            if config.openrlhf.get(option) != baseline.openrlhf.get(option):
                notes[f"{option} of arm {run.arm} is not the baseline's: the two do not {both}"] = None
        if config.run.stop_on_collapse:
            notes[_COLLAPSE_NOTE] = None
    return list(notes)
