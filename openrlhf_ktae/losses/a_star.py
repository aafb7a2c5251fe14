"""A*-PO (arXiv 2505.20686): regression of the policy's log-ratio on the optimal advantage, one rollout a prompt.

The optimal advantage of a rollout is r - V*; V* of a prompt is estimated before training from the rewards of samples of
the reference model (`openrlhf-ktae data values`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator

from openrlhf_ktae.config import Options
from openrlhf_ktae.losses.loss import LossInputs, LossResult, PolicyLoss
from openrlhf_ktae.plugins import refuse_length_penalties
from openrlhf_ktae.table_files import SUFFIXES, local_files, read_columns

if TYPE_CHECKING:
    from torch import Tensor

REWARDS_COLUMN = "rewards"
"""Column of a prompt set with the rewards of the reference model's samples."""

_ESTIMATORS = ("flash_reinforce", "reinforce")
_SHOWN = 60


class AStarOptions(Options):
    """Options of A*-PO (section ``a_star``)."""

    beta1: float = Field(default=0.5, gt=0)
    """Temperature of V* = beta1 ln mean exp(r / beta1): towards 0 the best of the samples, large values their mean."""

    beta2: float = Field(default=1e-3, gt=0)
    """Weight of the log-ratio to the reference model: the larger, the closer the policy stays to it."""

    values: str = ""
    """File that `openrlhf-ktae data values` wrote; empty: `data.prompt_dataset` itself has the column `rewards`."""

    @field_validator("values")
    @classmethod
    def _absolute(cls, values: str) -> str:
        return str(Path(values).resolve()) if values else ""  # Ray's workers may stand in another folder


def optimal_value(rewards: Sequence[float], beta1: float) -> float:
    """V* = beta1 ln mean exp(r / beta1), without overflow for small ``beta1``."""
    best = max(rewards)
    return best + beta1 * math.log(math.fsum(math.exp((r - best) / beta1) for r in rewards) / len(rewards))


def read_values(path: Path, input_key: str, beta1: float) -> dict[str, float]:
    """V* by prompt. A prompt that stands there twice counts once, with the rewards of both rows.

    Raises:
        ValueError: no such file, or a row without rewards.
    """
    rewards: dict[str, list[float]] = {}
    for number, row in _rows(path, input_key):
        found = row.get(REWARDS_COLUMN)
        numbers = found if isinstance(found, list) else []
        if not numbers or not all(isinstance(r, int | float) and math.isfinite(r) for r in numbers):
            raise ValueError(
                f"a_star.values: {path}, row {number}: {REWARDS_COLUMN} is {found!r}, expected a list of numbers; make "
                "the file with `openrlhf-ktae data values` and name it, or name it as data.prompt_dataset"
            )
        rewards.setdefault(str(row[input_key]), []).extend(map(float, numbers))
    return {prompt: optimal_value(numbers, beta1) for prompt, numbers in rewards.items()}


class Loss(PolicyLoss):
    """mean over rollouts of (beta2 sum_t [log pi - log pi_ref] + V* - r)^2.

    No ratio to the old policy, no clip, no division by the length; advantages play no part.
    """

    Options = AStarOptions
    needs = ("ref_log_probs",)
    includes_kl = True

    def __init__(self, options: AStarOptions) -> None:
        super().__init__(options)
        self.values: Mapping[str, float] = {}

    @classmethod
    def check(cls, options: AStarOptions, args: Any) -> None:
        """One rollout a prompt, a value for every prompt, and nothing that V* knows nothing of."""
        if args.rollout.n_samples_per_prompt != 1:
            raise ValueError(
                f"rollout.n_samples_per_prompt: got {args.rollout.n_samples_per_prompt}, expected 1: a_star compares a "
                "rollout with its prompt's value, not with other rollouts"
            )
        if args.algo.advantage.estimator not in _ESTIMATORS:
            raise ValueError(
                f"algo.advantage.estimator: got {args.algo.advantage.estimator}, expected {' or '.join(_ESTIMATORS)} "
                "with a_star: it needs no critic and no group"
            )
        for name, value in (("apply_chat_template", args.data.apply_chat_template),
                            ("input_template", args.data.input_template)):  # fmt: skip
            if value:
                raise ValueError(
                    f"data.{name}: got {value!r}, expected none: a_star finds a prompt's value by its text; write the "
                    "prompts with their template (`openrlhf-ktae data --template`)"
                )
        refuse_length_penalties(args, "a_star")
        for name in ("temperature", "top_p"):
            if getattr(args.rollout, name) != 1:
                raise ValueError(
                    f"rollout.{name}: got {getattr(args.rollout, name)}, expected 1: V* is that of the reference model "
                    "as it is"
                )
        values = _values(options, args)
        for path in _prompt_files(args.data.prompt_dataset):
            prompts = [(number, str(row[args.data.input_key])) for number, row in _rows(path, args.data.input_key)]
            missing = [(number, prompt) for number, prompt in prompts if prompt not in values]
            if missing:
                number, prompt = missing[0]
                raise ValueError(
                    f"a_star.values: no value for {len(missing)} prompts of {path}, the first in row {number}: "
                    f"{prompt[:_SHOWN]!r}; make them with `openrlhf-ktae data values {path}`"
                )

    def prepare(self, args: Any) -> None:
        """Reads the values."""
        self.values = _values(self.options, args)

    def loss(self, inputs: LossInputs) -> LossResult:
        """The squared distance of the scaled log-ratio from the optimal advantage."""
        assert inputs.ref_log_probs is not None  # `needs`
        values = inputs.rewards.new_tensor([self._value(prompt) for prompt in inputs.prompts])
        log_ratio = ((inputs.log_probs - inputs.ref_log_probs) * inputs.mask).sum(-1)
        residual = self.options.beta2 * log_ratio + values - inputs.rewards
        metrics: dict[str, Tensor] = {
            "value_mean": values,
            "log_ratio_mean": log_ratio,
            "residual_abs_mean": residual.abs(),
        }
        return LossResult(inputs.rollout_mean(residual.square()), metrics)

    def _value(self, prompt: str) -> float:
        try:
            return self.values[prompt]
        except KeyError:
            raise ValueError(
                f"a_star.values: no value for the prompt {prompt[:_SHOWN]!r}; make it with `openrlhf-ktae data values`"
            ) from None


def _values(options: AStarOptions, args: Any) -> dict[str, float]:
    paths = [Path(options.values)] if options.values else _prompt_files(args.data.prompt_dataset)
    if not paths:
        raise ValueError(
            f"a_star.values: not set, and {args.data.prompt_dataset} is no local file ({', '.join(SUFFIXES)}); make "
            "one with `openrlhf-ktae data values`"
        )
    values: dict[str, float] = {}
    for path in paths:
        values |= read_values(path, args.data.input_key, options.beta1)
    return values


def _prompt_files(datasets: str | None) -> list[Path]:
    return [path for path in local_files(datasets) if path.suffix in SUFFIXES]


def _rows(path: Path, input_key: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a file with their numbers."""
    try:
        yield from enumerate(read_columns(path, {input_key: "data.input_key"}), start=1)
    except ValueError as error:
        raise ValueError(f"a_star.values: {error}; see `openrlhf-ktae data values`") from None
