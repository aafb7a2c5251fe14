"""Merging: a real ZeRO-3 checkpoint becomes a folder whose log-probabilities are the trained policy's.

ZeRO-2 with two workers is merged in test_cluster.py, from the checkpoint of its job.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from model_code import add_code
from transformers import AutoModelForCausalLM, AutoTokenizer

from openrlhf_ktae.run_folder import RunFolder
from openrlhf_ktae.runs.merge import MergeError, find_checkpoint, log_probs, merge, verify

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of one step of recipes/cpu_grpo under ZeRO-3, with a checkpoint after it."""
    runs = tmp_path_factory.mktemp("runs")
    changes = {
        "run.output_dir": runs,
        "ds.zero_stage": 3,
        "data.max_samples": 16,
        "ckpt.save_steps": 1,
        "eval.dataset": "null",
        "arithmetic.directory": runs / "assets",
        "actor.model_name_or_path": runs / "assets" / "model",
        "data.prompt_dataset": runs / "assets" / "train.jsonl",
        # So little warm-up earns no reward; the entropy term moves the weights all the same.
        "arithmetic.warmup_steps": 5,
        "actor.entropy_coef": 1.0,
    }
    command = [sys.executable, "-m", "openrlhf_ktae.cli", "train", "recipes/cpu_grpo"]
    command += [part for name, value in changes.items() for part in ("--set", f"{name}={value}")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=560)
    assert done.returncode == 0, done.stdout + done.stderr
    return RunFolder(runs / "latest")


@pytest.fixture(scope="module")
def merged(run, tmp_path_factory):
    output = tmp_path_factory.mktemp("merged") / "model"
    merge(run.path, output)
    return output


def test_log_probabilities_equal_the_trained_policys(run, merged):
    ours, theirs = (AutoModelForCausalLM.from_pretrained(path) for path in (merged, run.path / "model"))
    token_ids = torch.randint(ours.config.vocab_size, (8, 48), generator=torch.manual_seed(1))
    assert ours.dtype == torch.bfloat16
    assert (log_probs(ours, token_ids) - log_probs(theirs, token_ids)).abs().max() <= 1e-3


def test_the_policy_was_trained_so_that_the_comparison_means_something(run, merged):
    ours, start = (
        AutoModelForCausalLM.from_pretrained(path) for path in (merged, run.path.parent / "assets" / "model")
    )
    token_ids = torch.randint(ours.config.vocab_size, (8, 48), generator=torch.manual_seed(1))
    assert (log_probs(ours, token_ids) - log_probs(start, token_ids)).abs().max() > 1e-2


def test_verification_passes_the_folder_and_catches_changed_weights(run, merged, tmp_path):
    found = find_checkpoint(run.path)
    assert verify(found, merged) <= 1e-3
    changed = tmp_path / "changed"
    shutil.copytree(merged, changed)
    model = AutoModelForCausalLM.from_pretrained(changed)
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(1.5)
    model.save_pretrained(changed)
    with pytest.raises(MergeError, match=r"differ by .* nats .* do not use it"):
        verify(found, changed)


def test_the_folder_is_complete(run, merged):
    names = {path.name for path in merged.iterdir()}
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "README.md"} <= names
    text = "7*8+1="
    tokenizers = (AutoTokenizer.from_pretrained(path) for path in (merged, run.path / "model"))
    assert len({tuple(tokenizer(text).input_ids) for tokenizer in tokenizers}) == 1


def test_the_model_card_says_recipe_data_metrics_and_options(run, merged):
    card = (merged / "README.md").read_text(encoding="utf-8")
    assert "- Checkpoint: global_step1" in card
    assert "- Recipe: cpu_grpo\n" in card and "- Data: train.jsonl" in card
    accuracy = next(line["rollout/accuracy"] for line in run.metrics() if line["kind"] == "train")
    assert f"| rollout/accuracy | {accuracy:.4g} |" in card
    options = json.loads(card.partition("```json\n")[2].partition("```")[0])
    assert options["openrlhf"]["ds.zero_stage"] == 3
    assert str(run.path.resolve().parent) not in card


def test_an_output_with_content_is_refused(run, merged):
    with pytest.raises(MergeError, match="exists and is not empty"):
        merge(run.path, merged)


def test_another_base_model_is_refused(run, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(run.path / "model", other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"intermediate_size": 2 * config["intermediate_size"]}))
    with pytest.raises(MergeError, match=r"mlp.* has shape .*--base"):
        merge(run.path, tmp_path / "output", base=str(other))


def test_a_base_model_that_brings_code_is_merged_where_its_code_may_run(run, tmp_path, monkeypatch):
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(tmp_path / "modules")
    base, output = tmp_path / "base", tmp_path / "output"
    shutil.copytree(run.path.parent / "assets" / "model", base)
    add_code(base, tmp_path / "ran")
    with pytest.raises(ValueError, match=r"base model: .* brings code of its own .* pass --trust-remote-code"):
        merge(run.path, output, str(base))
    merged = merge(run.path, output, str(base), trust_remote_code=True)
    assert verify(merged, output, str(base), trust_remote_code=True) <= 1e-3
    assert (output / "mine.py").is_file()


def test_an_incomplete_checkpoint_is_refused(run, tmp_path):
    (folder,) = (run.path / "checkpoints" / "_actor").glob("global_step1")
    copy = tmp_path / folder.name
    shutil.copytree(folder, copy)
    for path in copy.glob("*_optim_states.pt"):
        os.remove(path)
    with pytest.raises(MergeError, match="holds no optimizer states"):
        merge(copy, tmp_path / "output", base=str(run.path / "model"))
    with pytest.raises(MergeError, match=r"no run.json above .* --base"):
        merge(copy, tmp_path / "output")


def test_a_folder_without_checkpoint_is_refused(tmp_path):
    with pytest.raises(MergeError, match=r"holds no DeepSpeed checkpoint; .*ckpt.save_steps"):
        find_checkpoint(tmp_path)
