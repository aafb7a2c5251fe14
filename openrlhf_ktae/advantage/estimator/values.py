"""The public entry of the estimator: one key-token value for every position of a batch of rollouts."""

import importlib
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Literal, TypeVar

import torch

from openrlhf_ktae.advantage.estimator.inputs import DEFAULT_CONFIG, check_batch, strength_tables
from openrlhf_ktae.advantage.estimator.options import KtaeConfig
from openrlhf_ktae.advantage.estimator.torch_kernel import torch_values

Backend = Literal["auto", "numba", "torch"]
Found = TypeVar("Found")

_numba_works = True  # until a first attempt fails; then one warning, and torch for the rest of the process


def key_token_values(
    token_ids: torch.Tensor,
    mask: torch.Tensor,
    correct: torch.Tensor,
    group: torch.Tensor,
    config: KtaeConfig = DEFAULT_CONFIG,
    *,
    backend: Backend = "auto",
    threads: int | None = None,
) -> torch.Tensor:
    """The key-token value K of every position (arXiv 2505.16826); the advantage is `rollout_advantage * mask + K`.

    token_ids: (N, T) integers, N rollouts; ids under the mask lie in [0, 2**24), others are never looked at.
    mask: (N, T) bool or 0-1 of any dtype, true at generated tokens; zeros inside a row are fine.
    correct: (N,) bool or 0-1, whether the rollout's final answer is right; never a shaped reward.
    group: (N,) integers, which prompt a rollout answers; in any order, groups may differ in size.
    backend: "numba" (CPU tensors), "torch" (any device), or "auto": numba on the CPU, torch elsewhere.
    threads: most threads of the numba backend; None: as many as numba may use (NUMBA_NUM_THREADS or the CPUs this
        process may run on), fewer for small batches. Neither changes the values.

    Returns (N, T) float32 on the device of `token_ids`, in [-scale, scale], positive for tokens that go with correct
    answers, exactly 0 where the mask is 0, for ignored ids, and in groups where all answers, or none, are correct or a
    class has no tokens. A value depends on nothing but its own group. Absolute error below 1e-6 * max(1, scale).
    Raises ValueError, naming the argument, for shapes, dtypes or values that make no sense.
    """
    batch = check_batch(token_ids, mask, correct, group)
    on_cpu = batch.token_ids.device.type == "cpu"
    if backend not in ("auto", "numba", "torch"):
        raise ValueError(f'backend: got {backend!r}, expected "auto", "numba" or "torch"')
    if backend == "numba" and not on_cpu:
        raise ValueError(f'backend: "numba" needs CPU tensors, token_ids is on {batch.token_ids.device}; use "torch"')
    if threads is not None and threads < 1:
        raise ValueError(f"threads: got {threads}, expected 1 or more, or None for the default")
    tables = strength_tables(batch, config)
    if backend == "torch" or not on_cpu:
        return torch_values(batch, tables, config)
    if backend == "numba":
        return _numba_kernel().numba_values(batch, tables, config, threads)
    return with_numba(
        lambda: _numba_kernel().numba_values(batch, tables, config, threads),
        lambda: torch_values(batch, tables, config),
    )


def _numba_kernel() -> ModuleType:
    # Here and not above: importing numba takes longer than everything else in this package together.
    return importlib.import_module("openrlhf_ktae.advantage.estimator.cpu_kernel")


def with_numba(compiled: Callable[[], Found], otherwise: Callable[[], Found]) -> Found:
    """``compiled()``, and ``otherwise()`` where numba is missing or cannot compile: then with a warning, once."""
    global _numba_works
    if _numba_works:
        try:
            kernel = _numba_kernel()
        except ImportError as error:
            cause: Exception = error
        else:
            try:
                return compiled()
            except kernel.COMPILE_ERRORS as error:
                cause = error
        _numba_works = False
        warnings.warn(
            "key_token_values: numba cannot compile here, using the slower torch backend from now on "
            f"({type(cause).__name__}: {cause})",
            RuntimeWarning,
            stacklevel=3,
        )
    return otherwise()
