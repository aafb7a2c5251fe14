"""Policy losses on the real policy actor: OpenRLHF's model, optimizer and DeepSpeed engine in this process, no Ray.

A pass of Lopti is the same as plain training on advantages that are 0 outside of the pass; that is the oracle here.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from openrlhf_ktae.tasks.tiny_model import make_model, make_tokenizer, save

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.ray

CODE = """
import copy, json, sys
from types import SimpleNamespace
import torch
import openrlhf_parts
from openrlhf.trainer.ppo_utils.experience import Experience
from openrlhf.utils import get_strategy
from openrlhf_ktae.training.policy_actor import PolicyActor, PolicyTrainer

model, threshold = sys.argv[1], float(sys.argv[2])
args = openrlhf_parts.arguments(
    actor__model_name_or_path=model, actor__lr_scheduler="constant", actor__lr_warmup_ratio=0.0,
    actor__adam__lr=1e-3, actor__entropy_coef=0.0, algo__kl__init_coef=0.0, algo__kl__use_loss=False,
    train__batch_size=8, train__micro_batch_size=8, rollout__batch_size=2, ds__attn_implementation="eager",
    ds__zero_stage=0, ckpt__path="/nowhere", vllm__sync_backend="gloo",
)
strategy = get_strategy(args)
actors = {}
for name in ("lopti", "openrlhf"):
    options = openrlhf_parts.training_options(policy_loss=name, lopti={"threshold": threshold})
    actor = PolicyActor(1, 0, None, None, options=options)
    actor.init_model_from_pretrained(strategy, model, 10, None)
    actors[name] = actor

generator = torch.Generator().manual_seed(3)
sequences = torch.randint(5, 100, (8, 12), generator=generator)
action_mask = torch.ones(8, 11, dtype=torch.long)
action_mask[:, :3] = 0
attention_mask = torch.ones_like(sequences)
old = actors["openrlhf"].forward(sequences, action_mask, attention_mask)
low = old.exp() < threshold
advantages = torch.randn(8, 11, generator=generator)


def train(actor, kept):
    actor.append(Experience(
        sequences=sequences.clone(), attention_mask=attention_mask.clone(), action_mask=action_mask.clone(),
        action_log_probs=old.clone(), advantages=advantages * kept, rewards=torch.zeros(8),
        response_length=torch.full((8,), 8), truncated=torch.zeros(8), total_length=torch.full((8,), 12.0),
        prompts=[""] * 8, labels=[""] * 8, index=list(range(8)), info={"reward": torch.zeros(8)},
    ))
    return actor.fit(0.0)


def weights(actor):
    return torch.cat([p.detach().flatten().float() for p in actor.actor.model.module.parameters()])


start = weights(actors["lopti"])
torch.manual_seed(0)  # of the order of the rollouts in a pass
status = train(actors["lopti"], 1)
torch.manual_seed(0)
train(actors["openrlhf"], low)
after_first = weights(actors["openrlhf"])
train(actors["openrlhf"], ~low)
print(json.dumps({
    "low": int((low * action_mask).sum()), "tokens": int(action_mask.sum()),
    "first pass moved": (after_first - start).abs().max().item(),
    "second pass moved": (weights(actors["openrlhf"]) - after_first).abs().max().item(),
    "difference": (weights(actors["lopti"]) - weights(actors["openrlhf"])).abs().max().item(),
    "entropy": status["entropy_loss"], "status is finite": all(v == v for v in status.values()),
}))
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    save(make_model(0), make_tokenizer(), folder)
    return folder


def train(model: Path, threshold: float) -> dict:
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(model), str(threshold)], cwd=ROOT, capture_output=True, text=True, timeout=300,
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests' / 'support'}", "DS_ACCELERATOR": "cpu"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


def test_loptis_second_pass_starts_from_the_weights_of_its_first(model):
    found = train(model, 0.008)  # an untrained model gives about 1 / 128 to every token
    assert 0 < found["low"] < found["tokens"]
    assert found["first pass moved"] > 0 and found["second pass moved"] > 0
    assert found["difference"] == 0


def test_a_pass_without_tokens_leaves_the_weights_and_no_nan(model):
    found = train(model, 0.0001)
    assert found["low"] == 0 and found["first pass moved"] == 0 and found["second pass moved"] > 0
    assert found["difference"] == 0 and found["status is finite"]
    assert 4.2 < found["entropy"] < 4.86  # nearly uniform over 128 tokens: ln 128 = 4.852
