"""Processes of a real run are killed: it goes on by itself, or ends with its reason, and leaves nothing behind."""

import json
import os
import signal
import time

import pytest
from tiny_run import TinyRuns, alive, named, of_run, start, steps, wait_until

pytestmark = pytest.mark.ray

VICTIMS = {
    "policy": "PolicyActor",
    "rollout": "RolloutActor",
    "raylet": "raylet/raylet",
    "launcher": "openrlhf_ktae.training.launch",
    "reference": "ReferenceActor",
    "trainer": "ray::Trainer",
    "gcs": "gcs_server",
}
STEPS = 8
CHOSEN = os.environ.get("OPENRLHF_KTAE_KILLS", "policy,rollout,launcher").split(",")
"""Which processes are killed; each costs a start of the stack."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return TinyRuns(tmp_path_factory.mktemp("tiny"), steps=STEPS)


@pytest.fixture(scope="module")
def survivor(runs):
    """A run of eight steps; one process after the other is killed, each in a later step."""
    line, folder = runs.command("survivor", f"run.max_restarts={len(CHOSEN)}", "ckpt.max_num=2")
    process = start(line)
    killed = []
    for count, victim in enumerate(CHOSEN, start=1):
        wait_until(lambda: steps(folder)[-1:] >= [count], 200, process)  # noqa: B023
        members = of_run(process)
        named(members, VICTIMS[victim]).kill()
        killed += members
        wait_until(lambda: len(folder.read()["restarts"]) == count, 90, process)  # noqa: B023
        assert not alive(members), f"after the {victim} was killed"
    output, _ = process.communicate(timeout=200)
    return process.returncode, output, folder


def test_a_run_whose_processes_are_killed_ends_by_itself(survivor):
    code, output, folder = survivor
    assert code == 0, output
    assert folder.read()["status"] == "finished"
    assert steps(folder) == list(range(1, STEPS + 1))
    assert f"Restart {len(CHOSEN)} of {len(CHOSEN)} (run.max_restarts)." in output
    assert json.loads(folder.summary_file.read_text())["restarts"] == len(CHOSEN)


def test_each_restart_names_its_reason_in_one_sentence(survivor):
    expected = {
        "policy": "the policy's process",
        "rollout": "a vLLM engine",
        "reference": "the reference model's process",
        "launcher": "the training process was ended by SIGKILL",
    }
    reasons = [entry["reason"] for entry in survivor[2].read()["restarts"]]
    for victim, reason in zip(CHOSEN, reasons, strict=True):
        assert expected.get(victim, "") in reason
        assert "\n" not in reason and "\x1b" not in reason and len(reason) < 200


def test_it_goes_on_after_the_last_checkpoint(survivor):
    _, output, folder = survivor
    for entry in folder.read()["restarts"]:
        assert f"Going on after step {entry['step'] - 1}." in output or f"after step {entry['step'] - 2}." in output


def test_without_the_process_that_supervises_it_a_run_ends_within_30_seconds(runs):
    line, folder = runs.command("orphan")
    process = start(line)
    wait_until(lambda: steps(folder), 200, process)
    members = of_run(process)
    assert len(members) > 5
    process.send_signal(signal.SIGKILL)
    killed_at = time.monotonic()
    wait_until(lambda: not alive(members), 30)
    process.communicate()
    run = folder.read()
    assert time.monotonic() - killed_at < 30
    assert run["status"] == "failed"
    assert f"openrlhf-ktae train, pid {process.pid}) was killed" in run["reason"]
