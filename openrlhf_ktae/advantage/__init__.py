"""Key-token advantage estimation on plain tensors: torch and numba only, no trainer."""

from openrlhf_ktae.advantage.estimator.diagnostics import batch_diagnostics
from openrlhf_ktae.advantage.estimator.statistics import TokenStatistics, token_statistics, top_tokens
from openrlhf_ktae.advantage.estimator.values import key_token_values
from openrlhf_ktae.config import KtaeConfig

__all__ = [
    "KtaeConfig",
    "TokenStatistics",
    "batch_diagnostics",
    "key_token_values",
    "token_statistics",
    "top_tokens",
]
