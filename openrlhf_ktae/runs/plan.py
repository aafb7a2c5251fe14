"""What will be run: the resolved recipe, its folder, and, for a run that goes on, what it was started with."""

import json
import os
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from openrlhf_ktae.checkpoints import has_checkpoint
from openrlhf_ktae.files import fingerprint, replacing, take_lock, write_json
from openrlhf_ktae.openrlhf_options import check as check_openrlhf
from openrlhf_ktae.recipe import RECIPE_FILE, RunConfig, resolve
from openrlhf_ktae.run_folder import FORMAT, PACKAGES, RunFolder, git_commit, now
from openrlhf_ktae.runs.batch_sizes import BatchPlan
from openrlhf_ktae.runs.preflight import check_batches, check_combinations, preflight
from openrlhf_ktae.runs.prompt_files import count_prompts
from openrlhf_ktae.runs.terminal import say
from openrlhf_ktae.runs.tracking import check_tracking
from openrlhf_ktae.versions import installed_versions

_ENDING_SECONDS = 10.0
"""How long a run may take to end when its supervisor was killed (`training.launch.end_with_parent`)."""
_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Plan:
    """A run that can be started."""

    config: RunConfig
    folder: RunFolder
    overrides: list[str]
    batches: BatchPlan

    @property
    def resume_command(self) -> str:
        """What a person types to go on with it."""
        return f"openrlhf-ktae train {self.config.recipe} --resume {self.folder.path}"


def plan_run(recipe: Path, overrides: list[str], resume: Path | None) -> Plan:
    """Resolves a recipe, or one that goes on in the folder ``resume``, and checks what takes no time.

    Raises:
        ValueError: an option, a batch size or a run folder that cannot work.
    """
    if resume:
        resume = resume.resolve()  # runs/latest is a link, which the run sets anew
        overrides = list({o.partition("=")[0]: o for o in _overrides_before(RunFolder(resume)) + overrides}.values())
    config = resolve(recipe, overrides)
    if resume:
        _check_recipe_before(RunFolder(resume), config)
    folder = RunFolder(resume or _new_folder(config))
    batches = check_batches(config, folder.path)
    check_combinations(config, check_openrlhf(config.openrlhf_argv(folder.path)))
    check_tracking(config)
    return Plan(config, folder, overrides, batches)


def _new_folder(config: RunConfig) -> Path:
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    return Path(config.run.output_dir) / f"{config.name}-{stamp}"


def _overrides_before(folder: RunFolder) -> list[str]:
    """The ``--set`` values of a run that can be resumed: it goes on with them, unless they are set anew."""
    if not folder.run_json.is_file():
        raise ValueError(f"--resume: {folder.path} holds no run.json; name a run folder, such as runs/latest")
    run = folder.read()
    if run.get("format") != FORMAT:
        raise ValueError(f"--resume: {folder.path} has format {run.get('format')}, this version writes {FORMAT}")
    if not has_checkpoint(folder):
        raise ValueError(
            f"--resume: {folder.path} holds no checkpoint to go on from; start a new run, with "
            "--set ckpt.save_steps=10 for a checkpoint every ten steps"
        )
    if overrides := run.get("overrides", []):
        say(f"# Resuming with the run's own --set: {shlex.join(overrides)}")
    return overrides


def _check_recipe_before(folder: RunFolder, config: RunConfig) -> None:
    before = folder.read()["recipe"]
    if not _is_same_recipe(Path(before), Path(config.recipe)):
        raise ValueError(
            f"--resume: {folder.path} was started from {before}, not from {config.recipe}; name that recipe (options "
            "change with --set), or start a new run"
        )


def _is_same_recipe(before: Path, named: Path) -> bool:
    """By the last names: the checkout may stand elsewhere by now."""
    if before.suffix == ".yaml":
        return before.parts[-2:] == named.parts[-2:]
    # Earlier versions noted every file by its folder, and the folder that the command ran in as a dot.
    if named.suffix == ".yaml":
        named = named.parent
        if (named / RECIPE_FILE).is_file():
            return False
    return before.name in (named.name, "", "..")


def print_plan(plan: Plan) -> None:
    """The resolved configuration as YAML, with the layer that said each value, and OpenRLHF's command line."""
    config, argv = plan.config, plan.config.openrlhf_argv(plan.folder.path)
    print(f"# {config.name}: resolved configuration, and where each value is said")
    for name, value in sorted(config.settings().items()):
        print(f"{name}: {json.dumps(value)}  # {config.sources.get(name, 'default')}")
    print("\n# OpenRLHF's command line")
    print(shlex.join(["python", "-m", "openrlhf.cli.train_ppo_ray", *argv]))


def check_run(plan: Plan) -> int | None:
    """All checks before any actor starts; returns the number of steps, where it is known.

    It is of a run without filtering, where the prompt sets are local JSON-lines files.

    Raises:
        ValueError: a run that cannot work.
    """
    args = preflight(plan.config, plan.folder.path)
    prompts = count_prompts(args.data.prompt_dataset)
    if not prompts or args.algo.dynamic_filtering_enable:
        return None
    return -(-min(prompts, args.data.max_samples) // args.rollout.batch_size) * args.train.num_episodes


@contextmanager
def hold(folder: RunFolder) -> Iterator[None]:
    """Inside, no other process trains the run of ``folder``; nor afterwards, until its launcher has ended.

    Raises:
        ValueError: another one does.
    """
    deadline = time.monotonic() + _ENDING_SECONDS
    while (lock := take_lock(folder.lock_file)) is None:
        if time.monotonic() > deadline:
            raise ValueError(
                f"--resume: {folder.path} is being trained by another process; wait for its end, or touch "
                f"{folder.stop_file} for a checkpoint and an early one"
            )
        time.sleep(_POLL_SECONDS)
    folder.lock = lock
    try:
        yield
    finally:
        folder.lock = None
        os.close(lock)


def in_new_folder(plan: Plan) -> Plan:
    """The plan with a folder that is made here: of runs that start in one second each gets its own."""
    planned = plan.folder.path
    planned.parent.mkdir(parents=True, exist_ok=True)
    path, number = planned, 1
    while not _make(path):
        number += 1
        path = planned.with_name(f"{planned.name}-{number}")
    return replace(plan, folder=RunFolder(path))


def _make(path: Path) -> bool:
    try:
        path.mkdir()
    except FileExistsError:
        return False
    return True


def open_folder(plan: Plan) -> dict[str, Any]:
    """Writes run.json into the run folder, and makes the link ``latest``; returns what run.json says."""
    folder = plan.folder
    description = _describe(plan)
    folder.stop_file.unlink(missing_ok=True)
    write_json(folder.run_json, description)
    latest = folder.path.parent / "latest"
    if latest.is_symlink() or not latest.exists():
        with replacing(latest) as link:
            link.symlink_to(folder.path.name)
    return description


def _describe(plan: Plan) -> dict[str, Any]:
    config, folder = plan.config, plan.folder
    before = folder.read() if folder.run_json.is_file() else {}  # of a run that is resumed
    model = config.openrlhf.get("actor.model_name_or_path")
    return {
        "format": FORMAT,
        "name": config.name,
        "recipe": config.recipe,
        "status": "running",
        "reason": None,
        "started_at": now(),
        "finished_at": None,
        "restarts": before.get("restarts", []),
        "overrides": plan.overrides,
        "argv": config.openrlhf_argv(folder.path),
        "gpus": plan.batches.gpus,
        "resumed_from": None,
        "config": config.described(folder.path),
        "versions": installed_versions(PACKAGES),
        "git_commit": git_commit(Path(config.recipe)),
        "seed": config.openrlhf.get("train.seed", 42),
        "model": model,
        "start_model": before.get("start_model") or (fingerprint(Path(model), "*.safetensors") if model else None),
    }
