"""`scripts/submit_ray.sh` on two nodes: a whole job, who may talk to the cluster, and where secrets are not."""

import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest
import torch
from ray_nodes import own_address, two_nodes
from transformers import AutoModelForCausalLM

from openrlhf_ktae.run_folder import RunFolder
from openrlhf_ktae.runs.merge import log_probs, merge

ROOT = Path(__file__).resolve().parents[2]
SUBMIT = str(ROOT / "scripts" / "submit_ray.sh")
MARKER = "feedfacefeedfacefeedfacefeedfacefeedface"

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def nodes():
    # The documented way: the key stands in the environment of `ray start`.
    with two_nodes(gpus=(1, 2), WANDB_API_KEY=MARKER) as cluster:
        yield cluster


class ProcessList(threading.Thread):
    """Notes the arguments of all processes while a job runs."""

    def __init__(self):
        super().__init__(daemon=True)
        self.seen: set[str] = set()
        self.done = threading.Event()

    def run(self):
        while not self.done.wait(0.5):
            for process in psutil.process_iter(["cmdline"]):
                self.seen.add(" ".join(process.info["cmdline"] or ()))


@pytest.fixture(scope="module")
def job(nodes, tmp_path_factory):
    """One step of a tiny recipe: two policy workers under ZeRO-2, the rollouts on a third logical GPU."""
    folder = tmp_path_factory.mktemp("job")
    changes = {
        "run.output_dir": folder / "runs",
        "run.wandb": "offline",
        "actor.num_gpus_per_node": 2,
        "algo.kl.init_coef": 0,
        "data.max_samples": 16,
        "ckpt.save_steps": 1,
        "eval.dataset": "null",
        "arithmetic.directory": folder / "assets",
        "actor.model_name_or_path": folder / "assets" / "model",
        "data.prompt_dataset": folder / "assets" / "train.jsonl",
        # So little warm-up earns no reward; the entropy term moves the weights all the same.
        "arithmetic.warmup_steps": 5,
        "actor.entropy_coef": 1.0,
    }
    command = [
        SUBMIT,
        "--address",
        nodes.dashboard,
        "--id",
        "tiny",
        "--python",
        sys.executable,
        "recipes/cpu_grpo_ktae",
    ]
    command += [part for name, value in changes.items() for part in ("--set", f"{name}={value}")]
    processes = ProcessList()
    processes.start()
    done = subprocess.run(command, env=nodes.environment, capture_output=True, text=True, timeout=560)
    processes.done.set()
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr, RunFolder(folder / "runs" / "latest"), processes.seen


def test_the_job_succeeds_and_its_run_folder_is_complete(nodes, job):
    output, run, _ = job
    assert nodes.get("/api/jobs/tiny")["status"] == "SUCCEEDED"
    assert run.read()["status"] == "finished"
    assert [line["step"] for line in run.metrics() if line["kind"] == "train"] == [1]
    names = {path.name for path in run.path.iterdir()}
    assert {"checkpoints", "metrics.jsonl", "model", "rollouts", "run.json", "summary.json", "train.log"} <= names
    assert all(f"{word}  " in output for word in ("follow", "stop now", "resume"))


def test_policy_and_rollout_run_on_different_nodes(nodes, job):
    where: dict[str, set[str]] = {}
    for actor in nodes.listed("actors"):
        where.setdefault(actor["class_name"], set()).add(actor["node_id"])
    policy = where["PolicyModelActor"]
    (rollout,) = (node for name, node in where.items() if "Rollout" in name)
    assert policy - rollout, where


def test_a_checkpoint_of_two_zero_2_workers_merges_into_the_trained_policy(job, tmp_path):
    _, run, _ = job
    shards = list((run.path / "checkpoints" / "_actor" / "global_step1").glob("*_optim_states.pt"))
    assert len(shards) == 2
    merge(run.path, tmp_path / "merged")
    ours, theirs = (AutoModelForCausalLM.from_pretrained(path) for path in (tmp_path / "merged", run.path / "model"))
    token_ids = torch.randint(ours.config.vocab_size, (8, 48), generator=torch.manual_seed(1))
    assert ours.dtype == torch.bfloat16
    assert (log_probs(ours, token_ids) - log_probs(theirs, token_ids)).abs().max() <= 1e-3


def test_the_wandb_key_is_in_no_file_log_or_process_list(nodes, job):
    output, run, processes = job
    assert list(run.path.glob("wandb/offline-run-*/run-*.wandb"))
    assert MARKER not in output
    assert any("cpu_grpo_ktae" in arguments for arguments in processes)
    assert not [arguments for arguments in processes if MARKER in arguments]
    files = [path for root in (run.path, nodes.session) for path in root.rglob("*") if path.is_file()]
    assert len(files) > 50
    assert not [path for path in files if MARKER.encode() in path.read_bytes()]


def test_a_client_without_the_token_is_refused(nodes):
    stranger = {key: value for key, value in nodes.environment.items() if not key.startswith("RAY_AUTH")}
    code = f"import ray; ray.init('{nodes.address}'); print(ray.get(ray.remote(lambda: 'ran').remote()))"
    environment = stranger | {"HOME": str(nodes.session)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120, cwd="/"
    )
    assert done.returncode != 0 and "ran" not in done.stdout.split()
    assert "uthenticat" in done.stderr
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{nodes.dashboard}/api/jobs/", timeout=30)
    assert refused.value.code == 401


def test_the_dashboard_listens_on_localhost_alone(nodes):
    socket.create_connection(("127.0.0.1", nodes.dashboard_port), timeout=10).close()
    if own_address().startswith("127."):
        pytest.skip("this host has no address but localhost")
    with pytest.raises(OSError):
        socket.create_connection((own_address(), nodes.dashboard_port), timeout=10)


def test_a_wrong_recipe_fails_the_job_with_the_reason_in_its_log(nodes):
    command = [SUBMIT, "--address", nodes.dashboard, "--python", sys.executable, "recipes/cpu_grpo"]
    command += ["--set", "train.batch_size=100"]
    done = subprocess.run(command, env=nodes.environment, capture_output=True, text=True, timeout=240)
    output = " ".join((done.stdout + done.stderr).split())
    assert done.returncode != 0
    assert "no multiple of train.batch_size 100" in output


def test_a_key_among_the_arguments_is_refused_before_it_is_sent(nodes):
    command = [SUBMIT, "--address", nodes.dashboard, "recipes/cpu_grpo", "--set", "logger.wandb.key=secret"]
    done = subprocess.run(command, env=nodes.environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "a key never stands in arguments" in done.stderr


def test_nothing_of_the_job_is_left_on_the_nodes(nodes, job):
    _, run, _ = job
    deadline = time.monotonic() + 60
    while left := [p.pid for p in psutil.process_iter(["cmdline"]) if str(run.path.parent) in str(p.info["cmdline"])]:
        assert time.monotonic() < deadline, left
        time.sleep(0.5)
    assert os.path.exists(run.path)
