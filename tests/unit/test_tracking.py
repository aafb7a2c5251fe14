"""What goes to W&B and TensorBoard, and that the W&B key goes nowhere else."""

import json
import os
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from openrlhf_ktae.config import RunOptions
from openrlhf_ktae.recipe import resolve
from openrlhf_ktae.run_folder import RunFolder
from openrlhf_ktae.runs.tracking import (
    TABLE_COLUMNS,
    Tracking,
    TrackingError,
    check_tracking,
    curated,
    key_tokens,
    sample_rows,
)

ROOT = Path(__file__).resolve().parents[2]
TRAIN = {
    "kind": "train",
    "step": 2,
    "time": "2026-01-01T00:00:00+00:00",
    "seconds": 3.0,
    "rollout/accuracy": 0.5,
    "ktae/key_token_frac": 0.25,
    "timing/ktae": 0.01,
    "kl": None,
    "total_length": 40.0,
}
EVAL = {"kind": "eval", "step": 2, "time": "", "seconds": 4.0, "math/pass@1": 0.7, "math/n": 256}
MARKER = "0123456789" * 3 + "markermark"
DESCRIPTION = {"config": {"run": {}}, "versions": {}, "git_commit": None, "seed": 1, "model": "m", "recipe": "r"}


@pytest.fixture
def folder(tmp_path):
    run = RunFolder(tmp_path / "run")
    run.rollouts.mkdir(parents=True)
    return run


def write_rollouts(folder, step):
    row = {
        "step": step,
        "prompt": "1+1=",
        "response": "#2|",
        "label": "2",
        "correct": True,
        "reward": 1.0,
        "token_ids": [3, 4, 5],
        "key_token_value": [0.0, 0.5, -0.25],
    }
    pq.write_table(pa.Table.from_pylist([row, row, row]), folder.rollouts / f"step_{step:05d}.parquet")
    pq.write_table(pa.table({"token_id": [3, 4, 5], "token": ["#", "2", "|"]}), folder.vocabulary)


def test_curated_metrics_are_the_chosen_ones_that_have_a_value():
    assert curated(TRAIN) == {
        "train/rollout/accuracy": 0.5,
        "train/ktae/key_token_frac": 0.25,
        "train/timing/ktae": 0.01,
    }
    assert curated(EVAL) == {"eval/math/pass@1": 0.7, "eval/math/n": 256}


def test_key_tokens_are_distinct_of_one_sign_and_strongest_first():
    tokens, values = ["a", "b", "a", "c", "d"], [0.2, 0.9, 0.2, -0.4, 0.0]
    assert key_tokens(tokens, values, 1) == "'b' +0.90, 'a' +0.20"
    assert key_tokens(tokens, values, -1) == "'c' -0.40"


def test_sample_rows_are_the_first_rollouts(folder):
    write_rollouts(folder, 1)
    rows = sample_rows(folder.rollouts / "step_00001.parquet", 2)
    assert rows == [[1, "1+1=", "#2|", "2", True, 1.0, "'2' +0.50", "'|' -0.25"]] * 2
    assert len(rows[0]) == len(TABLE_COLUMNS)


def test_a_key_among_the_options_is_refused():
    config = resolve(ROOT / "recipes" / "cpu_grpo", [f"logger.wandb.key={MARKER}"])
    with pytest.raises(ValueError, match=r"logger.wandb.key: .* run.wandb=online .* WANDB_API_KEY") as caught:
        check_tracking(config)
    assert MARKER not in str(caught.value)


def test_a_url_with_a_password_is_refused():
    config = resolve(ROOT / "recipes" / "cpu_grpo", [f"reward.remote_url=http://judge:{MARKER}@host:8000/score"])
    with pytest.raises(ValueError, match=r"reward.remote_url: a URL with a password") as caught:
        check_tracking(config)
    assert MARKER not in str(caught.value)
    check_tracking(resolve(ROOT / "recipes" / "cpu_grpo", ["reward.remote_url=http://host:8000/score@2"]))


def test_an_online_run_without_a_key_is_refused(tmp_path):
    config = resolve(ROOT / "recipes" / "cpu_grpo", ["run.wandb=online"])
    nowhere = {"NETRC": str(tmp_path / "netrc")}
    with pytest.raises(ValueError, match=r"run.wandb: online needs a key"):
        check_tracking(config, nowhere)
    check_tracking(config, nowhere | {"WANDB_API_KEY": MARKER})
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password secret\n")
    check_tracking(config, nowhere)


def test_wandb_offline_writes_its_files_and_the_key_stays_out_of_them(folder, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_API_KEY", MARKER)
    tracking = Tracking(folder, RunOptions(wandb="offline"), "name", DESCRIPTION)
    assert "WANDB_API_KEY" not in os.environ
    write_rollouts(folder, 1)
    tracking.log(TRAIN)
    tracking.log(EVAL)
    tracking.close(0)
    (log,) = folder.path.glob("wandb/offline-run-*/run-*.wandb")
    deadline = time.monotonic() + 20
    while b"eval/math/pass@1" not in (content := log.read_bytes()) and time.monotonic() < deadline:
        time.sleep(0.05)  # W&B's own process writes the file, and may do so after `finish` has returned
    for found in (b"train/rollout/accuracy", b"train/ktae/key_token_frac", b"eval/math/pass@1"):
        assert found in content
    (table,) = folder.path.glob("wandb/offline-run-*/files/media/table/rollouts*.json")
    assert json.loads(table.read_text())["columns"] == TABLE_COLUMNS
    for path in folder.path.rglob("*"):
        assert not path.is_file() or MARKER.encode() not in path.read_bytes(), path


def test_tensorboard_holds_the_curated_metrics_and_the_sample_table(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tracking = Tracking(folder, RunOptions(tensorboard=True), "name", DESCRIPTION)
    write_rollouts(folder, 2)
    tracking.log(TRAIN)
    tracking.close(0)
    events = EventAccumulator(str(folder.path / "tensorboard"))
    events.Reload()
    assert sorted(events.Tags()["scalars"]) == sorted(curated(TRAIN))
    assert [(event.step, event.value) for event in events.Scalars("train/rollout/accuracy")] == [(2, 0.5)]
    (text,) = events.Tensors("rollouts/text_summary")
    assert b"'2' +0.50" in text.tensor_proto.string_val[0]


def test_rollouts_of_an_earlier_part_of_a_resumed_run_are_not_sent_again(folder):
    write_rollouts(folder, 1)
    tracking = Tracking(folder, RunOptions(tensorboard=True), "name", DESCRIPTION)
    sent = []
    tracking._log_rollouts = lambda step, path: sent.append(step)
    tracking.log(TRAIN)
    write_rollouts(folder, 2)
    tracking.log(TRAIN)
    tracking.log(EVAL)
    tracking.close(0)
    assert sent == [2]


def test_one_tracker_that_fails_is_switched_off_and_the_other_stays(folder, capsys):
    class Gone:
        option = "run.wandb"
        log = log_rollouts = close = lambda *_: {}["service"]

    tracking = Tracking(folder, RunOptions(tensorboard=True), "name", DESCRIPTION)
    tracking._trackers.insert(0, Gone())
    write_rollouts(folder, 2)
    tracking.log(TRAIN)
    tracking.log(EVAL)
    tracking.close(0)
    said = capsys.readouterr().err
    assert said.count("run.wandb is switched off: KeyError: 'service'") == 1 and "run.tensorboard" not in said
    (events,) = folder.path.glob("tensorboard/*")
    content = events.read_bytes()
    assert b"train/rollout/accuracy" in content and b"eval/math/pass@1" in content and b"key tokens for" in content


def test_a_tracker_that_cannot_start_says_how_to_go_on(folder):
    (folder.path / "tensorboard").write_text("no folder")
    with pytest.raises(
        TrackingError, match=r"^run.tensorboard: TensorBoard's writer did not start: .*; set it to false"
    ):
        Tracking(folder, RunOptions(tensorboard=True), "name", DESCRIPTION)


def test_without_trackers_nothing_is_written_and_the_key_still_leaves_the_environment(folder, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", MARKER)
    tracking = Tracking(folder, RunOptions(), "name", DESCRIPTION)
    tracking.log(TRAIN)
    tracking.close(1)
    assert "WANDB_API_KEY" not in os.environ
    assert [path.name for path in folder.path.iterdir()] == ["rollouts"]
