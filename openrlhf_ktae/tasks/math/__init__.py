"""Math problems with a final answer: prompt sets by ``openrlhf-ktae data``, the math grader as verifier."""

from collections.abc import Sequence
from typing import Any

from openrlhf_ktae.reward.grading import Verdict
from openrlhf_ktae.reward.math_reward import decode_label, math_reward_of, math_verdicts
from openrlhf_ktae.tasks.task import BaseTask
from openrlhf_ktae.tasks.templates import TEMPLATES


class Task(BaseTask):
    """Any problem whose final answer the math grader can compare; its options are ``grader.*``."""

    template = TEMPLATES["qwen_math"]

    def decode_label(self, label: Any) -> tuple[str, ...]:
        """The accepted answers: text, a number, or a list of either."""
        return decode_label(label)

    def verdicts(self, pairs: Sequence[tuple[str, Any]]) -> list[Verdict]:
        """Verdicts of the math grader."""
        return math_verdicts(pairs, self.grader)

    def reward(self, verdict: Verdict) -> float:
        """``grader.correct`` or ``grader.wrong``, with ``grader.format_bonus``."""
        return math_reward_of(verdict, self.grader)
