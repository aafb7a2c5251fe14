"""The run folder's files, and what is read back from them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from openrlhf_ktae.files import write_json
from openrlhf_ktae.processes import end_session
from openrlhf_ktae.run_folder import MetricsLog, RunFolder, git_commit
from openrlhf_ktae.runs.summary import summarize
from openrlhf_ktae.runs.supervise import Interrupted, signals
from openrlhf_ktae.runs.terminal import format_line


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path)


def test_numbers_that_are_not_finite_become_null(folder):
    MetricsLog(folder, first_step=0).write("train", 1, {"kl": float("nan"), "reward": 0.5, "grad": float("inf")})
    line = folder.metrics()[0]
    assert (line["kind"], line["step"], line["kl"], line["reward"], line["grad"]) == ("train", 1, None, 0.5, None)


def test_a_resumed_run_drops_the_steps_it_repeats(folder):
    log = MetricsLog(folder, first_step=0)
    for step in range(1, 6):
        log.write("train", step, {"reward": 0.0})
    before = folder.metrics()[2]["seconds"]
    MetricsLog(folder, first_step=4).write("train", 4, {"reward": 1.0})
    assert [(line["step"], line["reward"]) for line in folder.metrics()] == [(1, 0), (2, 0), (3, 0), (4, 1)]
    assert folder.metrics()[3]["seconds"] >= before


def test_a_metric_that_openrlhf_leaves_open_becomes_null(folder):
    MetricsLog(folder, first_step=0).write("train", 2, {"dynamic_filtering_pass_rate": None})
    assert folder.metrics()[0]["dynamic_filtering_pass_rate"] is None


def test_a_line_still_being_written_is_not_read(folder):
    folder.metrics_file.write_text('{"kind": "train", "step": 1}\n{"kind": "tr')
    assert [line["step"] for line in folder.metrics()] == [1]


def test_run_json_is_changed_in_one_step(folder):
    write_json(folder.run_json, {"status": "running", "name": "a"})
    folder.update(status="finished")
    assert folder.read() == {"status": "finished", "name": "a"}
    assert [path.name for path in folder.path.iterdir()] == ["run.json"]


def test_outside_of_a_checkout_there_is_no_commit(tmp_path):
    assert git_commit(tmp_path) is None


def test_the_commit_of_a_file_is_that_of_its_folder():
    assert git_commit(Path(__file__)) == git_commit(Path(__file__).parent)


def test_the_summary_adds_up_what_the_metrics_say():
    lines = [
        {
            "kind": "eval",
            "step": 0,
            "a/pass@1": 0.4,
            "a/n": 512.0,
            "a/response_length_mean": 33.0,
            "timing/evaluation": 2.0,
        },
        {"kind": "train", "step": 1, "timing/step_total": 3.0, "timing/generation": 1.0},
        {"kind": "train", "step": 2, "timing/step_total": 1.0, "timing/generation": None},
        {"kind": "train", "step": 3, "timing/step_total": 2.0, "timing/generation": 0.5},
        {
            "kind": "eval",
            "step": 3,
            "a/pass@1": 0.9,
            "a/n": 512.0,
            "a/response_length_mean": 30.0,
            "timing/evaluation": 1.0,
        },
    ]
    summary = summarize(lines, {"preparation": 10.0})
    assert (summary["accuracy_before"], summary["accuracy_after"]) == (0.4, 0.9)
    assert (summary["response_tokens_before"], summary["response_tokens_after"]) == (33.0, 30.0)
    assert (summary["steps"], summary["step_seconds_median"], summary["evaluation_problems"]) == (3, 2.0, 512)
    assert summary["seconds"]["generation"] == 1.5
    assert (summary["seconds"]["evaluation"], summary["seconds"]["preparation"]) == (3.0, 10.0)


def test_a_run_without_evaluation_has_a_summary():
    summary = summarize([{"kind": "train", "step": 1, "timing/step_total": 3.0}], {})
    assert summary["steps"] == 1 and "accuracy_after" not in summary


def test_a_line_for_the_terminal_names_what_it_shows():
    line = {"kind": "train", "step": 3, "rollout/accuracy": 0.5, "kl": None, "timing/step_total": 1.234}
    assert format_line(line, 40) == "step    3/40  accuracy 0.500  seconds 1.23"
    line = {"kind": "eval", "step": 3, "math/pass@1": 0.5, "math/n": 500.0}
    assert format_line(line, None) == "  evaluation after step 3: math/pass@1 0.500"


def test_a_whole_session_is_ended_orphans_included():
    sleep = "import time; time.sleep(60)"
    code = f"import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', '{sleep}']).pid, flush=True)"
    launcher = subprocess.Popen([sys.executable, "-c", code], start_new_session=True, stdout=subprocess.PIPE, text=True)
    orphan = psutil.Process(int(launcher.stdout.readline()))
    launcher.wait(20)
    assert orphan.is_running()
    end_session(launcher)
    assert not orphan.is_running()


def test_a_running_launcher_is_ended():
    launcher = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    end_session(launcher)
    assert launcher.poll() == -signal.SIGTERM


def test_sigusr1_asks_for_a_checkpoint_and_sigterm_ends(folder):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted), signals(folder):
        os.kill(os.getpid(), signal.SIGUSR1)
        time.sleep(0.05)
        assert folder.stop_file.exists()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
    assert signal.getsignal(signal.SIGTERM) is before


def test_metrics_are_one_json_object_per_line(folder):
    MetricsLog(folder, first_step=0).write("eval", 0, {"a/pass@1": 0.25})
    assert json.loads(folder.metrics_file.read_text())["a/pass@1"] == 0.25
