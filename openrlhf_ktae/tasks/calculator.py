"""Chains of arithmetic with a calculator, for the tiny model: it writes calls, the calculator answers them.

A problem is a chain of operations modulo 10 as in `arithmetic`. What stands in brackets is a call and ends a turn; the
calculator's answer follows it and is not the model's (here between bars)::

    prompt    7*8+1-3=
    response  [7*8]|6;|[6+1]|7;|[7-3]|4;|#4

A call that is right, whatever came before it, earns 1: the last result, the next operation, its operand.
"""

import random
import re
from collections.abc import Sequence
from typing import Any

from pydantic import Field

from openrlhf_ktae.tasks.arithmetic import MODULUS, ChainTask, apply, problems
from openrlhf_ktae.tasks.environment import Environment, Reply
from openrlhf_ktae.tasks.task import Lessons, MadeOptions
from openrlhf_ktae.tasks.templates import Template

CALL = re.compile(r"\[([0-9])([-+*])([0-9])\]")
MORE_CALLS = 2
"""Calls beyond the problem's operations after which an episode is over."""


class Calculator(Environment):
    """Answers calls, and knows which one comes next."""

    stop = ("]",)

    def __init__(self, prompt: str, label: Any) -> None:
        self._left = prompt[:1]
        self._operations = list(zip(prompt[1:-1:2], prompt[2:-1:2], strict=False))
        self._calls = 0

    def reply(self, turn: str) -> Reply:
        """The result of a call; ``?`` for what is none."""
        calls = self._calls
        self._calls += 1
        done = self._calls >= len(self._operations) + MORE_CALLS
        if not turn.endswith("]"):
            return Reply("", done=True)
        call = CALL.fullmatch(turn)
        if call is None:
            return Reply("?;", done=done)
        is_next = call[1] == self._left and (call[2], call[3]) in self._operations[calls : calls + 1]
        self._left = str(apply(int(call[1]), call[2], int(call[3])))
        return Reply(f"{self._left};", reward=float(is_next), done=done)


def work_out(prompt: str, noise: float, rng: random.Random) -> str:
    """A worked episode, calls and answers; a share ``noise`` of the calls holds a random digit."""
    calculator, left, written = Calculator(prompt, None), prompt[0], []
    for operation, right in zip(prompt[1:-1:2], prompt[2:-1:2], strict=True):
        digits = [left, right]
        if rng.random() < noise:
            digits[rng.randrange(2)] = str(rng.randrange(MODULUS))
        call = f"[{digits[0]}{operation}{digits[1]}]"
        reply = calculator.reply(call)
        written.append(call + reply.text)
        left = reply.text[0]
    return "".join(written) + f"#{left}"


class Task(ChainTask):
    """Chains of arithmetic in turns with a calculator; the final answer is verified by the math grader."""

    class Options(MadeOptions):
        """The calculator task: its warm-up."""

        directory: str = "runs/assets/calculator"
        """Where the prompt sets (train.jsonl, evaluation.jsonl) and the warmed-up model (model/) are made."""

        warmup_noise: float = Field(default=0.22, ge=0, le=1)
        """Share of the calls in the worked examples that hold a random digit."""

    template = Template("calculator", "{q}", "hash", source="the problem alone")
    environment = Calculator

    def lessons(self) -> Lessons:
        """Worked episodes, in some of which a call is wrong."""
        rng = random.Random(self.options.seed)
        stream = problems("warmup", self.options.seed)
        return Lessons((prompt, work_out(prompt, self.options.warmup_noise, rng)) for prompt in stream)

    def decisive(self, tokens: Sequence[str]) -> list[bool]:
        """The digits of calls and the final answer."""
        decisive, is_open = [], False
        for token in tokens:
            is_open = token in "[#" or (is_open and token != "]")
            decisive.append(is_open and token.isdigit())
        return decisive
