"""What vLLM and PyTorch need on a machine without a GPU, in training and in evaluation. Imports neither."""

from typing import Any

OPENMP = {"GOMP_SPINCOUNT": "3000"}
"""Environment of a process that computes on several cores: its threads soon sleep while they wait for each other.

By default they spin for long (libgomp), on cores that other processes need: beside other work a training step is then
many times slower. Sleeping at once costs a quarter where nothing else runs. Read when PyTorch is imported.
"""

ENVIRONMENT = {
    # The engines share the cores with other processes; two threads each is up to 10x slower.
    "OMP_NUM_THREADS": "1",
    # "auto" would pin every engine to core 0.
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    # Compiling vLLM's sampler (and, in training, OpenRLHF's entropy) costs 22 s at the first step.
    "TORCHDYNAMO_DISABLE": "1",
    # The model runs in the engine's process. vLLM's own choice on CPU (platforms/cpu.py:273) is one more process behind
    # a queue whose reader spins for a second after every message, on a core that others need.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    # On CPU its warnings are of libraries to preload and of kernels there are none of.
    "VLLM_LOGGING_LEVEL": "ERROR",
}
"""Environment of a process that holds an engine."""

QUIET = {"VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "WARNING"}
"""Environment of a quiet engine, on any machine."""

ENGINE: dict[str, Any] = {
    # Without a size vLLM reserves gpu_memory_utilization x RAM for its key-value cache.
    "kv_cache_memory_bytes": 256 * 2**20,
    # Prompts that hold more tokens than a forward pass takes are cut in two, and for a request with a seed vLLM then
    # turns its generator back (v1/worker/gpu_model_runner.py:3785), which those on CPU cannot: the engine dies.
    "enable_chunked_prefill": False,
}
"""Engine arguments of vLLM on CPU."""
