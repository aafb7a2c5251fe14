"""Batches, GPUs and lengths that do not fit are refused with the numbers and a way out, before anything starts."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from openrlhf_ktae.openrlhf_options import parse
from openrlhf_ktae.runs.batch_sizes import BatchSizeError, batch_plan

ROOT = Path(__file__).resolve().parents[2]
SMALL = {
    "rollout.batch_size": 32,
    "rollout.n_samples_per_prompt": 8,
    "rollout.micro_batch_size": 16,
    "train.batch_size": 128,
    "train.micro_batch_size": 16,
    "actor.num_gpus_per_node": 2,
    "ref.num_gpus_per_node": 2,
    "vllm.num_engines": 4,
    "data.max_len": 64,
    "rollout.max_new_tokens": 48,
    "reward.remote_url": "reward.py",
    "algo.advantage.estimator": "group_norm",
}


def plan(flags=(), available=8, **changes):
    settings = SMALL | {name.replace("__", "."): value for name, value in changes.items()}
    argv = [f"--{flag}" for flag in flags]
    for name, value in settings.items():
        argv += [f"--{name}", str(value)]
    return batch_plan(parse(argv), available)


def test_a_plan_counts_rollouts_updates_and_gpus():
    result = plan()
    assert (result.rollouts, result.updates) == (256, 2)
    assert result.gpus == {"policy": 2, "reference": 2, "vLLM": 4}
    assert result.gpus_total == 8


def test_without_kl_no_reference_model_takes_gpus():
    assert plan(algo__kl__init_coef=0).gpus == {"policy": 2, "vLLM": 4}


def test_roles_that_share_gpus_are_counted_once():
    assert plan(["train.colocate_all"], vllm__num_engines=2).gpus_total == 2
    assert plan(["train.colocate_actor_ref"]).gpus == {"policy and reference": 2, "vLLM": 4}


def test_asynchronous_training_keeps_the_engines_on_gpus_of_their_own():
    shared = ["train.colocate_all", "train.async_enable"]
    assert plan(shared).gpus == {"policy and reference": 2, "vLLM": 4}


def test_a_critic_takes_gpus():
    assert plan(algo__advantage__estimator="gae", critic__num_gpus_per_node=1, vllm__num_engines=3).gpus["critic"] == 1


def test_micro_batches_by_tokens_need_no_micro_batch_size():
    with pytest.raises(BatchSizeError, match=r"train\.micro_batch_size 7"):
        plan(train__micro_batch_size=7)
    assert plan(["train.dynamic_batch_enable"], train__micro_batch_size=7).updates == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train__batch_size": 100}, "32 x .* 8 = 256 .* train.batch_size 100: 56 of them .* set train.batch_size=128"),
        ({"train__batch_size": 512}, "256 rollouts .* train.batch_size 512.* set train.batch_size=256"),
        ({"actor__num_gpus_per_node": 3}, "train.batch_size 128 is no multiple of the 3 policy workers"),
        ({"rollout__micro_batch_size": 24}, "256 rollouts .* over 2 .* rollout.micro_batch_size 24: .* divisor of 128"),
        ({"train__micro_batch_size": 48}, "128 is no multiple of train.micro_batch_size 48 x 2 .* = 96; .* of 64"),
        ({"vllm__num_engines": 5}, r"2 \(policy\) \+ 2 \(reference\) \+ 5 \(vLLM\) = 9, but there are 8"),
        ({"vllm__num_engines": 0}, "vllm.num_engines: got 0"),
        ({"ds__ring_attn_size": 4}, "1 x actor.num_gpus_per_node 2 = 2 GPUs is no multiple of ds.ring_attn_size 4"),
        ({"rollout__max_new_tokens": 64}, "max_new_tokens 64 leaves no room .* data.max_len 64"),
        ({"reward__overlong_buffer_len": 49}, "overlong_buffer_len 49 must lie in 1 .. 48"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_numbers(changes, message):
    with pytest.raises(BatchSizeError, match=message):
        plan(**changes)


def test_sharing_needs_equal_shapes():
    with pytest.raises(BatchSizeError, match=r"4 x vllm.tensor_parallel_size 1 = 4, policy 1 x 2 = 2"):
        plan(["train.colocate_all"])
    with pytest.raises(BatchSizeError, match=r"policy 1 x 2 and reference 1 x 1 .* ref.num_gpus_per_node=2"):
        plan(["train.colocate_actor_ref"], ref__num_gpus_per_node=1)


def test_the_command_refuses_before_it_makes_anything(tmp_path):
    command = [sys.executable, "-m", "openrlhf_ktae.cli", "train", str(ROOT / "recipes" / "quickstart")]
    command += ["--set", "train.batch_size=100", "--set", "arithmetic.directory=assets", "--set", "run.output_dir=runs"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    text = re.sub(r"\s+", " ", done.stderr)
    assert done.returncode == 2
    assert "256 rollouts a step are no multiple of train.batch_size 100" in text
    assert list(tmp_path.iterdir()) == []
