"""Chains of arithmetic by two agents, for the tiny model: a solver works a problem out, a checker judges its answer.

    solver     7*8+1-3*3+4=     7*8=6;6+1=7;7-3=4;4*3=2;2+4=6;#6
    checker    7*8+1-3*3+4=6?   7*8=6;6+1=7;7-3=4;4*3=2;2+4=6;6?6#1

The checker sees the problem and the answer, not how it came about. It works the problem out, puts its result beside the
answer, and says 1 (right) or 0 (wrong).
"""

import random
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import Field

from openrlhf_ktae.tasks.arithmetic import MODULUS, ChainTask, problems, work_out
from openrlhf_ktae.tasks.task import Lessons, MadeOptions
from openrlhf_ktae.tasks.team import Said, Team
from openrlhf_ktae.tasks.templates import Template

NO_ANSWER = "x"
DIGITS = tuple("0123456789")


class SolverAndChecker(Team):
    """One after the other."""

    roles = ("solver", "checker")

    def assignment(self, role: int, prompt: str, label: Any, before: Sequence[Said]) -> tuple[str, Any]:
        """The problem for the solver; the solver's answer behind it for the checker."""
        if role == 0:
            return prompt, label
        _, mark, answered = before[0].text.rpartition("#")
        claimed = answered[:1] if mark and answered[:1] in DIGITS else NO_ANSWER
        return checked(prompt, claimed), str(int(before[0].is_correct))


def checked(prompt: str, claimed: str) -> str:
    """What a checker is asked."""
    return f"{prompt}{claimed}?"


class Task(ChainTask):
    """Chains of arithmetic, solved and checked; the evaluation asks the solver alone."""

    class Options(MadeOptions):
        """Checked arithmetic: its warm-up."""

        directory: str = "runs/assets/checked_arithmetic"
        """Where the prompt sets (train.jsonl, evaluation.jsonl) and the warmed-up model (model/) are made."""

        warmup_noise: float = Field(default=0.22, ge=0, le=1)
        """Share of the steps in the worked examples that hold a random result."""

    template = Template("checked_arithmetic", "{q}", "hash", source="the problem alone")
    team = SolverAndChecker

    def lessons(self) -> Lessons:
        """Worked solutions with noise, every other one of a checker."""
        rng = random.Random(self.options.seed)
        return Lessons(self._examples(rng))

    def _examples(self, rng: random.Random) -> Iterator[tuple[str, str]]:
        for number, prompt in enumerate(problems("warmup", self.options.seed)):
            written = work_out(prompt, self.options.warmup_noise, rng)
            if number % 2 == 0:
                yield prompt, written
                continue
            steps, _, result = written.rpartition("#")
            claimed = result if rng.random() < 0.5 else str(rng.randrange(MODULUS))
            yield checked(prompt, claimed), f"{steps}{result}?{claimed}#{int(claimed == result)}"
