"""What a person reads who is offline or mistyped a name."""

import os
import subprocess
import sys
import time

import pytest

from eval.model import check_folder
from openrlhf_ktae.hub import hub_problem, model_problem
from openrlhf_ktae.runs.preflight import PreflightError, check_model

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


@pytest.mark.parametrize("name", ["/no/such", "./model", "~/model", "a/b/c", "owner/na me"])
def test_what_cannot_be_a_hub_model_is_a_missing_folder(name):
    assert f"{name} is no model folder (looked in " in str(model_problem(name))


def test_training_and_evaluation_take_the_same_models(tmp_path, monkeypatch):
    """A hub model may have no owner (gpt2)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file.bin").touch()
    cases = {"nobody": "not in the hub's cache", "folder": "holds no config.json", "file.bin": "is no model folder"}
    for name, said in cases.items():
        with pytest.raises(PreflightError) as training:
            check_model("actor.model_name_or_path", name)
        with pytest.raises(ValueError, match=said) as evaluation:
            check_folder(name, needs_tokenizer=True)
        assert str(training.value).partition(": ")[2] == str(evaluation.value).partition(": ")[2]
    (tmp_path / "folder" / "config.json").write_text("{}")
    check_model("actor.model_name_or_path", "folder")


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
