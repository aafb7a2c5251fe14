"""Runs OpenRLHF's own command line with this project's classes in place of OpenRLHF's.

``python -m openrlhf_ktae.training.drive RUN_FOLDER ADDRESS`` does with the Ray at ADDRESS, which another process holds.
"""

import json
import os
import runpy
import sys
import threading
from pathlib import Path
from typing import Any

from openrlhf_ktae.config import RunOptions
from openrlhf_ktae.forks import PYTHON_VARIABLE
from openrlhf_ktae.plugins import section_of
from openrlhf_ktae.ray_address import LOOPBACK
from openrlhf_ktae.reward.math_reward import OPTIONS_VARIABLE
from openrlhf_ktae.run_folder import EXIT_STOPPED, Failure, RunFolder
from openrlhf_ktae.tasks.reward import TASK_VARIABLE, describe
from openrlhf_ktae.training import attention, cpu
from openrlhf_ktae.training.cluster import start_ray, watch

_PASSED_ON = (
    "TOKENIZERS_PARALLELISM",
    "NCCL_DEBUG",
    "RAY_ENABLE_ZERO_COPY_TORCH_TENSORS",
    "HF_HUB_OFFLINE",
    "HF_HOME",
    PYTHON_VARIABLE,
)


def worker_environment(device: str, config: dict[str, Any]) -> dict[str, str]:
    """Environment of every Ray worker of a run. ``config``: the ``config`` of run.json."""
    # The first three are what OpenRLHF sets when it starts Ray itself (cli/train_ppo_ray.py:21-33).
    environment = {
        "TOKENIZERS_PARALLELISM": "true",
        "NCCL_DEBUG": "WARN",
        "RAY_ENABLE_ZERO_COPY_TORCH_TENSORS": "1",
    }
    environment |= {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    environment |= cpu.ENVIRONMENT if device == "cpu" else {}
    if not os.environ.get("RAY_ADDRESS"):
        environment |= {name: os.environ.get(name, value) for name, value in LOOPBACK.items()}
    grader = config.get("grader", {})
    environment[OPTIONS_VARIABLE] = json.dumps(grader)
    if "task" in config:
        source = config["task"]["name"]
        environment[TASK_VARIABLE] = describe(source, config.get(section_of(source), {}), grader)
    # Ray refuses a variable that the submitted job's own runtime environment sets too; workers have that one anyway.
    job = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}"))
    given = (job.get("runtime_env") or {}).get("env_vars") or {}
    return {name: value for name, value in environment.items() if name not in given}


def drive(folder: RunFolder, ray: str | None = None) -> int:
    """Trains the run of ``folder`` in this process; returns the exit code. A failure is noted in the folder.

    Args:
        ray: address of the Ray that another process holds for the run.
    """
    description = folder.read()
    run = RunOptions(**description["config"]["run"])
    environment = worker_environment(run.device, description["config"])
    os.environ.update(environment)
    from openrlhf_ktae.training.failures import explain

    try:
        # Before anything large is imported: Ray's own processes start beside that.
        start_ray(run, environment, description["gpus"], ray)
        threading.Thread(target=end_with_nodes, args=(folder, description["gpus"]), daemon=True).start()
        # Not done for us where this process is no Ray worker (a plain start, or a job's entry point).
        if run.device == "cpu":
            cpu.install()
        else:
            attention.install()
        from openrlhf_ktae.training.options import TrainingOptions
        from openrlhf_ktae.training.overrides import install

        install("launcher", TrainingOptions.of_run(str(folder.path.resolve()), description["config"]))
        resume = ["--ckpt.load_enable"] if description["resumed_from"] else []
        sys.argv = ["openrlhf.cli.train_ppo_ray", *description["argv"], *resume]
        runpy.run_module("openrlhf.cli.train_ppo_ray", run_name="__main__", alter_sys=True)
    except Exception as error:
        if "StopRequested" in str(error):
            print(error)
            return EXIT_STOPPED
        folder.write_failure(explain(error))
        raise
    return 0


def end_with_nodes(folder: RunFolder, gpus: dict[str, int]) -> None:
    """Ends this process when the run's nodes are gone, in a thread of it: the main one may wait for them for ever."""

    def give_up(reason: str) -> None:
        folder.write_failure(Failure(reason, may_pass=True))
        print(f"RuntimeError: {reason}", flush=True)
        os._exit(1)

    watch(gpus, give_up)


if __name__ == "__main__":
    sys.exit(drive(RunFolder(Path(sys.argv[1])), sys.argv[2]))
