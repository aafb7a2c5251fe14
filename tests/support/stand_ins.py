"""A step of the trainer process on real Ray, with engines and policy workers that answer at once."""

from typing import Any

import numpy as np
import ray
import torch
from ktae_rollouts import VOCABULARY, realistic_rollouts
from openrlhf.trainer.ray.launcher import RayActorGroup

from openrlhf_ktae.training.responses import as_arrays

PROMPT_TOKENS = 100


class Remote:
    """What ``actor.method`` is to a caller."""

    def __init__(self, method) -> None:
        self.remote = method


class Engine:
    """A vLLM engine whose responses are in Ray's object store before anybody asks."""

    def __init__(self, responses: dict[str, Any]) -> None:
        """``responses``: a reference for every prompt, to the list of its responses."""
        nothing = ray.put(None)
        self.generate_responses = Remote(lambda prompt, **_: responses[prompt])
        self.get_num_unfinished_requests = Remote(lambda: ray.put(0))
        self.take_tokenizer = self.wake_up = self.sleep = Remote(lambda *_, **__: nothing)


class PolicyWorker:
    """A policy actor without a model: log-probabilities of the right shape, and a step that is over at once."""

    def __init__(self) -> None:
        self._noise = -torch.rand(2**22, generator=torch.Generator().manual_seed(0))

    def execute_batch(self, method_name: str, all_data: dict[str, list], start_idx: int, end_idx: int) -> list:
        """As upstream's, without its progress bar."""
        if method_name == "append":
            return [None] * (end_idx - start_idx)
        shapes = [mask.shape for mask in all_data["action_mask"][start_idx:end_idx]]
        return [self._noise[: rows * columns].view(rows, columns).clone() for rows, columns in shapes]

    def fit(self, kl_ctl: float) -> dict[str, float]:
        """Trains nothing."""
        return {}

    def empty_cache(self) -> None:
        """Holds nothing."""

    broadcast_to_vllm = reload_states = offload_states = empty_cache


def policy_group(workers: list[Any]) -> RayActorGroup:
    """OpenRLHF's group around workers that exist already."""
    group = object.__new__(RayActorGroup)
    group._actor_handlers, group.duplicate_actors = workers, 1
    return group


def put_responses(prompts: int, samples: int, ours: bool, seed: int = 0) -> dict[str, Any]:
    """Responses of a reasoning model's lengths in the object store, prompt -> reference.

    As OpenRLHF's engine actor returns them, or as ours does.
    """
    random = np.random.default_rng(seed)
    found = {}
    for number in range(prompts):
        rollouts = realistic_rollouts(1, samples, seed=seed + number)
        question = random.integers(0, VOCABULARY, PROMPT_TOKENS).tolist()
        prompt, responses = f"prompt {number}", []
        for token_ids, mask, correct in zip(rollouts.token_ids, rollouts.mask, rollouts.correct.tolist(), strict=True):
            answer = token_ids[mask].tolist()
            score = float(correct)
            responses.append(
                {
                    "prompt": prompt, "label": "1", "images": None, "reward": score, "scores": score,
                    "observation_tokens": question + answer, "rollout_log_probs": None, "truncated": False,
                    "action_ranges": [(PROMPT_TOKENS, PROMPT_TOKENS + len(answer))],
                    "extra_logs": {"formatted": 1.0, "timed_out": 0.0, "grader_error": 0.0},
                }
            )  # fmt: skip
        found[prompt] = ray.put(as_arrays(responses) if ours else responses)
    return found


class Words:
    """A tokenizer that can do no more than the trainer process asks of it."""

    pad_token_id = 0
    eos_token_id = 1

    def __len__(self) -> int:
        return VOCABULARY

    def decode(self, token_ids: Any, **_: Any) -> Any:
        """One word a token."""
        if isinstance(token_ids, torch.Tensor) and token_ids.dim() == 2:
            return [self.decode(row.tolist()) for row in token_ids]
        return "".join(f" w{int(token_id)}" for token_id in token_ids)


class Prompts(list):
    """A data loader of one prompt an item."""

    def __init__(self, prompts: list[str]) -> None:
        super().__init__((["data"], [prompt], ["1"], [None]) for prompt in prompts)

    def state_dict(self) -> dict[str, Any]:
        """Nothing to resume."""
        return {}
