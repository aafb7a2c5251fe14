"""What a task is: its data, its prompt template, its verifier and, for tiny models, its worked examples.

A task is one module or package with a class ``Task(BaseTask)``, used by training and by ``python -m eval`` alike.
Importing one imports no torch: its options are read by recipes.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from openrlhf_ktae import config
from openrlhf_ktae.config import RewardConfig
from openrlhf_ktae.plugins import Kind, Plugin
from openrlhf_ktae.reward.grading import Verdict
from openrlhf_ktae.tasks import TASKS
from openrlhf_ktae.tasks.environment import Environment
from openrlhf_ktae.tasks.prompt_set import PromptRow
from openrlhf_ktae.tasks.team import Team
from openrlhf_ktae.tasks.templates import Template


class MadeOptions(config.Options):
    """What all tasks share whose prompt sets are made before training starts."""

    directory: str
    """Where the prompt sets (train.jsonl, evaluation.jsonl) and the warmed-up model (model/) are made."""

    train_problems: int = Field(default=1280, ge=1)
    """Problems of the training prompt set."""

    evaluation_problems: int = Field(default=512, ge=1)
    """Problems of the evaluation prompt set; none of them is ever trained on."""

    warmup_steps: int = Field(default=250, ge=0)
    """Supervised steps before reinforcement learning; 0 leaves the model untrained."""

    warmup_batch_size: int = Field(default=128, ge=1)
    """Worked examples per supervised step."""

    warmup_decay: float = Field(default=0.0, ge=0, le=1)
    """Share of the supervised steps, the last ones, over which the learning rate falls to 0."""

    seed: int = 0
    """Seed of the problems, the initial weights and the warm-up."""

    def are_made(self) -> bool:
        """Whether ``directory`` holds what was made with these options; one that came later had its default then.

        A folder that was moved, or is named in another way, holds what it held.
        """
        try:
            made = type(self).model_validate_json(self._stamp().read_text())
        except (OSError, ValueError):
            return False
        return made.model_copy(update={"directory": self.directory}) == self

    def note_made(self) -> None:
        """Says so in ``directory``."""
        self._stamp().write_text(self.model_dump_json(indent=2))

    def _stamp(self) -> Path:
        return Path(self.directory) / "made_with.json"


@dataclass(frozen=True)
class Lessons:
    """What a tiny model is warmed up on."""

    examples: Iterator[tuple[str, str]]
    """Endless (prompt, worked solution) pairs; the end-of-sequence token is added to the solution."""
    words: tuple[str, ...] | None = None
    """The tokens of a word-level tokenizer; None: one token per printable character."""


class BaseTask(Plugin):
    """Base of every task. ``options`` are its own, ``grader`` the section of the math grader.

    ``verdicts`` and ``reward`` are apart because a reward is a number and correctness is not: the score, which KTAE,
    DAPO's filter and every accuracy count, is ``Verdict.correct``.
    """

    template: ClassVar[Template]
    """How a problem becomes a prompt, and where the answer stands, unless the user says otherwise."""
    environment: ClassVar[type[Environment] | None] = None
    """What answers the policy between its turns; None: a rollout is one turn."""
    team: ClassVar[type[Team] | None] = None
    """Agents that work on a problem one after the other; None: one does."""

    def __init__(self, options: Any, grader: RewardConfig | None = None) -> None:
        super().__init__(options)
        self.grader = grader or RewardConfig()

    @property
    def sampling(self) -> str:
        """How the rollouts of a problem are sampled, whatever the advantage terms; empty: they say."""
        return "turns" if self.environment else "team" if self.team else ""

    def decode_label(self, label: Any) -> Any:
        """The reference in a label, as `verdicts` takes it.

        Raises:
            ValueError: there is none in it.
        """
        raise NotImplementedError

    def verdicts(self, pairs: Sequence[tuple[str, Any]]) -> list[Verdict]:
        """Verdicts of (response, reference) pairs, in their order, whatever the responses hold."""
        raise NotImplementedError

    def reward(self, verdict: Verdict) -> float:
        """The number that training maximises."""
        raise NotImplementedError

    def prompt_sets(self) -> Mapping[str, Iterable[PromptRow]]:
        """What is made before training, by file name (``options`` are `MadeOptions`); nothing where the user brings
        prompt sets of his own (``openrlhf-ktae data``)."""
        return {}

    def lessons(self) -> Lessons | None:
        """What a tiny model is warmed up on before training; None: the model is the user's."""
        return None

    def decisive(self, tokens: Sequence[str]) -> list[bool] | None:
        """Which tokens of a response decide whether it is right, given their texts; None: the task does not know."""
        return None

    def read_row(self, row: Mapping[str, Any]) -> tuple[str, tuple[str, ...], float | None] | None:
        """Problem, accepted answers and difficulty of a row of data in the task's own shape; None: it has columns that
        the user names."""
        return None


TASK = Kind(
    option="task.name",
    package="openrlhf_ktae.tasks",
    names=TASKS,
    class_name="Task",
    base=BaseTask,
    signature=("verdicts", ("pairs",)),
)
