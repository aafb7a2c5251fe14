"""The math grader with its options, and as a reward function of its own for any OpenRLHF run.

OpenRLHF loads this file by its path (``--reward.remote_url``); its options then come from the environment. A run of
ours names ``tasks/reward.py``.
"""

import contextlib
import json
import os
from collections.abc import Sequence
from functools import cache
from typing import Any

from openrlhf_ktae.config import RewardConfig
from openrlhf_ktae.reward.grading import Grader, Verdict, gold_answers
from openrlhf_ktae.reward.rollouts import rewards_of

OPTIONS_VARIABLE = "OPENRLHF_KTAE_REWARD"
"""Environment variable with the options (:class:`openrlhf_ktae.config.RewardConfig`) as JSON."""


@cache
def options() -> RewardConfig:
    """The options of this process, from :data:`OPTIONS_VARIABLE`; unset means the defaults."""
    return RewardConfig.model_validate_json(os.environ.get(OPTIONS_VARIABLE) or "{}")


@cache
def _grader(workers: int, deadline_seconds: float, memory_limit_mb: int, cache_size: int) -> Grader:
    return Grader(workers, deadline_seconds, memory_limit_mb, cache_size)


def grader(config: RewardConfig | None = None) -> Grader:
    """The grader of this process with the limits of ``config`` (default: :func:`options`)."""
    config = config or options()
    return _grader(config.workers, config.deadline_seconds, config.memory_limit_mb, config.cache_size)


def math_verdicts(pairs: Sequence[tuple[str, Any]], config: RewardConfig) -> list[Verdict]:
    """Verdicts of (response, accepted answers) pairs, in their order."""
    return grader(config).grade_many(pairs, config.answer_style)


def math_reward_of(verdict: Verdict, config: RewardConfig) -> float:
    """The reward of a verdict."""
    return (config.correct if verdict.correct else config.wrong) + config.format_bonus * verdict.formatted


def reward_func(queries: list[str], prompts: list[str], labels: list[Any], **kwargs: Any) -> dict[str, Any]:
    """Rewards of a batch of rollouts (:func:`openrlhf_ktae.reward.rollouts.rewards_of`).

    Args:
        queries: prompts with responses, decoded with special tokens; length B.
        prompts: the prompts alone; length B.
        labels: accepted answers: text, a number, or a JSON list of either; length B.
        kwargs: whatever else OpenRLHF passes; not used.
    """
    config = options()
    return rewards_of(
        queries,
        prompts,
        labels,
        decode_label,
        lambda pairs: math_verdicts(pairs, config),
        lambda verdict: math_reward_of(verdict, config),
    )


def decode_label(label: Any) -> tuple[str, ...]:
    """The accepted answers of a label. A text that is a JSON list of texts or numbers holds several.

    Raises:
        ValueError: there is no answer in it.
    """
    if isinstance(label, str) and label.startswith('["') and label.endswith('"]'):
        # A label that merely looks like a list is one answer.
        with contextlib.suppress(json.JSONDecodeError):
            label = json.loads(label)
    return gold_answers(label)
