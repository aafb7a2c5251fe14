"""How many responses a vLLM engine decodes at once on a GPU, in training and in evaluation, from its key-value cache.

vLLM 0.29's own choice for an engine that is not its server or its `LLM` class is 128 (config/scheduler.py:44), whatever
the GPU: a step of 2,048 responses an engine would be decoded in sixteen rounds.
"""

import logging
from typing import Any

FEWEST, MOST = 64, 1024
"""Bounds of `responses_at_once`; more than 1,024 at once decode no faster."""

_RESERVED_BYTES = 4 * 2**30
"""Of an engine's share of the GPU: activations of a forward pass and CUDA graphs."""


logger = logging.getLogger(__name__)


def parameter_counts(model: str, trust_remote_code: bool = False) -> tuple[int, Any]:
    """Parameters of a model (a tied output layer counts once) and its configuration, without its weights.

    Args:
        model: a folder or a hub id.
        trust_remote_code: whether code that the model brings may run.

    Raises:
        OSError: neither a folder nor a model that the hub or its local cache has.
        ValueError: no language model that Transformers knows, or one with code that may not run.
    """
    from accelerate import init_empty_weights
    from transformers import AutoConfig, AutoModelForCausalLM

    # False, where None would ask on standard input.
    config = AutoConfig.from_pretrained(model, trust_remote_code=trust_remote_code)
    with init_empty_weights():
        empty = AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
    empty.tie_weights()
    return sum(parameter.numel() for parameter in empty.parameters()), config


def key_value_bytes(model: Any, tensor_parallel: int = 1) -> int:
    """Bytes of the bfloat16 key-value cache that one token takes on one GPU; ``model``: its configuration."""
    heads = model.num_attention_heads
    key_value_heads = getattr(model, "num_key_value_heads", None) or heads
    head_size = getattr(model, "head_dim", None) or model.hidden_size // heads
    return 2 * model.num_hidden_layers * max(1, key_value_heads // tensor_parallel) * head_size * 2


def responses_at_once(
    parameters: int, model: Any, gpu_bytes: float, share: float, max_model_len: int, tensor_parallel: int = 1
) -> int:
    """As many responses as the key-value cache holds when each takes half of ``max_model_len``, in steps of 64.

    Responses that turn out longer are not lost: vLLM puts some back and goes on with them later.

    Args:
        parameters: of the model.
        model: its configuration.
        gpu_bytes: memory of a GPU.
        share: part of it that the engine may take (``gpu_memory_utilization``).
        max_model_len: most tokens of a prompt with its response.
        tensor_parallel: GPUs of an engine.
    """
    cache = share * gpu_bytes - 2.0 * parameters / tensor_parallel - _RESERVED_BYTES
    fitting = cache / (key_value_bytes(model, tensor_parallel) * max_model_len / 2)
    return max(FEWEST, min(MOST, int(fitting) // 64 * 64))


def responses_of_engine(
    model: str, share: float, max_model_len: int, tensor_parallel: int = 1, trust_remote_code: bool = False
) -> int | None:
    """`responses_at_once` for a model by name on this process's GPU.

    None, which is vLLM's own number, and a warning for a model whose size cannot be told: one that takes images too, or
    that Transformers does not know.
    """
    from vllm.platforms import current_platform

    gpu_bytes = current_platform.get_device_total_memory()
    try:
        parameters, config = parameter_counts(model, trust_remote_code)
        return responses_at_once(parameters, config, gpu_bytes, share, max_model_len, tensor_parallel)
    except Exception as error:  # whatever a model's own code raises; vLLM says what is wrong with a model
        logger.warning(
            "%s: its size cannot be told (%s), so vLLM decodes its own number of responses at once (128); "
            "set engine.max_num_seqs (--max-num-seqs in an evaluation)", model, str(error).partition("\n")[0],
        )  # fmt: skip
        return None
