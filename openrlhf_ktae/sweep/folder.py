"""The folder of a sweep: sweep.json, its tables, and below runs/ one for each run with its attempts.

Where a run stands is what lies there: a finished attempt, else the tables' row of a finished one (`records`).
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from openrlhf_ktae.checkpoints import has_checkpoint
from openrlhf_ktae.files import take_lock, write_json
from openrlhf_ktae.recipe import RunConfig
from openrlhf_ktae.run_folder import RunFolder, now
from openrlhf_ktae.sweep.plan import PlannedRun, SweepFile, planned_runs
from openrlhf_ktae.sweep.records import Record, read_records

FORMAT = 1
"""Version of the layout; readers refuse another one."""
_LOCK = ".lock"
_WAY_OUT = "give the changed sweep another --output, or delete that folder"


@dataclass(frozen=True)
class RunState:
    """Where a run of a sweep stands."""

    status: str
    """``finished``; ``broken``: begun, not finished; ``missing``: never begun."""
    newest: RunFolder | None
    """Its finished attempt, else the last one; None where there is none here."""
    resumes: bool = False
    """Whether the last attempt left a checkpoint to go on from."""


class SweepFolder:
    """Paths and files of one sweep."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.sweep_json = self.path / "sweep.json"
        self.summary_csv = self.path / "summary.csv"

    def describe(self, source: Path, sweep: SweepFile, commit: str | None, notes: Sequence[str] = ()) -> None:
        """Writes sweep.json: what was asked for, from which file, at which commit."""
        self.path.mkdir(parents=True, exist_ok=True)
        before = json.loads(self.sweep_json.read_text(encoding="utf-8")) if self.sweep_json.is_file() else {}
        content = {
            "format": FORMAT,
            "file": str(source),
            "started_at": before.get("started_at", now()),
            "git_commit": commit,
            "notes": list(notes),
            "sweep": json.loads(sweep.model_dump_json()),
        }
        write_json(self.sweep_json, content)

    def read(self) -> tuple[SweepFile, dict[str, Any]]:
        """What sweep.json says: the sweep, and everything around it.

        Raises:
            ValueError: there is none, or one of another format.
        """
        if not self.sweep_json.is_file():
            raise ValueError(f"sweep: {self.path} holds no sweep.json; name a folder that `openrlhf-ktae sweep` made")
        content = json.loads(self.sweep_json.read_text(encoding="utf-8"))
        if content.get("format") != FORMAT:
            raise ValueError(f"sweep: {self.path} has format {content.get('format')}, this version reads {FORMAT}")
        return SweepFile(**content["sweep"]), content

    @cached_property
    def records(self) -> dict[str, Record]:
        """Finished runs by name, from tables that were there when they were first asked for.

        Raises:
            ValueError: a row that no sweep wrote.
        """
        return read_records(self.summary_csv)

    def of(self, run: PlannedRun) -> Path:
        """Folder of a run's attempts."""
        return self.path / "runs" / run.name

    def attempts(self, run: PlannedRun) -> list[RunFolder]:
        """Run folders of a run, oldest first."""
        folders = [file.parent for file in self.of(run).glob("*/run.json") if not file.parent.is_symlink()]
        attempts = [RunFolder(folder) for folder in folders]
        return sorted(attempts, key=lambda attempt: (attempt.read()["started_at"], attempt.path.name))

    def state(self, run: PlannedRun) -> RunState:
        """Where a run stands, from its attempts."""
        attempts = self.attempts(run)
        for attempt in attempts:
            if attempt.read()["status"] == "finished":
                return RunState("finished", attempt)
        if run.name in self.records:
            return RunState("finished", None)
        if not attempts:
            return RunState("missing", None)
        return RunState("broken", attempts[-1], has_checkpoint(attempts[-1]))

    def status(self, run: PlannedRun, state: RunState) -> str:
        """The status of ``state``, or ``running`` where a sweep trains the run now."""
        if state.status == "finished" or not (self.of(run) / _LOCK).is_file():
            return state.status
        lock = self.lock(run)
        if lock is None:
            return "running"
        os.close(lock)
        return state.status

    @cached_property
    def _described(self) -> dict[str, dict[str, str]]:
        """Options of every run that sweep.json asks for, by the run's name; none without the file."""
        if not self.sweep_json.is_file():
            return {}
        sweep, content = self.read()
        return {run.name: _by_name(run.overrides) for run in planned_runs(sweep, Path(content["file"]).parent)}

    def lock(self, run: PlannedRun) -> int | None:
        """A file descriptor that locks a run for as long as a process has it open; None if another one does."""
        self.of(run).mkdir(parents=True, exist_ok=True)
        return take_lock(self.of(run) / _LOCK)

    def check_options(self, run: PlannedRun, config: RunConfig) -> None:
        """Refuses a run whose earlier attempts had other options: they would be counted as the same.

        Args:
            config: the run's recipe and options, resolved.

        Raises:
            ValueError: naming the run, the option, and both values.
        """
        asked = _by_name(run.overrides)
        if run.name in self.records:
            before = self._described.get(run.name, asked)
            _refuse_others(run, asked, before, f"{self.sweep_json}, whose summary.csv counts the run as finished,")
        for attempt in self.attempts(run):
            described = attempt.read()
            found = _by_name(described["overrides"])
            found.pop("run.output_dir", None)
            _refuse_others(run, asked, found, f"{attempt.path},")
            # What the recipe and its fragments say; an option that either does not know came or went between versions.
            said, before = _numbers_and_names(config.described(attempt.path)), _numbers_and_names(described["config"])
            for option in sorted(said.keys() & before.keys()):
                if said[option] != before[option]:
                    raise ValueError(
                        f"{run.name}: {option} was {before[option]} in {attempt.path}, and is {said[option]} now "
                        f"({config.sources.get(option, 'a default')}); {_WAY_OUT}"
                    )


def _refuse_others(run: PlannedRun, asked: Mapping[str, str], before: Mapping[str, str], where: str) -> None:
    for option in sorted(asked.keys() | before.keys()):
        if asked.get(option) != before.get(option):
            raise ValueError(
                f"{run.name}: {option} was {before.get(option, 'not set')} in {where} and the sweep's file says "
                f"{asked.get(option, 'nothing')}; {_WAY_OUT}"
            )


def _numbers_and_names(config: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """``config`` of a run.json by option, without paths: the checkout may stand elsewhere by now."""
    flat = {
        (name if section == "openrlhf" else f"{section}.{name}"): value
        for section, options in config.items()
        for name, value in options.items()
    }
    return {option: value for option, value in flat.items() if "/" not in str(value)}


def _by_name(overrides: Sequence[str]) -> dict[str, str]:
    return {name: value for name, _, value in (override.partition("=") for override in overrides)}


def seconds_of(run: Mapping[str, Any]) -> float | None:
    """Wall-clock seconds of an attempt, from its run.json; None while it has no end."""
    if not run.get("finished_at"):
        return None
    return (datetime.fromisoformat(run["finished_at"]) - datetime.fromisoformat(run["started_at"])).total_seconds()


def next_run(runs: Sequence[PlannedRun], states: Mapping[str, RunState], passed_over: set[str]) -> PlannedRun | None:
    """The first run that is not finished; ``passed_over``: names of those tried or held already."""
    for run in runs:
        if states[run.name].status != "finished" and run.name not in passed_over:
            return run
    return None


def seconds_left(durations: Sequence[float], runs_left: int, parallel: int) -> float | None:
    """How long the runs that are left will take, if they are as long as those that finished; None before the first."""
    if not durations:
        return None
    return sum(durations) / len(durations) * -(-runs_left // parallel)
