"""KTAE (arXiv 2505.16826): adds the key-token value of every token to its advantage."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from openrlhf_ktae.advantage.estimator.options import KtaeConfig
from openrlhf_ktae.advantage.term import AdvantageTerm, TermResult

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from openrlhf_ktae.advantage.batch import RolloutBatch


class Term(AdvantageTerm):
    """A'_t = A_t + K_t, where K_t comes from the statistics of token t over its group (`advantage/estimator`)."""

    Options = KtaeConfig
    needs = ("scores", "groups")

    @classmethod
    def check(cls, options: KtaeConfig, args: Any) -> None:
        """Key-token values stand on a critic-free advantage."""
        if args.algo.advantage.estimator == "gae":
            raise ValueError(
                "algo.advantage.estimator: gae estimates per-token advantages with a critic; ktae adds to one without "
                "a critic: group_norm, dr_grpo, rloo, reinforce_baseline, reinforce"
            )

    def apply(self, batch: RolloutBatch, advantages: Tensor) -> TermResult:
        """Adds K under the mask."""
        from openrlhf_ktae.advantage import batch_diagnostics, key_token_values

        values = key_token_values(batch.token_ids, batch.mask, batch.correct, batch.group, self._config(batch))
        metrics = batch_diagnostics(values, batch.mask, batch.correct, batch.group, self.options.scale)
        return TermResult(None, metrics, {"key_token_value": values}, added=values)

    def token_table(self, batch: RolloutBatch) -> Mapping[str, Any]:
        """The counts and tests behind the values."""
        from openrlhf_ktae.advantage import token_statistics

        return asdict(token_statistics(batch.token_ids, batch.mask, batch.correct, batch.group, self._config(batch)))

    def _config(self, batch: RolloutBatch) -> KtaeConfig:
        if self.options.ignore_token_ids:
            return self.options
        return self.options.model_copy(update={"ignore_token_ids": batch.special_token_ids})
