"""Token-level advantages on plain tensors: the estimator and the terms; torch and numba only, no trainer.

What this package exports is loaded when it is used: options and recipes are read without torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from openrlhf_ktae.advantage.estimator.diagnostics import batch_diagnostics
    from openrlhf_ktae.advantage.estimator.options import KtaeConfig
    from openrlhf_ktae.advantage.estimator.statistics import TokenStatistics, token_statistics, top_tokens
    from openrlhf_ktae.advantage.estimator.values import key_token_values

_MODULES = {
    "KtaeConfig": "options",
    "TokenStatistics": "statistics",
    "batch_diagnostics": "diagnostics",
    "key_token_values": "values",
    "token_statistics": "statistics",
    "top_tokens": "statistics",
}

__all__ = [
    "KtaeConfig",
    "TokenStatistics",
    "batch_diagnostics",
    "key_token_values",
    "token_statistics",
    "top_tokens",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.estimator.{_MODULES[name]}"), name)
