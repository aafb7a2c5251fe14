"""What is made before training: the prompt sets of a task that makes its own, and the tiny model."""

import os
import time
from contextlib import ExitStack

from openrlhf_ktae import cpu_vllm
from openrlhf_ktae.plugins import section_of
from openrlhf_ktae.recipe import RunConfig
from openrlhf_ktae.runs.terminal import Counting, say
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
    what = f"What {section_of(name)} trains from"
    if task.options.are_made():
        say(f"{what}: already there ({task.options.directory})")
        return 0.0
    start = time.monotonic()
    for variable, value in cpu_vllm.OPENMP.items():
        os.environ.setdefault(variable, value)
    from openrlhf_ktae.tasks.tiny_model import prepare_task  # seconds, for PyTorch and Transformers

    steps = task.options.warmup_steps
    with ExitStack() as stack:
        shown: list[Counting] = []

        def count(*_: object) -> None:
            if not shown:  # nothing is said where nothing has to be made
                shown.append(stack.enter_context(Counting("Warming up the tiny model (supervised)", steps)))
            shown[0].count(1)

        made = prepare_task(task, count)
    seconds = time.monotonic() - start
    made_in = f"made in {seconds:.0f} s" if made else "already there"  # another process may just have made it
    say(f"{what}: {made_in} ({task.options.directory})")
    return seconds
