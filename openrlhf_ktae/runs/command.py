"""``openrlhf-ktae train``: resolve, check, prepare, run, sum up."""

import json
import os
import shlex
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from openrlhf_ktae.files import write_json
from openrlhf_ktae.recipe import RunConfig, resolve
from openrlhf_ktae.run_folder import EXIT_STOPPED, FORMAT, RunFolder, git_commit, installed_versions, now
from openrlhf_ktae.runs.preflight import check_batches, local_files, preflight
from openrlhf_ktae.runs.summary import summarize, summary_table
from openrlhf_ktae.runs.supervise import Interrupted, failure_reason, supervise
from openrlhf_ktae.runs.tracking import Tracking, check_tracking

console = Console(highlight=False)


def train_command(recipe: Path, overrides: list[str], dry_run: bool, resume: Path | None) -> int:
    """Runs the command; returns its exit code. Input errors are printed as one sentence."""
    try:
        if resume:
            resume = resume.resolve()  # runs/latest is a link, which the run sets anew
            overrides = _last_of_each(_overrides_before(RunFolder(resume)) + overrides)
        config = resolve(recipe, overrides)
        folder = RunFolder(resume) if resume else RunFolder(_new_folder(config))
        check_batches(config, folder.path)
        check_tracking(config)
        if dry_run:
            print_resolved(config, folder)
            return 0
        seconds = {"preparation": _prepare(config)}
        args = preflight(config, folder.path)
    except ValueError as error:
        Console(stderr=True, highlight=False).print(f"[bold red]error[/] {_escape(str(error))}")
        return 2
    return _run(config, folder, overrides, bool(resume), seconds, _total_steps(args))


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)


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
    if not folder.has_checkpoint():
        raise ValueError(
            f"--resume: {folder.path} holds no checkpoint to go on from; start a new run, with "
            "--set ckpt.save_steps=10 for a checkpoint every ten steps"
        )
    overrides = run.get("overrides", [])
    if overrides:
        console.print(f"# Resuming with the run's own --set: {_escape(shlex.join(overrides))}", soft_wrap=True)
    return overrides


def _last_of_each(overrides: list[str]) -> list[str]:
    return list({item.partition("=")[0]: item for item in overrides}.values())


def print_resolved(config: RunConfig, folder: RunFolder) -> None:
    """The resolved configuration as YAML, with the layer that said each value, and OpenRLHF's command line."""
    argv = config.openrlhf_argv(folder.path)
    print(f"# {config.name}: resolved configuration, and where each value is said")
    for name, value in sorted(config.settings().items()):
        print(f"{name}: {json.dumps(value)}  # {config.sources.get(name, 'default')}")
    print("\n# OpenRLHF's command line")
    print(shlex.join(["python", "-m", "openrlhf.cli.train_ppo_ray", *argv]))


def _prepare(config: RunConfig) -> float:
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
    console.print(f"Tiny model and arithmetic problems: {what} ({config.arithmetic.directory})")
    return seconds


def _total_steps(args: Any) -> int | None:
    """Steps of a run without filtering, where the prompt set is a local JSON-lines file."""
    rows = 0
    for path in local_files(args.data.prompt_dataset):
        if path.suffix != ".jsonl":
            return None
        with path.open(encoding="utf-8") as file:
            rows += sum(1 for _ in file)
    per_episode = -(-min(rows, args.data.max_samples) // args.rollout.batch_size)
    return per_episode * args.train.num_episodes if rows and not args.algo.dynamic_filtering_enable else None


def _describe(config: RunConfig, folder: RunFolder, overrides: list[str], argv: list[str]) -> dict[str, Any]:
    sections = {name: getattr(config, name) for name in ("ktae", "grader", "run", "arithmetic")}
    return {
        "format": FORMAT,
        "name": config.name,
        "recipe": config.recipe,
        "status": "running",
        "started_at": now(),
        "finished_at": None,
        "overrides": overrides,
        "argv": argv,
        "config": {"openrlhf": config.openrlhf_settings(folder.path)}
        | {name: json.loads(options.model_dump_json()) for name, options in sections.items() if options is not None},
        "versions": installed_versions(),
        "git_commit": git_commit(Path(config.recipe)),
        "seed": config.openrlhf.get("train.seed", 42),
        "model": config.openrlhf.get("actor.model_name_or_path"),
    }


def _run(
    config: RunConfig,
    folder: RunFolder,
    overrides: list[str],
    resume: bool,
    seconds: dict[str, float],
    total: int | None,
) -> int:
    argv = config.openrlhf_argv(folder.path) + (["--ckpt.load_enable"] if resume else [])
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.stop_file.unlink(missing_ok=True)
    description = _describe(config, folder, overrides, argv)
    write_json(folder.run_json, description)
    _point_latest_at(folder.path)
    console.print(f"Run folder: {folder.path} (raw log: {folder.log_file.name})")
    console.print("Starting Ray, vLLM and DeepSpeed; the first line comes in about a minute ...")
    start = time.monotonic()
    shown = {"first": True}
    tracking = Tracking(folder, config.run, config.name, description)
    code = 1

    def on_line(line: dict[str, Any]) -> None:
        if shown.pop("first", False):
            seconds["start"] = max(0.0, time.monotonic() - start - (line.get("timing/evaluation") or 0.0))
        console.print(format_line(line, total), soft_wrap=True)
        tracking.log(line)

    try:
        code = supervise(folder, on_line)
    except (Interrupted, KeyboardInterrupt):
        folder.update(status="interrupted", finished_at=now())
        console.print("Interrupted; nothing is left running.")
        if folder.has_checkpoint():
            console.print(f"Go on with: {_resume_command(config, folder)}")
        else:
            console.print("There is no checkpoint to go on from (ckpt.save_steps).")
        return 130
    finally:
        tracking.close(code)
    return _finish(config, folder, code, seconds)


def _resume_command(config: RunConfig, folder: RunFolder) -> str:
    return f"openrlhf-ktae train {config.recipe} --resume {folder.path}"


def _finish(config: RunConfig, folder: RunFolder, code: int, seconds: dict[str, float]) -> int:
    status = {0: "finished", EXIT_STOPPED: "interrupted"}.get(code, "failed")
    folder.update(status=status, finished_at=now())
    if status == "failed":
        reason = failure_reason(folder) or f"the launcher ended with exit code {code}"
        errors = Console(stderr=True, highlight=False)
        errors.print(f"[bold red]training failed[/] {_escape(reason)}")
        errors.print(f"The whole log: {folder.log_file}")
        return code if code > 0 else 1
    if status == "interrupted":
        console.print(f"Stopped as asked, with a checkpoint. Go on with: {_resume_command(config, folder)}")
        return code
    summary = summarize(folder.metrics(), seconds)
    write_json(folder.summary_file, summary)
    console.print()
    console.print(summary_table(summary))
    console.print(f"Run folder: {folder.path}")
    _write_report(folder)
    return 0


def _write_report(folder: RunFolder) -> None:
    from openrlhf_ktae.report import write_report

    try:
        console.print(f"Report (open it in a browser): {write_report([folder.path])}")
    except (OSError, ValueError) as error:
        # The run itself is complete; only its page is not.
        console.print(f"The report could not be written: {_escape(str(error))}")


def _point_latest_at(path: Path) -> None:
    latest = path.parent / "latest"
    if latest.is_symlink() or not latest.exists():
        latest.unlink(missing_ok=True)
        latest.symlink_to(path.name)


_LINE = (
    ("accuracy", "rollout/accuracy", "{:.3f}"),
    ("reward", "rollout/reward_mean", "{:.3f}"),
    ("tokens", "rollout/response_length_mean", "{:.0f}"),
    ("entropy", "entropy_loss", "{:.3f}"),
    ("kl", "kl", "{:.4f}"),
    ("key tokens", "ktae/key_token_frac", "{:.0%}"),
    ("grad", "actor_grad_norm", "{:.2f}"),
    ("seconds", "timing/step_total", "{:.2f}"),
)


def format_line(line: dict[str, Any], total: int | None) -> str:
    """One line of metrics.jsonl for the terminal."""
    if line["kind"] == "eval":
        found = [f"{name} {value:.3f}" for name, value in line.items() if "/pass@" in name and value is not None]
        return f"  evaluation after step {line['step']}: {', '.join(found)}"
    step = f"{line['step']}/{total}" if total else str(line["step"])
    parts = [f"{name} {form.format(line[key])}" for name, key, form in _LINE if line.get(key) is not None]
    return f"step {step:>7}  " + "  ".join(parts)
