"""A*-PO on the real policy actor (OpenRLHF's model, optimizer and DeepSpeed engine in this process, no Ray).

The oracle is autograd on the formula over the same model, all rollouts at once: the actor sees them in micro-batches.
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
import torch
import openrlhf_parts
from openrlhf.trainer.ppo_utils.experience import Experience
from openrlhf.utils import get_strategy
from openrlhf_ktae.training.policy_actor import PolicyActor

folder, beta2 = sys.argv[1], 0.5
args = openrlhf_parts.arguments(
    actor__model_name_or_path=folder + "/model", actor__lr_scheduler="constant", actor__lr_warmup_ratio=0.0,
    actor__adam__lr=1e-3, actor__max_norm=1e9, algo__kl__init_coef=0.5, algo__advantage__estimator="reinforce",
    rollout__n_samples_per_prompt=1, train__batch_size=8, train__micro_batch_size=2, rollout__batch_size=8,
    ds__attn_implementation="eager", ds__zero_stage=0, ckpt__path="/nowhere",
    vllm__sync_backend="gloo", data__prompt_dataset=folder + "/values.jsonl", data__input_key="input",
)
strategy = get_strategy(args)
options = openrlhf_parts.training_options(policy_loss="a_star", a_star={"beta2": beta2})
actor = PolicyActor(1, 0, None, None, options=options)
actor.init_model_from_pretrained(strategy, folder + "/model", 10, None)

generator = torch.Generator().manual_seed(3)
sequences = torch.randint(5, 100, (8, 12), generator=generator)
lengths = torch.tensor([3, 8, 5, 8, 1, 2, 7, 4])
positions = torch.arange(11) - 3
action_mask = ((positions >= 0) & (positions < lengths[:, None])).long()
attention_mask = (torch.arange(12) < 4 + lengths[:, None]).long()
old = actor.forward(sequences, action_mask, attention_mask)
reference = old + torch.randn(8, 11, generator=generator)
rewards = torch.randint(0, 2, (8,), generator=generator).float()
rows = [json.loads(line) for line in open(folder + "/values.jsonl")]

model = copy.deepcopy(actor.actor.model.module)
logits = model(sequences, attention_mask=attention_mask).logits[:, :-1].float()
log_probs = logits.log_softmax(-1).gather(-1, sequences[:, 1:, None]).squeeze(-1)
values = torch.tensor([0.5 * torch.tensor(row["rewards"]).div(0.5).exp().mean().log() for row in rows])
formula = ((beta2 * ((log_probs - reference) * action_mask).sum(-1) + values - rewards) ** 2).mean()
gradient = torch.autograd.grad(formula, list(model.parameters()))

actor.append(Experience(
    sequences=sequences, attention_mask=attention_mask, action_mask=action_mask, action_log_probs=old,
    base_action_log_probs=reference, advantages=torch.randn(8, 11, generator=generator), rewards=rewards,
    response_length=lengths, truncated=torch.zeros(8), total_length=(lengths + 4).float(),
    prompts=[row["input"] for row in rows], labels=["1"] * 8, index=list(range(8)), info={"reward": rewards},
))
status = actor.fit(0.5)
print(json.dumps({
    "their norm": status["actor_grad_norm"], "norm": sum(g.float().square().sum() for g in gradient).sqrt().item(),
    "value_mean": status["a_star/value_mean"], "values": values.mean().item(),
}))
"""


def test_the_gradient_that_deepspeed_gets_is_that_of_the_formula(tmp_path):
    save(make_model(0), make_tokenizer(), tmp_path / "model")
    rows = [{"input": f"prompt {k}", "label": "1", "rewards": [1.0] * k + [0.0] * (8 - k)} for k in range(8)]
    (tmp_path / "values.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests' / 'support'}", "OMP_NUM_THREADS": "1"}
    environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0", "RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(tmp_path)], capture_output=True, text=True, env=environment, cwd=tmp_path
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert found["norm"] > 1e-3
    assert found["their norm"] == pytest.approx(found["norm"], rel=0.02)  # weights in bfloat16
    assert found["value_mean"] == pytest.approx(found["values"], rel=1e-5)
