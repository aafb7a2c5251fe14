"""Training for real: Ray, vLLM and DeepSpeed on an untrained tiny model, through the same command that a user calls."""

import json
import math
import os
import signal
import subprocess
import sys

import pyarrow.parquet as pq
import pytest
import torch
from ktae_oracle import oracle_values
from method_references import document_example
from tiny_run import (
    PROCESSES,
    PROMPTS,
    REWARD,
    ROOT,
    SAMPLES,
    TinyRuns,
    alive,
    command_line,
    named,
    of_run,
    rollouts,
    start,
    steps,
    succeed,
    wait_until,
)

from openrlhf_ktae.advantage import KtaeConfig
from openrlhf_ktae.processes import session_members
from openrlhf_ktae.run_folder import EXIT_STOPPED, RunFolder

STATEFUL_TERM = """
from openrlhf_ktae.advantage.term import AdvantageTerm, TermResult

class Term(AdvantageTerm):
    '''Takes away the mean reward of all steps so far, this one included.'''

    def __init__(self, options):
        super().__init__(options)
        self.total, self.count = 0.0, 0

    def apply(self, batch, advantages):
        self.total += batch.rewards.sum().item()
        self.count += len(batch.rewards)
        baseline = self.total / self.count
        return TermResult(advantages - baseline, {"baseline": baseline})

    def state_dict(self):
        return {"total": self.total, "count": self.count}

    def load_state_dict(self, state):
        self.total, self.count = state["total"], state["count"]
"""

HOSTILE_REWARD = """
import torch
from openrlhf_ktae.reward import math_reward

HOSTILE = [
    r"\\boxed{9^{9^{9^9}}}",
    r"\\boxed{" + "{" * 5000,
    r"\\boxed{(10^5)!}",
    "\\x00" + r"\\boxed{" + "7" * 100000 + "}",
]

def reward_func(queries, prompts, labels, **kwargs):
    parity = sum(map(ord, queries[0])) % 4
    graded = math_reward.reward_func([prompts[0] + HOSTILE[parity]], prompts, labels, **kwargs)
    score = torch.tensor([float(parity % 2)])
    return graded | {"rewards": score, "scores": score}
"""

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def assets(runs):
    (runs.folder / "hostile.py").write_text(HOSTILE_REWARD)
    (runs.folder / "running_mean.py").write_text(STATEFUL_TERM)
    for name in ("my_term.py", "my_loss.py"):
        document_example(name, runs.folder)
    return runs.folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return TinyRuns(tmp_path_factory.mktemp("tiny"), steps=4)


@pytest.fixture(scope="module")
def command(runs):
    """The command line of a run with changes, and its folder: every step is logged, and the model evaluated."""

    def make(name: str, *overrides: str) -> tuple[list[str], RunFolder]:
        evaluation = f"eval.dataset={runs.folder / 'evaluation.jsonl'}"
        return runs.command(name, evaluation, "run.rollout_log_steps=1", "ckpt.save_steps=-1", *overrides)

    return make


@pytest.fixture(scope="module")
def stopped(command, assets):
    """A run of four steps, with terms and a loss by path, that was asked to stop after its first."""
    line, folder = command(
        "stopped",
        "algo.advantage.is_correction_level=token",
        "eval.steps=2",
        f"advantage.terms=[ktae, {assets / 'my_term.py'}, {assets / 'running_mean.py'}]",
        "my_term.decay=0.5",
        f"policy_loss.name={assets / 'my_loss.py'}",
    )
    process = start(line)
    wait_until(lambda: steps(folder), 400, process)
    members = of_run(process)
    process.send_signal(signal.SIGUSR1)
    output, _ = process.communicate(timeout=120)
    return process.returncode, output, folder, alive(members)


@pytest.fixture(scope="module")
def resumed(stopped):
    """The same run, gone on with to its end."""
    folder = RunFolder(stopped[2].path.resolve())
    first = steps(folder)
    # By the link, and without its --set values: the run knows its folder and its options.
    line = [sys.executable, "-m", "openrlhf_ktae.cli", "train", "recipes/quickstart", "--resume", str(stopped[2].path)]
    return first, succeed(line), folder


def test_asked_to_stop_a_run_writes_a_checkpoint_and_leaves_nothing_running(stopped):
    code, output, folder, left = stopped
    assert code == EXIT_STOPPED, output
    assert "Go on with: openrlhf-ktae train recipes/quickstart --resume" in " ".join(output.split())
    assert folder.read()["status"] == "interrupted"
    assert (folder.path / "checkpoints" / "_actor" / "latest").exists()
    assert left == []


def test_resuming_continues_the_steps_and_the_order_of_the_data(resumed):
    first, _, folder = resumed
    assert 1 <= len(first) < 4
    assert steps(folder) == [1, 2, 3, 4]
    assert folder.read()["status"] == "finished"
    prompts = [row["prompt"] for step in range(1, 5) for row in rollouts(folder, step) if row["rollout"] == 0]
    # An episode holds every prompt once: a resumed run that began anew would repeat some.
    assert len(prompts) == len(set(prompts)) == 4 * PROMPTS


def test_a_run_leaves_what_reports_and_users_need(resumed):
    _, output, folder = resumed
    run_json = folder.read()
    assert run_json["config"]["ktae"]["scale"] == 1.0 and run_json["versions"]["openrlhf"] == "0.11.2"
    assert (folder.path / "model" / "config.json").exists()
    summary = json.loads(folder.summary_file.read_text())
    assert summary["steps"] == 4 and summary["evaluation_problems"] == 8
    # Asked to stop after an even step, the run ends before that step is evaluated.
    assert {0, 4} <= set(steps(folder, "eval")) <= {0, 2, 4}
    assert "accuracy (pass@1)" in output
    line = next(line for line in folder.metrics() if line["kind"] == "train")
    expected = {
        "ktae/key_token_frac",
        "ktae/saturated_frac",
        "rollout/accuracy",
        "reward/timed_out_frac",
        "timing/ktae",
        "my_term/weight_mean",
        "timing/my_term",
        "my_loss/ratio_max",
    }
    assert expected <= set(line)
    phases = ("generation", "make_experience", "ppo_train", "broadcast")
    assert line["timing/step_total"] == pytest.approx(sum(line[f"timing/{phase}"] for phase in phases))
    assert (folder.path.parent / "latest").resolve() == folder.path


def test_key_token_values_in_training_equal_the_oracle(resumed):
    _, _, folder = resumed
    rows = rollouts(folder, 1)
    ignored = tuple(
        json.loads((folder.path / "model" / "config.json").read_text())[f"{kind}_token_id"] for kind in ("pad", "eos")
    )
    length = max(len(row["token_ids"]) for row in rows)
    values = oracle_values(
        [row["token_ids"] + [0] * (length - len(row["token_ids"])) for row in rows],
        [[1] * len(row["token_ids"]) + [0] * (length - len(row["token_ids"])) for row in rows],
        [row["correct"] for row in rows],
        [row["group"] for row in rows],
        KtaeConfig(ignore_token_ids=ignored),
    )
    rewards = torch.tensor([row["reward"] for row in rows]).view(-1, SAMPLES)
    rollout_level = ((rewards - rewards.mean(-1, keepdim=True)) / (rewards.std(-1, keepdim=True) + 1e-9)).flatten()
    baseline, found_non_zero = rewards.mean().item(), 0
    for row, expected, advantage in zip(rows, values, rollout_level.tolist(), strict=True):
        count = len(row["token_ids"])
        assert row["key_token_value"] == pytest.approx(expected[:count], abs=1e-6)
        weights = [0.5 ** (position / 100) for position in range(count)]
        assert row["weight"] == pytest.approx(weights, abs=1e-6)
        assert row["advantage"] == pytest.approx(
            [(advantage + value) * weight - baseline for value, weight in zip(expected[:count], weights, strict=True)],
            abs=1e-5,
        )
        found_non_zero += sum(value != 0 for value in expected)
    assert found_non_zero > 0


def test_a_stateful_term_goes_on_where_it_stopped(resumed):
    """The baseline of every step, of both parts of the run, from the rewards of all steps so far."""
    _, _, folder = resumed
    lines = [line for line in folder.metrics() if line["kind"] == "train"]
    rewards = []
    for line in lines:
        rewards += [row["reward"] for row in rollouts(folder, line["step"])]
        assert line["running_mean/baseline"] == pytest.approx(sum(rewards) / len(rewards), abs=1e-6)
    assert [line["my_term/steps"] for line in lines] == [1, 2, 3, 4]
    assert all(line["my_loss/ratio_max"] == pytest.approx(1, abs=0.01) for line in lines)  # one update: still on-policy


def test_the_counts_behind_the_values_are_kept(resumed):
    _, _, folder = resumed
    tokens = pq.read_table(folder.rollouts / "step_00001_tokens.parquet").to_pylist()
    by_key = {(row["group"], row["token_id"]): row for row in tokens}
    rows = [row for row in rollouts(folder, 1) if row["group"] == 0]
    token_id = rows[0]["token_ids"][0]
    entry = by_key[(0, token_id)]
    assert entry["a"] == sum(token_id in row["token_ids"] for row in rows if row["correct"])
    assert entry["m_w"] == sum(row["token_ids"].count(token_id) for row in rows if not row["correct"])


def test_vllm_samples_from_the_weights_that_were_trained(resumed):
    _, _, folder = resumed
    differences = [line["weights/vllm_logprob_diff_mean"] for line in folder.metrics() if line["kind"] == "train"]
    assert len(differences) == 4 and max(differences) < 0.02  # bf16 rounding; stale weights differ by tenths


def test_several_workers_train_packed_with_entropies_and_in_two_passes(command):
    """Two policy and two reference workers under ZeRO-2, dynamic batches, packed samples; every token is kept."""
    line, folder = command(
        "workers",
        "advantage.terms=[high_entropy]",
        "high_entropy.share=1.0",
        "policy_loss.name=lopti",
        "lopti.threshold=0.02",
        "actor.num_gpus_per_node=2",
        "ref.num_gpus_per_node=2",
        "train.dynamic_batch_enable=true",
        "ds.packing_samples=true",
        "train.max_tokens_per_gpu=128",
        f"data.max_samples={2 * PROMPTS}",
        "eval.dataset=null",
    )
    succeed(line)
    assert steps(folder) == [1, 2]
    assert all(line["policy_loss"] is not None and line["actor_grad_norm"] > 0 for line in folder.metrics())
    rows = rollouts(folder, 1)
    rewards = torch.tensor([row["reward"] for row in rows]).view(-1, SAMPLES)
    expected = ((rewards - rewards.mean(-1, keepdim=True)) / (rewards.std(-1, keepdim=True) + 1e-9)).flatten()
    for row, advantage in zip(rows, expected.tolist(), strict=True):
        assert set(row["advantage"]) == {advantage}
        assert set(row["high_entropy"]) == {1.0} and "key_token_value" not in row
    # An untrained model: nearly uniform over its 128 tokens.
    entropies = [value for row in rows for value in row["entropy"]]
    assert min(entropies) > 3.5 and max(entropies) < 4.86  # ln 128 = 4.852


def test_asynchronous_training_with_dr_grpo_and_hostile_answers(command, assets):
    line, folder = command(
        "async",
        "train.async_enable=true",
        "algo.advantage.estimator=dr_grpo",
        f"reward.remote_url={assets / 'hostile.py'}",
        "grader.answer_style=boxed",
        f"data.max_samples={2 * PROMPTS}",
        "advantage.terms=[token_probability, ktae]",
        "token_probability.alpha=1",
        "ktae.scale=0.5",
    )
    succeed(line)
    assert steps(folder) == [1, 2]
    assert steps(folder, "eval")[0] == 0
    rows = rollouts(folder, 2)
    rewards = torch.tensor([row["reward"] for row in rows]).view(-1, SAMPLES)
    expected = (rewards - rewards.mean(-1, keepdim=True)).flatten().tolist()
    for row, advantage in zip(rows, expected, strict=True):
        # The other order would multiply the key-token value too.
        total = [
            advantage * math.exp(log_prob) + value
            for log_prob, value in zip(row["log_prob"], row["key_token_value"], strict=True)
        ]
        assert row["advantage"] == pytest.approx(total, abs=1e-5)
    assert any(value != 0 for row in rows for value in row["key_token_value"])
    assert all(0 <= line["reward/timed_out_frac"] <= 1 for line in folder.metrics() if line["kind"] == "train")


def test_ctrl_c_ends_everything(command):
    line, folder = command("interrupted", "eval.dataset=null")
    process = start(line)
    wait_until(lambda: any(PROCESSES["raylet"] in command_line(member) for member in of_run(process)), 200, process)
    launcher = named(of_run(process), PROCESSES["launcher"])
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "nothing is left running" in " ".join(output.split())
    assert folder.read()["status"] == "interrupted"
    assert session_members(launcher.pid) == []


def test_an_error_in_training_is_reported_with_its_reason(command, tmp_path):
    """The reward source fails after the preflight call: OpenRLHF only logs it, this project stops."""
    reward = tmp_path / "failing.py"
    reward.write_text(
        REWARD.replace("    response =", "    if queries != prompts: raise OSError('disk')\n    response =")
    )
    line, folder = command("failing", f"reward.remote_url={reward}", "eval.dataset=null")
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert done.returncode not in (0, EXIT_STOPPED)
    reason = folder.read()["reason"]
    assert "prompts of a step failed, more than run.max_failed_prompts allows" in reason and "OSError('disk')" in reason
    assert reason in " ".join(done.stderr.split())
    assert folder.read()["status"] == "failed"
    assert os.path.getsize(folder.log_file) > 0
