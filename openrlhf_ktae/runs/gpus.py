"""The GPUs of this machine, and whether a run has the ones it needs, before anything starts."""

import os
from dataclasses import dataclass

from openrlhf_ktae.config import RunOptions
from openrlhf_ktae.ray_address import check_reachable
from openrlhf_ktae.runs.batch_sizes import BatchPlan, BatchSizeError, check_gpu_count


@dataclass(frozen=True)
class Gpu:
    """A GPU that CUDA shows us."""

    name: str
    memory: float
    """Bytes."""
    capability: tuple[int, int]
    """Compute capability."""


def gpus_here() -> list[Gpu]:
    """The GPUs of this machine that CUDA_VISIBLE_DEVICES leaves."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    properties = [torch.cuda.get_device_properties(index) for index in range(count)]
    return [Gpu(gpu.name, float(gpu.total_memory), (gpu.major, gpu.minor)) for gpu in properties]


def check_gpus(run: RunOptions, plan: BatchPlan) -> None:
    """A run on GPUs finds them here, or a Ray answers at RAY_ADDRESS; its GPUs are counted after connecting.

    Raises:
        BatchSizeError: this machine has too few, with the numbers.
        ConnectionError: no Ray answers at RAY_ADDRESS.
    """
    if address := os.environ.get("RAY_ADDRESS"):
        check_reachable(address, "RAY_ADDRESS")
    elif run.device == "gpu":
        here = len(gpus_here())
        if here == 0:
            raise BatchSizeError(
                f"no GPU: the recipe needs {plan.gpus_total}, CUDA finds none on this machine (openrlhf-ktae doctor); "
                "run it where they are, name a Ray cluster with RAY_ADDRESS=HOST:6379, or take a CPU recipe such as "
                "recipes/quickstart"
            )
        check_gpu_count(plan, here)
