"""A real run whose processes somebody kills: keeps it going as a person would, and counts what became of each kill."""

import sys
from collections import Counter

import psutil
from tiny_run import PROCESSES, alive, of_run, start, steps, wait_until

from openrlhf_ktae.checkpoints import checkpoint_folder, list_checkpoints
from openrlhf_ktae.run_folder import RunFolder


class DisturbedRun:
    """Starts a command; `kill` waits until the run has dealt with it, and resumes a run that has ended."""

    def __init__(self, line: list[str], folder: RunFolder) -> None:
        self.folder = folder
        self.process = start(line)
        self.outcomes: Counter[str] = Counter()
        """``restarted`` by itself, ``resumed`` by `kill` after it had ended, ``went on``."""
        self.killed: Counter[str] = Counter()
        """How often each kind of process was killed."""

    def restarts(self) -> int:
        """How often the run has started anew by itself."""
        return len(self.folder.read()["restarts"]) if self.folder.path.exists() else 0

    def kill(self, victim: psutil.Process) -> None:
        """Kills a process of the run; checks that the run loses no whole checkpoint and leaves no process.

        Raises:
            AssertionError: if it does, or goes neither on nor to its end.
        """
        members, restarts, last = of_run(self.process), self.restarts(), steps(self.folder)[-1:]
        checkpoints = self.whole_checkpoints()
        self.killed[kind(victim)] += 1
        victim.kill()
        wait_until(
            lambda: self.process.poll() is not None or self.restarts() > restarts or steps(self.folder)[-1:] > last, 180
        )
        if self.process.poll() is None and self.restarts() == restarts:
            self.outcomes["went on"] += 1
            return
        assert not (left := alive(members)), f"after {self.killed}: {left}"
        assert self.whole_checkpoints()[-1:] >= checkpoints[-1:], f"after {self.killed}"
        if self.process.poll() is None:
            self.outcomes["restarted"] += 1
        elif self.process.poll() != 0:
            self.outcomes["resumed"] += 1
            self.resume()

    def resume(self) -> None:
        """Starts an ended run again, as its last line says."""
        self.process.communicate()
        path = str(self.folder.path.resolve())
        self.process = start(
            [sys.executable, "-m", "openrlhf_ktae.cli", "train", "recipes/quickstart", "--resume", path]
        )
        wait_until(lambda: self.folder.read()["status"] == "running", 60, self.process)

    def finish(self, seconds: float) -> None:
        """Waits for the end of the run, resuming it where two attempts in a row failed in one step."""
        while (code := self.process.wait(seconds)) != 0:
            assert "the attempt before failed in step" in self.folder.read()["reason"], code
            self.outcomes["resumed"] += 1
            self.resume()
        self.process.communicate()

    def whole_checkpoints(self) -> list[int]:
        """Steps of the checkpoints that are whole, hashes included."""
        folder = checkpoint_folder(self.folder) if self.folder.path.exists() else None
        found = list_checkpoints(folder) if folder else []
        return [checkpoint.step for checkpoint in found if checkpoint.problem() is None]


def kind(process: psutil.Process) -> str:
    """What a process of a run is: a name of `PROCESSES`, or its own."""
    line = " ".join(process.cmdline())
    return next((name for name, mark in PROCESSES.items() if mark in line), process.name())
