"""The reward function of training: what ``--reward.remote_url`` points at.

OpenRLHF loads this file by its path and calls :func:`reward_func` in threads of the vLLM engine actor, one rollout at a
time. It swallows what a reward function raises, so nothing is raised here: what cannot be graded is wrong, and counted.
"""

import contextlib
import json
import logging
import os
from functools import cache
from typing import Any

import torch

from openrlhf_ktae.config import RewardConfig
from openrlhf_ktae.reward.grading import Grader, Verdict, gold_answers

OPTIONS_VARIABLE = "OPENRLHF_KTAE_REWARD"
"""Environment variable with the options (:class:`openrlhf_ktae.config.RewardConfig`) as JSON."""

_SHOWN_ROWS = 10
_TAIL = 64

logger = logging.getLogger(__name__)


@cache
def options() -> RewardConfig:
    """The options of this process, from :data:`OPTIONS_VARIABLE`; unset means the defaults."""
    return RewardConfig.model_validate_json(os.environ.get(OPTIONS_VARIABLE) or "{}")


@cache
def grader() -> Grader:
    """The grader of this process, with the limits of :func:`options`."""
    config = options()
    return Grader(config.workers, config.deadline_seconds, config.memory_limit_mb, config.cache_size)


def reward_func(queries: list[str], prompts: list[str], labels: list[Any], **kwargs: Any) -> dict[str, Any]:
    """Rewards of a batch of rollouts.

    Args:
        queries: prompts with responses, decoded with special tokens; length B.
        prompts: the prompts alone; length B.
        labels: accepted answers: text, a number, or a JSON list of either; length B.
        kwargs: whatever else OpenRLHF passes; not used.

    Returns:
        ``rewards`` and ``scores`` (1 correct, 0 wrong), float32 tensors of shape (B,), and ``extra_logs`` with the 0/1
        tensors ``formatted``, ``timed_out`` (killed at the deadline) and ``grader_error`` (label, prompt or grader
        broken).
    """
    config = options()
    verdicts = _verdicts(queries, prompts, labels, config)
    rewards = [_reward(verdict, config) for verdict in verdicts]
    return {
        "rewards": torch.tensor(rewards, dtype=torch.float32),
        "scores": _flags([verdict.correct for verdict in verdicts]),
        "extra_logs": {
            "formatted": _flags([verdict.formatted for verdict in verdicts]),
            "timed_out": _flags([verdict.timed_out for verdict in verdicts]),
            "grader_error": _flags([verdict.failed for verdict in verdicts]),
        },
    }


def check_labels(labels: list[Any]) -> None:
    """Refuses labels that no answer could match.

    Raises:
        ValueError: with the numbers (from 1) of the rows that hold no answer, and why.
    """
    wrong = []
    for number, label in enumerate(labels, start=1):
        try:
            decode_label(label)
        except ValueError as error:
            wrong.append(f"row {number}: {error}")
    if wrong:
        more = f"; and {len(wrong) - _SHOWN_ROWS} more" if len(wrong) > _SHOWN_ROWS else ""
        raise ValueError(f"{len(wrong)} of {len(labels)} labels unusable: {'; '.join(wrong[:_SHOWN_ROWS])}{more}")


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


def response_of(query: str, prompt: str) -> str | None:
    """What the model wrote: ``query`` without ``prompt``, or None when the prompt cannot be found in it.

    Decoding may add a token before the prompt, and OpenRLHF cuts a prompt that is too long at its start.
    """
    if query.startswith(prompt):
        return query[len(prompt) :]
    for known in (prompt, prompt[-_TAIL:]):
        start = query.find(known)
        if start >= 0:
            return query[start + len(known) :]
    return None


def _verdicts(queries: list[str], prompts: list[str], labels: list[Any], config: RewardConfig) -> list[Verdict]:
    verdicts: list[Verdict | None] = []
    pairs: list[tuple[str, list[str]]] = []
    for query, prompt, label in zip(queries, prompts, labels, strict=True):
        response = response_of(query, prompt)
        try:
            golds = list(decode_label(label))
        except ValueError as error:
            verdicts.append(_failure(f"label: {error}"))
            continue
        if response is None:
            verdicts.append(_failure("prompt not found in query"))
            continue
        verdicts.append(None)
        pairs.append((response, golds))
    try:
        graded = iter(grader().grade_many(pairs, config.answer_style))
        return [next(graded) if verdict is None else verdict for verdict in verdicts]
    except Exception as error:  # OpenRLHF would swallow it and lose the rollouts; here it is a counted reason
        failure = _failure(f"{type(error).__name__}: {error}")
        return [failure if verdict is None else verdict for verdict in verdicts]


def _failure(reason: str) -> Verdict:
    logger.warning("grader: %s", reason)
    return Verdict(False, "", False, f"error: {reason}")


def _reward(verdict: Verdict, config: RewardConfig) -> float:
    return (config.correct if verdict.correct else config.wrong) + config.format_bonus * verdict.formatted


def _flags(values: list[bool]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32)
