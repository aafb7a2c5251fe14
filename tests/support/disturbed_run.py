"""A real run whose processes somebody kills: keeps it going as a person would, and counts what became of each kill."""

import random
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path

import psutil
from tiny_run import PROCESSES, alive, command_line, of_run, start, steps, wait_until

from openrlhf_ktae.checkpoints import checkpoint_folder, list_checkpoints
from openrlhf_ktae.run_folder import RunFolder

SUPERVISOR = "supervisor"
"""The kind of the process that starts a run and starts it again: `openrlhf-ktae train`."""
_KINDS = PROCESSES | {
    SUPERVISOR: "openrlhf_ktae.cli train",
    "fork's client": "fork_client.py",
    "fork server": "openrlhf_ktae.training.fork_server",
}
"""What stands in the command lines of a run's processes, by kind."""
_SECONDS = 400
"""How long a busy machine may take from a kill to the next step."""


class DisturbedRun:
    """Starts a command; `kill_one` waits until the run has dealt with it, and resumes a run that has ended."""

    def __init__(self, line: list[str], folder: RunFolder) -> None:
        self.folder = folder
        self._output = Path(f"{folder.path.parent}.log")
        self.process = start(line, output=self._output)
        self.outcomes: Counter[str] = Counter()
        """``restarted`` by itself, ``resumed`` by `kill_one` after it had ended, ``went on``."""
        self.killed: Counter[str] = Counter()
        """How often each kind of process was killed."""
        self.is_starting = True
        """Whether it has taken no step since it was started, by itself or by `kill_one`."""

    def restarts(self) -> int:
        """How often the run has started anew by itself."""
        return len(self.folder.read()["restarts"]) if self.folder.path.exists() else 0

    def is_over(self) -> bool:
        """Whether it has finished."""
        return self.process.poll() == 0

    def wait_for_step(self) -> None:
        """Waits until the run has taken another step or is over; resumes it if it ends before."""
        last = steps(self.folder)[-1:]
        wait_until(lambda: steps(self.folder)[-1:] > last or self.process.poll() is not None, _SECONDS)
        if self.process.poll() not in (None, 0):
            self._resume()

    def kill_one(self, rng: random.Random, among: tuple[str, ...] = ()) -> None:
        """Kills a process of the run; checks that the run loses no whole checkpoint and leaves no process.

        ``among``: kinds to choose from; by default every process of the run.

        Raises:
            AssertionError: if it does, or goes neither on nor to its end.
        """
        victims: list[psutil.Process] = []
        wait_until(lambda: victims.extend(self._choice(among)) or victims, 60, self.process)
        members, restarts, last = of_run(self.process), self.restarts(), steps(self.folder)[-1:]
        checkpoints = self.whole_checkpoints()
        victim = rng.choice(victims)
        name = kind(victim)
        try:
            victim.kill()
        except psutil.NoSuchProcess:  # it was a short one
            return
        self.killed[name] += 1
        wait_until(
            lambda: self.process.poll() is not None or self.restarts() > restarts or steps(self.folder)[-1:] > last,
            _SECONDS,
        )
        if self.process.poll() is None and self.restarts() == restarts:
            self.outcomes["went on"] += 1
            self.is_starting = False
            return
        assert not (left := alive(members)), f"after {self.killed}: {left}"
        assert self.whole_checkpoints()[-1:] >= checkpoints[-1:], f"after {self.killed}"
        self.is_starting = True
        if self.process.poll() is None:
            self.outcomes["restarted"] += 1
        elif self.process.poll() != 0:
            self._resume()

    def _choice(self, among: tuple[str, ...]) -> list[psutil.Process]:
        return [process for process in of_run(self.process) if not among or kind(process) in among]

    def _resume(self) -> None:
        """Starts a run again that has ended because two attempts in a row failed in one step."""
        assert "the attempt before failed in step" in self.folder.read()["reason"], self.process.returncode
        self.outcomes["resumed"] += 1
        line = [sys.executable, "-m", "openrlhf_ktae.cli", "train", "recipes/quickstart"]
        self.process = start([*line, "--resume", str(self.folder.path.resolve())], output=self._output)
        wait_until(lambda: self.folder.read()["status"] == "running", 60, self.process)

    def finish(self, seconds: float) -> None:
        """Waits for the end of the run."""
        while self.process.wait(seconds) != 0:
            self._resume()

    def whole_checkpoints(self) -> list[int]:
        """Steps of the checkpoints that are whole, hashes included."""
        folder = checkpoint_folder(self.folder) if self.folder.path.exists() else None
        whole = []
        for checkpoint in list_checkpoints(folder) if folder else []:
            with suppress(FileNotFoundError):  # the run removes old ones meanwhile
                whole += [checkpoint.step] if checkpoint.problem() is None else []
        return whole


def kind(process: psutil.Process) -> str:
    """What a process of a run is: a key of `_KINDS`, else the end of its title or program."""
    line = command_line(process)
    return next((name for name, mark in _KINDS.items() if mark in line), line.rpartition("/")[2][:40])
