"""A run folder belongs to one run, and a run to the one process that supervises it, until all of it has ended."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from openrlhf_ktae.files import fingerprint, take_lock, write_json
from openrlhf_ktae.run_folder import RunFolder
from openrlhf_ktae.runs import plan as module
from openrlhf_ktae.runs.plan import hold, in_new_folder, open_folder, plan_run

QUICKSTART = Path(__file__).resolve().parents[2] / "recipes" / "quickstart"
SUPERVISOR = """
import sys
from openrlhf_ktae.run_folder import RunFolder
from openrlhf_ktae.runs.plan import hold
from openrlhf_ktae.runs.supervise import supervise
folder = RunFolder(sys.argv[1])
sys.executable = str(folder.path / "launcher")
with hold(folder):
    supervise(folder, print)
"""


@pytest.fixture
def plan(tmp_path):
    return plan_run(QUICKSTART, [f"run.output_dir={tmp_path}", "run.name=run"], None)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_ENDING_SECONDS", 0.3)
    return RunFolder(tmp_path)


def is_free(folder: RunFolder) -> bool:
    with hold(folder):
        return True


def test_runs_that_start_in_one_second_have_folders_of_their_own(plan):
    plans = [in_new_folder(plan) for _ in range(3)]
    stamped = plan.folder.path.name
    assert [made.folder.path.name for made in plans] == [stamped, f"{stamped}-2", f"{stamped}-3"]
    for made in plans:
        open_folder(made)
        assert made.folder.read()["config"]["openrlhf"]["ckpt.path"].startswith(str(made.folder.path.resolve()))
        assert str(made.folder.path) in made.resume_command


def test_two_starts_may_set_the_link_to_the_latest_run_at_once(plan, monkeypatch):
    first, second = in_new_folder(plan), in_new_folder(plan)
    latest = plan.folder.path.parent / "latest"
    link = Path.symlink_to

    def just_after_the_other(path: Path, target: str) -> None:
        if not latest.is_symlink():
            link(latest, first.folder.path.name)
        link(path, target)

    monkeypatch.setattr(Path, "symlink_to", just_after_the_other)
    open_folder(second)
    assert latest.readlink().name == second.folder.path.name
    names = {path.name for path in latest.parent.iterdir()}
    assert names == {"latest", first.folder.path.name, second.folder.path.name}


def test_a_folder_that_is_called_latest_stays(plan):
    latest = plan.folder.path.parent / "latest"
    latest.mkdir()
    open_folder(in_new_folder(plan))
    assert latest.is_dir() and not latest.is_symlink()


def test_a_run_that_is_trained_by_another_process_is_refused(folder):
    with hold(folder), pytest.raises(ValueError, match=r"^--resume: .* is being trained by another process; .*/stop"):
        is_free(folder)
    assert is_free(folder)


def test_one_that_is_just_ending_is_waited_for(folder, monkeypatch):
    monkeypatch.setattr(module, "_ENDING_SECONDS", 20)
    code = "import sys, time; from openrlhf_ktae.files import take_lock; take_lock(sys.argv[1]); print(); time.sleep(1)"
    line = [sys.executable, "-u", "-c", code, str(folder.lock_file)]
    with subprocess.Popen(line, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        assert take_lock(folder.lock_file) is None
        assert is_free(folder)


def test_after_the_supervisor_was_killed_the_run_is_free_when_its_launcher_has_ended_too(folder, monkeypatch):
    launcher = folder.path / "launcher"
    launcher.write_text('#!/bin/sh\necho $$ > "$3/pid"\nexec sleep 60\n')
    launcher.chmod(0o755)
    with subprocess.Popen([sys.executable, "-c", SUPERVISOR, str(folder.path)]) as supervisor:
        deadline = time.monotonic() + 60
        while not (folder.path / "pid").is_file() or not (folder.path / "pid").read_text():
            assert time.monotonic() < deadline and supervisor.poll() is None
            time.sleep(0.05)
        supervisor.send_signal(signal.SIGKILL)
    with pytest.raises(ValueError, match="is being trained"):
        is_free(folder)
    os.kill(int((folder.path / "pid").read_text()), signal.SIGKILL)
    monkeypatch.setattr(module, "_ENDING_SECONDS", 20)
    assert is_free(folder)


def test_a_file_system_without_locks_keeps_nobody_from_training(folder, monkeypatch):
    def refuse(*_: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert is_free(folder)


def test_reading_a_run_needs_no_lock(folder, capsys):
    from openrlhf_ktae.runs.checkpoints import checkpoints_command

    checkpoint = folder.path / "checkpoints" / "_actor" / "global_step1"
    checkpoint.mkdir(parents=True)
    (checkpoint.parent / "latest").write_text("global_step1")
    write_json(folder.run_json, {"config": {"openrlhf": {"ckpt.path": str(folder.path / "checkpoints")}}})
    with hold(folder):
        assert checkpoints_command(folder.path) == 0
    assert "global_step1" in capsys.readouterr().out


def test_a_run_notes_the_weights_it_started_from_and_keeps_them_when_it_is_resumed(tmp_path):
    weights = tmp_path / "model" / "model.safetensors"
    weights.parent.mkdir()
    weights.write_bytes(b"first")
    overrides = [f"run.output_dir={tmp_path}", f"actor.model_name_or_path={weights.parent}"]
    plan = in_new_folder(plan_run(QUICKSTART, overrides, None))
    noted = open_folder(plan)["start_model"]
    assert noted == fingerprint(weights.parent, "*.safetensors") is not None
    weights.write_bytes(b"other")
    assert open_folder(plan)["start_model"] == noted != fingerprint(weights.parent, "*.safetensors")
