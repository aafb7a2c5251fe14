"""The reward function of a run: the verifier of its task, as OpenRLHF calls it.

OpenRLHF loads this file by its path (``reward.remote_url``, set in ``configs/base.yaml``).
"""

import json
import os
from functools import cache
from typing import Any

from openrlhf_ktae.config import RewardConfig
from openrlhf_ktae.reward.rollouts import rewards_of
from openrlhf_ktae.tasks.task import TASK, BaseTask

TASK_VARIABLE = "OPENRLHF_KTAE_TASK"
"""Environment variable with ``name``, ``options`` and ``grader`` of the task as JSON (:func:`describe`)."""


def describe(name: str, options: dict[str, Any], grader: dict[str, Any]) -> str:
    """What :data:`TASK_VARIABLE` holds in every worker of a run."""
    return json.dumps({"name": name, "options": options, "grader": grader})


@cache
def task() -> BaseTask:
    """The task of this process.

    Raises:
        ValueError: :data:`TASK_VARIABLE` is not set.
    """
    if TASK_VARIABLE not in os.environ:
        raise ValueError(f"{TASK_VARIABLE}: not set; `openrlhf-ktae train` sets it to the task of the run")
    said = json.loads(os.environ[TASK_VARIABLE])
    chosen = TASK.load(said["name"])
    return chosen(chosen.Options(**said["options"]), RewardConfig(**said["grader"]))


def reward_func(queries: list[str], prompts: list[str], labels: list[Any], **kwargs: Any) -> dict[str, Any]:
    """Rewards and scores of a batch of rollouts (:func:`openrlhf_ktae.reward.rollouts.rewards_of`)."""
    verifier = task()
    return rewards_of(queries, prompts, labels, verifier.decode_label, verifier.verdicts, verifier.reward)
