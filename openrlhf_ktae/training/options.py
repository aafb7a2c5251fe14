"""What a run's Ray actors need beside OpenRLHF's own arguments."""

from dataclasses import dataclass
from typing import Any

from openrlhf_ktae.advantage.term import TERM, AdvantageTerm, sampling_of
from openrlhf_ktae.config import RewardConfig, RunOptions
from openrlhf_ktae.losses.loss import LOSS, PolicyLoss
from openrlhf_ktae.plugins import loaded, section_of
from openrlhf_ktae.tasks.task import TASK, BaseTask


@dataclass(frozen=True)
class TrainingOptions:
    """Travels from the launcher to the actors; the methods of a run are made where they work."""

    run_dir: str
    run: RunOptions
    sections: dict[str, dict[str, Any]]
    """Our options by section, as run.json holds them."""

    @classmethod
    def of_run(cls, run_dir: str, config: dict[str, Any]) -> "TrainingOptions":
        """``config``: the entry of that name in run.json."""
        return cls(run_dir, RunOptions(**config["run"]), {k: v for k, v in config.items() if k != "openrlhf"})

    def terms(self) -> dict[str, AdvantageTerm]:
        """The advantage terms in their order."""
        return loaded(TERM, self.sections["advantage"]["terms"], self.sections)

    def policy_loss(self) -> PolicyLoss:
        """The policy loss."""
        return next(iter(loaded(LOSS, [self.sections["policy_loss"]["name"]], self.sections).values()))

    def needs(self) -> set[str]:
        """What the terms and the loss ask for."""
        return {need for method in (*self.terms().values(), self.policy_loss()) for need in method.needs}

    def task(self) -> BaseTask:
        """The task of the run."""
        name = self.sections["task"]["name"]
        made = TASK.load(name)
        grader = RewardConfig(**self.sections.get("grader", {}))
        return made(made.Options(**self.sections.get(section_of(name), {})), grader)

    def sampling(self) -> str:
        """How the rollouts of a prompt are sampled (`training/sampling`); empty: each by itself."""
        task = self.sections["task"]["name"]
        return sampling_of(self.sections["advantage"]["terms"], task, self.task().sampling)[0]
