"""Starts the launcher in a process of its own, shows a line a step, and ends everything it started."""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager, suppress
from typing import Any

import psutil

from openrlhf_ktae.training.run_log import RunFolder

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
        started = _ProcessTree(process)
        try:
            while process.poll() is None:
                shown = _show_new(folder, shown, on_line)
                started.look()
                time.sleep(_POLL_SECONDS)
            _show_new(folder, shown, on_line)
        finally:
            started.end()
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


class _ProcessTree:
    """The launcher and every process below it, noted early: Ray's workers outlive the launcher for a while."""

    _LOOK_EVERY_SECONDS = 2.0

    def __init__(self, launcher: subprocess.Popen) -> None:
        self._launcher = launcher
        self._seen: set[psutil.Process] = set()
        self._next_look = 0.0

    def look(self) -> None:
        """Notes the processes that are there now."""
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + self._LOOK_EVERY_SECONDS
        with suppress(psutil.NoSuchProcess):
            self._seen |= set(psutil.Process(self._launcher.pid).children(recursive=True))

    def end(self) -> None:
        """Ends what is left, gently first. A process id used again by a stranger is not touched (psutil compares)."""
        self._next_look = 0.0
        self.look()
        if self._launcher.poll() is None:
            self._launcher.terminate()
            try:
                self._launcher.wait(_SHUTDOWN_SECONDS)
            except subprocess.TimeoutExpired:
                self._launcher.kill()
                self._launcher.wait()
        _, alive = psutil.wait_procs(self._seen, timeout=5)
        for straggler in alive:
            with suppress(psutil.NoSuchProcess):
                straggler.kill()
        psutil.wait_procs(alive, timeout=5)


def failure_reason(folder: RunFolder) -> str | None:
    """The last exception's message in train.log."""
    if not folder.log_file.exists():
        return None
    text = folder.log_file.read_text(encoding="utf-8", errors="replace")
    matches = [match[1] for line in text.splitlines() if (match := _EXCEPTION_LINE.match(line.strip()))]
    return matches[-1] if matches else None
