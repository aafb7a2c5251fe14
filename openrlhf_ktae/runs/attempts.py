"""Trains until a run ends: after a failure it goes on from the last whole checkpoint, a limited number of times."""

import re
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from openrlhf_ktae.checkpoints import choose_checkpoint
from openrlhf_ktae.files import disk_full
from openrlhf_ktae.run_folder import ENGINE_DIED, EXIT_STOPPED, Failure, RunFolder, now
from openrlhf_ktae.runs.supervise import supervise

_EXCEPTION_LINE = re.compile(r"^(?:\(\w+ pid=\d+\) )?((?:\w+\.)*\w*(?:Error|Exception)(?:\(\w+\))?: .+)$")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_ENGINE_ERROR = re.compile(r"\(EngineCore[^)]*\) ERROR [^\]]*\] ((?:\w+\.)*\w*(?:Error|Exception): .+)")
"""The last line of the traceback that an engine logs before it ends (vllm/v1/engine/core.py:1376)."""
_LONGEST = 200
"""Characters of it."""
_NO_GCS = "Failed to connect to GCS"
"""What Ray's library logs before it ends the launcher, without an exception that could be noted."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    status: str
    """``finished``, ``failed``, ``interrupted`` (Ctrl-C), ``stopped`` (as asked, with a checkpoint)."""
    code: int
    """The launcher's exit code."""
    reason: str | None = None


def train_until_it_ends(
    folder: RunFolder, max_restarts: int, on_line: Callable[[dict[str, Any]], None], say: Callable[[str], None]
) -> Outcome:
    """Runs the launcher, again after failures that may pass; run.json says how often, when, where and why.

    Args:
        max_restarts: attempts after the first.
        on_line: called with every new line of metrics.jsonl.
        say: called with sentences for the person who started it.
    """
    failed_at: int | None = None
    restarts = 0
    try:
        while True:
            _prepare_attempt(folder, say)
            logged = folder.log_file.stat().st_size if folder.log_file.exists() else 0
            code = supervise(folder, on_line)
            if code in (0, EXIT_STOPPED):
                return Outcome("finished" if code == 0 else "stopped", code)
            failure = find_failure(folder, code, logged)
            step = folder.last_step() + 1
            end = why_it_ends(failure, step, failed_at, restarts, max_restarts)
            if end is not None:
                return Outcome("failed", code, f"{failure.reason}{end}")
            failed_at = step
            restarts += 1
            noted = {"time": now(), "step": step, "reason": failure.reason}
            folder.update(restarts=[*folder.read()["restarts"], noted])
            say(f"Step {step} failed: {failure.reason}.")
            say(f"Restart {restarts} of {max_restarts} (run.max_restarts).")
    except OSError as error:  # of this process's own files: the launcher's are explained by what it notes
        if (reason := disk_full(error)) is None:
            raise
        return Outcome("failed", 1, reason)


def why_it_ends(failure: Failure, step: int, failed_at: int | None, restarts: int, max_restarts: int) -> str | None:
    """Why there is no other attempt after a failure in ``step``, as the end of a sentence; None if there is one.

    ``failed_at``: the step in which the attempt before failed; None if this was the first.
    """
    if not failure.may_pass:
        return ""
    if failed_at is not None and step <= failed_at:
        return f"; not restarted again, as the attempt before failed in step {failed_at} too"
    if restarts < max_restarts:
        return None
    return f"; not restarted after {restarts} restarts (run.max_restarts)" if max_restarts else ""


def _prepare_attempt(folder: RunFolder, say: Callable[[str], None]) -> None:
    folder.failure_file.unlink(missing_ok=True)
    folder.reserve_room()
    run = folder.read()
    is_first = not run["restarts"] and not folder.metrics()
    checkpoint = None if is_first else choose_checkpoint(folder, say)
    folder.update(resumed_from=checkpoint.tag if checkpoint else None)
    if not is_first:
        say(f"Going on after step {checkpoint.step}." if checkpoint else "No checkpoint yet: starting at step 1 again.")


def find_failure(folder: RunFolder, code: int, logged: int = 0) -> Failure:
    """Why the launcher ended: what it noted, else the signal that ended it, else what train.log says last.

    An engine that died of an error has left it in train.log only.

    ``logged``: bytes of train.log that are from before it started.
    """
    if failure := folder.read_failure():
        errors = _ENGINE_ERROR.findall(_log(folder, logged)) if failure.reason == ENGINE_DIED else []
        return replace(failure, reason=f"{failure.reason}: {errors[-1][:_LONGEST]}") if errors else failure
    if code == -signal.SIGKILL:
        reason = "the training process was ended by SIGKILL; if nobody did that, the machine was out of memory"
    elif code < 0:
        reason = f"the training process was ended by {signal.Signals(-code).name}"
    else:
        reason = _last_words(folder, logged) or f"the training process ended with exit code {code}"
    return Failure(reason, may_pass=True)


def _last_words(folder: RunFolder, start: int) -> str | None:
    text = _log(folder, start)
    if _NO_GCS in text:
        return "Ray's control process (gcs_server) died"
    matches = [match[1] for line in text.splitlines() if (match := _EXCEPTION_LINE.match(line.strip()))]
    return matches[-1] if matches else None


def _log(folder: RunFolder, start: int) -> str:
    """train.log from the byte ``start`` on, without colours; empty where there is none."""
    if not folder.log_file.exists():
        return ""
    with folder.log_file.open("rb") as file:
        file.seek(start)
        return _COLOUR.sub("", file.read().decode("utf-8", errors="replace"))
