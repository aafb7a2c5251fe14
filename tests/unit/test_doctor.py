"""The doctor's arithmetic against hand-worked numbers, and its verdicts."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from openrlhf_ktae.openrlhf_options import check
from openrlhf_ktae.recipe import resolve
from openrlhf_ktae.runs import doctor
from openrlhf_ktae.runs.gpus import Gpu

ROOT = Path(__file__).resolve().parents[2]
GIB = 2**30
H100 = Gpu("H100", 80.0 * GIB, (9, 0))
MODEL = SimpleNamespace(hidden_size=100, num_hidden_layers=10, vocab_size=1000)


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def arguments(*overrides):
    config = resolve(ROOT / "recipes" / "grpo_qwen2.5_math_1.5b", list(overrides))
    return check(config.openrlhf_argv("runs/test"))


def test_a_parameter_takes_16_bytes_shared_as_the_zero_stage_says():
    states = {
        stage: doctor.estimate_memory(
            arguments(f"ds.zero_stage={stage}", "ds.grad_accum_dtype=null"), 8000, MODEL, 80.0
        ).policy_states
        for stage in (0, 1, 2, 3)
    }
    # 2 for weights, 2 for gradients, 12 for master weights and both moments; 8 workers.
    assert states == {0: 16 * 8000, 1: (4 + 1.5) * 8000, 2: (2 + 0.25 + 1.5) * 8000, 3: 2 * 8000}


def test_the_optimizer_leaves_the_gpu_when_it_is_offloaded():
    # The published recipes add gradients up in float32: 4 bytes of them.
    assert doctor.estimate_memory(arguments("ds.adam_offload=true"), 8000, MODEL, 80.0).policy_states == 2.5 * 8000


def test_activations_are_a_hidden_state_a_layer_and_the_logits():
    estimate = doctor.estimate_memory(arguments("train.max_tokens_per_gpu=5000"), 8000, MODEL, 80.0)
    assert estimate.activations == 5000 * (2 * 100 * 10 + 8 * 1000)


def test_the_reference_takes_memory_only_where_there_is_a_kl_term():
    assert doctor.estimate_memory(arguments(), 8000, MODEL, 80.0).reference == 16000
    assert doctor.estimate_memory(arguments("algo.kl.init_coef=0"), 8000, MODEL, 80.0).reference == 0


def test_vllm_may_take_its_share_of_the_gpu():
    assert doctor.estimate_memory(arguments("vllm.gpu_memory_utilization=0.5"), 1, MODEL, 80.0).vllm == 40


def test_parameters_are_counted_without_weights_and_a_tied_layer_once(tmp_path):
    config = {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "hidden_size": 64, "num_hidden_layers": 1}
    config |= {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32, "intermediate_size": 128}
    (tmp_path / "config.json").write_text(json.dumps(config | {"vocab_size": 100, "tie_word_embeddings": True}))
    embedding = 100 * 64
    attention = 64 * 64 + 2 * 64 * 32 + 64 * 64 + 2 * 32  # q, k and v, o, and the norms of q and k
    layer = attention + 3 * 64 * 128 + 2 * 64
    count, read = doctor.parameter_counts(str(tmp_path))
    assert count == embedding + layer + 64
    assert read.hidden_size == 64


@pytest.fixture
def found(tmp_path):
    """The findings about the published 1.5B recipe, by their names, with two prompt sets of 2,500 problems."""
    for name in ("train", "evaluation"):
        (tmp_path / f"{name}.jsonl").write_text('{"input": "1 + 1", "label": "2"}\n' * 2500)

    def findings(*overrides):
        prompts = [f"data.prompt_dataset={tmp_path}/train.jsonl", f"eval.dataset={tmp_path}/evaluation.jsonl"]
        config = resolve(ROOT / "recipes" / "grpo_qwen2.5_math_1.5b", [*prompts, *overrides])
        return {finding.what: finding for finding in doctor.recipe_findings(config)}

    return findings


def test_a_model_whose_size_nobody_can_tell_is_noted(found, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "no_such_model"}')
    model = found(f"actor.model_name_or_path={tmp_path}")["model"]
    assert "does not recognize this architecture" in model.found and model.verdict == "note"


def test_steps_and_rollouts_that_fill_no_update_are_counted(found):
    found = found()
    assert found["steps"].found == "2500 prompts: 3 an epoch, 60 in 20"
    # 2500 - 2 x 1024 = 452 prompts; 452 x 16 = 7232 = 3 x 2048 + 1088
    assert found["last step of an epoch"].found == "452 prompts; 1088 of its 7232 rollouts fill no update"
    assert found["last step of an epoch"].verdict == "note"
    assert found["a step"].found == "16384 rollouts, 8 updates"


def test_a_prompt_set_that_is_missing_is_wrong_and_says_how_to_make_it(found, tmp_path):
    for option in ("data.prompt_dataset", "eval.dataset"):
        wrong = found(f"{option}={tmp_path}/none.jsonl")[option]
        assert wrong.verdict == "wrong"
        assert "none.jsonl does not exist" in wrong.found and "see `openrlhf-ktae data`" in wrong.found
    assert not {"data.prompt_dataset", "eval.dataset"} & set(found())
    assert "eval.dataset" not in found("eval.dataset=null")


def test_a_prompt_set_that_a_run_would_refuse_is_wrong(found, tmp_path):
    (tmp_path / "other.jsonl").write_text('{"question": "1 + 1", "label": "2"}\n')
    wrong = found(f"eval.dataset={tmp_path}/other.jsonl")["eval.dataset"]
    assert (wrong.verdict, "'input' is no column of" in wrong.found) == ("wrong", True)


def test_a_model_of_the_hub_may_be_missing_and_a_folder_may_not(found, tmp_path):
    of_hub, folder = found()["model"], found(f"actor.model_name_or_path={tmp_path}/none")["model"]
    assert of_hub.verdict == "note" and "not in the hub's cache here" in of_hub.found
    assert folder.verdict == "wrong" and "none is no model folder" in folder.found
    assert found("actor.model_name_or_path=runs/my/model")["model"].verdict == "wrong"
    judge = ["reward.remote_url=null", f"reward.model_name_or_path={tmp_path}/judge", "eval.dataset=null"]
    of_rewards = found(*judge)["model"]
    assert of_rewards.verdict == "wrong" and "reward.model_name_or_path" in of_rewards.found


def test_what_a_task_makes_by_itself_is_not_missing(tmp_path):
    config = resolve(
        ROOT / "recipes" / "quickstart",
        [
            f"arithmetic.directory={tmp_path}",
            f"actor.model_name_or_path={tmp_path}/model",
            f"data.prompt_dataset={tmp_path}/train.jsonl",
            f"eval.dataset={tmp_path}/evaluation.jsonl",
        ],
    )
    found = {finding.what: finding for finding in doctor.recipe_findings(config)}
    assert {found[what].verdict for what in ("prompts", "model")} == {"note"}
    assert all("made before training starts" in found[what].found for what in ("prompts", "model"))
    config.make_task().options.note_made()  # so nothing is made any more
    verdicts = {finding.what: finding.verdict for finding in doctor.recipe_findings(config)}
    assert {verdicts[what] for what in ("data.prompt_dataset", "eval.dataset", "model")} == {"wrong"}


def test_methods_that_do_not_go_together_cannot_work(found):
    with pytest.raises(ValueError, match="kalman_baseline replaces the advantages"):
        found("advantage.terms=[ktae, kalman_baseline]")


def test_a_package_of_another_version_than_openrlhf_pins_is_wrong(monkeypatch):
    versions = {"ray": "1.0", "openrlhf": "0.11.2"}
    monkeypatch.setattr(doctor, "_version", versions.get)
    assert doctor._package("ray", "2.55.0") == doctor.Finding("ray", "1.0, OpenRLHF 0.11.2 asks for 2.55.0", "wrong")
    assert doctor._package("ray", "1.0").verdict == "ok"
    assert doctor._package("deepspeed", "0.19.6").verdict == "wrong"


def test_the_installed_stack_is_reported_with_its_versions():
    found = {finding.what: finding for finding in doctor.installed()}
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", found["torch"].found)
    assert found["openrlhf"].verdict == "ok"


@pytest.mark.parametrize(("overrides", "code"), [([], 0), (["train.batch_size=100"], 2)])
def test_the_exit_code_says_whether_the_recipe_can_work(overrides, code, capsys, monkeypatch):
    monkeypatch.setattr(doctor, "installed", list)
    assert doctor.doctor_command(ROOT / "recipes" / "quickstart", overrides) == code
    assert ("no multiple of train.batch_size 100" in " ".join(capsys.readouterr().out.split())) == (code == 2)


def test_too_few_gpus_on_this_machine_are_named(monkeypatch):
    monkeypatch.setattr(doctor, "gpus_here", lambda: [H100] * 4)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(doctor, "_memory", lambda *_: [])
    config = resolve(ROOT / "recipes" / "grpo_qwen2.5_math_1.5b", [])
    found = next(finding for finding in doctor.recipe_findings(config) if finding.what == "GPUs")
    assert "; this machine has 4" in found.found and found.verdict == "wrong"
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")  # a cluster, which may have more
    found = next(finding for finding in doctor.recipe_findings(config) if finding.what == "GPUs")
    assert found.verdict == "note"
    monkeypatch.setattr(doctor, "gpus_here", lambda: [H100] * 64)
    found = next(finding for finding in doctor.recipe_findings(config) if finding.what == "GPUs")
    assert "this machine" not in found.found and found.verdict == "ok"


def test_what_sleeps_in_a_node_is_counted():
    # The published 7B run: 16 bytes a parameter of the policy's states, and the weights of eight engines: 243 GB.
    assert doctor.host_memory(arguments(), 7_600_000_000) == pytest.approx(16 * 7.6e9 + 8 * 2 * 7.6e9)
    # Two nodes share the policy's states and hold eight engines each.
    two = arguments("actor.num_nodes=2", "ref.num_nodes=2", "vllm.num_engines=16")
    assert doctor.host_memory(two, 7_600_000_000) == pytest.approx(8 * 7.6e9 + 8 * 2 * 7.6e9)
