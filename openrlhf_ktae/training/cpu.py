"""Everything OpenRLHF's Ray + vLLM + DeepSpeed loop needs on a machine without a GPU.

Nothing is edited in site-packages: each function below stands in for one thing upstream (OpenRLHF 0.11.2 unless said)
takes for granted, and names the line that forces it. ``install()`` runs in the driver and, as Ray's
``worker_process_setup_hook``, in every Ray worker; it does nothing where there is a GPU. vLLM's own worker process is
spawned by vLLM and not by Ray: its part is `cpu_vllm_worker`.
"""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from openrlhf_ktae import cpu_vllm
from openrlhf_ktae.training import attention

ENVIRONMENT = {
    **cpu_vllm.QUIET,
    **cpu_vllm.ENVIRONMENT,
    **cpu_vllm.OPENMP,
    # DeepSpeed takes gloo and probes no CUDA.
    "DS_ACCELERATOR": "cpu",
    "TOKENIZERS_PARALLELISM": "false",
    # Ray leaves the visible-devices variables alone for actors without a real GPU.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Activations of a few MiB stay in the heap; else every operation maps, zeroes and unmaps its result.
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_TRIM_THRESHOLD_": str(2**30),
    # One heap for all threads: what the backward pass's thread frees stays in a heap of its own else (a policy of 630
    # MiB grows to 760 in 300 steps).
    "MALLOC_ARENA_MAX": "1",
}
"""Environment of every process of a run on CPU."""

ENGINE: dict[str, Any] = {
    **cpu_vllm.ENGINE,
    # The smallest block vLLM takes on CPU; its default of 128 tokens spreads short texts over memory.
    "block_size": 32,
    # vLLM's default here (128, engine/arg_utils.py) decodes the quickstart's 256 responses in two rounds.
    "max_num_seqs": 256,
    # Statistics that nobody reads, once per token.
    "disable_log_stats": True,
}
"""Engine arguments of vLLM on CPU, beside OpenRLHF's."""

_MAX_TRAINING_THREADS = 8
"""More threads do not help models that fit a CPU run."""

_INSTALLED = "openrlhf_ktae_cpu"


@contextmanager
def no_garbage_while_importing() -> Iterator[None]:
    """PyTorch, Transformers, DeepSpeed and vLLM are a million objects that stay.

    Looking through them for garbage again and again is a third of the time that a process takes to start.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@no_garbage_while_importing()
def install() -> None:
    """Puts the stand-ins in place, once per process; does nothing where there is a GPU."""
    import torch

    from openrlhf_ktae.training import cpu_products  # imports torch

    if torch.cuda.is_available() or getattr(torch, _INSTALLED, False):
        return
    setattr(torch, _INSTALLED, True)
    _stand_in_for_cuda_calls()
    attention.install(on_cpu=True)
    cpu_products.install()
    use_gloo_weight_sync()
    _adapt_deepspeed()
    _bucket_weight_sync()
    _train_on_all_cores()


class _CpuIndex(str):
    """What torch.cuda.current_device() returns: a valid device ("cpu") that formats as an index.

    trainer/ppo_utils/replay_buffer.py:40 builds torch.device(f"cuda:{...}") from it.
    """

    def __format__(self, spec: str) -> str:
        return "0"


def _stand_in_for_cuda_calls() -> None:
    import torch
    import torch.distributed.device_mesh as device_mesh

    device = _CpuIndex("cpu")
    torch.cuda.current_device = lambda: device  # ppo_actor.py:185, deepspeed.py:694
    torch.cuda.set_device = lambda device: None  # utils/deepspeed/deepspeed.py:97
    torch.cuda.synchronize = lambda device=None: None  # distributed_util.py:10, launcher.py:65
    torch.cuda.current_stream = lambda device=None: None  # ppo_actor.py:436
    init_device_mesh = device_mesh.init_device_mesh

    def cpu_device_mesh(device_type, *args, **kwargs):  # deepspeed.py:105 asks for a "cuda" mesh
        return init_device_mesh("cpu", *args, **kwargs)

    device_mesh.init_device_mesh = cpu_device_mesh


class GlooGroup:
    """In place of NCCL between policy rank 0 and the vLLM workers (utils/distributed_util.py:21-25)."""

    def __init__(self, host, port, rank, world_size, device=None):
        from vllm.distributed.utils import stateless_init_torch_distributed_process_group

        self._group: Any = stateless_init_torch_distributed_process_group(host, port, rank, world_size, backend="gloo")

    def broadcast(self, tensor, src, stream=None) -> None:
        """Sends ``tensor`` of rank ``src`` into the same tensor of every rank."""
        from torch.distributed import BroadcastOptions

        options = BroadcastOptions()
        options.rootRank, options.rootTensor = src, 0
        self._group.broadcast([tensor], options).wait()


def use_gloo_weight_sync() -> None:
    """Policy (ppo_actor.py:147) and vLLM worker (vllm_worker_wrap.py:20) find the gloo group under upstream's name."""
    import openrlhf.utils.distributed_util as distributed_util

    distributed_util.stateless_init_process_group = GlooGroup


def _adapt_deepspeed() -> None:
    import deepspeed
    import openrlhf.utils.deepspeed.deepspeed as strategy

    # Both only avoid building C++ at the first step (41 s and 48 s, and a compiler on the machine).
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    get_train_ds_config = strategy.get_train_ds_config

    def with_torch_adam(*args, **kwargs):
        config = get_train_ds_config(*args, **kwargs)
        if config.get("optimizer", {}).get("type") == "AdamW":
            config["optimizer"]["params"]["torch_adam"] = True
        return config

    strategy.get_train_ds_config = with_torch_adam
    moving_average = strategy.DeepspeedStrategy.moving_average

    def cpu_moving_average(self, model, model_ema, beta=0.992, device="cpu"):  # ppo_actor.py:322 passes "cuda"
        return moving_average(self, model, model_ema, beta, "cpu")

    strategy.DeepspeedStrategy.moving_average = cpu_moving_average


def _bucket_weight_sync() -> None:
    """One broadcast for all weights of a full-parameter model, in place of one round trip per tensor.

    ppo_actor.py:408-489 waits for every vLLM engine after each tensor; on CPU the waiting is nearly all of the time.
    ZeRO-3 and LoRA keep upstream's way.
    """
    import ray
    import torch
    from openrlhf.trainer.ray.ppo_actor import ActorPPOTrainer
    from openrlhf.utils.distributed_util import torch_dist_barrier_and_cuda_sync

    one_by_one = ActorPPOTrainer.broadcast_to_vllm

    def broadcast_to_vllm(self) -> None:
        args = self.strategy.args
        if args.ds.zero_stage == 3 or args.ds.lora.rank > 0 or args.vllm.sync_with_ray:
            return one_by_one(self)
        if torch.distributed.get_rank() == 0:
            names, tensors = zip(*self.actor.model.module.named_parameters(), strict=True)
            layout = [(name, tuple(tensor.shape)) for name, tensor in zip(names, tensors, strict=True)]
            dtype = tensors[0].dtype
            replies = [engine.receive_weights.remote(layout, dtype) for engine in self.vllm_engines]
            flat = torch.cat([tensor.data.flatten() for tensor in tensors])
            self._model_update_group.broadcast(flat, src=0)
            if args.vllm.enable_prefix_caching:
                replies += [engine.reset_prefix_cache.remote() for engine in self.vllm_engines]
            ray.get(replies)
        torch_dist_barrier_and_cuda_sync()

    ActorPPOTrainer.broadcast_to_vllm = broadcast_to_vllm


def _train_on_all_cores() -> None:
    """Gives the policy the idle cores during its optimisation steps.

    One thread a process is right while policy, reference and vLLM compute at the same time; the synchronous trainer's
    optimisation steps (ppo_actor.py:166) have the machine to themselves.
    """
    import torch
    from openrlhf.trainer.ray.ppo_actor import ActorPPOTrainer

    ppo_train = ActorPPOTrainer.ppo_train

    def on_all_cores(self, kl_ctl: float):
        workers = torch.distributed.get_world_size()
        cores = len(os.sched_getaffinity(0))
        if self.args.train.async_enable or cores <= workers:
            return ppo_train(self, kl_ctl)
        before = torch.get_num_threads()
        torch.set_num_threads(min(cores // workers, _MAX_TRAINING_THREADS))
        try:
            return ppo_train(self, kl_ctl)
        finally:
            torch.set_num_threads(before)

    ActorPPOTrainer.ppo_train = on_all_cores
