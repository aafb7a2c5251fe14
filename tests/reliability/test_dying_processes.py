"""Processes of a real run are killed: it goes on by itself as if nothing had been, or ends with its reason, and leaves
nothing behind."""

import json
import os
import re
import signal
import time

import pytest
from tiny_run import (
    PROCESSES,
    TinyRuns,
    alive,
    command_line,
    is_connected_to_ray,
    named,
    numbers,
    of_run,
    start,
    steps,
    wait_until,
)

pytestmark = [pytest.mark.ray, pytest.mark.timeout(1800)]

CHOSEN = os.environ.get("OPENRLHF_KTAE_KILLS", "engine,launcher").split(",")
"""Which processes are killed, one after the other; each costs a start of the stack."""
STEPS = 2 * len(CHOSEN) + 4


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return TinyRuns(tmp_path_factory.mktemp("tiny"), steps=STEPS)


def command(runs, name):
    return runs.command(
        name,
        f"run.max_restarts={len(CHOSEN)}",
        "ckpt.save_steps=2",
        "ckpt.max_num=2",
        "run.deterministic_sampling=true",
        f"eval.dataset={runs.folder / 'evaluation.jsonl'}",
        "eval.steps=2",
        "algo.kl.target=0.1",  # an adaptive KL controller, whose value has to come back
    )


@pytest.fixture(scope="module")
def both(runs):
    """The same run twice, at once."""
    return [(start(line), folder) for line, folder in (command(runs, "unbroken"), command(runs, "survivor"))]


@pytest.fixture(scope="module")
def unbroken(both):
    process, folder = both[0]
    output, _ = process.communicate(timeout=500)
    assert steps(folder) == list(range(1, STEPS + 1)), output
    return folder


@pytest.fixture(scope="module")
def survivor(both):
    """Of this one a process after the other is killed, each one step after a checkpoint."""
    process, folder = both[1]
    killed = []
    for count, victim in enumerate(CHOSEN, start=1):
        wait_until(lambda: steps(folder)[-1:] >= [2 * count + 1], 400, process)  # noqa: B023
        members = of_run(process)
        chosen = named(members, PROCESSES[victim])
        if victim == "engine":  # what it is asked meanwhile it never answers: requests, or to pause, or to take weights
            chosen.suspend()
            time.sleep(2)
        if victim == "rollout":
            hold_the_weights_up(members)
        chosen.kill()
        killed += members
        wait_until(lambda: len(folder.read()["restarts"]) == count, 90, process)  # noqa: B023
        assert not alive(members), f"after the {victim} was killed"
    output, _ = process.communicate(timeout=500)
    return process.returncode, output, folder


def hold_the_weights_up(members):
    """Returns when the policy waits for an engine that does not take its weights."""

    policy, engine = named(members, PROCESSES["policy"]), named(members, PROCESSES["engine"])
    while "PolicyModelActor.fit" not in command_line(policy):
        time.sleep(0.01)
    engine.suspend()
    wait_until(lambda: "broadcast_to_vllm" in command_line(policy), 60)


def test_a_run_whose_processes_are_killed_ends_by_itself(survivor):
    code, output, folder = survivor
    assert code == 0, output
    assert folder.read()["status"] == "finished"
    assert steps(folder) == list(range(1, STEPS + 1))
    assert f"Restart {len(CHOSEN)} of {len(CHOSEN)} (run.max_restarts)." in output
    assert json.loads(folder.summary_file.read_text())["restarts"] == len(CHOSEN)


def test_with_deterministic_sampling_it_repeats_the_unbroken_run_bit_for_bit(survivor, unbroken):
    assert numbers(survivor[2]) == numbers(unbroken)
    assert all(line["actor_grad_norm"] > 0 for line in numbers(unbroken) if line["kind"] == "train")


def test_each_restart_names_its_reason_in_one_sentence(survivor):
    expected = {
        "policy": "the policy's process",
        "rollout": "died",  # it, or its engine, that the policy was sending its weights to
        "engine": "died",
        "reference": "the reference model's process",
        "gcs": "Ray's control process (gcs_server) died",
        "launcher": "the training process was ended by SIGKILL",
    }
    reasons = [entry["reason"] for entry in survivor[2].read()["restarts"]]
    for victim, reason in zip(CHOSEN, reasons, strict=True):
        assert expected.get(victim, "") in reason
        assert "\n" not in reason and "\x1b" not in reason and len(reason) < 200


def test_it_goes_on_after_the_last_checkpoint(survivor):
    _, output, folder = survivor
    went_on = [int(step) for step in re.findall(r"Going on after step (\d+)\.", output)]
    for entry, step in zip(folder.read()["restarts"], went_on, strict=True):
        assert step % 2 == 0 and entry["step"] - 2 <= step < entry["step"]


def test_a_ray_that_dies_before_anything_has_a_place_is_started_again_and_nothing_outlives_the_supervisor(runs):
    """OpenRLHF would wait for ever for the place; and without who supervises it a run ends within 30 seconds."""
    line, folder = runs.command("orphan")
    process = start(line)
    wait_until(lambda: is_connected_to_ray(process), 200, process)
    time.sleep(1)
    members = of_run(process)
    named(members, PROCESSES["raylet"]).kill()
    wait_until(lambda: folder.read()["restarts"], 120, process)
    assert not alive(members)
    wait_until(lambda: steps(folder), 400, process)
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
