"""Starts the launcher in a process of its own, follows its metrics, and ends everything it started."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from openrlhf_ktae.processes import SOCKETS_VARIABLE, end_session
from openrlhf_ktae.run_folder import RunFolder

_POLL_SECONDS = 0.2


class Interrupted(BaseException):
    """Ctrl-C or SIGTERM; as KeyboardInterrupt, nothing that catches what goes wrong catches it."""


def supervise(folder: RunFolder, on_line: Callable[[dict[str, Any]], None]) -> int:
    """Runs ``openrlhf_ktae.training.launch`` on ``folder`` and follows its metrics; nothing started here stays.

    Its output goes to train.log.

    Args:
        on_line: called with every new line of metrics.jsonl.

    Returns:
        the launcher's exit code; negative: the signal that ended it.

    Raises:
        Interrupted: after Ctrl-C or SIGTERM (`signals`), when everything has ended.
    """
    shown = len(folder.metrics())
    # vLLM leaves a socket where an engine was killed.
    with folder.log_file.open("ab") as log, tempfile.TemporaryDirectory(prefix="ktae-") as sockets:
        process = subprocess.Popen(
            [sys.executable, "-m", "openrlhf_ktae.training.launch", str(folder.path), str(os.getpid())],
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, SOCKETS_VARIABLE: sockets},
            # Ctrl-C in the terminal reaches us alone: we end Ray in order.
            start_new_session=True,
            # If this process is killed, the run is over when the launcher is.
            pass_fds=() if folder.lock is None else (folder.lock,),
        )
        seen = None
        try:
            while process.poll() is None:
                # Ten thousand lines read five times a second would take most of a core.
                if (state := _state(folder.metrics_file)) != seen:
                    seen, shown = state, _show_new(folder, shown, on_line)
                time.sleep(_POLL_SECONDS)
            _show_new(folder, shown, on_line)
        finally:
            with _unimpressed():
                end_session(process)
    return process.returncode


def _state(path: Path) -> tuple[int, int] | None:
    """Differs when a file is appended to or replaced."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_size


def _show_new(folder: RunFolder, shown: int, on_line: Callable[[dict[str, Any]], None]) -> int:
    lines = folder.metrics()
    # A resumed run rewrites the file first, without the steps that it repeats.
    for line in lines[min(shown, len(lines)) :]:
        on_line(line)
    return len(lines)


@contextmanager
def signals(folder: RunFolder) -> Iterator[None]:
    """Inside, Ctrl-C and SIGTERM raise `Interrupted`, and SIGUSR1 asks for a checkpoint and an early end."""

    def interrupt(*_):
        raise Interrupted

    def stop(*_):
        folder.stop_file.touch()

    with _handling({signal.SIGINT: interrupt, signal.SIGTERM: interrupt, signal.SIGUSR1: stop}):
        yield


def _unimpressed():
    """Inside, a second Ctrl-C does not leave half of the processes behind; ending them takes seconds."""
    return _handling({signal.SIGINT: signal.SIG_IGN, signal.SIGTERM: signal.SIG_IGN})


@contextmanager
def _handling(handlers: dict[signal.Signals, Any]) -> Iterator[None]:
    previous = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
