"""``openrlhf-ktae sweep``: runs what is not finished yet, each as `openrlhf-ktae train` in a process of its own."""

import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from openrlhf_ktae import forks
from openrlhf_ktae.forks import PYTHON_VARIABLE
from openrlhf_ktae.run_folder import git_commit
from openrlhf_ktae.runs.terminal import say, say_error
from openrlhf_ktae.sweep.checks import check_runs, resolved_runs
from openrlhf_ktae.sweep.folder import SweepFolder, next_run, seconds_left, seconds_of
from openrlhf_ktae.sweep.outcomes import read_outcomes, write_summary
from openrlhf_ktae.sweep.plan import PlannedRun, SweepFile, planned_runs, read_sweep

TRAINER = (sys.executable, "-m", "openrlhf_ktae.runs.with_parent", "train")
"""The command that trains one recipe."""
_POLL_SECONDS = 0.5
_TERMINAL_LOG = "terminal.log"
"""In a run's folder: what `openrlhf-ktae train` says, of all its attempts."""


def sweep_command(
    file: Path,
    output: Path | None,
    dry_run: bool,
    parallel: int,
    only: Sequence[str],
    max_failures: int,
    trainer: Sequence[str] = TRAINER,
) -> int:
    """Runs the command; returns its exit code: 0 where everything asked for is finished."""
    try:
        sweep = read_sweep(file)
        runs = planned_runs(sweep, file.parent)
        folder = SweepFolder(output or Path("runs") / "sweeps" / file.stem)
        for part in only:
            if not any(part in _path(run) for run in runs):
                raise ValueError(f"--only: no run's name holds {part!r}; the first is {_path(runs[0])}")
        chosen = [run for run in runs if not only or any(part in _path(run) for part in only)]
        configs = resolved_runs(runs)
        notes = check_runs(sweep, configs)
        for run, config in configs:
            folder.check_options(run, config)
    except ValueError as error:
        say_error("error", str(error))
        return 2
    for note in notes:
        say(f"Note: {note}")
    if dry_run:
        return _print_runs(folder, chosen)
    folder.describe(file, sweep, git_commit(file.parent), notes)
    on_cpu = all(config.run.device == "cpu" for _, config in configs) and not os.environ.get("RAY_ADDRESS")
    cores = shares_of(os.sched_getaffinity(0), parallel) if on_cpu else []
    left = any(folder.state(run).status != "finished" for run in chosen)
    # A trainer of another kind starts nothing that could be forked.
    with _fork_server() if left and on_cpu and trainer is TRAINER else nullcontext() as python:
        return Sweep(folder, sweep, runs, chosen, parallel, max_failures, cores, trainer, python).run()


@contextmanager
def _fork_server() -> Iterator[Path]:
    """One process that imports everything once, for all runs inside; the executable that stands for Python."""
    with tempfile.TemporaryDirectory(prefix="ktae-") as folder:
        server = forks.start(Path(folder), shared=True)
        try:
            yield server.python
        finally:
            server.process.terminate()
            server.process.wait()


def shares_of(cores: Collection[int], runs: int) -> list[set[int]]:
    """The cores that each of several runs at a time has for itself; none where one has all or there are too few.

    Beside each other, runs that compute on all cores wait for the core that the other one has.
    """
    if not 1 < runs <= len(cores):
        return []
    numbers = sorted(cores)
    edges = [share * len(numbers) // runs for share in range(runs + 1)]
    return [set(numbers[start:end]) for start, end in pairwise(edges)]


def _path(run: PlannedRun) -> str:
    """A run's name, of which ``seed-1/`` is a part where it is not seed 10."""
    return f"{run.name}/"


def _print_runs(folder: SweepFolder, runs: Sequence[PlannedRun]) -> int:
    finished = 0
    for run in runs:
        state = folder.state(run)
        finished += state.status == "finished"
        say(f"{run.name}: {folder.status(run, state)}")
        settings = [part for override in run.overrides for part in ("--set", override)]
        say("  " + shlex.join(["openrlhf-ktae", "train", str(run.recipe), *settings]))
    say(f"{len(runs)} runs in {folder.path}, {finished} finished")
    return 0


@dataclass
class _Active:
    run: PlannedRun
    process: subprocess.Popen[bytes]
    lock: int
    log: Path
    started: float
    cores: set[int] | None
    """Those it runs on; None: all."""


class Sweep:
    """Starts runs, waits for them, and keeps summary.csv up to date."""

    def __init__(
        self,
        folder: SweepFolder,
        sweep: SweepFile,
        runs: list[PlannedRun],
        chosen: list[PlannedRun],
        parallel: int,
        max_failures: int,
        cores: list[set[int]],
        trainer: Sequence[str],
        python: Path | None,
    ) -> None:
        self._folder, self._sweep, self._all, self._runs, self._parallel = folder, sweep, runs, chosen, parallel
        self._max_failures, self._failures = max_failures, 0
        self._free_cores = cores
        self._trainer = trainer
        self._environment = {PYTHON_VARIABLE: str(python)} if python else {}
        self._active: list[_Active] = []
        self._tried: set[str] = set()
        self._elsewhere: set[str] = set()
        """Names of runs that another sweep in this folder trains now."""

    def run(self) -> int:
        """Runs everything that is left, at most ``parallel`` at a time; a run that fails is tried once.

        Starts no more after ``max_failures`` failures in a row (0: after none).
        """
        done = self._finished()
        say(f"Sweep {self._folder.path}: {len(self._runs)} runs, {done} finished already, {self._parallel} at a time")
        try:
            with _terminated_like_interrupted():
                while self._start_more() or self._active or self._elsewhere:
                    time.sleep(_POLL_SECONDS)
                    self._look()
        except KeyboardInterrupt:
            self._end_active()
            say("Interrupted; the same command goes on from here.")
            return 128 + signal.SIGINT
        finally:
            self._write_summary()
        left = len(self._runs) - self._finished()
        say(f"{len(self._runs) - left} of {len(self._runs)} runs finished; {self._folder.summary_csv}")
        if self._gives_up():
            say_error("sweep", f"the last {self._failures} runs failed; no more were started (--max-failures)")
        if left:
            say_error("sweep", f"{left} runs are not finished: the same command tries them again")
        else:
            say(f"The page: openrlhf-ktae report {self._folder.path}")
        return 1 if left else 0

    def _gives_up(self) -> bool:
        return 0 < self._max_failures <= self._failures

    def _finished(self) -> int:
        return sum(self._folder.state(run).status == "finished" for run in self._runs)

    def _start_more(self) -> bool:
        """Starts runs while there is room; returns whether any was started."""
        started = False
        while len(self._active) < self._parallel and not self._gives_up():
            states = {run.name: self._folder.state(run) for run in self._runs}
            run = next_run(self._runs, states, self._tried | self._elsewhere)
            if run is None:
                break
            lock = self._folder.lock(run)
            if lock is None:
                self._elsewhere.add(run.name)
                continue
            # Another sweep may have finished it between our look and our lock.
            if self._folder.state(run).status == "finished":
                os.close(lock)
                continue
            self._start(run, lock)
            started = True
        return started

    def _start(self, run: PlannedRun, lock: int) -> None:
        folder, state = self._folder.of(run), self._folder.state(run)
        arguments = [*self._trainer, run.recipe]
        if state.resumes and state.newest:
            arguments += ["--resume", str(state.newest.path)]
        else:
            for override in (*run.overrides, f"run.output_dir={folder.resolve()}"):
                arguments += ["--set", override]
        log = folder / _TERMINAL_LOG
        with log.open("ab") as file:
            process = subprocess.Popen(
                arguments,
                stdout=file,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                # Ctrl-C reaches us alone; the lock is held until the run itself has ended.
                start_new_session=True,
                pass_fds=(lock,),
                env=os.environ | self._environment,
            )
        # Before it has started anything: threads and processes inherit it.
        cores = self._free_cores.pop() if self._free_cores else None
        if cores is not None:
            with suppress(ProcessLookupError):  # it has ended already
                os.sched_setaffinity(process.pid, cores)
        how = "goes on" if state.resumes else "starts anew" if state.status == "broken" else "starts"
        say(f"{run.name}: {how} ({log})")
        self._tried.add(run.name)
        self._active.append(_Active(run, process, lock, log, time.monotonic(), cores))

    def _look(self) -> None:
        """Takes in runs that have ended, here or elsewhere."""
        for active in [active for active in self._active if active.process.poll() is not None]:
            self._active.remove(active)
            os.close(active.lock)
            self._free_cores += [] if active.cores is None else [active.cores]
            self._report(active)
            self._write_summary()
        for name in list(self._elsewhere):
            run = next(run for run in self._runs if run.name == name)
            if (lock := self._folder.lock(run)) is not None:
                os.close(lock)
                self._elsewhere.remove(name)

    def _report(self, active: _Active) -> None:
        state = self._folder.state(active.run)
        seconds = time.monotonic() - active.started
        if state.status == "finished":
            end = f"finished in {seconds:.0f} s"
            self._failures = 0
        else:
            self._failures += 1
            reason = state.newest.read()["reason"] if state.newest else None
            end = f"not finished (exit code {active.process.returncode}): {reason or f'see {active.log}'}"
        say(f"{active.run.name}: {end}{self._progress()}")

    def _progress(self) -> str:
        states = [self._folder.state(run) for run in self._runs]
        newest = [state.newest for state in states if state.status == "finished" and state.newest]
        durations = [seconds for attempt in newest if (seconds := seconds_of(attempt.read())) is not None]
        left = len(states) - len(newest)
        seconds = seconds_left(durations, left, self._parallel)
        time_left = "" if seconds is None or not left else f", about {seconds / 60:.0f} min left"
        return f"; {len(newest)} of {len(states)}{time_left}"

    def _write_summary(self) -> None:
        write_summary(read_outcomes(self._folder, self._all), self._sweep, self._folder.summary_csv)

    def _end_active(self) -> None:
        for active in self._active:
            active.process.terminate()
        for active in self._active:
            active.process.wait()
            os.close(active.lock)


@contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """Inside, SIGTERM raises KeyboardInterrupt, as Ctrl-C does."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
