"""Training without flash-attn: OpenRLHF 0.11.2 asks for it in two places, whatever attention is used.

`install` runs in the driver and, as Ray's ``worker_process_setup_hook``, in every Ray worker.
"""

import importlib.util
import sys
import types


def flash_attn_is_installed() -> bool:
    """Whether flash-attn itself is there, and not what stands in for it."""
    return importlib.util.find_spec("flash_attn") is not None


def install(on_cpu: bool = False) -> None:
    """Puts the stand-ins in place, once per process, where flash-attn is not installed or there is no GPU for it."""
    if "flash_attn.bert_padding" in sys.modules or (flash_attn_is_installed() and not on_cpu):
        return
    _stand_in_for_padding()
    _attend_with_sdpa()


def _stand_in_for_padding() -> None:
    # models/ring_attn_utils.py:3-4 imports these two modules. The parent package stays absent: Transformers, vLLM and
    # models/utils.py look for it and take their paths without flash-attn.
    import torch
    from einops import rearrange

    def index_first_axis(values, indices):
        return values[indices]

    def unpad_input(values, attention_mask):
        lengths = attention_mask.sum(-1, dtype=torch.int32)
        indices = attention_mask.flatten().nonzero().flatten()
        ends = torch.nn.functional.pad(lengths.cumsum(0, dtype=torch.int32), (1, 0))
        return values.flatten(0, 1)[indices], indices, ends, int(lengths.max()), lengths

    def pad_input(values, indices, batch, length):
        padded = values.new_zeros(batch * length, *values.shape[1:])
        return padded.index_copy(0, indices, values).view(batch, length, *values.shape[1:])

    padding = types.ModuleType("flash_attn.bert_padding")
    vars(padding).update(
        index_first_axis=index_first_axis, unpad_input=unpad_input, pad_input=pad_input, rearrange=rearrange
    )
    distributed = types.ModuleType("flash_attn.utils.distributed")
    vars(distributed).update(all_gather=None)  # ring attention only, which `preflight` refuses
    sys.modules[padding.__name__] = padding
    sys.modules[distributed.__name__] = distributed


def _attend_with_sdpa() -> None:
    # cli/train_ppo_ray.py:704 forces FlashAttention for packed samples. Without an attention mask Transformers finds
    # the packed sequences by their position ids, with SDPA as well.
    from openrlhf.models import Actor

    init = Actor.__init__

    def with_sdpa(self, pretrain_or_model, attn_implementation="sdpa", **kwargs):
        chosen = "sdpa" if "flash" in attn_implementation else attn_implementation
        init(self, pretrain_or_model, attn_implementation=chosen, **kwargs)

    Actor.__init__ = with_sdpa  # pyright: ignore[reportAttributeAccessIssue]
