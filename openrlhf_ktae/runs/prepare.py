"""What is made before training: the prompt sets of a task that makes its own, and the tiny model."""

import os
import time

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from openrlhf_ktae.plugins import section_of
from openrlhf_ktae.recipe import RunConfig
from openrlhf_ktae.runs.terminal import console, say
from openrlhf_ktae.tasks.task import BaseTask, MadeOptions


def prepare(config: RunConfig) -> float:
    """Makes what a recipe trains from, if it is not there yet; returns the seconds it took."""
    if config.run.device == "cpu":
        # Transformers imports DeepSpeed, which warns in every process that it has to look for an accelerator.
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    return make_assets(config.make_task(), config.task)


def make_assets(task: BaseTask, name: str) -> float:
    """Makes the prompt sets and the tiny model of a task that has its own, as `prepare`."""
    if not isinstance(task.options, MadeOptions):
        return 0.0
    from openrlhf_ktae.tasks.tiny_model import prepare_task

    start = time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("Warming up the tiny model (supervised)", total=task.options.warmup_steps)
        made = prepare_task(task, lambda step, _: progress.update(bar, completed=step))
    seconds = time.monotonic() - start
    what = f"made in {seconds:.0f} s" if made else "already there"
    say(f"What {section_of(name)} trains from: {what} ({task.options.directory})")
    return seconds
