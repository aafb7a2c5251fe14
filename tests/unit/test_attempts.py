"""When a run goes on by itself, and what it says about a failure."""

import errno
import json
import signal

import pytest

from openrlhf_ktae.files import write_json
from openrlhf_ktae.run_folder import Failure, MetricsLog, RunFolder
from openrlhf_ktae.runs import attempts

DIED = Failure("a vLLM engine died", may_pass=True)


@pytest.fixture
def folder(tmp_path):
    folder = RunFolder(tmp_path)
    config = {"openrlhf": {"ckpt.path": str(tmp_path / "checkpoints")}}
    write_json(folder.run_json, {"status": "running", "restarts": [], "config": config})
    return folder


def launcher(folder, monkeypatch, *script):
    """Stands for the launcher: each attempt writes so many steps and ends with a code and a failure."""
    attempts_left = list(script)

    def supervise(_, on_line):
        steps, code, failure, *said = attempts_left.pop(0)
        with folder.log_file.open("a") as log_file:
            log_file.writelines(said)
        log = MetricsLog(folder, first_step=1)
        for step in range(1, steps + 1):
            log.write("train", step, {})
        if failure:
            folder.write_failure(failure)
        return code

    monkeypatch.setattr(attempts, "supervise", supervise)
    return attempts_left


def train(folder, max_restarts=3):
    said = []
    return attempts.train_until_it_ends(folder, max_restarts, lambda line: None, said.append), said


def test_a_run_whose_process_died_goes_on_and_notes_why(folder, monkeypatch):
    launcher(folder, monkeypatch, (2, 1, DIED), (5, 1, DIED), (6, 0, None))
    outcome, said = train(folder)
    assert (outcome.status, outcome.code) == ("finished", 0)
    restarts = folder.read()["restarts"]
    assert [(entry["step"], entry["reason"]) for entry in restarts] == [(3, DIED.reason), (6, DIED.reason)]
    assert "Restart 2 of 3 (run.max_restarts)." in said


def test_two_failures_in_one_step_end_the_run(folder, monkeypatch):
    left = launcher(folder, monkeypatch, (2, 1, DIED), (2, 1, DIED), (6, 0, None))
    outcome, _ = train(folder)
    assert outcome.status == "failed" and len(left) == 1
    assert outcome.reason == "a vLLM engine died; not restarted again, as the attempt before failed in step 3 too"


def test_no_more_restarts_than_asked_for(folder, monkeypatch):
    launcher(folder, monkeypatch, *((steps, 1, DIED) for steps in (1, 2, 3)))
    outcome, _ = train(folder, max_restarts=2)
    assert outcome.reason == "a vLLM engine died; not restarted after 2 restarts (run.max_restarts)"
    launcher(folder, monkeypatch, (1, 1, DIED))
    assert train(folder, max_restarts=0)[0].reason == "a vLLM engine died"


def test_a_mistake_is_not_tried_again(folder, monkeypatch):
    launcher(folder, monkeypatch, (1, 1, Failure("scores: found 0.5", may_pass=False)), (2, 0, None))
    outcome, _ = train(folder)
    assert (outcome.status, outcome.reason) == ("failed", "scores: found 0.5")
    assert folder.read()["restarts"] == []


def test_what_failed_before_does_not_explain_the_next_attempt(folder, monkeypatch):
    launcher(folder, monkeypatch, (1, 1, DIED), (2, -signal.SIGKILL, None), (3, 0, None))
    train(folder)
    assert [entry["reason"].partition(";")[0] for entry in folder.read()["restarts"]] == [
        "a vLLM engine died",
        "the training process was ended by SIGKILL",
    ]


def test_an_exception_that_an_attempt_before_logged_is_not_the_reason(folder, monkeypatch):
    launcher(folder, monkeypatch, (1, 1, None, "KeyError: 'first'\n"), (2, 143, None), (3, 0, None))
    train(folder)
    assert [entry["reason"] for entry in folder.read()["restarts"]] == [
        "KeyError: 'first'",
        "the training process ended with exit code 143",
    ]


def test_a_disk_that_is_full_when_a_run_starts_again_is_one_sentence(folder, monkeypatch):
    left = launcher(folder, monkeypatch, (1, 1, DIED), (2, 0, None))

    def reserve_room():
        if len(left) == 1:  # one attempt has been made
            raise OSError(errno.ENOSPC, "No space left on device", "/runs/1/.reserve")

    monkeypatch.setattr(folder, "reserve_room", reserve_room)
    outcome, _ = train(folder)
    assert (outcome.status, len(left)) == ("failed", 1)
    assert outcome.reason == "the disk is full: /runs/1/.reserve (No space left on device); make room, then resume"


def test_without_a_note_the_last_exception_of_the_log_is_the_reason(folder):
    assert attempts.find_failure(folder, 143).reason == "the training process ended with exit code 143"
    folder.log_file.write_text(
        "INFO something\nTraceback (most recent call last):\n  File x\nKeyError: 'first'\n"
        "\x1b[36m(Trainer pid=1)\x1b[0m Traceback (most recent call last):\n"
        "ray.exceptions.RayTaskError(ValueError): \x1b[36mray::fit()\x1b[39m\nValueError: scores: 3 of 8 rollouts\n"
    )
    assert attempts.find_failure(folder, 1).reason == "ValueError: scores: 3 of 8 rollouts"


def test_an_engine_that_died_of_an_error_is_named_with_it(folder):
    """Lines of a vLLM 0.29.0 that cut prompts in two for requests with a seed, on a CPU."""
    prefix = "\x1b[36m(RolloutActor pid=7)\x1b[0m (EngineCore pid=16036) ERROR 11-30 04:24:52 [core.py:1376] "
    before = f"{prefix}ValueError: of the attempt before\n"
    folder.log_file.write_text(
        f"{before}{prefix}    raise RuntimeError(\n{prefix}RuntimeError: Worker failed with error 'CPU Generator does "
        "not use offset', please check the stack trace above for the root cause\n"
        "vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue.\n"
    )
    folder.write_failure(DIED)
    found = attempts.find_failure(folder, 1, len(before))
    assert found.may_pass and found.reason.startswith(
        "a vLLM engine died: RuntimeError: Worker failed with error 'CPU Generator does not use offset'"
    )
    folder.log_file.write_text(before)
    assert attempts.find_failure(folder, 1, len(before)) == DIED  # it was killed


def test_ray_ends_the_launcher_when_its_control_process_is_gone(folder):
    folder.log_file.write_text(
        "[2026-11-22 03:33:43,206 E 27454 28578] rpc_client.h:203: Failed to connect to GCS within 60 seconds. GCS may "
        "have been killed.\n"
    )
    assert attempts.find_failure(folder, 1).reason == "Ray's control process (gcs_server) died"


def test_what_the_launcher_notes_is_json_that_is_read_back(folder):
    folder.write_failure(DIED)
    assert json.loads(folder.failure_file.read_text()) == {"reason": "a vLLM engine died", "may_pass": True}
    assert folder.read_failure() == DIED
