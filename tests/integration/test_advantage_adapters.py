"""The adapters against the real packages.

TRL fits into this project's environment. verl does not (verl 0.9.1 wants transformers < 5.11): install it and what it
imports into a folder of its own, and name that in OPENRLHF_KTAE_VERL; docs/estimator.md has the commands.
"""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

TRL = """
import torch
from datasets import Dataset
from trl import GRPOConfig
from openrlhf_ktae.adapters.trl import KtaeGRPOTrainer
from openrlhf_ktae.advantage import KtaeConfig, key_token_values
from openrlhf_ktae.tasks.tiny_model import make_model, make_tokenizer

tokenizer, taken = make_tokenizer(), []

def has_even_digit(completions, **_):
    return [float(sum(c in "02468" for c in text) % 2) for text in completions]

def is_short(completions, **_):
    return [-0.01 * len(text) for text in completions]

class Recording(KtaeGRPOTrainer):
    def _generate_and_score_completions(self, inputs):
        batch = super()._generate_and_score_completions(inputs)
        taken.append((batch, self._correct.clone()))
        return batch

trainer = Recording(
    model=make_model(0),
    processing_class=tokenizer,
    reward_funcs=[has_even_digit, is_short],
    args=GRPOConfig(
        output_dir="out", use_cpu=True, max_steps=2, per_device_train_batch_size=8, num_generations=4,
        max_completion_length=24, report_to=[], save_strategy="no", bf16=False, logging_steps=1,
        gradient_checkpointing=False, learning_rate=1e-3,
    ),
    train_dataset=Dataset.from_dict({"prompt": ["1+1=", "2+3=", "4+4=", "7+2="]}),
)
before = [parameter.detach().clone() for parameter in trainer.model.parameters()]
trainer.train()
assert any(not torch.equal(old, new) for old, new in zip(before, trainer.model.parameters(), strict=True))
assert len(taken) == 2
differs = False
for batch, correct in taken:
    mask = batch["completion_mask"]
    values = key_token_values(batch["completion_ids"], mask, correct, torch.arange(len(mask)) // 4,
                              KtaeConfig(ignore_token_ids=(tokenizer.pad_token_id, tokenizer.eos_token_id)))
    rollout = (batch["advantages"] - values) * mask
    spread = rollout.masked_fill(mask == 0, -9).amax(1) - rollout.masked_fill(mask == 0, 9).amin(1)
    assert batch["advantages"].shape == mask.shape
    assert (spread.abs() < 1e-4).all(), spread
    differs |= bool(values.any())
assert differs, "no group had right and wrong answers"
logged = [line for line in trainer.state.log_history if "ktae/key_token_frac" in line]
assert len(logged) == 2 and max(line["ktae/value_abs_mean"] for line in logged) > 0, trainer.state.log_history
"""

VERL = """
import numpy as np, pytest, torch
import os
os.environ["VERL_USE_EXTERNAL_MODULES"] = "openrlhf_ktae.adapters.verl"
from verl import DataProto
from verl.trainer.ppo import core_algos, ray_trainer
from openrlhf_ktae.advantage import KtaeConfig, key_token_values

torch.manual_seed(0)
ids, mask = torch.randint(0, 30, (8, 12)), (torch.arange(12) < torch.randint(3, 13, (8, 1))).long()
rewards = torch.zeros(8, 12)
acc = np.array([1, 0, 1, 0, 0, 1, 1, 1])
rewards[:, -1] = torch.tensor(acc, dtype=torch.float32) * 2 - 1
uid = np.array(["a", "b"] * 4, dtype=object)

def data(**columns):
    return DataProto.from_dict(
        tensors={"responses": ids, "response_mask": mask, "token_level_rewards": rewards},
        non_tensors={"uid": uid, **columns},
    )

config = {"ktae": {"gamma": 0.01}}
found = ray_trainer.compute_advantage(data(acc=acc), adv_estimator="ktae", config=config)
rollout, _ = core_algos.compute_grpo_outcome_advantage(rewards.clone(), mask, uid)
group = torch.arange(8) % 2
values = key_token_values(ids, mask, torch.tensor(acc), group, KtaeConfig(gamma=0.01))
assert values.any()
assert torch.equal(found.batch["advantages"], rollout + values)
everything = {"prompts": ids, "attention_mask": torch.cat([mask, mask], 1), "token_level_scores": rewards}
for name, column in everything.items():
    found.batch[name] = column
metrics = ray_trainer.compute_data_metrics(batch=found, use_critic=False)
assert metrics["ktae/value_abs_mean"] == pytest.approx(values[mask.bool()].abs().mean().item())
assert "critic/advantages/mean" in metrics
assert "ktae/value_abs_mean" not in ray_trainer.compute_data_metrics(batch=found, use_critic=False)
plain = ray_trainer.compute_advantage(data(acc=acc), adv_estimator="grpo", config=config)
assert torch.equal(plain.batch["advantages"], rollout)
with pytest.raises(ValueError, match="acc: the reward function"):
    ray_trainer.compute_advantage(data(), adv_estimator="ktae", config=config)
without_tokens = data(acc=acc)
without_tokens.batch.pop("responses")
with pytest.raises(ValueError, match="responses: not among"):
    ray_trainer.compute_advantage(without_tokens, adv_estimator="ktae", config=config)
"""


@pytest.mark.parametrize(
    ("package", "variable", "code"),
    [("trl", "OPENRLHF_KTAE_TRL", TRL), ("verl", "OPENRLHF_KTAE_VERL", VERL)],
    ids=["trl", "verl"],
)
def test_the_adapter_trains_on_key_token_advantages_in(package, variable, code, tmp_path):
    folder = os.environ.get(variable)
    if folder is None and find_spec(package) is None:
        pytest.skip(f"{package} is not installed; install it or set {variable} to a folder that holds it")
    paths = [str(ROOT), *([folder] if folder else [])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr[-4000:]
