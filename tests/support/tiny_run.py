"""Real runs of an untrained tiny model: Ray, vLLM and DeepSpeed, through the command that a user calls.

The reward is the parity of the response's characters: an untrained model is right about half of the time, so that the
groups are mixed.
"""

import atexit
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import psutil
import pyarrow.parquet as pq

from openrlhf_ktae.run_folder import RunFolder
from openrlhf_ktae.tasks.arithmetic import prompt_rows
from openrlhf_ktae.tasks.prompt_set import write_prompts
from openrlhf_ktae.tasks.tiny_model import make_model, make_tokenizer, save

ROOT = Path(__file__).resolve().parents[2]
PROMPTS, SAMPLES = 4, 8
REWARD = """
import torch

def reward_func(queries, prompts, labels, **kwargs):
    response = queries[0][len(prompts[0]):]
    score = torch.tensor([float(sum(map(ord, response)) % 2)])
    return {"rewards": score - 0.25, "scores": score, "extra_logs": {"timed_out": torch.zeros(1)}}
"""
CLOCK = ("time", "seconds")
PROCESSES = {
    "policy": "ray::Policy",
    "rollout": "ray::Rollout",
    "reference": "ray::Reference",
    "trainer": "Trainer",
    "engine": "VLLM::EngineCore",
    "raylet": "raylet/raylet",
    "gcs": "gcs/gcs_server",
    "launcher": "openrlhf_ktae.training.launch",
    "driver": "openrlhf_ktae.training.drive",
}
"""What stands in the command lines of a run's processes; Ray's name a class or, while it is busy, OpenRLHF's method."""


class TinyRuns:
    """Makes command lines of runs below one folder, which holds their model, prompts and reward function."""

    def __init__(self, folder: Path, steps: int) -> None:
        self.folder = folder
        (folder / "runs").mkdir()
        save(make_model(0), make_tokenizer(), folder / "model")
        write_prompts(prompt_rows("train", steps * PROMPTS, seed=0), folder / "train.jsonl")
        write_prompts(prompt_rows("evaluation", 8, seed=0), folder / "evaluation.jsonl")
        (folder / "reward.py").write_text(REWARD)

    def command(self, name: str, *overrides: str) -> tuple[list[str], RunFolder]:
        """The command line of a run with changes, and the folder that will be its."""
        settings = [
            f"run.output_dir={self.folder / 'runs' / name}",
            f"arithmetic.directory={self.folder / 'unused'}",
            "arithmetic.warmup_steps=0",
            f"actor.model_name_or_path={self.folder / 'model'}",
            f"data.prompt_dataset={self.folder / 'train.jsonl'}",
            "eval.dataset=null",
            f"reward.remote_url={self.folder / 'reward.py'}",
            f"rollout.batch_size={PROMPTS}",
            "rollout.micro_batch_size=8",
            f"train.batch_size={PROMPTS * SAMPLES}",
            "train.micro_batch_size=8",
            "run.rollout_log_steps=0",
            "rollout.max_new_tokens=16",
            "ckpt.save_steps=1",
            *overrides,
        ]
        line = [sys.executable, "-m", "openrlhf_ktae.cli", "train", "recipes/quickstart"]
        line += [part for setting in settings for part in ("--set", setting)]
        return line, RunFolder(self.folder / "runs" / name / "latest")


def start(line: list[str], environment: dict[str, str] | None = None, output: Path | None = None) -> subprocess.Popen:
    """Starts a command, which ends with pytest if nobody ends it before.

    Both streams go to ``output``; without it they are read with ``communicate``, before they fill a pipe.
    """
    with output.open("ab") if output else nullcontext(subprocess.PIPE) as out:
        process = subprocess.Popen(line, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT, text=True, env=environment)
    atexit.register(_end, process)
    return process


def _end(process: subprocess.Popen) -> None:
    if process.poll() is None:
        process.terminate()
        process.communicate()


def succeed(line: list[str]) -> str:
    """Runs a command to its end, which has to be a good one; returns what it printed."""
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def wait_until(condition, seconds: float, process: subprocess.Popen | None = None) -> None:
    """Polls; fails with what the process said if it ends or the time is over before ``condition`` holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        ended = process is not None and process.poll() is not None
        if ended or time.monotonic() > deadline:
            said = process.communicate()[0] if ended and process else ""
            raise AssertionError(f"not so after {seconds} s, or the process ended before: {said}")
        time.sleep(0.2)


def numbers(folder: RunFolder) -> list[dict]:
    """The lines of metrics.jsonl without what measures time."""
    return [
        {name: value for name, value in line.items() if name not in CLOCK and not name.startswith("timing/")}
        for line in folder.metrics()
    ]


def steps(folder: RunFolder, kind: str = "train") -> list[int]:
    """The steps in metrics.jsonl."""
    return [line["step"] for line in folder.metrics() if line["kind"] == kind] if folder.path.exists() else []


def rollouts(folder: RunFolder, step: int) -> list[dict]:
    """The rows of a step's rollout log."""
    return pq.read_table(folder.rollouts / f"step_{step:05d}.parquet").to_pylist()


def of_run(process: subprocess.Popen) -> list[psutil.Process]:
    """The processes below a started command, and their sessions' members: all that belongs to its run."""
    from openrlhf_ktae.processes import session_members

    try:
        children = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    launchers = [child.pid for child in children if PROCESSES["launcher"] in command_line(child)]
    return [member for launcher in launchers for member in session_members(launcher)]


def named(processes: list[psutil.Process], mark: str) -> psutil.Process:
    """The one whose command line or title holds ``mark``."""
    for process in processes:
        if mark in command_line(process):
            return process
    raise AssertionError(f"no {mark} among the run's processes")


def is_connected_to_ray(process: subprocess.Popen, sessions: Path = Path("/tmp/ray")) -> bool:
    """Whether the run's launcher is, as its log of Ray's says; it imports for seconds after that.

    ``sessions``: Ray's folder of them.
    """
    try:
        launcher = named(of_run(process), PROCESSES["launcher"])
    except AssertionError:
        return False
    logs = sessions.glob(f"session_2*/logs/python-core-driver-*_{launcher.pid}.log")
    return any("Initializing worker at address" in log.read_text() for log in logs)


def command_line(process: psutil.Process) -> str:
    """A process's command line or title; empty once it has ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def alive(processes: list[psutil.Process]) -> list[str]:
    """Command lines of those that still run."""
    left = []
    for process in processes:
        try:
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                left.append(f"{process.pid} {' '.join(process.cmdline())}")
        except psutil.NoSuchProcess:
            continue
    return left
