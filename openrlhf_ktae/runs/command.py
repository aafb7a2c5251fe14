"""``openrlhf-ktae train``: plan, check, prepare, train until it ends, sum up."""

import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from openrlhf_ktae.checkpoints import has_checkpoint
from openrlhf_ktae.files import write_json
from openrlhf_ktae.run_folder import RunFolder, now
from openrlhf_ktae.runs.attempts import Outcome, train_until_it_ends
from openrlhf_ktae.runs.gpus import check_gpus
from openrlhf_ktae.runs.plan import Plan, check_run, hold, in_new_folder, open_folder, plan_run, print_plan
from openrlhf_ktae.runs.prepare import prepare
from openrlhf_ktae.runs.summary import summarize, summary_table
from openrlhf_ktae.runs.supervise import Interrupted, signals
from openrlhf_ktae.runs.terminal import console, format_line, say, say_error, warning_of
from openrlhf_ktae.runs.tracking import Tracking, TrackingError


def train_command(recipe: Path, overrides: list[str], dry_run: bool, resume: Path | None) -> int:
    """Runs the command; returns its exit code. Input errors are printed as one sentence."""
    with ExitStack() as held:
        try:
            plan = plan_run(recipe, overrides, resume)
            if dry_run:
                print_plan(plan)
                return 0
            if resume:  # before what may take minutes
                held.enter_context(hold(plan.folder))
            check_gpus(plan.config.run, plan.batches)
            seconds = {"preparation": prepare(plan.config)}
            total = check_run(plan)
        except (ValueError, ConnectionError) as error:
            say_error("error", str(error))
            return 2
        if not resume:
            plan = in_new_folder(plan)
            held.enter_context(hold(plan.folder))
        return _run(plan, seconds, total)


def _run(plan: Plan, seconds: dict[str, float], total: int | None) -> int:
    """Trains; whatever happens, run.json does not say ``running`` afterwards."""
    folder, run = plan.folder, plan.config.run
    description = open_folder(plan)
    say(f"Run folder: {folder.path} (raw log: {folder.log_file.name})")
    outcome, tracking = Outcome("failed", 1, "openrlhf-ktae train ended before the run did"), None
    try:
        with signals(folder):
            tracking = Tracking(folder, run, plan.config.name, description)
            say("Starting Ray, vLLM and DeepSpeed; the first line comes in about a minute ...")
            on_line = _line_reader(tracking, run.collapse_steps, seconds, total)
            outcome = train_until_it_ends(folder, run.max_restarts, on_line, say)
    except Interrupted:
        outcome = Outcome("interrupted", 128 + signal.SIGINT)
    except TrackingError as error:
        outcome = Outcome("failed", 2, str(error))
        say_error("error", str(error))
        return 2
    except Exception as error:
        outcome = Outcome("failed", 1, f"{type(error).__name__}: {error}")
        raise
    finally:
        folder.free_room()
        status = "interrupted" if outcome.status == "stopped" else outcome.status
        folder.update(status=status, reason=outcome.reason, finished_at=now())
        if tracking:
            tracking.close(outcome.code)
    return _conclude(plan, outcome, seconds)


def _line_reader(
    tracking: Tracking, collapse_steps: int, seconds: dict[str, float], total: int | None
) -> Callable[[dict[str, Any]], None]:
    """What is done with every new line of metrics.jsonl; the first tells ``seconds`` how long the start took."""
    start = time.monotonic()

    def on_line(line: dict[str, Any]) -> None:
        if "start" not in seconds:
            seconds["start"] = max(0.0, time.monotonic() - start - (line.get("timing/evaluation") or 0.0))
        say(format_line(line, total))
        if warning := warning_of(line, collapse_steps):
            say_error("WARNING: the run", warning)
        tracking.log(line)

    return on_line


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
