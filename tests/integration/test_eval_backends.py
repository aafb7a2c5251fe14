"""The real benchmarks through vLLM in process, two Ray engines, and a real vLLM server: the same verdicts."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from eval_model import make_answering_model
from ray_nodes import two_nodes
from shared_data import evaluation_suite

from eval.records import Record, read_records

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 20
SAMPLES = 5 * LIMIT
LENGTH = "8192"
LONG = "OPENRLHF_KTAE_LONG_TESTS"
ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "COLUMNS": "200"}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_answering_model(tmp_path_factory.mktemp("answering") / "model")


@pytest.fixture(scope="module")
def local_run(model, tmp_path_factory):
    """The evaluation with vLLM in process, killed in the middle and started again."""
    folder = tmp_path_factory.mktemp("local") / "result"
    process = start(model, folder, "--max-num-seqs", "4")
    wait_for(lambda: len(lines(folder)) >= 12, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = lines(folder)
    assert 12 <= len(before) < SAMPLES
    finish(start(model, folder))
    return folder, before


def command(model, folder, *arguments):
    fixed = ["--data", str(evaluation_suite()), "--limit", str(LIMIT), "--max-tokens", "32", "--max-model-len", LENGTH]
    return [sys.executable, "-m", "eval", "run", "--model", str(model), "--output", str(folder), *fixed, *arguments]


def start(model, folder, *arguments, environment=None):
    return subprocess.Popen(
        command(model, folder, *arguments),
        cwd=ROOT,
        env={**ENVIRONMENT, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process, code=0):
    output, errors = process.communicate(timeout=400)
    assert process.returncode == code, output[-2000:] + errors[-4000:]
    return output, errors


def lines(folder):
    path = folder / "outputs.jsonl"
    data = path.read_bytes() if path.exists() else b""
    return data.split(b"\n")[:-1]


def wait_for(condition: Callable[[], bool], process, seconds=300):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


def verdicts(folder):
    records = read_records(folder / "outputs.jsonl")
    return {r.key: (r.answer, r.correct, r.formatted, r.tokens, r.finish_reason) for r in records}


def test_killed_run_goes_on_with_nothing_lost_and_nothing_twice(local_run):
    folder, before = local_run
    assert lines(folder)[: len(before)] == before
    records: list[Record] = read_records(folder / "outputs.jsonl")
    assert len({record.key for record in records}) == len(records) == SAMPLES
    results = json.loads((folder / "results.json").read_text())
    assert results["partial_because"] == [f"limit {LIMIT}: the first problems of each task only"]
    assert {task: row["n"] for task, row in results["tasks"].items()} == dict.fromkeys(results["tasks"], LIMIT)
    assert len(results["tasks"]) == 5
    # The model answers, sometimes rightly: verdicts that could differ between backends.
    assert sum(record.formatted for record in records) > SAMPLES / 2
    assert 0 < sum(record.correct for record in records) < SAMPLES


def test_finished_run_is_only_shown(local_run, model):
    folder, _ = local_run
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    output, _ = finish(start(model, folder))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert "Partial result" in output and "AIME 2024" in output


def test_an_engine_on_each_of_two_ray_nodes_gives_the_same_verdicts(local_run, model, tmp_path):
    with two_nodes() as nodes:
        folder, token = tmp_path / "ray", {key: nodes.environment[key] for key in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN")}
        finish(start(model, folder, "--engines", "2", "--address", nodes.address, environment=token))
        engines = [actor for actor in nodes.listed("actors") if actor["class_name"] == "Engine"]
    assert len({actor["node_id"] for actor in engines}) == 2
    assert {actor["state"] for actor in engines} == {"DEAD"}
    assert verdicts(folder) == verdicts(local_run[0])


@pytest.mark.skipif(LONG not in os.environ, reason=f"a second Ray start, a minute or two: set {LONG}=1")
def test_two_ray_engines_on_this_machine_alone_give_the_same_verdicts(local_run, model, tmp_path):
    finish(start(model, tmp_path / "ray", "--engines", "2"))
    assert verdicts(tmp_path / "ray") == verdicts(local_run[0])


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def server(model):
    from openrlhf_ktae import cpu_vllm

    port = free_port()
    arguments = ["--model", str(model), "--served-model-name", "tiny", "--host", "127.0.0.1", "--port", str(port)]
    arguments += ["--max-model-len", LENGTH, "--dtype", "bfloat16", "--enforce-eager"]
    arguments += ["--kv-cache-memory-bytes", str(256 * 2**20)]
    process = subprocess.Popen(
        [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *arguments],
        env={**ENVIRONMENT, **cpu_vllm.ENVIRONMENT}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip

    def is_up():
        try:
            return urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).status == 200
        except OSError:
            return False

    try:
        wait_for(is_up, process)
        yield f"http://127.0.0.1:{port}/v1", process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=60)


def test_server_gives_the_same_verdicts_and_its_death_keeps_what_came(local_run, server, model, tmp_path):
    url, process = server
    finish(start("tiny", tmp_path / "server", "--base-url", url, "--tokenizer", str(model)))
    assert verdicts(tmp_path / "server") == verdicts(local_run[0])

    folder = tmp_path / "dies"
    run = start("tiny", folder, "--base-url", url, "--tokenizer", str(model), "--concurrency", "1")
    wait_for(lambda: len(lines(folder)) >= 5, run)
    os.killpg(process.pid, signal.SIGKILL)
    _, errors = finish(run, code=1)
    assert "does not answer any more" in errors and "goes on from there" in errors
    results = json.loads((folder / "results.json").read_text())
    assert results["partial"] and any("interrupted" in reason for reason in results["partial_because"])
    kept = verdicts(folder)
    assert 5 <= len(kept) < SAMPLES
    assert kept.items() <= verdicts(local_run[0]).items()
