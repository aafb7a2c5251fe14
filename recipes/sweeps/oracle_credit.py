"""Credit by one who knows: the rollout's advantage on the tokens that decide, less of it or none on the others.

For worded arithmetic, which knows the tokens that decide.
"""

from functools import cached_property

import torch
from pydantic import Field
from transformers import AutoTokenizer

from openrlhf_ktae.advantage.term import AdvantageTerm, TermResult
from openrlhf_ktae.config import Options
from openrlhf_ktae.tasks.worded_arithmetic import decisive_tokens


class OracleCreditOptions(Options):
    """Section ``oracle_credit``."""

    model: str
    """The folder of the start model, whose tokenizer says what a token reads."""

    others: float = Field(default=0.0, ge=0, le=1)
    """Share of the advantage that is left to tokens that do not decide."""


class Term(AdvantageTerm):
    """A'_t = A_t where token t decides, else ``others`` x A_t. The mean is still taken over all tokens."""

    Options = OracleCreditOptions

    @cached_property
    def _texts(self):
        tokenizer = AutoTokenizer.from_pretrained(self.options.model)
        return dict(enumerate(tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))))

    def apply(self, batch, advantages):
        decides = torch.zeros_like(batch.mask)
        for row, mask in enumerate(batch.mask):
            # A model has more tokens than its tokenizer where its vocabulary is rounded up, and can sample them.
            texts = [self._texts.get(token, "") for token in batch.token_ids[row, mask].tolist()]
            decides[row, mask] = torch.tensor(decisive_tokens(texts), dtype=torch.bool)
        metrics = {"share": decides.sum().item() / max(1, int(batch.mask.sum()))}
        shares = torch.where(decides, 1.0, self.options.others)
        return TermResult(advantages * shares, metrics, {"decides": decides.to(advantages.dtype)})
