"""What an advantage term is, and how the terms of a run follow each other. Imports no torch: options are read here too.

A term is one file with a class ``Term(AdvantageTerm)``; docs/methods.md shows how to write one.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from openrlhf_ktae.advantage.terms import TERMS
from openrlhf_ktae.plugins import Kind, Plugin, section_of

if TYPE_CHECKING:
    from torch import Tensor

    from openrlhf_ktae.advantage.batch import RolloutBatch

NEEDS = ("scores", "groups", "log_probs", "ref_log_probs", "rollout_log_probs", "entropies", "segments")
"""What a term can ask for; a run that lacks it is refused before any actor starts (`runs/preflight.py`)."""


@dataclass(frozen=True)
class TermResult:
    """What a term made of a batch."""

    advantages: Tensor | None = None
    """(N, T)."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Numbers for metrics.jsonl; the term's name and a slash are put before a name that lacks them."""
    columns: Mapping[str, Tensor] = field(default_factory=dict)
    """(N, T) each, one value a token, for the rollout log and the report's token map."""
    added: Tensor | None = None
    """(N, T), in place of `advantages`: what the term adds to them. Costs one pass in place and no further array."""


class AdvantageTerm(Plugin):
    """Base of every term. ``Options`` are its options, ``needs`` names entries of `NEEDS`."""

    needs: ClassVar[tuple[str, ...]] = ()
    replaces: ClassVar[bool] = False
    """Whether the advantages before this term are thrown away; such a term comes first."""
    sampling: ClassVar[str] = ""
    """How the rollouts of a prompt are sampled for it (`training/sampling`); empty: each by itself."""

    def apply(self, batch: RolloutBatch, advantages: Tensor) -> Tensor | TermResult:
        """The advantages (N, T) after this term, from those before it; neither argument is changed.

        What is returned where ``batch.mask`` is 0 is never looked at.
        """
        raise NotImplementedError

    def token_table(self, batch: RolloutBatch) -> Mapping[str, Any] | None:
        """Equally long columns with a row per group and distinct token (``group``, ``token_id``, ...), for the log."""
        return None

    def state_dict(self) -> dict[str, Any]:
        """What has to survive a restart; saved with every checkpoint."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up a state that `state_dict` gave."""


TERM = Kind(
    option="advantage.terms",
    package="openrlhf_ktae.advantage.terms",
    names=TERMS,
    class_name="Term",
    base=AdvantageTerm,
    signature=("apply", ("batch", "advantages")),
)


@dataclass(frozen=True)
class Outcome:
    """What all terms together made of a batch."""

    advantages: Tensor
    """(N, T); where the mask is 0, what it was before."""
    metrics: dict[str, float]
    columns: dict[str, Tensor]
    seconds: dict[str, float]
    """By term."""


def apply_terms(
    terms: Mapping[str, AdvantageTerm], batch: RolloutBatch, advantages: Tensor, in_place: bool = False
) -> Outcome:
    """Applies ``terms`` in order to ``advantages`` (N, T).

    in_place: whether ``advantages`` may be overwritten; else they stay what they are.

    Raises:
        ValueError: a term returns something else than finite (N, T) advantages, or a column that is not (N, T) or that
            another term has too; the message names the term.
    """
    outcome = Outcome(advantages, {}, {}, {})
    for name, term in terms.items():
        start = time.perf_counter()
        result = term.apply(batch, outcome.advantages)
        result = result if isinstance(result, TermResult) else TermResult(result)
        for column, values in result.columns.items():
            if getattr(values, "shape", None) != batch.mask.shape:
                raise ValueError(
                    f"advantage.terms: {name} gives a column {column!r} of shape "
                    f"{tuple(getattr(values, 'shape', ()))}, expected {tuple(batch.mask.shape)}"
                )
            if column in outcome.columns:
                raise ValueError(f"advantage.terms: {name} gives a column {column!r}, and so does a term before it")
        columns = outcome.columns | dict(result.columns)
        if result.added is None:
            after = _checked(name, result.advantages, batch, outcome.advantages)
        else:
            # A column may be the advantages before: the rollout log reads it later.
            is_free = in_place and all(of.data_ptr() != outcome.advantages.data_ptr() for of in columns.values())
            after = _sum(name, result, batch, outcome.advantages if is_free else outcome.advantages.clone())
        in_place = True
        metrics = {
            key if key.startswith(f"{name}/") else f"{name}/{key}": value for key, value in result.metrics.items()
        }
        outcome = Outcome(
            after,
            outcome.metrics | metrics,
            columns,
            outcome.seconds | {name: time.perf_counter() - start},
        )
    return outcome


def refuse_kl_in_the_reward(args: Any, name: str) -> None:
    """A term that replaces the advantages would lose a KL penalty that is part of them."""
    if args.algo.kl.init_coef > 0 and not args.algo.kl.use_loss:
        raise ValueError(
            f"algo.kl.use_loss: false, so the KL penalty is part of the advantages that {name} replaces; set "
            "algo.kl.use_loss=true"
        )


def sampling_of(terms: Iterable[str], task: str, of_task: str) -> tuple[str, str]:
    """How a run samples the rollouts of a prompt (empty: each by itself), and which option says so.

    Args:
        terms: the advantage terms.
        task: the task.
        of_task: how the task wants them sampled, whatever the terms.

    Raises:
        ValueError: two of them at once.
    """
    asked = [(TERM.load(term).sampling, section_of(term)) for term in terms if TERM.load(term).sampling]
    if of_task:
        asked.append((of_task, f"task.name={section_of(task)}"))
    for sampling, name in asked[1:]:
        if sampling != asked[0][0]:
            raise ValueError(
                f"advantage.terms: {asked[0][1]} samples {asked[0][0]} and {name} samples {sampling}; a run samples "
                "its rollouts in one way: take one of them out"
            )
    return asked[0] if asked else ("", "")


def _checked(name: str, found: Any, batch: RolloutBatch, before: Tensor) -> Tensor:
    _check_shape(name, found, before)
    after = found.to(before.dtype).where(batch.mask, before)
    lowest, highest = after.aminmax() if after.numel() else (after.sum(), after.sum())  # NaN if one of them is
    if not (lowest.isfinite() and highest.isfinite()):
        raise _not_finite(name, after, ~after.isfinite(), batch.step)
    return after


def _sum(name: str, result: TermResult, batch: RolloutBatch, advantages: Tensor) -> Tensor:
    """``advantages`` with what a term adds to them, in place."""
    from openrlhf_ktae.advantage.estimator.values import with_numba

    if result.advantages is not None:
        raise ValueError(f"advantage.terms: {name} returned both `advantages` and `added`; return one of them")
    _check_shape(name, result.added, advantages)
    added: Any = result.added

    def compiled() -> bool:
        from openrlhf_ktae.advantage.estimator import rows

        return rows.add(advantages, added, batch.mask) if rows.takes(advantages, added) else sum_with_torch()

    def sum_with_torch() -> bool:
        advantages.copy_((advantages + added).where(batch.mask, advantages))
        return bool(advantages[batch.mask].isfinite().all())

    if not with_numba(compiled, sum_with_torch):
        raise _not_finite(name, advantages, ~advantages.isfinite() & batch.mask, batch.step)
    return advantages


def _check_shape(name: str, found: Any, before: Tensor) -> None:
    if getattr(found, "shape", None) != before.shape or not found.is_floating_point():
        what = f"{found.dtype} of shape {tuple(found.shape)}" if hasattr(found, "shape") else type(found).__name__
        raise ValueError(f"advantage.terms: {name} returned {what}, expected floats of shape {tuple(before.shape)}")


def _not_finite(name: str, after: Tensor, is_bad: Tensor, step: int) -> ValueError:
    row, token = is_bad.nonzero()[0].tolist()
    return ValueError(
        f"advantage.terms: {name} gives {after[row, token].item()} for token {token} of rollout {row} in step {step}; "
        "the step was not trained on"
    )
