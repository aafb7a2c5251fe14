"""What a person reads who is offline or mistyped a name."""

import os
import subprocess
import sys
import time

import pytest

from openrlhf_ktae.hub import hub_problem

OFFLINE = {**os.environ, "HF_HUB_OFFLINE": "1", "COLUMNS": "200"}


def test_a_model_that_is_not_here_is_named_at_once_and_without_noise(tmp_path):
    code = "from openrlhf_ktae.hub import hub_problem; print(hub_problem('nobody/nothing'))"
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], env=OFFLINE, capture_output=True, text=True, check=True)
    assert "HF_HUB_OFFLINE is set; name a local folder" in done.stdout and done.stderr == ""
    assert time.monotonic() - start < 15


@pytest.mark.parametrize("name", ["two--dashes", "a/b/c", "end."])
def test_a_name_that_cannot_be_on_the_hub_is_refused(name):
    assert "no such model; check the name" in str(hub_problem(name))


def test_a_cached_model_needs_no_network(tmp_path, monkeypatch):
    snapshot = tmp_path / "models--some--model" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (tmp_path / "models--some--model" / "refs").mkdir()
    (tmp_path / "models--some--model" / "refs" / "main").write_text("0" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert hub_problem("some/model") is None


def push(*arguments):
    command = [sys.executable, "-m", "openrlhf_ktae.cli", "push", *map(str, arguments)]
    return subprocess.run(command, env=OFFLINE, capture_output=True, text=True)


def test_a_push_that_fails_is_one_sentence_with_the_command_to_repeat(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    done = push(tmp_path, "owner/name", "--public")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert f"then: openrlhf-ktae push {tmp_path} owner/name --public" in done.stderr
    assert (tmp_path / "config.json").exists()


def test_a_folder_without_a_model_is_not_pushed(tmp_path):
    assert "holds no config.json" in push(tmp_path, "owner/name").stderr
