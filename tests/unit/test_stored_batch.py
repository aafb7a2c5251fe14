"""`[ktae]` computes the same bits as the version that stored tests/data/ktae_batch.npz.

64 groups of 8 rollouts in dynamic batches (rows of a group spread over experiences of 37 rollouts), group_norm.
"""

from pathlib import Path

import numpy as np
import torch
from openrlhf.trainer.ppo_utils.experience import Experience
from openrlhf_parts import arguments, maker

STORED = Path(__file__).resolve().parents[1] / "data" / "ktae_batch.npz"
SAMPLES = 8


def stored_experiences(stored) -> list[Experience]:
    result, order = [], stored["order"].tolist()
    for size in stored["sizes"]:
        rows, order = order[:size], order[size:]
        scores = torch.from_numpy(stored["scores"][rows]).float()
        action_mask = torch.from_numpy(stored["action_mask"][rows]).long()
        # The experience is as wide as its longest rollout.
        width = int(action_mask.any(0).nonzero().max()) + 1
        action_mask = action_mask[:, :width]
        result.append(
            Experience(
                sequences=torch.from_numpy(stored["sequences"][rows]).long()[:, : width + 1],
                action_mask=action_mask,
                rewards=scores.clone(),
                scores=scores,
                truncated=torch.zeros(len(rows), dtype=torch.bool),
                total_length=torch.tensor([float(mask.nonzero().max()) + 2 for mask in action_mask]),
                kl=torch.zeros(action_mask.shape),
                action_log_probs=torch.zeros(action_mask.shape),
                index=rows,
                prompts=[""] * len(rows),
                labels=[""] * len(rows),
                info={"reward": scores.clone()},
            )
        )
    return result


def test_ktae_gives_the_same_bits_as_before():
    with np.load(STORED) as stored:
        made = maker(arguments(rollout__n_samples_per_prompt=SAMPLES)).compute_advantages_and_returns(
            stored_experiences(stored)
        )
        for experience in made:
            expected = torch.from_numpy(stored["advantages"][experience.index])[:, : experience.advantages.size(1)]
            mask = experience.action_mask.bool()
            assert torch.equal(experience.advantages[mask].view(torch.int32), expected[mask].view(torch.int32))
        assert sum(len(experience.index) for experience in made) == 64 * SAMPLES
        assert np.count_nonzero(stored["advantages"]) > 3000
