"""Calls a reward function so that a rollout gets the reward it returned, or none and a reason; never one made up.

OpenRLHF logs what a reward function raises, waits for ever for one that hangs, and takes NaN for a reward
(utils/agent.py:297-316).
"""

import math
import threading
from collections.abc import Callable
from typing import Any

import torch

_ATTEMPTS = 2


class RewardFailed(Exception):
    """A rollout has no reward; the message says why."""


class CheckedReward:
    """A reward function with a time limit, a second try, and a look at what it returns."""

    def __init__(self, function: Callable[..., Any], seconds: float) -> None:
        """``seconds``: that a call may take. The thread of one that takes longer is left behind."""
        self._function = function
        self._seconds = seconds
        self.last_failure = ""
        """Why the last rollout without a reward has none."""

    def __call__(self, queries: list[str], prompts: list[str], labels: list[Any], **kwargs: Any) -> dict[str, Any]:
        """As the function itself; an empty dictionary's ``rewards`` where it failed twice or hangs."""
        for _ in range(_ATTEMPTS):
            try:
                return self._checked(self._call(queries, prompts, labels, kwargs))
            except TimeoutError as error:
                self.last_failure = str(error)
                break  # a second wait would only take as long again
            except Exception as error:  # whatever a user's function raises
                self.last_failure = str(error) if type(error) is RewardFailed else f"reward function: {error!r}"
        print(f"WARNING: no reward: {self.last_failure}", flush=True)
        return {"rewards": None, "scores": None, "extra_logs": {}}

    def _call(self, queries: list[str], prompts: list[str], labels: list[Any], kwargs: dict[str, Any]) -> Any:
        outcome: list[Any] = []

        def call() -> None:
            try:
                outcome.append((True, self._function(queries, prompts, labels, **kwargs)))
            except BaseException as error:  # handed to the waiting thread
                outcome.append((False, error))

        thread = threading.Thread(target=call, daemon=True)
        thread.start()
        thread.join(self._seconds)
        if not outcome:
            raise TimeoutError(f"the reward function took longer than {self._seconds:g} s (run.reward_seconds)")
        succeeded, value = outcome[0]
        if not succeeded:
            raise value
        return value

    @staticmethod
    def _checked(result: Any) -> dict[str, Any]:
        if not isinstance(result, dict) or result.get("rewards") is None:
            raise RewardFailed(f"the reward function returned {result!r}, expected a dict with `rewards`")
        for name in ("rewards", "scores"):
            value = result.get(name)
            if value is None:
                continue
            numbers = torch.as_tensor(value).flatten().tolist()
            if len(numbers) != 1:
                raise RewardFailed(f"the reward function returned {len(numbers)} {name} for 1 rollout")
            if not math.isfinite(numbers[0]):
                raise RewardFailed(f"the reward function returned {name} of {numbers[0]}")
        return result


def failure_of(response: dict[str, Any], has_source: bool, reason: str) -> str | None:
    """Why a rollout cannot be trained on; None if it can.

    Args:
        has_source: whether this run's rewards come from a reward source (and not from a reward model).
        reason: the last failure of that source.
    """
    generated = sum(end - start for start, end in response["action_ranges"])
    if generated == 0:
        return "an empty response: there was no room for a token, or the agent ended before the first one"
    if has_source and response.get("reward") is None:
        return reason or "the reward source gave no reward (its error is in train.log)"
    return None
