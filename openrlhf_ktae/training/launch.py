"""Runs OpenRLHF's own command line with this project's classes in the seats.

``python -m openrlhf_ktae.training.launch RUN_FOLDER`` reads what to run from ``RUN_FOLDER/run.json``. The same launcher
serves GPU and CPU, a Ray of its own and a cluster, and the entry point of a ``ray job submit``.
"""

import json
import os
import runpy
import signal
import sys
from pathlib import Path
from typing import Any

from openrlhf_ktae.config import KtaeConfig, RunOptions
from openrlhf_ktae.run_folder import EXIT_STOPPED, RunFolder
from openrlhf_ktae.training import cpu

_PASSED_ON = ("TOKENIZERS_PARALLELISM", "NCCL_DEBUG", "RAY_ENABLE_ZERO_COPY_TORCH_TENSORS", "HF_HUB_OFFLINE", "HF_HOME")


def worker_environment(device: str, grader: dict[str, Any]) -> dict[str, str]:
    """Environment of every Ray worker of a run."""
    # The first three are what OpenRLHF sets when it starts Ray itself (cli/train_ppo_ray.py:21-33).
    environment = {
        "TOKENIZERS_PARALLELISM": "true",
        "NCCL_DEBUG": "WARN",
        "RAY_ENABLE_ZERO_COPY_TORCH_TENSORS": "1",
    }
    environment |= {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    environment |= cpu.ENVIRONMENT if device == "cpu" else {}
    environment["OPENRLHF_KTAE_REWARD"] = json.dumps(grader)
    # Ray refuses a variable that the submitted job's own runtime environment sets too; workers have that one anyway.
    job = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}"))
    given = (job.get("runtime_env") or {}).get("env_vars") or {}
    return {name: value for name, value in environment.items() if name not in given}


def start_ray(run: RunOptions, environment: dict[str, str]) -> None:
    """Connects to the cluster of RAY_ADDRESS, or starts a Ray of our own that ends with this process."""
    import ray

    runtime_env: dict[str, Any] = {"env_vars": environment}
    if run.device == "cpu":
        runtime_env["worker_process_setup_hook"] = "openrlhf_ktae.training.cpu.install"
    if "RAY_ADDRESS" in os.environ:
        ray.init(runtime_env=runtime_env)
    elif run.device == "cpu":
        # OpenRLHF's placement asks for GPUs; Ray only counts them.
        ray.init(
            address="local",  # without it Ray would join whatever `ray start` left on this machine
            num_gpus=run.logical_gpus,
            num_cpus=2 * run.logical_gpus,
            object_store_memory=256 * 2**20,
            include_dashboard=False,
            runtime_env=runtime_env,
        )
    else:
        ray.init(runtime_env=runtime_env)


def launch(folder: RunFolder) -> int:
    """Trains the run of ``folder`` in this process; returns the exit code."""
    description = folder.read()
    run = RunOptions(**description["config"]["run"])
    ktae = KtaeConfig(**description["config"]["ktae"])
    environment = worker_environment(run.device, description["config"]["grader"])
    os.environ.update(environment)
    if run.device == "cpu":
        # Not done for us where this process is no Ray worker (a plain start, or a job's entry point).
        cpu.install()
    start_ray(run, environment)

    from ray.exceptions import RayTaskError

    from openrlhf_ktae.training import rollout_actor, trainer

    rollout_actor.take_seat(run.device)
    trainer.take_seats(trainer.TrainerOptions(str(folder.path.resolve()), ktae, run))
    sys.argv = ["openrlhf.cli.train_ppo_ray", *description["argv"]]
    try:
        runpy.run_module("openrlhf.cli.train_ppo_ray", run_name="__main__", alter_sys=True)
    except RayTaskError as error:
        if isinstance(error.cause, trainer.StopRequested) or "StopRequested" in str(error):
            print(error)
            return EXIT_STOPPED
        raise
    return 0


def main() -> int:
    """Entry point of the module."""
    # The default action would leave Ray's processes to find out by themselves; SystemExit shuts Ray down.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    return launch(RunFolder(Path(sys.argv[1])))


if __name__ == "__main__":
    sys.exit(main())
