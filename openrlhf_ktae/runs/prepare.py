"""What is made before training: the tiny model and problems of the CPU recipes."""

import os
import time

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from openrlhf_ktae.recipe import RunConfig
from openrlhf_ktae.runs.terminal import console, say


def prepare(config: RunConfig) -> float:
    """Makes what a recipe trains from, if it is not there yet; returns the seconds it took."""
    if config.arithmetic is None:
        return 0.0
    if config.run.device == "cpu":
        # Transformers imports DeepSpeed, which warns in every process that it has to look for an accelerator.
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    from openrlhf_ktae.tasks.tiny_model import prepare_arithmetic

    start = time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("Warming up the tiny model (supervised)", total=config.arithmetic.warmup_steps)
        made = prepare_arithmetic(config.arithmetic, lambda step, _: progress.update(task, completed=step))
    seconds = time.monotonic() - start
    what = f"made in {seconds:.0f} s" if made else "already there"
    say(f"Tiny model and arithmetic problems: {what} ({config.arithmetic.directory})")
    return seconds
