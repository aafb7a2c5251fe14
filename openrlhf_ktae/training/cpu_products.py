"""Products of bfloat16 matrices on processors without instructions for them.

oneDNN multiplies bfloat16 with AVX-512 or newer (`mkldnn_bf16_device_check`, PyTorch 2.13.0,
ATen/native/mkldnn/Utils.h); without, ATen/native/CPUBlas.cpp falls back to loops of its own, 4 to 40 times slower
than the product in float32. So here the factors become float32, and the product, summed in float32 as oneDNN sums it,
is rounded to bfloat16 once.
"""

import warnings
from typing import Any

import torch
from torch import library

_replaced: library.Library | None = None

_MATRICES = {"mm": 0, "bmm": 0, "addmm": 1, "baddbmm": 1}
"""What `linear`, `matmul` and their gradients are made of, and where the factors begin among the arguments."""


def onednn_takes_bfloat16() -> bool:
    """Whether oneDNN takes bfloat16 on this processor."""
    return torch.ops.mkldnn._is_mkldnn_bf16_supported()


def is_installed() -> bool:
    """Whether this process computes them in float32."""
    return _replaced is not None


def install() -> None:
    """Computes products of bfloat16 in float32, in this process, where the processor is not made for them."""
    if not onednn_takes_bfloat16() and not is_installed():
        in_float32()


def in_float32() -> None:
    """Puts the products of `_MATRICES` in place for all tensors on a CPU; those of other types stay what they are."""
    global _replaced
    _replaced = library.Library("aten", "IMPL")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "(?s).*other operators may also be overridden")  # what is meant to happen
        for name, first in _MATRICES.items():
            _replaced.impl(name, _product(name, first), "CPU", with_keyset=True)


def _product(name: str, first: int) -> Any:
    original: Any = library.get_kernel(f"aten::{name}", "CPU")

    def product(keys: Any, *args: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        if args[first].dtype != torch.bfloat16:
            return original.call_boxed(keys, *args, **kwargs)
        return original.call_boxed(keys, *(one.float() for one in args), **kwargs).bfloat16()

    return product
