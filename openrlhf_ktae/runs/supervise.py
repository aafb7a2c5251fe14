"""Starts the launcher in a process of its own, shows a line a step, and ends everything it started."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager, suppress
from typing import Any

import psutil

from openrlhf_ktae.run_folder import RunFolder

_POLL_SECONDS = 0.2
_SHUTDOWN_SECONDS = 20
_EXCEPTION_LINE = re.compile(r"^(?:\(\w+ pid=\d+\) )?((?:\w+\.)*\w*(?:Error|Exception)(?:\(\w+\))?: .+)$")


class Interrupted(Exception):
    """Ctrl-C or SIGTERM."""


def supervise(folder: RunFolder, on_line: Callable[[dict[str, Any]], None]) -> int:
    """Runs ``openrlhf_ktae.training.launch`` on ``folder`` and follows its metrics.

    Its output goes to train.log. SIGUSR1 asks for a checkpoint and an early end. Ctrl-C and SIGTERM end the run;
    nothing that was started here stays.

    Args:
        on_line: called with every new line of metrics.jsonl.

    Returns:
        the launcher's exit code.

    Raises:
        Interrupted: after Ctrl-C or SIGTERM, when everything has ended.
    """
    shown = len(folder.metrics())
    with folder.log_file.open("ab") as log, _signals(folder):
        process = subprocess.Popen(
            [sys.executable, "-m", "openrlhf_ktae.training.launch", str(folder.path)],
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            # Ctrl-C in the terminal reaches us alone: we end Ray in order.
            start_new_session=True,
        )
        try:
            while process.poll() is None:
                shown = _show_new(folder, shown, on_line)
                time.sleep(_POLL_SECONDS)
            _show_new(folder, shown, on_line)
        finally:
            end_session(process)
    return process.returncode


def _show_new(folder: RunFolder, shown: int, on_line: Callable[[dict[str, Any]], None]) -> int:
    lines = folder.metrics()
    # A resumed run rewrites the file first, without the steps that it repeats.
    for line in lines[min(shown, len(lines)) :]:
        on_line(line)
    return len(lines)


@contextmanager
def _signals(folder: RunFolder):
    def interrupt(*_):
        raise Interrupted

    def stop(*_):
        folder.stop_file.touch()

    handlers = {signal.SIGINT: interrupt, signal.SIGTERM: interrupt, signal.SIGUSR1: stop}
    previous = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def end_session(launcher: subprocess.Popen) -> None:
    """Ends a launcher and everything it started, gently first.

    Ray's daemons and workers, and vLLM's processes, outlive the launcher for a while and have other parents by then;
    all of them stay in the session that was made for the launcher.
    """
    if launcher.poll() is None:
        launcher.terminate()
        try:
            launcher.wait(_SHUTDOWN_SECONDS)
        except subprocess.TimeoutExpired:
            launcher.kill()
            launcher.wait()
    _, alive = psutil.wait_procs(_session_members(launcher.pid), timeout=5)
    while alive:
        for straggler in alive:
            with suppress(psutil.NoSuchProcess):
                straggler.kill()
        psutil.wait_procs(alive, timeout=5)
        alive = _session_members(launcher.pid)


def _session_members(session: int) -> list[psutil.Process]:
    members = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                members.append(process)
    return members


def failure_reason(folder: RunFolder) -> str | None:
    """The last exception's message in train.log."""
    if not folder.log_file.exists():
        return None
    text = folder.log_file.read_text(encoding="utf-8", errors="replace")
    matches = [match[1] for line in text.splitlines() if (match := _EXCEPTION_LINE.match(line.strip()))]
    return matches[-1] if matches else None
