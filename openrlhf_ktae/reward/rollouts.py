"""Rollouts as OpenRLHF hands them to a reward function, and what it wants back.

OpenRLHF calls a reward function in threads of the vLLM engine actor, one rollout at a time, and swallows what it
raises. So nothing is raised here: what cannot be graded is wrong, and counted.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any

from openrlhf_ktae.reward.grading import Verdict

_SHOWN_ROWS = 10
_TAIL = 64

logger = logging.getLogger(__name__)


def rewards_of(
    queries: list[str],
    prompts: list[str],
    labels: list[Any],
    decode_label: Callable[[Any], Any],
    verdicts: Callable[[Sequence[tuple[str, Any]]], list[Verdict]],
    reward: Callable[[Verdict], float],
) -> dict[str, Any]:
    """Rewards of a batch of rollouts.

    Args:
        queries: prompts with responses, decoded with special tokens; length B.
        prompts: the prompts alone; length B.
        labels: what the prompt set says is right; length B.
        decode_label: the reference in a label; raises ValueError where there is none.
        verdicts: verdicts of (response, reference) pairs.
        reward: the reward of a verdict.

    Returns:
        ``rewards`` and ``scores`` (1 correct, 0 wrong), float32 tensors of shape (B,), and ``extra_logs`` with the 0/1
        tensors ``formatted``, ``timed_out`` (killed at the deadline) and ``grader_error`` (label, prompt or grader
        broken).
    """
    import torch  # here: recipes read a task's options, and with them its module, without torch

    def flags(values: list[bool]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float32)

    found = _verdicts(queries, prompts, labels, decode_label, verdicts)
    return {
        "rewards": torch.tensor([reward(verdict) for verdict in found], dtype=torch.float32),
        "scores": flags([verdict.correct for verdict in found]),
        "extra_logs": {
            "formatted": flags([verdict.formatted for verdict in found]),
            "timed_out": flags([verdict.timed_out for verdict in found]),
            "grader_error": flags([verdict.failed for verdict in found]),
        },
    }


def check_labels(labels: Sequence[Any], decode_label: Callable[[Any], Any]) -> None:
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


def _verdicts(queries, prompts, labels, decode_label, verdicts) -> list[Verdict]:
    found: list[Verdict | None] = []
    pairs: list[tuple[str, Any]] = []
    for query, prompt, label in zip(queries, prompts, labels, strict=True):
        response = response_of(query, prompt)
        try:
            reference = decode_label(label)
        except ValueError as error:
            found.append(_failure(f"label: {error}"))
            continue
        if response is None:
            found.append(_failure("prompt not found in query"))
            continue
        found.append(None)
        pairs.append((response, reference))
    try:
        graded = iter(verdicts(pairs))
        return [next(graded) if verdict is None else verdict for verdict in found]
    except Exception as error:  # OpenRLHF would swallow it and lose the rollouts; here it is a counted reason
        failure = _failure(f"{type(error).__name__}: {error}")
        return [failure if verdict is None else verdict for verdict in found]


def _failure(reason: str) -> Verdict:
    logger.warning("grader: %s", reason)
    return Verdict(False, "", False, f"error: {reason}")
