"""``openrlhf-ktae train``: plan, check, prepare, train until it ends, sum up."""

import time
from pathlib import Path
from typing import Any

from openrlhf_ktae.checkpoints import has_checkpoint
from openrlhf_ktae.files import write_json
from openrlhf_ktae.run_folder import RunFolder, now
from openrlhf_ktae.runs.attempts import Outcome, train_until_it_ends
from openrlhf_ktae.runs.gpus import check_gpus
from openrlhf_ktae.runs.plan import Plan, check_run, open_folder, plan_run, print_plan
from openrlhf_ktae.runs.prepare import prepare
from openrlhf_ktae.runs.summary import summarize, summary_table
from openrlhf_ktae.runs.terminal import console, format_line, say, say_error, warning_of
from openrlhf_ktae.runs.tracking import Tracking


def train_command(recipe: Path, overrides: list[str], dry_run: bool, resume: Path | None) -> int:
    """Runs the command; returns its exit code. Input errors are printed as one sentence."""
    try:
        plan = plan_run(recipe, overrides, resume)
        if dry_run:
            print_plan(plan)
            return 0
        check_gpus(plan.config.run, plan.batches)
        seconds = {"preparation": prepare(plan.config)}
        total = check_run(plan)
    except (ValueError, ConnectionError) as error:
        say_error("error", str(error))
        return 2
    description = open_folder(plan)
    outcome = _train(plan, description, seconds, total)
    plan.folder.free_room()
    plan.folder.update(
        status="interrupted" if outcome.status == "stopped" else outcome.status,
        reason=outcome.reason,
        finished_at=now(),
    )
    return _conclude(plan, outcome, seconds)


def _train(plan: Plan, description: dict[str, Any], seconds: dict[str, float], total: int | None) -> Outcome:
    folder, run = plan.folder, plan.config.run
    say(f"Run folder: {folder.path} (raw log: {folder.log_file.name})")
    say("Starting Ray, vLLM and DeepSpeed; the first line comes in about a minute ...")
    tracking = Tracking(folder, run, plan.config.name, description)
    start = time.monotonic()
    outcome = Outcome("failed", 1)

    def on_line(line: dict[str, Any]) -> None:
        if "start" not in seconds:
            seconds["start"] = max(0.0, time.monotonic() - start - (line.get("timing/evaluation") or 0.0))
        say(format_line(line, total))
        if warning := warning_of(line, run.collapse_steps):
            say_error("WARNING: the run", warning)
        tracking.log(line)

    try:
        outcome = train_until_it_ends(folder, run.max_restarts, on_line, say)
    finally:
        tracking.close(outcome.code)
    return outcome


def _conclude(plan: Plan, outcome: Outcome, seconds: dict[str, float]) -> int:
    folder = plan.folder
    if outcome.status == "finished":
        summary = summarize(folder.metrics(), seconds, folder.read()["restarts"])
        write_json(folder.summary_file, summary)
        console.print()
        console.print(summary_table(summary))
        say(f"Run folder: {folder.path}")
        _write_report(folder)
        return 0
    if outcome.status == "failed":
        say_error("training failed", f"in step {folder.last_step() + 1}: {outcome.reason}")
        say_error("", f"The whole log: {folder.log_file}")
    elif outcome.status == "interrupted":
        say("Interrupted; nothing is left running.")
    else:
        say("Stopped as asked, with a checkpoint.")
    if has_checkpoint(folder):
        say(f"Go on with: {plan.resume_command}")
    else:
        say("There is no checkpoint to go on from (ckpt.save_steps).")
    return outcome.code if outcome.code > 0 else 1


def _write_report(folder: RunFolder) -> None:
    from openrlhf_ktae.report import write_report

    try:
        say(f"Report (open it in a browser): {write_report([folder.path])}")
    except (OSError, ValueError) as error:
        # The run itself is complete; only its page is not.
        say(f"The report could not be written: {error}")
