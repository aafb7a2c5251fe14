"""Packed sequences without flash-attn: SDPA gives each token the log-probability that it has in a padded batch."""

import openrlhf_parts  # noqa: F401  (puts the stand-ins in place)
import pytest
import torch
from openrlhf.models import Actor

from openrlhf_ktae.tasks.tiny_model import make_model, make_tokenizer, save


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny") / "model"
    save(make_model(0), make_tokenizer(), folder)
    return str(folder)


def log_probs(model: str, is_packed: bool) -> torch.Tensor:
    # What OpenRLHF forces for packed samples; there is no flash-attn here.
    actor = Actor(model, attn_implementation="flash_attention_2", packing_samples=is_packed).eval().float()
    lengths = torch.tensor([[5], [12], [9]])
    sequences = torch.randint(3, 12, (3, 12), generator=torch.Generator().manual_seed(0))
    attention_mask = (torch.arange(12) < lengths).long()
    with torch.no_grad():
        return actor(sequences, attention_mask[:, 1:], attention_mask) * attention_mask[:, 1:]


def test_packed_sequences_do_not_see_each_other(model):
    padded, packed = log_probs(model, False), log_probs(model, True)
    assert padded.abs().max() > 1 and (padded - packed).abs().max() < 1e-4
