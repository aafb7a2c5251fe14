"""Compile the CPU backend into its on-disk cache: `python -m openrlhf_ktae.advantage.estimator`, once after installing.

The first call of every later process then takes well under a second beyond its imports. Both id dtypes are compiled.
"""

import torch

from openrlhf_ktae.advantage import key_token_values


def main() -> None:
    for dtype in (torch.int64, torch.int32):
        token_ids = torch.tensor([[1, 2], [2, 3]], dtype=dtype)
        key_token_values(token_ids, torch.ones(2, 2), torch.tensor([1, 0]), torch.tensor([0, 0]), backend="numba")


if __name__ == "__main__":
    main()
