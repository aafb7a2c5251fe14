"""Responses of an engine on their way to the trainer process: arrays, and one experience each."""

from typing import Any

import numpy as np
import torch
from openrlhf.trainer.ppo_utils.experience import Experience


def as_arrays(responses: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Token ids and log-probabilities as arrays, rewards and logs as plain numbers, in place.

    As OpenRLHF has them, Ray packs and unpacks an object for every token, and each of a response's five tensors of one
    element as an array.
    """

    def number(value: Any) -> Any:
        return value.item() if isinstance(value, torch.Tensor) and value.numel() == 1 else value

    for response in responses:
        response["observation_tokens"] = np.array(response["observation_tokens"], dtype=np.int32)
        if response["rollout_log_probs"] is not None:
            response["rollout_log_probs"] = np.array(response["rollout_log_probs"], dtype=np.float32)
        response |= {name: number(response[name]) for name in ("reward", "scores") if name in response}
        response["extra_logs"] = {name: number(value) for name, value in (response.get("extra_logs") or {}).items()}
    return responses


def experience_of(response: dict[str, Any], max_len: int) -> Experience:
    """In place of OpenRLHF's `SamplesGenerator._process_response_into_experience` (samples_generator.py:242).

    The same values; upstream asks torch two dozen times about a few numbers, for every rollout.

    Args:
        response: as `as_arrays` leaves it, or as OpenRLHF's executors return it.
        max_len: what is longer is cut off.
    """
    token_ids = np.array(response["observation_tokens"], dtype=np.int64)
    generated = np.zeros(len(token_ids), dtype=np.int64)
    for start, end in response["action_ranges"]:
        generated[start:end] = 1
    token_ids, generated = token_ids[:max_len], generated[1:max_len]
    places = generated.nonzero()[0]
    log_probs, reward, score = (response.get(name) for name in ("rollout_log_probs", "reward", "scores"))
    info = {"response_clip_ratio": torch.tensor([len(token_ids) >= max_len])}
    info |= {name: torch.tensor([value]) for name, value in (("reward", reward), ("score", score)) if value is not None}
    for name, value in response.get("extra_logs", {}).items():
        info[name] = torch.tensor([value.flatten()[0].item() if isinstance(value, torch.Tensor) else value])
    if log_probs is not None:
        log_probs = torch.from_numpy(np.array(log_probs, dtype=np.float32)[None, 1:max_len])
    values: dict[str, Any] = {
        "sequences": torch.from_numpy(token_ids[None]),
        "attention_mask": torch.ones(1, len(token_ids), dtype=torch.long),
        "action_mask": torch.from_numpy(generated[None]),
        "rollout_log_probs": log_probs,
        "prompts": [response["prompt"]],
        "labels": [response["label"]],
        "images": [response.get("images")],
        "mm_train_inputs": [response.get("mm_train_inputs")],
        "rewards": torch.tensor([reward]) if reward is not None else None,
        "scores": torch.tensor([score]) if score is not None else None,
        "response_length": torch.tensor([int(places[-1] - places[0] + 1) if len(places) else 0]),
        "truncated": torch.tensor([response.get("truncated", False)]),
        "total_length": torch.tensor([float(len(token_ids))]),
        "info": info,
    }
    return Experience(**values)
