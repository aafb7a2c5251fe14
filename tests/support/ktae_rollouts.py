"""Rollouts that look like a reasoning model's, for measuring: Zipf tokens, topical words of each prompt, long tails."""

from typing import NamedTuple

import numpy as np
import torch

VOCABULARY = 151_936


class Rollouts(NamedTuple):
    """The arguments of `key_token_values`."""

    token_ids: torch.Tensor
    mask: torch.Tensor
    correct: torch.Tensor
    group: torch.Tensor


def realistic_rollouts(
    prompts: int, rollouts_per_prompt: int, columns: int = 3072, mean_length: float = 800.0, seed: int = 0
) -> Rollouts:
    """Log-normal lengths (sigma 0.5); 70 % of the tokens from one Zipf law over the vocabulary, 30 % topical.

    token_ids (N, columns) int64, mask bool, correct bool at random, group int64; N = prompts * rollouts_per_prompt.
    """
    random = np.random.default_rng(seed)
    rows = prompts * rollouts_per_prompt
    lengths = random.lognormal(np.log(mean_length) - 0.5**2 / 2, 0.5, rows).astype(int).clip(1, columns)
    weights = 1 / np.arange(1, VOCABULARY + 1) ** 1.1
    cumulative = np.cumsum(weights) / weights.sum()
    ids_by_rank = random.permutation(VOCABULARY)
    token_ids = np.zeros((rows, columns), dtype=np.int64)
    for prompt in range(prompts):
        topical = random.integers(0, VOCABULARY, 300)
        for row in range(prompt * rollouts_per_prompt, (prompt + 1) * rollouts_per_prompt):
            ranks = np.searchsorted(cumulative, random.random(lengths[row])).clip(max=VOCABULARY - 1)
            is_topical = random.random(lengths[row]) < 0.3
            word = (random.random(lengths[row]) ** 2 * len(topical)).astype(int)
            token_ids[row, : lengths[row]] = np.where(is_topical, topical[word], ids_by_rank[ranks])
    return Rollouts(
        torch.from_numpy(token_ids),
        torch.from_numpy(np.arange(columns) < lengths[:, None]),
        torch.from_numpy(random.random(rows) < 0.5),
        torch.arange(prompts).repeat_interleave(rollouts_per_prompt),
    )
