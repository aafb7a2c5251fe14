"""Stage 1 of A*-PO through real vLLM: killed in the middle, it goes on where it stopped."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from openrlhf_ktae.tasks.arithmetic import Task
from openrlhf_ktae.tasks.prompt_set import write_prompts
from openrlhf_ktae.tasks.tiny_model import make_model, make_tokenizer, save

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]
ROOT = Path(__file__).resolve().parents[2]
PROMPTS, SAMPLES = 256, 8


def test_a_command_killed_in_the_middle_loses_and_repeats_nothing(tmp_path):
    save(make_model(0), make_tokenizer(), tmp_path / "model")
    task = Task(Task.Options(directory=str(tmp_path / "unused"), train_problems=PROMPTS))
    write_prompts(task.prompt_sets()["train.jsonl"], tmp_path / "prompts.jsonl")
    log = tmp_path / "values.jsonl.samples"

    def lines() -> list[bytes]:
        return log.read_bytes().split(b"\n")[1:-1] if log.exists() else []

    process = start(tmp_path)
    deadline = time.monotonic() + 300
    while len(lines()) < 100:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = lines()
    assert 100 <= len(before) < PROMPTS * SAMPLES
    process = start(tmp_path)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert f"{len(before)} of {PROMPTS * SAMPLES} are there already" in output
    after = lines()
    assert after[: len(before)] == before
    keys = [tuple(json.loads(line)[:2]) for line in after]
    assert sorted(keys) == [(row, sample) for row in range(PROMPTS) for sample in range(SAMPLES)]
    rewards = {(row, sample): reward for row, sample, reward, *_ in map(json.loads, after)}
    rows = [json.loads(line) for line in (tmp_path / "values.jsonl").read_text().splitlines()]
    assert [row["rewards"] for row in rows] == [[rewards[n, s] for s in range(SAMPLES)] for n in range(PROMPTS)]


def start(folder: Path) -> subprocess.Popen:
    line = [sys.executable, "-m", "openrlhf_ktae.cli", "data", "values", str(folder / "prompts.jsonl")]
    line += ["--model", str(folder / "model"), "--output", str(folder / "values.jsonl"), "--samples", str(SAMPLES)]
    line += ["--max-tokens", "48", "--task", "arithmetic", "--set", "grader.answer_style=hash"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        line, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
