"""Control for KTAE: its values, shuffled among the tokens of each rollout. The same sizes, no information."""

import torch

from openrlhf_ktae.advantage.estimator.options import KtaeConfig
from openrlhf_ktae.advantage.term import AdvantageTerm, TermResult
from openrlhf_ktae.advantage.terms.ktae import Term as Ktae


class Term(AdvantageTerm):
    """A'_t = A_t + K_s, where s is another token of the same rollout, drawn anew in every step."""

    Options = KtaeConfig
    needs = ("scores", "groups")

    def apply(self, batch, advantages):
        found = Ktae(self.options).apply(batch, torch.zeros_like(advantages))
        values = shuffled(found.columns["key_token_value"], batch.mask, batch.step)
        return TermResult(advantages + values, {"abs_mean": values.abs().sum().item() / max(1, int(batch.mask.sum()))})


def shuffled(values, mask, seed):
    """(N, T) values, those under the mask in another order within each row."""
    generator = torch.Generator().manual_seed(seed)
    result = values.clone()
    for row in range(len(values)):
        places = mask[row].nonzero().flatten()
        result[row, places] = values[row, places[torch.randperm(len(places), generator=generator)]]
    return result
