"""What a run asks of Ray: a cluster that has too little, or that is not there, is named at once."""

import json
import socket
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray

from openrlhf_ktae.config import RunOptions
from openrlhf_ktae.runs import gpus
from openrlhf_ktae.runs.command import train_command
from openrlhf_ktae.training import attention, cluster

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "recipes" / "grpo_ktae_qwen2.5_math_1.5b_single_gpu"
ROLES = {"policy and reference": 8, "vLLM": 8}


def test_a_cluster_with_everything_lacks_nothing():
    has = {"GPU": 16.0, "CPU": 64.0}
    assert cluster.missing(ROLES, has, has) is None


@pytest.mark.parametrize(
    ("total", "free", "sentence"),
    [
        (
            {"GPU": 8, "CPU": 64},
            {"GPU": 8, "CPU": 64},
            "GPUs: the run needs 16, the Ray cluster has 8; GPUs by role: 8",
        ),
        ({"CPU": 64}, {"CPU": 64}, "the Ray cluster has 0"),
        ({"GPU": 16, "CPU": 64}, {"GPU": 7, "CPU": 64}, "of the Ray cluster's 16 only 7 are free; another job holds"),
        ({"GPU": 16, "CPU": 16}, {"GPU": 16, "CPU": 16}, "CPUs: the run needs 17, the Ray cluster has 16"),
    ],
)
def test_what_a_cluster_lacks_is_named_with_its_numbers(total, free, sentence):
    assert sentence in cluster.missing(ROLES, total, free)


def test_nodes_that_join_late_are_waited_for_and_others_are_not(monkeypatch):
    monkeypatch.setattr(cluster, "_POLL_SECONDS", 0.01)
    nodes = iter([1, 1, 2])
    found = SimpleNamespace(gpus=0)

    def cluster_resources():
        found.gpus = 8 * next(nodes, found.gpus // 8)
        return {"GPU": found.gpus, "CPU": 99}

    monkeypatch.setattr(ray, "cluster_resources", cluster_resources)
    monkeypatch.setattr(ray, "available_resources", lambda: {"GPU": found.gpus, "CPU": 99})
    cluster.wait_for_resources(ROLES, 60)
    assert found.gpus == 16
    with pytest.raises(ValueError, match=r"needs 17, the Ray cluster has 16.*\(waited 0\.05 s .*cluster_wait_seconds"):
        cluster.wait_for_resources(ROLES | {"critic": 1}, 0.05)


def test_a_run_on_gpus_joins_no_ray_that_it_was_not_told_of(monkeypatch):
    """The address file of a cluster that has ended made Ray wait for minutes."""
    asked = {}
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "init", lambda **options: asked.update(options))
    monkeypatch.setattr(cluster, "wait_for_resources", lambda gpus, seconds: None)
    monkeypatch.setattr(attention, "flash_attn_is_installed", lambda: False)
    cluster.start_ray(RunOptions(), {"A": "1"}, {"policy": 2})
    hook = "openrlhf_ktae.training.attention.install"
    assert asked["address"] == "local" and asked["num_cpus"] >= 4 and "num_gpus" not in asked
    variables = {"A": "1", "PATH": f"{Path(sys.executable).parent}:${{PATH}}"}  # where ninja is
    assert asked["runtime_env"] == {"env_vars": variables, "worker_process_setup_hook": hook}
    monkeypatch.setattr(attention, "flash_attn_is_installed", lambda: True)
    cluster.start_ray(RunOptions(), {"A": "1"}, {"policy": 2})
    assert asked["runtime_env"] == {"env_vars": variables}


def refusal(capsys, *overrides: str) -> str:
    assert train_command(RECIPE, list(overrides), dry_run=False, resume=None) == 2
    return " ".join(capsys.readouterr().err.split())


def test_a_gpu_recipe_is_refused_where_there_is_no_gpu(capsys, monkeypatch, tmp_path):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(gpus, "gpus_here", list)
    assert "no GPU: the recipe needs 1, CUDA finds none on this machine" in refusal(
        capsys, f"run.output_dir={tmp_path}"
    )
    assert not list(tmp_path.iterdir())


def test_a_gpu_recipe_is_refused_where_there_are_too_few(capsys, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(gpus, "gpus_here", lambda: [gpus.Gpu("H100", 8e10, (9, 0))] * 2)
    few = ("actor.num_gpus_per_node=4", "ref.num_gpus_per_node=4", "vllm.num_engines=4")
    assert "= 4, but there are 2" in refusal(capsys, *few)


def test_an_address_where_nobody_answers_is_named_at_once(capsys, monkeypatch):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")
    assert f"RAY_ADDRESS: no Ray answers at 127.0.0.1:{port}" in refusal(capsys)


def test_the_launcher_knows_the_gpus_of_its_run(tmp_path):
    from openrlhf_ktae.runs.plan import in_new_folder, open_folder, plan_run

    plan = in_new_folder(plan_run(ROOT / "recipes" / "quickstart", [f"run.output_dir={tmp_path}"], None))
    open_folder(plan)
    described = json.loads(plan.folder.run_json.read_text())
    assert described["gpus"] == {"policy": 1, "reference": 1, "vLLM": 1}
