"""vLLM's worker on a machine without a GPU: live weights and gloo weight updates.

vLLM imports this module in its worker process before it loads the model (``worker_extension_cls``), which is what lets
the patch below take effect. Versions: vLLM 0.29.0, OpenRLHF 0.11.2.
"""

from typing import Any

import torch
import vllm.model_executor.layers.utils as layer_utils

from openrlhf_ktae.training import cpu_products
from openrlhf_ktae.training.cpu import GlooGroup


def _live_linear(layer, remove_weight) -> None:
    layer.cpu_linear = torch.nn.functional.linear


# vLLM packs linear weights after loading and drops layer.weight (model_executor/layers/linear.py:213-215); a tied
# lm_head keeps computing with the packed copy (vocab_parallel_embedding.py:64-66). Weight updates then fail for the
# former and are silently ignored by the latter. Plain linear on the live weight follows every update.
layer_utils.dispatch_cpu_unquantized_gemm = _live_linear

cpu_products.install()


class CpuWorker:
    """In place of OpenRLHF's worker extension (trainer/ray/vllm_worker_wrap.py); all weights come in one broadcast.

    No subclass of it: importing its package takes three seconds, for which the whole start of a run would wait.
    """

    # Of vLLM's worker, which this class is mixed into.
    model_config: Any
    model_runner: Any

    def init_process_group(
        self, master_address, master_port, rank_offset, world_size, group_name, backend="gloo", use_ray=False
    ) -> None:
        """Joins the weight-sync group, over gloo; `preflight.check_cpu` refuses ``use_ray``."""
        rank = torch.distributed.get_rank() + rank_offset
        self._model_update_group = GlooGroup(master_address, master_port, rank, world_size)

    def update_weight(self, name, dtype, shape, empty_cache=False) -> None:
        """Receives one tensor (vllm_worker_wrap.py:40 would allocate it on "cuda")."""
        self.receive_weights([(name, tuple(shape))], dtype)

    def receive_weights(self, layout: list[tuple[str, tuple[int, ...]]], dtype: torch.dtype) -> None:
        """Receives the tensors of ``layout`` (name, shape), flat and in that order, and loads them."""
        if dtype != self.model_config.dtype:
            raise ValueError(f"weights: the policy sends {dtype}, vLLM holds {self.model_config.dtype}")
        sizes = [torch.Size(shape).numel() for _, shape in layout]
        flat = torch.empty(sum(sizes), dtype=dtype)
        self._model_update_group.broadcast(flat, src=0)
        parts = zip(layout, flat.split(sizes), strict=True)
        self.model_runner.model.load_weights([(name, part.view(shape)) for (name, shape), part in parts])
