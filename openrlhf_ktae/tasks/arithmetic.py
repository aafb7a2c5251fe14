"""Arithmetic problems made on the spot, for the CPU quickstart and the tests: nothing to download, answers known.

A problem is a chain of operations modulo 10, worked out from left to right, one token per value::

    prompt    7*8+1-3*3+4=
    response  7*8=6;6+1=7;7-3=4;4*3=2;2+4=6;#6
"""

import random
from collections.abc import Iterator, Sequence
from itertools import islice

from pydantic import Field

from openrlhf_ktae.tasks.math import Task as MathTask
from openrlhf_ktae.tasks.prompt_set import PromptRow
from openrlhf_ktae.tasks.splits import Split, split_of
from openrlhf_ktae.tasks.task import Lessons, MadeOptions
from openrlhf_ktae.tasks.templates import Template

MODULUS = 10
OPERATIONS = 5
DATASOURCE = "arithmetic"


def apply(left: int, operation: str, right: int) -> int:
    """One operation modulo 10."""
    if operation == "+":
        return (left + right) % MODULUS
    if operation == "-":
        return (left - right) % MODULUS
    if operation == "*":
        return left * right % MODULUS
    raise ValueError(f"operation: got {operation!r}, expected one of + - *")


def work_out(prompt: str, noise: float = 0.0, rng: random.Random | None = None) -> str:
    """The worked solution of a problem, as the model is to write it.

    Args:
        prompt: a problem, such as ``"7*8+1-3*3+4="``.
        noise: share of steps whose result is replaced by a random digit; the chain goes on from there.
        rng: source of the noise, needed when ``noise`` is above 0.
    """
    if noise and rng is None:
        raise ValueError("noise: a random generator is needed for noise above 0; pass rng")
    value = int(prompt[0])
    steps = []
    for operation, digit in zip(prompt[1:-1:2], prompt[2:-1:2], strict=True):
        result = apply(value, operation, int(digit))
        if rng is not None and rng.random() < noise:
            result = rng.randrange(MODULUS)
        steps.append(f"{value}{operation}{digit}={result};")
        value = result
    return "".join(steps) + f"#{value}"


def answer(prompt: str) -> str:
    """The final answer of a problem, one digit."""
    return work_out(prompt).rpartition("#")[2]


def problems(split: Split, seed: int) -> Iterator[str]:
    """Endless stream of the distinct problems of a split in an order set by ``seed``."""
    rng = random.Random(f"{split}-{seed}")
    seen: set[str] = set()
    while True:
        parts = [str(rng.randrange(MODULUS))]
        for _ in range(OPERATIONS):
            parts += [rng.choice("+-*"), str(rng.randrange(MODULUS))]
        prompt = "".join(parts) + "="
        if split_of(prompt) == split and prompt not in seen:
            seen.add(prompt)
            yield prompt


def prompt_rows(split: Split, count: int, seed: int, datasource: str = DATASOURCE) -> Iterator[PromptRow]:
    """The first ``count`` problems of a split as an OpenRLHF prompt set."""
    for prompt in islice(problems(split, seed), count):
        yield {"input": prompt, "label": answer(prompt), "datasource": datasource}


class ChainTask(MathTask):
    """A task on these problems, however they are to be solved; the final answer is verified by the math grader."""

    def prompt_sets(self) -> dict[str, Iterator[PromptRow]]:
        """Training and evaluation problems, disjoint by construction."""
        options, name = self.options, self.template.name
        return {
            "train.jsonl": prompt_rows("train", options.train_problems, options.seed, name),
            "evaluation.jsonl": prompt_rows("evaluation", options.evaluation_problems, options.seed, name),
        }


class Task(ChainTask):
    """Chains of arithmetic for the tiny model (``grader.answer_style: hash``)."""

    class Options(MadeOptions):
        """The arithmetic task of the CPU quickstart."""

        directory: str = "runs/assets/arithmetic"
        """Where the prompt sets (train.jsonl, evaluation.jsonl) and the warmed-up model (model/) are made."""

        warmup_noise: float = Field(default=0.22, ge=0, le=1)
        """Share of the steps in the worked examples that hold a random result."""

    template = Template(DATASOURCE, "{q}", "hash", source="the problem alone")

    def lessons(self) -> Lessons:
        """Worked solutions with noise, so that the model knows the rules but samples them unreliably.

        Noise and not fewer steps: a model warmed up on clean examples is wrong with confidence where it is wrong, and
        reinforcement learning finds no correct rollout to learn from.
        """
        rng = random.Random(self.options.seed)
        noise = self.options.warmup_noise
        stream = problems("warmup", self.options.seed)
        return Lessons((prompt, work_out(prompt, noise, rng)) for prompt in stream)

    def decisive(self, tokens: Sequence[str]) -> list[bool]:
        """The result of each step and the final answer."""
        return [place > 0 and tokens[place - 1] in "=#" and token.isdigit() for place, token in enumerate(tokens)]
