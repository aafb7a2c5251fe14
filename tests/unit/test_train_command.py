"""``openrlhf-ktae train`` around a launcher that trains nothing: what run.json says at the end, whatever happens."""

import signal
import sys
from pathlib import Path

import pytest

from openrlhf_ktae.run_folder import RunFolder
from openrlhf_ktae.runs import command, plan

QUICKSTART = Path(__file__).resolve().parents[2] / "recipes" / "quickstart"
LINE = '{"kind": "train", "step": 1, "seconds": 1.0, "rollout/accuracy": 0.5, "timing/step_total": 1.0}'


@pytest.fixture
def train(tmp_path, monkeypatch):
    """Trains the quickstart with options; returns the exit code and the run's folder."""
    launcher = tmp_path / "launcher"
    launcher.write_text(f"""#!/bin/sh\necho '{LINE}' >> "$3/metrics.jsonl"\n""")
    launcher.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(launcher))
    monkeypatch.setattr(command, "prepare", lambda config: 0.0)
    monkeypatch.setattr(command, "check_run", lambda plan: None)

    def start(*overrides: str, resume: Path | None = None) -> int:
        return command.train_command(QUICKSTART, [f"run.output_dir={tmp_path / 'runs'}", *overrides], False, resume)

    start.folder = RunFolder(tmp_path / "runs" / "latest")
    return start


def test_a_tracker_that_fails_is_switched_off_and_the_run_finishes(train, monkeypatch, capsys):
    from torch.utils.tensorboard import SummaryWriter

    def fail(*_: object) -> None:
        raise BrokenPipeError("the service is gone")

    monkeypatch.setattr(SummaryWriter, "add_scalar", fail)
    assert train("run.tensorboard=true") == 0
    assert train.folder.read()["status"] == "finished"
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("run.tensorboard is switched off: BrokenPipeError: the service is gone") == 1


def test_a_key_that_is_refused_ends_it_before_anything_starts(train, monkeypatch, capsys):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_API_KEY", "tooshort")
    assert train("run.wandb=online") == 2
    run = train.folder.read()
    assert run["status"] == "failed" and run["finished_at"]
    assert "run.wandb: W&B did not start: WANDB_API_KEY invalid" in run["reason"]
    assert run["reason"] in " ".join(capsys.readouterr().err.split())
    assert not train.folder.metrics_file.exists() and not train.folder.log_file.exists()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (KeyError("accuracy"), "KeyError: 'accuracy'"),
        (SystemExit(1), "openrlhf-ktae train ended before the run did"),  # rich's answer to a pipe that is closed
    ],
)
def test_what_goes_wrong_here_leaves_no_run_that_seems_to_run(train, monkeypatch, error, reason):
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(command, "format_line", fail)
    with pytest.raises(type(error)):
        train()
    run = train.folder.read()
    assert (run["status"], run["reason"]) == ("failed", reason) and run["finished_at"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_the_trackers_start_is_an_interruption(train, monkeypatch, number):
    monkeypatch.setattr(command, "Tracking", lambda *_: signal.raise_signal(number))
    assert train() == 128 + signal.SIGINT
    assert train.folder.read()["status"] == "interrupted"


def test_a_run_is_locked_while_it_trains_and_free_afterwards(train, monkeypatch, capsys):
    monkeypatch.setattr(plan, "_ENDING_SECONDS", 0.3)
    resumed = []

    def resume(*_: object) -> str:
        checkpoint = train.folder.path / "checkpoints" / "_actor" / "global_step1"
        checkpoint.mkdir(parents=True, exist_ok=True)
        (checkpoint.parent / "latest").write_text("global_step1")
        if not resumed:
            before = train.folder.run_json.read_text()
            resumed.append(train(resume=train.folder.path))
            assert train.folder.run_json.read_text() == before
        return ""

    monkeypatch.setattr(command, "format_line", resume)
    assert train() == 0 and resumed == [2]
    assert "is being trained by another process" in " ".join(capsys.readouterr().err.split())
    assert train(resume=train.folder.path) == 0
    assert len(train.folder.metrics()) == 2  # the stand-in repeats its step


def test_runs_that_start_at_once_do_not_share_a_folder(train, monkeypatch):
    monkeypatch.setattr(plan, "_new_folder", lambda config: train.folder.path.with_name("at-once"))
    assert [train(f"train.seed={seed}") for seed in (1, 2)] == [0, 0]
    made = [RunFolder(train.folder.path.with_name(name)).read()["seed"] for name in ("at-once", "at-once-2")]
    assert made == [1, 2]
