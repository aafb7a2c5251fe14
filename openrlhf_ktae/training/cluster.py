"""The Ray of a run: one of its own on this machine, or the cluster of RAY_ADDRESS, with the GPUs that the run needs."""

import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from openrlhf_ktae.config import RunOptions
from openrlhf_ktae.forks import PYTHON_VARIABLE
from openrlhf_ktae.ray_address import check_reachable
from openrlhf_ktae.training import attention

RAY_SETTINGS = {
    # Without process groups vLLM's engine outlives an actor that is killed, and the policy waits for it for ever.
    "RAY_process_group_cleanup_enabled": "1",
    # What Ray keeps of the tasks that have ended, for its dashboard: by default 100,000 of them, 4 KB each.
    "RAY_task_events_max_num_task_in_gcs": "1000",
}
"""Environment of a Ray of our own, where the user's says nothing else."""

_POLL_SECONDS = 2.0
_LOST_SECONDS = 20.0
"""A run whose actors were on a dead node has ended with their errors by then, which say more."""


def hold_ray(run: RunOptions) -> str:
    """Starts a Ray for a CPU that ends with this process; returns its address for `start_ray` in another one."""
    import ray

    ray.init(**_own_ray(run))
    return ray.get_runtime_context().gcs_address


def start_ray(run: RunOptions, environment: dict[str, str], gpus: Mapping[str, int], held: str | None = None) -> None:
    """Connects to the cluster of RAY_ADDRESS, or to a Ray of our own, started here unless another process holds it.

    Args:
        run: this project's options of the run.
        environment: of every Ray worker.
        gpus: GPUs by role, as the batch plan counts them.
        held: what `hold_ray` returned elsewhere; without it a Ray of our own ends with this process.

    Raises:
        ValueError: the cluster lacks GPUs or CPUs, or others hold them, after ``run.cluster_wait_seconds``.
        ConnectionError: no Ray answers at RAY_ADDRESS.
    """
    import ray

    # DeepSpeed finds ninja on the PATH when it compiles its optimizer; Ray fills in the worker's own.
    path = f"{Path(sys.executable).parent}:${{PATH}}"
    runtime_env: dict[str, Any] = {"env_vars": environment | {"PATH": path}}
    if python := environment.get(PYTHON_VARIABLE):
        runtime_env["py_executable"] = python
    if run.device == "cpu":
        runtime_env["worker_process_setup_hook"] = "openrlhf_ktae.training.cpu.install"
    elif not attention.flash_attn_is_installed():
        runtime_env["worker_process_setup_hook"] = "openrlhf_ktae.training.attention.install"
    if held:
        ray.init(address=held, runtime_env=runtime_env)
    elif address := os.environ.get("RAY_ADDRESS"):
        check_reachable(address, "RAY_ADDRESS")
        ray.init(runtime_env=runtime_env)
    else:
        ray.init(runtime_env=runtime_env, **_own_ray(run, sum(gpus.values())))
    wait_for_resources(gpus, run.cluster_wait_seconds)


def _own_ray(run: RunOptions, gpus: int = 0) -> dict[str, Any]:
    """What `ray.init` starts a Ray of our own with; its processes have the environment of this one."""
    for name, value in RAY_SETTINGS.items():
        os.environ.setdefault(name, value)
    # Without an address Ray joins whatever another `ray start` left on this machine, or waits for what has ended.
    ours: dict[str, Any] = {"address": "local"}
    if run.device == "cpu":
        # OpenRLHF's placement asks for GPUs; Ray only counts them.
        ours |= {"num_gpus": run.logical_gpus, "num_cpus": 2 * run.logical_gpus}
        return ours | {"object_store_memory": 256 * 2**20, "include_dashboard": False}
    # Ray counts cores, too; OpenRLHF reserves one for every GPU and needs one more to place its trainer.
    return ours | {"num_cpus": max(os.cpu_count() or 1, 2 * gpus)}


def wait_for_resources(gpus: Mapping[str, int], seconds: float) -> None:
    """Waits until the cluster has the free GPUs and CPUs of a run: nodes may still be joining.

    OpenRLHF itself waits for ever and says nothing (cli/train_ppo_ray.py:48-50, trainer/ray/vllm_engine.py:249-251).

    Raises:
        ValueError: they are not there in time, with the numbers.
    """
    import ray

    deadline = time.monotonic() + seconds
    while problem := missing(gpus, ray.cluster_resources(), ray.available_resources()):
        if time.monotonic() >= deadline:
            raise ValueError(f"{problem} (waited {seconds:g} s for nodes that join: run.cluster_wait_seconds)")
        time.sleep(_POLL_SECONDS)


def watch(gpus: Mapping[str, int], give_up: Callable[[str], None]) -> None:
    """Calls ``give_up`` with a sentence once the cluster has had fewer GPUs than the run needs for `_LOST_SECONDS`.

    Actors on a node that dies fail at once. Where none is placed yet, OpenRLHF waits for ever for a place that is gone
    (trainer/ray/vllm_engine.py:251).
    """
    import ray

    needed, enough_at = sum(gpus.values()), time.monotonic()
    while ray.is_initialized():
        left = ray.cluster_resources().get("GPU", 0)
        if left >= needed:
            enough_at = time.monotonic()
        elif time.monotonic() - enough_at > _LOST_SECONDS:
            give_up(f"a Ray node died: of the {needed} GPUs that the run needs {left:g} are left")
            return
        time.sleep(_POLL_SECONDS)


def missing(gpus: Mapping[str, int], total: Mapping[str, float], free: Mapping[str, float]) -> str | None:
    """What a cluster lacks for a run, as a sentence; None if it has everything.

    OpenRLHF reserves a GPU and a CPU for each place, and Ray needs one more CPU to place the trainer.
    """
    needed = sum(gpus.values())
    roles = " + ".join(f"{count} ({role})" for role, count in gpus.items())
    for kind, count in (("GPU", needed), ("CPU", needed + 1)):
        has, left = total.get(kind, 0), free.get(kind, 0)
        if has < count:
            return (
                f"{kind}s: the run needs {count}, the Ray cluster has {has:g}; GPUs by role: {roles}. Add nodes, or "
                "lower actor.num_nodes, actor.num_gpus_per_node and vllm.num_engines"
            )
        if left < count:
            return (
                f"{kind}s: the run needs {count}, of the Ray cluster's {has:g} only {left:g} are free; another job "
                "holds the rest (`ray list actors` shows whose, `ray job stop` ends one)"
            )
    return None
