"""Arithmetic in words with a dose of filler: what decides is known, token by token, whatever stands between.

A token is a word with the space before it. A problem is a chain of operations modulo 10; a step of its solution is done
by one of three methods, of which the shorter ones slip more often, may be restated, and lies among words that mean
nothing (``[...]`` here)::

    prompt    Work out: 7 * 8 + 1 - 3 =
    response   [...] 7 * 8 makes 5 6 so 6 . [...] that leaves 6 . 6 + 1 is 7 . [...] gives 4 . [...] # 4
"""

import random
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Literal

from pydantic import Field

from openrlhf_ktae.tasks.arithmetic import MODULUS, apply
from openrlhf_ktae.tasks.math import Task as MathTask
from openrlhf_ktae.tasks.prompt_set import PromptRow
from openrlhf_ktae.tasks.splits import Split, share_of, split_of
from openrlhf_ktae.tasks.task import Lessons, MadeOptions
from openrlhf_ktae.tasks.templates import Template

METHODS = ("makes", "is", "gives")
"""In full (``7 * 8 makes 5 6 so 6 .``), in short (``7 * 8 is 6 .``), or at a glance (``gives 6 .``)."""

FILLER = {
    "small": ("well", "now", "hmm", "okay", "then", "right", "so-far", "let-us-see"),
    "large": tuple(f"{first}{second}{third}" for first in "bdfgklmn" for second in "aeiou" for third in "bdfgklmnpt"),
}
"""Words that mean nothing: 8 or 400 of them."""

_DIGITS = tuple(map(str, range(MODULUS)))
_START = "Work"
_WORDS = ("out:", *_DIGITS, *"+-*=", *METHODS, "so", ".", "that", "leaves", "#")
_ENDS = (".", "#")

_FILLER_STARTS, _FILLER_IS_WHOLE = 0.75, 0.95
"""Shares of the warm-up: up to the first there is no filler, from the second on as much as is asked for."""


def vocabulary(filler: Literal["small", "large"]) -> tuple[str, ...]:
    """Every token of a problem and its solution."""
    return (_START, *(f" {word}" for word in (*_WORDS, *FILLER[filler])))


def decisive_tokens(tokens: Sequence[str]) -> list[bool]:
    """Which tokens of a response decide whether it is right: the choice of a method, its results, the final answer.

    Operands, what is restated, punctuation and filler are copied or mean nothing.
    """
    decisive, is_result = [], False
    for token in tokens:
        word = token.strip()
        if word in _ENDS:
            is_result = word == "#"
        elif word in METHODS:
            is_result = True
        decisive.append(word in METHODS or (is_result and word in _DIGITS))
    return decisive


def problems(split: Split, operations: int, seed: int) -> Iterator[tuple[str, ...]]:
    """Endless stream of the words of problems of a split (``7``, ``*``, ``8``, ...), in an order set by ``seed``."""
    rng = random.Random(f"{split}-{operations}-{seed}")
    while True:
        words = [rng.choice(_DIGITS)]
        for _ in range(operations):
            words += [rng.choice("+-*"), rng.choice(_DIGITS)]
        if split_of(" ".join(words)) == split:
            yield tuple(words)


def prompt(words: Sequence[str]) -> str:
    """The problem as it is asked."""
    return " ".join([_START, "out:", *words, "="])


class Task(MathTask):
    """Worded arithmetic for the tiny model; verified by the math grader (``grader.answer_style: hash``)."""

    class Options(MadeOptions):
        """Worded arithmetic: how long, how much filler, how careful."""

        directory: str = "runs/assets/worded_arithmetic"
        """Where the prompt sets (train.jsonl, evaluation.jsonl) and the warmed-up model (model/) are made."""

        operations: int = Field(default=3, ge=1, le=6)
        """Operations of a problem."""

        filler_share: float = Field(default=0.5, ge=0, le=0.9)
        """Share of a worked solution's words that mean nothing."""

        filler_vocabulary: Literal["small", "large"] = "small"
        """Where they come from: 8 words or 400."""

        restating: float = Field(default=0.3, ge=0, le=1)
        """Share of the steps whose result is said again."""

        warmup_methods: tuple[float, float, float] = (1.0, 1.0, 1.0)
        """How often a step is worked out in full, in short, at a glance (weights)."""

        warmup_slips: tuple[float, float, float] = (0.1, 0.25, 0.4)
        """Share of the steps with a random result, by method."""

    template = Template("worded_arithmetic", "{q}", "hash", source="the problem alone")

    def prompt_sets(self) -> dict[str, Iterator[PromptRow]]:
        """Training and evaluation problems, disjoint by construction."""
        options = self.options
        return {
            "train.jsonl": self._rows("train", options.train_problems),
            "evaluation.jsonl": self._rows("evaluation", options.evaluation_problems),
        }

    def lessons(self) -> Lessons:
        """Worked solutions with slips; filler comes when the arithmetic is learned.

        All along, it would take most of the time of every step, and its noise most of the gradient.
        """
        options = self.options
        rng = random.Random(f"solutions-{options.seed}")
        stream = problems("warmup", options.operations, options.seed)
        total = max(1, options.warmup_steps * options.warmup_batch_size)
        examples = (
            (prompt(words), self.work_out(words, rng, options.filler_share * _grown(number / total)))
            for number, words in enumerate(stream)
        )
        return Lessons(examples, vocabulary(options.filler_vocabulary))

    def decisive(self, tokens: Sequence[str]) -> list[bool]:
        """The choice of a method, its results and the final answer."""
        return decisive_tokens(tokens)

    def work_out(self, words: Sequence[str], rng: random.Random, filler_share: float | None = None) -> str:
        """A worked solution, right or with slips; it starts with a space. ``filler_share``: None is the option's."""
        share = self.options.filler_share if filler_share is None else filler_share
        value = int(words[0])
        written: list[str] = []
        for operation, right in zip(words[1::2], words[2::2], strict=True):
            method = rng.choices(range(len(METHODS)), self.options.warmup_methods)[0]
            result = apply(value, operation, int(right))
            if rng.random() < self.options.warmup_slips[method]:
                result = rng.randrange(MODULUS)
            step = _step(METHODS[method], value, operation, int(right), result)
            if rng.random() < self.options.restating:
                step += ["that", "leaves", str(result), "."]
            written += [*self._filler(len(step), share, rng), *step]
            value = result
        return " ".join(["", *written, *self._filler(2, share, rng), "#", str(value)])

    def _filler(self, meaningful: int, share: float, rng: random.Random) -> list[str]:
        """Filler for so many words that mean something: on average the asked share of all words."""
        wanted = meaningful * share / (1 - share)
        number = int(2 * wanted * rng.random() + rng.random())
        return rng.choices(FILLER[self.options.filler_vocabulary], k=number)

    def _rows(self, split: Split, number: int) -> Iterator[PromptRow]:
        options = self.options
        space = MODULUS * (3 * MODULUS) ** options.operations
        if number > space * share_of(split) / 2:
            raise ValueError(
                f"worded_arithmetic: {number} {split} problems of {options.operations} operations, there are {space} "
                "for all splits; ask for fewer, or for more operations"
            )
        seen: dict[tuple[str, ...], None] = {}
        for words in problems(split, options.operations, options.seed):
            if len(seen) == number:
                break
            seen[words] = None
        for words in islice(seen, number):
            yield {"input": prompt(words), "label": str(_answer(words)), "datasource": "worded_arithmetic"}


def _grown(done: float) -> float:
    """Share of the filler that is there when ``done`` of the warm-up is over."""
    return min(1.0, max(0.0, (done - _FILLER_STARTS) / (_FILLER_IS_WHOLE - _FILLER_STARTS)))


def _answer(words: Sequence[str]) -> int:
    value = int(words[0])
    for operation, right in zip(words[1::2], words[2::2], strict=True):
        value = apply(value, operation, int(right))
    return value


def _step(method: str, left: int, operation: str, right: int, result: int) -> list[str]:
    """The words of a step. A carried or borrowed ten is written only in full, and always the true one."""
    if method == "gives":
        return ["gives", str(result), "."]
    asked = [str(left), operation, str(right), method]
    if method == "is":
        return [*asked, str(result), "."]
    exact = {"+": left + right, "-": left - right, "*": left * right}[operation]
    return [*asked, str(exact // MODULUS % MODULUS), str(result), "so", str(result), "."]
